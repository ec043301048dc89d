/// The bytes of an answer, made once. Owned by an origin, freed by `deallocate`.
struct Answer {
    let bytes: UnsafeMutablePointer<UInt8>
    let byteCount: Int
    let headBytes: Int

    init(_ all: [UInt8], headBytes: Int) {
        bytes = .allocate(capacity: max(1, all.count))
        bytes.initialize(from: all, count: all.count)
        byteCount = all.count
        self.headBytes = headBytes
    }

    func deallocate() { bytes.deallocate() }

    static func make(_ options: OriginOptions, closes: Bool) -> Answer {
        if options.mode == .garbage {
            let garbage = Array("\u{1}\u{2}this is no HTTP at all\r\n\0\r\n".utf8)
            return Answer(garbage, headBytes: garbage.count)
        }
        var text = "HTTP/1.1 \(options.status) \(reason(options.status))\r\nServer: load-origin\r\n"
        text += "Content-Type: application/octet-stream\r\n"
        for field in options.fields { text += field + "\r\n" }
        if closes { text += "Connection: close\r\n" }
        let hasBody = options.status != 204 && options.status != 304
        if options.isChunked && hasBody {
            text += "Transfer-Encoding: chunked\r\n\r\n"
        } else if hasBody {
            text += "Content-Length: \(options.bodyBytes)\r\n\r\n"
        } else {
            text += "\r\n"
        }
        var all = Array(text.utf8)
        let headBytes = all.count
        if hasBody { appendBody(&all, bytes: options.bodyBytes, chunked: options.isChunked) }
        return Answer(all, headBytes: headBytes)
    }

    static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 204: "No Content"
        case 304: "Not Modified"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 429: "Too Many Requests"
        case 500: "Internal Server Error"
        case 503: "Service Unavailable"
        default: "Status"
        }
    }
}
