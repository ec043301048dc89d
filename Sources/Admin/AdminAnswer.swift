import CoreLoop
import HTTP

/// One answer of the admin listener, whole.
struct AdminAnswer {
    var status: Int
    var contentType = "application/json"
    var body: [UInt8]
    /// Further field lines, each with its CRLF.
    var fields = ""

    static func json(_ status: Int, _ value: JSONText, fields: String = "") -> AdminAnswer {
        AdminAnswer(status: status, body: Array((value.written + "\n").utf8), fields: fields)
    }

    static func text(_ status: Int, _ text: String) -> AdminAnswer {
        AdminAnswer(
            status: status, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
    }

    /// An error in the form that the gateway's own errors have.
    static func failure(
        _ status: Int, _ code: String, _ message: String, fields: String = ""
    ) -> AdminAnswer {
        let error: [(String, JSONText)] = [
            ("type", .text(status < 500 ? "validation_error" : "gateway_error")),
            ("message", .text(message)), ("code", .text(code)),
        ]
        return json(status, .object([("error", .object(error))]), fields: fields)
    }

    /// A request that cannot be read in one way only.
    static func refusal(_ fault: HeadFault) -> AdminAnswer {
        failure(fault.status, "bad_request", "\(fault.text)")
    }

    static let unanswered = failure(
        504, "no_answer", "The supervisor has not answered in time; it may still obey.")
    static let ordersWait = failure(
        503, "overloaded", "Too many orders wait for the supervisor.",
        fields: "Retry-After: 1\r\n")
    static let tooSlow = failure(408, "request_timeout", "The request did not arrive in time.")
    static let overloaded = failure(
        503, "overloaded", "Too many answers wait for slow readers.", fields: "Retry-After: 1\r\n")

    /// Head and body as they go out; the head alone where the request was HEAD.
    func bytes(isHead: Bool, closes: Bool, wallMs: UInt64) -> [UInt8] {
        var date = ""
        withUnsafeTemporaryAllocation(byteCount: HTTPDate.bytesCount, alignment: 1) { memory in
            var writer = HeadWriter(memory)
            HTTPDate.append(Int64(wallMs / 1_000), to: &writer)
            date = String(decoding: writer.written, as: UTF8.self)
        }
        let head =
            "HTTP/1.1 \(status) \(ReasonPhrase.text(status))\r\nDate: \(date)\r\n"
            + "Content-Type: \(contentType)\r\nContent-Length: \(body.count)\r\n"
            + "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            + fields + (closes ? "Connection: close\r\n\r\n" : "\r\n")
        return isHead ? Array(head.utf8) : Array(head.utf8) + body
    }
}
