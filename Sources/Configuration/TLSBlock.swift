import Proxy
import TLS
import Upstream

/// A file that a document names for TLS, with its place.
struct NamedFile: Sendable, Equatable {
    var name: String
    var place: Place
}

/// What files are for, and so what they have to hold.
enum KeyFileUse: Sendable, Equatable {
    case pair(certificate: NamedFile, key: NamedFile)
    case authorities(NamedFile)
    case ocsp(NamedFile)
    /// A provider's key.
    case secret(NamedFile)
    /// The same in a variable of the environment; the name is the variable's.
    case variable(NamedFile)
    /// A client's key in a variable of the environment.
    case clientVariable(NamedFile)

    var files: [NamedFile] {
        switch self {
        case .pair(let certificate, let key): [certificate, key]
        case .authorities(let file), .ocsp(let file), .secret(let file): [file]
        case .variable, .clientVariable: []
        }
    }
}

/// `listen[].tls` and `providers.targets[].tls`.
enum TLSBlock {
    // MARK: Listeners

    static func listener(
        _ section: Section, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> ServerTLSSettings? {
        var tls = ServerTLSSettings(certificates: certificates(section, &files, findings))
        if let text = section.choice("min_version") { tls.minVersion = TLSVersion(rawValue: text)! }
        if let (text, _) = section.text("ciphers") { tls.ciphers = text }
        if let (text, _) = section.text("ciphersuites") { tls.cipherSuites = text }
        section.read("ticket_rotation", into: &tls.ticketRotationMs)
        if let (node, _) = section.value("hsts"), !Section.isOff(node) {
            var ms = 0
            section.read("hsts", into: &ms)
            tls.hstsMs = ms
        }
        if let clients = section.section("client_certificates") {
            tls.clientCertificates = clientCertificates(clients, &files, findings)
        }
        return tls
    }

    private static func certificates(
        _ section: Section, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> [ServerTLSSettings.Certificate] {
        guard section.has("certificates") else {
            return certificate(section, &files, findings).map { [$0] } ?? []
        }
        for key in ["certificate", "key", "ocsp"] where section.has(key) {
            findings.add(
                .conflict, section.place(key), "stands beside certificates, which has its own",
                "move it into an entry of certificates")
        }
        guard
            let items = section.list(
                "certificates", max: TLSLimits.certificatesMax,
                empty: "names no certificate; at least one is needed",
                "write [{certificate: FILE, key: FILE}]")
        else { return [] }
        return items.compactMap { node, place in
            Section(
                node, path: place.path, schemaPath: "listen[].tls.certificates[]",
                findings: findings
            ).flatMap { certificate($0, &files, findings) }
        }
    }

    /// A certificate and its key; nil and a report where one of them is missing.
    private static func certificate(
        _ section: Section, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> ServerTLSSettings.Certificate? {
        let certificate = file(section, "certificate", findings)
        let key = file(section, "key", findings)
        let ocsp = file(section, "ocsp", findings)
        for name in ["certificate", "key"] where !section.has(name) {
            findings.add(.missingKey, section.place(name), "required", "name a PEM file")
        }
        guard let certificate, let key else { return nil }
        files.append(.pair(certificate: certificate, key: key))
        if let ocsp { files.append(.ocsp(ocsp)) }
        return ServerTLSSettings.Certificate(
            certificate: certificate.name, key: key.name, ocsp: ocsp?.name)
    }

    private static func clientCertificates(
        _ section: Section, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> ServerTLSSettings.ClientCertificates? {
        let mode = section.choice("mode")
        let field = section.text("subject_header")
        let ca = file(section, "ca", findings)
        if !section.has("ca") {
            findings.add(
                .missingKey, section.place("ca"), "required",
                "name a PEM file with the authorities of the clients")
        }
        guard let ca else { return nil }
        files.append(.authorities(ca))
        var clients = ServerTLSSettings.ClientCertificates(ca: ca.name)
        if let mode { clients.isRequired = mode == "required" }
        if let (name, place) = field {
            if TextForm.isToken(name), name.utf8.count <= ConfigurationLimits.nameCharactersMax {
                clients.subjectField = name
            } else {
                findings.add(.wrongType, place, "\(quoted(name)) is no name of a field")
            }
        }
        return clients
    }

    /// A file's name; nil where there is none, or an empty one, which is reported.
    private static func file(
        _ section: Section, _ key: String, _ findings: Findings
    ) -> NamedFile? {
        guard let (name, place) = section.text(key) else { return nil }
        guard !name.isEmpty else {
            findings.add(.wrongType, place, "names no file")
            return nil
        }
        return NamedFile(name: name, place: place)
    }

    // MARK: Targets

    /// Reads a target's `tls` into its settings. Returns the files that it names; nil without it.
    static func target(
        _ section: Section, _ target: inout TargetSettings, _ findings: Findings
    ) -> [KeyFileUse]? {
        guard let block = section.section("tls") else { return nil }
        var files: [KeyFileUse] = []
        var tls = target.tls ?? ClientTLSSettings()
        if let (name, place) = block.text("server_name") {
            let name = name.lowercased()
            if TextForm.isHostName(name) || TextForm.isAddress(name) {
                tls.serverName = name
            } else {
                findings.add(
                    .badAddress, place,
                    "\(quoted(name)) is neither a host name nor an IP address")
            }
        }
        let ca = file(block, "ca", findings)
        let certificate = file(block, "certificate", findings)
        let key = file(block, "key", findings)
        block.read("insecure_skip_verify", into: &tls.skipsVerification)
        if let ca { files.append(.authorities(ca)) }
        tls.ca = ca?.name
        switch (certificate, key) {
        case (let certificate?, let key?):
            files.append(.pair(certificate: certificate, key: key))
            (tls.certificate, tls.key) = (certificate.name, key.name)
        case (nil, nil): break
        default:
            let (has, lacks) =
                certificate == nil ? ("key", "certificate") : ("certificate", "key")
            if !block.has(lacks) {
                findings.add(
                    .missingKey, block.place(lacks), "required beside \(has)", "name a PEM file")
            }
        }
        if target.tls == nil, !target.host.isEmpty {
            findings.add(
                .conflict, section.place("tls"), "the target's URL is not https",
                "write https:// there, or leave this out")
        }
        if tls.skipsVerification {
            findings.add(
                .unverifiedTarget, block.place("insecure_skip_verify"),
                "the certificate of \(target.id) IS NOT CHECKED: whoever is on the way can read "
                    + "and change every request and answer",
                "give its authority as tls.ca")
        }
        if target.tls != nil { target.tls = tls }
        return files
    }
}
