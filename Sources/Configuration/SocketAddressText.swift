import CoreLoop

/// IP literals inside other texts.
enum SocketAddressText {
    static func isIPv4(_ text: String) -> Bool {
        !text.contains(":") && SocketAddress(host: text, port: 0) != nil
    }

    /// The shortest form of an IPv6 literal (RFC 5952); nil where it is none.
    static func ipv6(_ text: String) -> String? {
        text.contains(":") ? SocketAddress(host: text, port: 0)?.hostText : nil
    }
}
