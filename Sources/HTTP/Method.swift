/// Request methods of RFC 9110 §9 and RFC 5789; every other token is `other`.
public enum Method: UInt8, Sendable, CaseIterable {
    case get, head, post, put, delete, options, trace, connect, patch, other

    /// True where sending it twice means what sending it once does (RFC 9110 §9.2.2).
    public var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .connect, .patch, .other: false
        }
    }

    /// True where it only reads (RFC 9110 §9.2.1).
    public var isSafe: Bool {
        switch self {
        case .get, .head, .options, .trace: true
        case .post, .put, .delete, .connect, .patch, .other: false
        }
    }
}

extension Bytes {
    /// The method that `range` spells. Methods are compared with case (RFC 9110 §9.1).
    func method(_ range: ByteRange) -> Method {
        switch range.count {
        case 3:
            if equals(range, "GET") { return .get }
            return equals(range, "PUT") ? .put : .other
        case 4:
            if equals(range, "POST") { return .post }
            return equals(range, "HEAD") ? .head : .other
        case 5:
            if equals(range, "PATCH") { return .patch }
            return equals(range, "TRACE") ? .trace : .other
        case 6: return equals(range, "DELETE") ? .delete : .other
        case 7:
            if equals(range, "OPTIONS") { return .options }
            return equals(range, "CONNECT") ? .connect : .other
        default: return .other
        }
    }
}
