import CLinux
public import CoreLoop

/// A request over a connection of its own, blocking: for admin listeners and demonstrations.
public enum Scrape {
    /// No usable answer, and why.
    public struct Fault: Error, CustomStringConvertible {
        /// The sentence that the tool prints.
        public let description: String
        init(_ description: String) { self.description = description }
    }

    /// Bytes of the longest answer that is read.
    static let answerBytesMax = 16 << 20

    /// Status and body of a GET. Throws where there is no answer within `timeoutMs`.
    public static func get(
        _ address: SocketAddress, _ path: String, timeoutMs: Int = 3_000
    ) throws(Fault) -> (status: Int, body: [UInt8]) {
        try ask(address, "GET \(path)", "", [], timeoutMs)
    }

    /// The same of a POST of `body`, which has to fit into the socket's buffer at once (some
    /// 100 KiB).
    public static func post(
        _ address: SocketAddress, _ path: String, type: String, _ body: [UInt8],
        timeoutMs: Int = 3_000
    ) throws(Fault) -> (status: Int, body: [UInt8]) {
        let fields = "Content-Type: \(type)\r\nContent-Length: \(body.count)\r\n"
        return try ask(address, "POST \(path)", fields, body, timeoutMs)
    }

    private static func ask(
        _ address: SocketAddress, _ line: String, _ fields: String, _ content: [UInt8],
        _ timeoutMs: Int
    ) throws(Fault) -> (status: Int, body: [UInt8]) {
        let deadline = Instant.now().adding(ms: timeoutMs)
        let fd: Int32
        switch Socket.connect(to: address) {
        case .failed(let code): throw Fault("connect to \(address.text): \(SystemError.text(code))")
        case .connected(let connected), .inProgress(let connected): fd = connected
        }
        defer { close(fd) }
        try wait(fd, POLLOUT, deadline, address)
        let code = Socket.pendingError(fd)
        if code != 0 { throw Fault("connect to \(address.text): \(SystemError.text(code))") }
        let head =
            "\(line) HTTP/1.1\r\nHost: \(address.text)\r\n\(fields)Connection: close\r\n\r\n"
        let request = Array(head.utf8) + content
        guard
            case .bytes(request.count) = request.withUnsafeBytes({
                Socket.send(fd, $0.baseAddress!, $0.count)
            })
        else { throw Fault("\(address.text): the request could not be sent") }
        var answer: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while answer.count < answerBytesMax {
            try wait(fd, POLLIN, deadline, address)
            switch piece.withUnsafeMutableBytes({ Socket.receive(fd, $0.baseAddress!, $0.count) }) {
            case .bytes(let count): answer += piece[..<count]
            case .wouldBlock: continue
            case .endOfStream: return try parse(answer)
            case .failed(let code): throw Fault("\(address.text): \(SystemError.text(code))")
            }
        }
        throw Fault("\(address.text): an answer without end")
    }

    private static func wait(
        _ fd: Int32, _ events: Int32, _ deadline: Instant, _ address: SocketAddress
    ) throws(Fault) {
        while true {
            let left = deadline.nanoseconds(since: Instant.now()) / 1_000_000
            if left == 0 { throw Fault("\(address.text): no answer in time") }
            var entry = pollfd(fd: fd, events: Int16(events), revents: 0)
            if poll(&entry, 1, Int32(min(left, 1_000))) > 0 { return }
        }
    }

    static func parse(_ answer: [UInt8]) throws(Fault) -> (status: Int, body: [UInt8]) {
        var head = HeadScan()
        var body: [UInt8] = []
        var status = -1
        let isWhole = answer.withUnsafeBufferPointer { bytes -> Bool in
            guard let base = bytes.baseAddress, case .complete = head.scan(base, bytes.count) else {
                return false
            }
            status = head.startLineBytes >= 12 ? HeadScan.number(base + 9, 3) : -1
            return status > 0
        }
        guard isWhole else { throw Fault("an answer that is no HTTP/1.1") }
        let rest = Array(answer[head.headBytes...])
        if head.isChunked {
            body = try dechunk(rest)
        } else {
            if head.contentLength >= 0, rest.count != head.contentLength {
                throw Fault("a cut-off answer")
            }
            body = rest
        }
        return (status, body)
    }

    private static func dechunk(_ bytes: [UInt8]) throws(Fault) -> [UInt8] {
        var body: [UInt8] = []
        var rest = bytes[...]
        while true {
            guard let end = rest.firstIndex(of: 0x0A) else { throw Fault("a cut-off chunk") }
            let text = String(decoding: rest[..<end], as: UTF8.self).prefix { $0.isHexDigit }
            guard let size = Int(text, radix: 16) else { throw Fault("a bad chunk size") }
            rest = rest[(end + 1)...]
            if size == 0 { return body }
            guard rest.count >= size + 2 else { throw Fault("a cut-off chunk") }
            body += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
        }
    }
}
