/// Field names that the proxy treats specially, recognised while a head is parsed.
public enum FieldName: UInt8, Sendable, CaseIterable {
    case other
    case host, contentLength, transferEncoding, connection, expect, upgrade, maxForwards
    case via, te, trailer, keepAlive, proxyConnection, proxyAuthorization, proxyAuthenticate
    case http2Settings
    case xForwardedFor, xForwardedProto, xForwardedHost, forwarded, xRequestID, traceparent
    case tracestate, umbraShadow
    case authorization, cookie, setCookie, retryAfter, contentType, date, server, userAgent

    /// The name in lower case; empty for `other`.
    public var text: StaticString {
        switch self {
        case .other: ""
        case .host: "host"
        case .contentLength: "content-length"
        case .transferEncoding: "transfer-encoding"
        case .connection: "connection"
        case .expect: "expect"
        case .upgrade: "upgrade"
        case .maxForwards: "max-forwards"
        case .via: "via"
        case .te: "te"
        case .trailer: "trailer"
        case .keepAlive: "keep-alive"
        case .proxyConnection: "proxy-connection"
        case .proxyAuthorization: "proxy-authorization"
        case .proxyAuthenticate: "proxy-authenticate"
        case .http2Settings: "http2-settings"
        case .xForwardedFor: "x-forwarded-for"
        case .xForwardedProto: "x-forwarded-proto"
        case .xForwardedHost: "x-forwarded-host"
        case .forwarded: "forwarded"
        case .xRequestID: "x-request-id"
        case .traceparent: "traceparent"
        case .tracestate: "tracestate"
        case .umbraShadow: "x-umbra-shadow"
        case .authorization: "authorization"
        case .cookie: "cookie"
        case .setCookie: "set-cookie"
        case .retryAfter: "retry-after"
        case .contentType: "content-type"
        case .date: "date"
        case .server: "server"
        case .userAgent: "user-agent"
        }
    }

    /// This name's bit in `FieldList.present`.
    @inlinable public var bit: UInt64 { 1 &<< UInt64(rawValue) }

    /// Bits of the names that mean this connection only and are never passed on (RFC 9110 §7.6.1).
    ///
    /// Proxy-Authorization and Proxy-Authenticate stand here because what they carry is meant for
    /// the proxy that the client chose (RFC 9110 §11.7), which no server behind this one is.
    /// Trailer does not: trailers are passed on, so is their announcement.
    @usableFromInline static let hopByHopBits: UInt64 =
        FieldName.connection.bit | FieldName.keepAlive.bit | FieldName.proxyConnection.bit
        | FieldName.te.bit | FieldName.transferEncoding.bit | FieldName.upgrade.bit
        | FieldName.http2Settings.bit | FieldName.proxyAuthorization.bit
        | FieldName.proxyAuthenticate.bit

    /// True where the field means this connection only, whatever Connection says.
    @inlinable public var isHopByHop: Bool { FieldName.hopByHopBits & bit != 0 }

    /// True where a nomination by Connection is ignored: fields that frame or route the message, or
    /// that tell the origin who sent it. A client must not be able to take these away from what a
    /// proxy in front of this one wrote.
    public var isProtected: Bool {
        switch self {
        case .host, .contentLength, .transferEncoding, .maxForwards, .expect, .via, .forwarded,
            .xForwardedFor, .xForwardedProto, .xForwardedHost, .xRequestID, .traceparent,
            .tracestate, .umbraShadow, .date:
            true
        default: false
        }
    }
}

extension Bytes {
    /// The known name at `start`, `count` bytes long, which must all be tchars.
    @inline(__always)
    func fieldName(at start: Int, count: Int) -> FieldName {
        switch count {
        case 2: return isName(start, "te") ? .te : .other
        case 3: return isName(start, "via") ? .via : .other
        case 4:
            if isName(start, "host") { return .host }
            return isName(start, "date") ? .date : .other
        case 6:
            if isName(start, "cookie") { return .cookie }
            if isName(start, "expect") { return .expect }
            return isName(start, "server") ? .server : .other
        case 7:
            if isName(start, "upgrade") { return .upgrade }
            return isName(start, "trailer") ? .trailer : .other
        case 9: return isName(start, "forwarded") ? .forwarded : .other
        case 10:
            if isName(start, "connection") { return .connection }
            if isName(start, "user-agent") { return .userAgent }
            if isName(start, "keep-alive") { return .keepAlive }
            if isName(start, "tracestate") { return .tracestate }
            return isName(start, "set-cookie") ? .setCookie : .other
        case 11:
            if isName(start, "traceparent") { return .traceparent }
            return isName(start, "retry-after") ? .retryAfter : .other
        case 12:
            if isName(start, "content-type") { return .contentType }
            if isName(start, "x-request-id") { return .xRequestID }
            return isName(start, "max-forwards") ? .maxForwards : .other
        case 13: return isName(start, "authorization") ? .authorization : .other
        case 14...19: return longFieldName(at: start, count: count)
        default: return .other
        }
    }

    @inline(__always)
    private func longFieldName(at start: Int, count: Int) -> FieldName {
        switch count {
        case 14:
            if isName(start, "content-length") { return .contentLength }
            if isName(start, "x-umbra-shadow") { return .umbraShadow }
            return isName(start, "http2-settings") ? .http2Settings : .other
        case 15: return isName(start, "x-forwarded-for") ? .xForwardedFor : .other
        case 16:
            if isName(start, "x-forwarded-host") { return .xForwardedHost }
            return isName(start, "proxy-connection") ? .proxyConnection : .other
        case 17:
            if isName(start, "transfer-encoding") { return .transferEncoding }
            return isName(start, "x-forwarded-proto") ? .xForwardedProto : .other
        case 18: return isName(start, "proxy-authenticate") ? .proxyAuthenticate : .other
        default: return isName(start, "proxy-authorization") ? .proxyAuthorization : .other
        }
    }

    @inline(__always)
    private func isName(_ start: Int, _ text: StaticString) -> Bool {
        hasWords(of: text, at: start, ignoringCase: true)
    }
}
