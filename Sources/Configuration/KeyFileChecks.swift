import CLinux
import CoreLoop
import Proxy
import TLS
import Upstream

/// Reads the certificates and keys that a configuration names, and finds out whether they can be
/// used: each file, each pair, and the contexts that are made of them.
struct KeyFileChecks {
    private let folder: String
    private var files = KeyFiles()
    private var diagnostics: [Diagnostic] = []

    /// Adds the files' bytes to `result`, and what is wrong with them. With an error it has no
    /// settings any more.
    static func run(_ result: inout ConfigurationResult) {
        guard let settings = result.settings, !result.keyFileUses.isEmpty || settings.speaksTLS
        else { return }
        let folder = result.file.lastIndex(of: "/").map { String(result.file[...$0]) } ?? ""
        var checks = KeyFileChecks(folder: folder)
        for use in result.keyFileUses { checks.check(use) }
        if checks.diagnostics.allSatisfy({ $0.severity != .error }) { checks.tryContexts(settings) }
        result.diagnostics = (result.diagnostics + checks.diagnostics).enumerated().sorted {
            ($0.element.line, $0.element.column, $0.offset)
                < ($1.element.line, $1.element.column, $1.offset)
        }.map(\.element)
        if result.errors.isEmpty { result.keyFiles = checks.files } else { result.settings = nil }
    }

    private init(folder: String) { self.folder = folder }

    private mutating func add(
        _ code: DiagnosticCode, _ place: Place, _ message: String, _ suggestion: String? = nil
    ) {
        let finding = Diagnostic(
            code, path: place.path, line: place.line, column: place.column, message: message,
            suggestion: suggestion)
        // One file may be named by several listeners.
        if !diagnostics.contains(finding) { diagnostics.append(finding) }
    }

    // MARK: Files

    private mutating func check(_ use: KeyFileUse) {
        switch use {
        case .variable(let variable):
            return checkVariable(variable, "requests to this target get 503")
        case .clientVariable(let variable):
            return checkVariable(variable, "nobody has this key")
        default: break
        }
        let texts = use.files.map { read($0, isKey: isKey($0, use)) }
        guard texts.allSatisfy({ $0 != nil }) else { return }
        do throws(TLSFault) {
            switch use {
            case .pair(let certificate, let key):
                try checkPair(certificate, texts[0]!, key, texts[1]!)
            case .authorities: try Certificate.checkAuthorities(texts[0]!)
            case .ocsp: try Certificate.checkOCSP(texts[0]!)
            case .secret(let file): checkSecret(texts[0]!, quoted(file.name), file.place)
            case .variable, .clientVariable: break
            }
        } catch {
            let file = use.files[0]
            add(.badKeyFile, file.place, "\(quoted(file.name)) \(error.message)")
        }
    }

    private func isKey(_ file: NamedFile, _ use: KeyFileUse) -> Bool {
        switch use {
        case .pair(_, let key): return key == file
        case .secret: return true
        default: return false
        }
    }

    /// Reads a provider's or a client's key from the environment. Nothing there is no error: keys
    /// come with the place that a gateway runs at, its configuration is checked elsewhere.
    private mutating func checkVariable(_ variable: NamedFile, _ consequence: String) {
        guard let value = getenv(variable.name), value.pointee != 0 else {
            return add(
                .missingSecret, variable.place,
                "the environment has no \(quoted(variable.name)): \(consequence)",
                "set it before umbra gateway run")
        }
        let bytes = Array(UnsafeRawBufferPointer(start: value, count: strlen(value)))
        if checkSecret(bytes, "the value of \(quoted(variable.name))", variable.place) {
            files[ProviderSettings.KeySource.variable(variable.name).keyFileName] = bytes
        }
    }

    @discardableResult
    private mutating func checkSecret(_ bytes: [UInt8], _ what: String, _ place: Place) -> Bool {
        if ProviderKey(bytes) != nil { return true }
        add(.badSecret, place, "\(what) is no key: one word of printable ASCII is")
        return false
    }

    private mutating func checkPair(
        _ certificate: NamedFile, _ text: [UInt8], _ key: NamedFile, _ keyText: [UInt8]
    ) throws(TLSFault) {
        // Which of the two is at fault, the certificate's own reading tells.
        try Certificate.checkAuthorities(text)
        let pair: Certificate
        do throws(TLSFault) {
            pair = try Certificate(certificate: text, key: keyText)
        } catch {
            add(
                .badKeyFile, key.place, "\(quoted(key.name)) \(error.message)",
                "for \(quoted(certificate.name)): openssl pkey -in KEY -pubout and "
                    + "openssl x509 -in CERTIFICATE -noout -pubkey print the same")
            return
        }
        let days = pair.daysLeft ?? 0
        if days < 0 {
            add(.certificateEnds, certificate.place, "\(quoted(certificate.name)) has ended")
        } else if days < TLSLimits.expiryWarningDays {
            add(
                .certificateEnds, certificate.place,
                "\(quoted(certificate.name)) ends in \(days) days", "renew it")
        } else if !pair.hasBegun {
            add(
                .certificateEnds, certificate.place,
                "\(quoted(certificate.name)) is not valid yet", "look at this machine's clock")
        }
    }

    /// A file's bytes; nil and a report where it cannot be read.
    private mutating func read(_ file: NamedFile, isKey: Bool) -> [UInt8]? {
        if let known = files[file.name] { return known }
        let path = file.name.hasPrefix("/") ? file.name : folder + file.name
        let descriptor = umbra_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
        guard descriptor >= 0 else {
            add(
                .unreadable, file.place,
                "cannot open \(quoted(path)): \(SystemError.text(lastErrno))",
                file.name.hasPrefix("/") ? nil : "names are relative to the configuration's folder")
            return nil
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & mode_t(S_IFMT) == mode_t(S_IFREG)
        else {
            add(.unreadable, file.place, "\(quoted(path)) is no file")
            return nil
        }
        guard status.st_size > 0, status.st_size <= TLSLimits.fileBytesMax else {
            add(
                .badKeyFile, file.place,
                status.st_size == 0
                    ? "\(quoted(path)) is empty"
                    : "\(quoted(path)) is larger than \(SizeText.text(TLSLimits.fileBytesMax))")
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        guard count == bytes.count else {
            add(.unreadable, file.place, "\(quoted(path)) cannot be read whole")
            return nil
        }
        if isKey, status.st_mode & 0o004 != 0 {
            add(
                .keyExposed, file.place, "every user of this machine can read \(quoted(path))",
                "chmod o-r \(quoted(path))")
        }
        files[file.name] = bytes
        return bytes
    }

    // MARK: Contexts

    /// Makes what the workers will make: what fails here would fail there.
    private mutating func tryContexts(_ settings: GatewaySettings) {
        for (index, listener) in settings.listen.enumerated() {
            guard let tls = listener.tls else { continue }
            do throws(TLSFault) {
                _ = try ServerContext(tls, identity: index, files: files, tickets: nil)
            } catch {
                diagnostics.append(
                    Diagnostic(
                        .badKeyFile, path: "listen[\(index)].tls", message: error.message))
            }
        }
        for (index, target) in settings.targets.enumerated() {
            guard let tls = target.tls else { continue }
            do throws(TLSFault) {
                _ = try ClientContext(
                    tls, files: files, hosts: target.endpoints.map(\.host), addresses: 1)
            } catch {
                diagnostics.append(
                    Diagnostic(
                        .badKeyFile, path: "providers.targets[\(index)].tls",
                        message: error.message))
            }
        }
    }
}

extension GatewaySettings {
    /// Whether any listener or target speaks TLS.
    var speaksTLS: Bool {
        listen.contains { $0.tls != nil } || targets.contains { $0.tls != nil }
    }
}
