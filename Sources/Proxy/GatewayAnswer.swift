import CoreLoop
import HTTP

/// Why the gateway answers itself instead of an upstream.
enum GatewayFault: Equatable {
    /// The request cannot be read in one way only.
    case refused(HeadFault)
    case headTimeout, bodyTimeout
    case lengthRequired, bodyTooLarge, bodyEncoded
    case connectRefused, traceRefused, plainOnTLS, hostMissing, unauthorized
    case noMemory, tooManyConnections, noUpstream, upstreamSaturated, keyMissing
    case upstreamRefused, upstreamReset, upstreamMalformed, upstreamConnectTimeout, upstreamTimeout
    case upstreamTLSFailed

    var status: Int {
        switch self {
        case .refused(let fault): fault.status
        case .headTimeout, .bodyTimeout: 408
        case .plainOnTLS, .hostMissing: 400
        case .unauthorized: 401
        case .lengthRequired: 411
        case .bodyTooLarge: 413
        case .bodyEncoded: 415
        case .connectRefused: 501
        case .traceRefused: 405
        case .noMemory, .tooManyConnections, .noUpstream, .upstreamSaturated, .keyMissing: 503
        case .upstreamRefused, .upstreamReset, .upstreamMalformed, .upstreamTLSFailed: 502
        case .upstreamConnectTimeout, .upstreamTimeout: 504
        }
    }

    var text: StaticString {
        switch self {
        case .refused(let fault): fault.text
        case .headTimeout: "The request's head did not arrive in time."
        case .bodyTimeout: "The request's body did not arrive in time."
        case .lengthRequired: "An HTTP/1.0 request with a body needs Content-Length."
        case .bodyTooLarge: "The request's body is larger than this gateway takes."
        case .bodyEncoded: "A compressed body cannot be held against the policies: send it plain."
        case .connectRefused: "CONNECT is not supported: this is no forward proxy."
        case .traceRefused: "TRACE is switched off at this gateway."
        case .plainOnTLS: "This port speaks TLS, and the request came in plain HTTP: use https."
        case .hostMissing: "Without Host there is no telling where to redirect the request."
        case .unauthorized: "The request carries no key that this gateway knows."
        case .noMemory: "The gateway is out of buffers."
        case .tooManyConnections: "The gateway has as many connections as it takes."
        case .noUpstream: "No endpoint of the upstream can be used, or none has an address."
        case .upstreamSaturated: "Every endpoint has as many connections as it may."
        case .keyMissing: "The gateway has no key for this provider."
        case .upstreamRefused: "The upstream refused the connection."
        case .upstreamReset: "The upstream closed the connection before it answered."
        case .upstreamMalformed: "The upstream's answer is malformed."
        case .upstreamConnectTimeout: "The upstream did not accept the connection in time."
        case .upstreamTimeout: "The upstream did not answer in time."
        case .upstreamTLSFailed:
            "The upstream did not prove who it is, or its TLS handshake failed."
        }
    }

    /// The `code` of the error object, for programs.
    var code: StaticString {
        switch self {
        case .refused: "bad_request"
        case .headTimeout, .bodyTimeout: "request_timeout"
        case .lengthRequired: "length_required"
        case .bodyTooLarge: "body_too_large"
        case .bodyEncoded: "body_encoded"
        case .connectRefused, .traceRefused: "method_not_supported"
        case .plainOnTLS: "plain_http_on_tls"
        case .hostMissing: "bad_request"
        case .unauthorized: "invalid_api_key"
        case .noMemory: "overloaded"
        case .tooManyConnections: "too_many_connections"
        case .noUpstream: "no_upstream"
        case .upstreamSaturated: "upstream_saturated"
        case .keyMissing: "key_missing"
        case .upstreamRefused: "upstream_refused"
        case .upstreamReset: "upstream_reset"
        case .upstreamMalformed: "upstream_malformed"
        case .upstreamConnectTimeout: "upstream_connect_timeout"
        case .upstreamTimeout: "upstream_timeout"
        case .upstreamTLSFailed: "upstream_tls_failed"
        }
    }

    /// The `type` of the error object, as a messages API tells it.
    var messagesType: StaticString {
        switch status {
        case 401: "authentication_error"
        case 404: "not_found_error"
        case 408, 504: "timeout_error"
        case 413: "request_too_large"
        case 503: self == .keyMissing ? "api_error" : "overloaded_error"
        case 500...: "api_error"
        default: "invalid_request_error"
        }
    }

    /// The `type` of the error object.
    var type: StaticString {
        switch status {
        case 401: "authentication_error"
        case 502, 504: "upstream_error"
        case 503: "overload_error"
        default: "validation_error"
        }
    }
}

/// Answers that the gateway makes itself: a status and a JSON object `{"error": {type, message,
/// code}}`, which for clients of a messages API has a `type` beside `error`.
enum GatewayAnswer {
    /// The longest answer; a block of 4 KiB holds it.
    static let bytesMax = 1_024

    /// `fields` appends further field lines. Returns the body's bytes.
    @discardableResult
    static func write(
        _ fault: GatewayFault, isHead: Bool, closes: Bool, secureEntry: Int = -1,
        speaksMessages: Bool = false, wallMs: UInt64,
        _ forwarding: Forwarding, _ writer: inout HeadWriter,
        fields: (inout HeadWriter) -> Void = { _ in }
    ) -> Int {
        writer.append("HTTP/1.1 ")
        writer.append(decimal: UInt64(fault.status))
        writer.append(byte: 0x20)
        writer.append(ReasonPhrase.text(fault.status))
        writer.append("\r\n")
        forwarding.writeDate(wallMs, &writer)
        forwarding.writePolicy(secureEntry: secureEntry, &writer)
        if fault.status == 405 {
            writer.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
        }
        if fault.status == 401 { writer.append("WWW-Authenticate: Bearer\r\n") }
        if fault.status == 503 { writer.append("Retry-After: 1\r\n") }
        fields(&writer)
        writer.append("Content-Type: application/json\r\nContent-Length: ")
        let type = speaksMessages ? fault.messagesType : fault.type
        let opening: StaticString = speaksMessages ? "{\"type\": \"error\", " : "{"
        let count = bodyBytes(fault, opening, type)
        writer.append(decimal: UInt64(count))
        writer.append(closes ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n")
        if isHead { return 0 }
        writer.append(opening)
        writer.append("\"error\": {\"type\": \"")
        writer.append(type)
        writer.append("\", \"message\": \"")
        writer.append(fault.text)
        writer.append("\", \"code\": \"")
        writer.append(fault.code)
        writer.append("\"}}\n")
        return count
    }

    private static func bodyBytes(
        _ fault: GatewayFault, _ opening: StaticString, _ type: StaticString
    ) -> Int {
        // The length of the literals in `write`; a test compares it with what is written.
        opening.utf8CodeUnitCount + 19 + 15 + 12 + 4 + type.utf8CodeUnitCount
            + fault.text.utf8CodeUnitCount + fault.code.utf8CodeUnitCount
    }
}
