import CoreLoop
import HTTP

/// One request, whole.
struct MockRequest {
    var method = ""
    /// The path without its query.
    var path = ""
    /// The fields, their names in lower case.
    var fields: [(name: String, value: String)] = []
    var keepsAlive = true
    /// HTTP/1.0 has no chunks.
    var takesChunks = true
    var body: [UInt8] = []

    /// The first field of a name.
    func field(_ name: String) -> String? { fields.first { $0.name == name }?.value }
}

/// One answer: whole, or as events with the times between them.
struct MockReply {
    /// How it ends.
    enum Ending {
        case whole
        /// The connection is reset before the last byte.
        case reset
        /// Nothing is sent at all.
        case never
    }

    var status = 200
    var contentType = "application/json"
    var fields: [(String, String)] = []
    var body: [UInt8] = []
    /// Of a stream: each is sent `intervalMs` after the one before it.
    var events: [[UInt8]] = []
    var streams = false
    /// A stream that goes round and round.
    var isEndless = false
    /// Tokens that the answer took to say.
    var tokenCount = 0
    /// Before the first byte.
    var delayMs = 0.0
    var intervalMs = 0.0
    var ending = Ending.whole

    /// The head as it is sent. A stream to a client that knows no chunks ends with the connection.
    func head(closes: Bool, isChunked: Bool, wallMs: UInt64) -> [UInt8] {
        var date = ""
        withUnsafeTemporaryAllocation(byteCount: HTTPDate.bytesCount, alignment: 1) { memory in
            var writer = HeadWriter(memory)
            HTTPDate.append(Int64(wallMs / 1_000), to: &writer)
            date = String(decoding: writer.written, as: UTF8.self)
        }
        var text = "HTTP/1.1 \(status) \(ReasonPhrase.text(status))\r\ndate: \(date)\r\n"
        text += "content-type: \(contentType)\r\n"
        for (name, value) in fields { text += "\(name): \(value)\r\n" }
        if !streams {
            text += "content-length: \(body.count)\r\n"
        } else if isChunked {
            text += "transfer-encoding: chunked\r\n"
        }
        return Array((text + (closes ? "connection: close\r\n\r\n" : "\r\n")).utf8)
    }
}
