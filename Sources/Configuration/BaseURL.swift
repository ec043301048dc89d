import CoreLoop
import TLS
import Upstream

/// A target's `base_url`: `http://HOST[:PORT][/PATH]`, the same with `https`, or
/// `http+unix:///run/app.sock`.
enum BaseURL {
    /// The target that a URL names. IP literals and Unix sockets have their address, names none.
    static func read(_ text: String, id: String) throws(TextFault) -> TargetSettings {
        let scheme = text.prefix { $0 != ":" }
        guard text[scheme.endIndex...].hasPrefix("://") else {
            let meant =
                text.hasPrefix("unix:") ? "http+unix://\(text.dropFirst(5))" : "http://\(text)"
            throw TextFault(.badAddress, "\(quoted(text)) is no URL", "write \(quoted(meant))")
        }
        let rest = String(text.dropFirst(scheme.count + 3))
        switch scheme.lowercased() {
        case "http": return try http(rest, id: id, standardPort: 80)
        case "http+unix": return try unix(rest, id: id)
        case "https":
            var target = try http(rest, id: id, standardPort: 443)
            target.tls = ClientTLSSettings()
            return target
        case let scheme:
            throw TextFault(
                .badAddress, "\(quoted(scheme)) is no scheme of a target", "write http://")
        }
    }

    private static func unix(_ path: String, id: String) throws(TextFault) -> TargetSettings {
        guard path.first == "/" else {
            throw TextFault(
                .badAddress, "a Unix socket needs an absolute path",
                "write http+unix:///\(quoted(path))")
        }
        guard let address = SocketAddress("unix:" + path) else {
            throw TextFault(
                .badAddress,
                "a Unix socket's path has at most \(SocketAddress.unixPathBytesMax) bytes, "
                    + "this has \(path.utf8.count)"
            )
        }
        return TargetSettings(
            id: id, authority: "localhost", host: "localhost", port: 80, addresses: [address])
    }

    private static func http(
        _ rest: String, id: String, standardPort: UInt16
    ) throws(TextFault) -> TargetSettings {
        if let mark = rest.first(where: { $0 == "?" || $0 == "#" }) {
            let what = mark == "?" ? "query" : "fragment"
            throw TextFault(
                .badAddress, "a base_url has no \(what)", "leave out \(mark) and what follows")
        }
        let authority = String(rest.prefix { $0 != "/" })
        var path = String(rest.dropFirst(authority.count))
        guard !authority.contains("@") else {
            throw TextFault(
                .badAddress, "a base_url holds no user or password",
                "leave out what stands before the @")
        }
        let (host, port) = try hostAndPort(authority, standardPort)
        if !path.isEmpty, let fault = TextForm.pathFault(path) {
            throw TextFault(.badAddress, "its path \(fault.message)", fault.suggestion)
        }
        while path.last == "/" { path.removeLast() }
        let hostText = host.contains(":") ? "[\(host)]" : host
        let address = SocketAddress(host: host, port: port)
        return TargetSettings(
            id: id, authority: "\(hostText):\(port)", host: host, port: port, pathPrefix: path,
            addresses: address.map { [$0] } ?? [])
    }

    private static func hostAndPort(
        _ authority: String, _ standardPort: UInt16
    ) throws(TextFault) -> (String, UInt16) {
        var host = authority[...]
        var port = standardPort
        let afterBracket = authority.lastIndex(of: "]") ?? authority.startIndex
        if let colon = authority[afterBracket...].lastIndex(of: ":") {
            port = try ListenAddress.port(
                String(authority[authority.index(after: colon)...]), of: authority)
            host = authority[..<colon]
        }
        guard port != 0 else { throw TextFault(.badAddress, "port 0 is out of range: 1 to 65535") }
        guard !host.isEmpty else {
            throw TextFault(.badAddress, "it names no host", "write http://HOST:PORT")
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            let literal = String(host.dropFirst().dropLast())
            guard literal.contains(":"), let address = SocketAddress(host: literal, port: port)
            else {
                throw TextFault(.badAddress, "\(quoted(host)) is no IPv6 address")
            }
            return (address.hostText, port)
        }
        if host.contains(":") {
            throw TextFault(
                .badAddress, "\(quoted(host)) is an IPv6 address without brackets",
                "write [ADDRESS]:PORT")
        }
        let name = host.lowercased()
        guard SocketAddress(host: name, port: port) != nil || TextForm.isHostName(name) else {
            throw TextFault(.badAddress, "\(quoted(host)) is neither a host name nor an IP address")
        }
        return (name, port)
    }
}
