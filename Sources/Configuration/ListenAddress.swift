public import CoreLoop

/// Addresses to listen on: `127.0.0.1:80`, `[::1]:80`, `localhost:80`, `unix:/run/umbra.sock`.
public enum ListenAddress {
    /// The address that a text names. Also for `--listen`.
    public static func read(_ text: String) throws(TextFault) -> SocketAddress {
        if text.hasPrefix("unix:") { return try unix(String(text.dropFirst(5))) }
        guard let colon = text.lastIndex(of: ":") else {
            if text.utf8.allSatisfy(TextForm.isDigit), !text.isEmpty {
                throw TextFault(
                    .badAddress, "\(quoted(text)) is a port without an address",
                    "write 127.0.0.1:\(quoted(text)), or 0.0.0.0:\(quoted(text)) for all interfaces"
                )
            }
            if text.hasPrefix("/") {
                throw TextFault(
                    .badAddress, "\(quoted(text)) is no address", "write unix:\(quoted(text))")
            }
            throw TextFault(.badAddress, "\(quoted(text)) has no port", "write ADDRESS:PORT")
        }
        let host = String(text[..<colon])
        let port = try port(String(text[text.index(after: colon)...]), of: text)
        switch host {
        case "localhost": return SocketAddress(host: "127.0.0.1", port: port)!
        case "", "*":
            throw TextFault(
                .badAddress, "\(quoted(text)) names no address",
                "write 0.0.0.0:\(port) for all IPv4 interfaces, \"[::]:\(port)\" for IPv6 too")
        default: break
        }
        let bare =
            host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        if bare.contains(":"), bare == host {
            throw TextFault(
                .badAddress, "\(quoted(text)) is an IPv6 address without brackets",
                "write \"[\(quoted(host))]:\(port)\"")
        }
        if let address = SocketAddress(text) { return address }
        if TextForm.isHostName(bare) {
            throw TextFault(
                .badAddress, "\(quoted(bare)) is a name; a listener takes an IP address",
                "write one of this machine's addresses, or 0.0.0.0:\(port) for all")
        }
        throw TextFault(.badAddress, "\(quoted(host)) is no IP address")
    }

    private static func unix(_ path: String) throws(TextFault) -> SocketAddress {
        guard path.first == "/" else {
            throw TextFault(
                .badAddress, "a Unix socket needs an absolute path", "write unix:/\(quoted(path))")
        }
        guard let address = SocketAddress("unix:" + path) else {
            throw TextFault(
                .badAddress,
                "a Unix socket's path has at most \(SocketAddress.unixPathBytesMax) bytes, "
                    + "this has \(path.utf8.count)"
            )
        }
        return address
    }

    static func port(_ text: String, of whole: String) throws(TextFault) -> UInt16 {
        guard !text.isEmpty, text.utf8.allSatisfy(TextForm.isDigit) else {
            throw TextFault(.badAddress, "\(quoted(whole)) has no port after its last colon")
        }
        guard let port = UInt16(text) else {
            throw TextFault(.badAddress, "port \(quoted(text)) is out of range: 0 to 65535")
        }
        return port
    }
}
