import CoreLoop
import Proxy
import TLS

/// `listen`: one address, or a list of addresses and of mappings that say what is spoken there.
struct ListenBlock {
    private(set) var settings: [ListenerSettings] = []
    /// The certificates and keys that they name.
    private(set) var files: [KeyFileUse] = []

    static func read(_ root: Section, _ findings: Findings) -> ListenBlock {
        var block = ListenBlock()
        guard let (node, place) = root.value("listen") else {
            block.settings = [
                ListenerSettings(SocketAddress(ConfigurationReader.listenDefault)!)
            ]
            return block
        }
        var items = [(node, place)]
        if case .list(let nodes) = node.content {
            guard !nodes.isEmpty, nodes.count <= ConfigurationLimits.listenersMax else {
                findings.add(
                    .outOfRange, place,
                    "must name 1 to \(ConfigurationLimits.listenersMax) addresses, "
                        + "names \(nodes.count)"
                )
                return block
            }
            items = nodes.enumerated().map { ($1, Place("listen[\($0)]", $1)) }
        }
        for (node, place) in items { block.add(node, place, findings) }
        return block
    }

    private mutating func add(_ node: YAMLNode, _ place: Place, _ findings: Findings) {
        guard let (listener, place) = listener(node, place, findings) else { return }
        if settings.contains(where: { $0.address == listener.address }) {
            findings.add(
                .duplicate, place, "\(quoted(listener.address.text)) is named twice",
                "keep one of them")
        }
        if listener.address.port == 0 {
            findings.add(
                .chosenPort, place,
                "port 0: the kernel chooses a port, another one at each start")
        }
        settings.append(listener)
    }

    /// One listener, in its short or long form.
    private mutating func listener(
        _ node: YAMLNode, _ place: Place, _ findings: Findings
    ) -> (ListenerSettings, Place)? {
        guard case .mapping = node.content else {
            return Self.address(node, place, findings).map { (ListenerSettings($0), place) }
        }
        guard
            let section = Section(
                node, path: place.path, schemaPath: "listen[]", findings: findings)
        else {
            return nil
        }
        let tls = section.section("tls").flatMap { TLSBlock.listener($0, &files, findings) }
        let redirectPort = redirect(section, findings)
        guard section.has("address") else {
            findings.add(
                .missingKey, section.place("address"), "required", "give it as ADDRESS:PORT")
            return nil
        }
        guard let (node, place) = section.value("address"),
            let address = Self.address(node, place, findings)
        else { return nil }
        var listener = ListenerSettings(address)
        listener.tls = tls
        listener.redirectPort = redirectPort
        return (listener, place)
    }

    /// The port to send requests to; nil where they are served.
    private func redirect(_ section: Section, _ findings: Findings) -> UInt16? {
        guard let (node, place) = section.value("redirect_to_https"), !Section.isOff(node) else {
            return nil
        }
        var port: UInt16?
        if case .scalar(let text, plain: true) = node.content {
            if Section.isOn(node) {
                port = 443
            } else if case .value(let number) = IntegerText.read(text), (1...65_535) ~= number {
                port = UInt16(number)
            }
        }
        guard let port else {
            findings.add(
                .wrongType, place,
                "must be \(section.type("redirect_to_https").text), is \(node.kindText)")
            return nil
        }
        if section.has("tls") {
            findings.add(
                .conflict, place, "a listener that speaks TLS has nowhere to redirect to",
                "set it at the plain listener")
        }
        return port
    }

    static func address(_ node: YAMLNode, _ place: Place, _ findings: Findings)
        -> SocketAddress?
    {
        guard let text = Section.text(of: node, place, "ADDRESS:PORT or unix:PATH", findings) else {
            return nil
        }
        do throws(TextFault) {
            return try ListenAddress.read(text)
        } catch {
            findings.add(error, place)
            return nil
        }
    }
}
