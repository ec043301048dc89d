import CoreLoop
import HTTP

/// What keeps a web page that a browser shows from speaking to the admin listener: by a name of its
/// own that it points here (DNS rebinding), or from another origin (cross-site requests).
struct RequestChecks {
    /// Names besides the loopback ones that Host may have (`admin.hosts`), lower case.
    let hosts: [String]
    /// Where a token is asked for, or where no browser comes: then only named hosts restrict.
    let isGuarded: Bool

    /// Why a request is refused; nil where it is not.
    func fault(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> AdminAnswer? {
        let authority = String(decoding: head.authority.bytes(in: bytes), as: UTF8.self)
        guard admits(host: authority) else {
            return .failure(
                403, "foreign_host",
                "This listener does not answer by that name. Use its address, or list the name in "
                    + "admin.hosts.")
        }
        for origin in Self.values(of: "origin", head, bytes)
        where !Self.isSame(origin: origin, authority) {
            return .failure(
                403, "foreign_origin", "Web pages of other origins may not ask this listener.")
        }
        return nil
    }

    /// A name can be pointed here by anybody who owns it; an address cannot.
    private func admits(host authority: String) -> Bool {
        if authority.isEmpty || isGuarded && hosts.isEmpty { return true }
        let host = Self.host(of: authority).lowercased()
        if host == "localhost" || hosts.contains(host) { return true }
        return SocketAddress(host: host, port: 1) != nil
    }

    /// `host [":" port]` without its port, and an IPv6 address without its brackets.
    static func host(of authority: String) -> String {
        if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
            return String(authority[authority.index(after: authority.startIndex)..<end])
        }
        return String(authority.prefix { $0 != ":" })
    }

    /// Whether an Origin (RFC 6454 §7) is this listener's own; `null` is nobody's.
    private static func isSame(origin: String, _ authority: String) -> Bool {
        let origin = origin.lowercased()
        return ["http://", "https://"].contains { origin == $0 + authority.lowercased() }
    }

    /// The values of all fields of a name, which is given in lower case.
    static func values(
        of name: String, _ head: RequestHead, _ bytes: UnsafeRawBufferPointer
    ) -> [String] {
        (0..<head.fields.count).compactMap { place in
            let field = head.fields[place]
            let text = String(decoding: field.name.bytes(in: bytes), as: UTF8.self)
            guard text.lowercased() == name else { return nil }
            return String(decoding: field.value.bytes(in: bytes), as: UTF8.self)
        }
    }

    /// Why the content of a POST cannot be taken; nil where it can.
    static func contentFault(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> AdminAnswer? {
        let types = values(of: "content-type", head, bytes)
        let hasContent = head.framing != .none && head.framing != .length(0)
        let isJSON = types.allSatisfy { type in
            let name = type.prefix { $0 != ";" && $0 != " " }
            return name.lowercased() == "application/json"
        }
        guard isJSON, types.count <= 1, !hasContent || types.count == 1 else {
            return .failure(
                415, "unsupported_media_type", "Send JSON, with Content-Type: application/json.",
                fields: "Accept: application/json\r\n")
        }
        switch head.framing {
        case .none: return nil
        case .length(let count) where count <= UInt64(AdminLimits.bodyBytesMax): return nil
        case .length:
            return .failure(
                413, "too_large", "At most \(AdminLimits.bodyBytesMax) bytes of JSON are taken.")
        default: return .failure(411, "length_required", "Send the content with Content-Length.")
        }
    }
}
