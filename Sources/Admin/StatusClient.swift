import CLinux
public import CoreLoop
import HTTP

/// Why an admin listener could not be asked: one sentence for a person.
public struct StatusFault: Error, Equatable, CustomStringConvertible {
    /// The sentence, without a full stop.
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A request to an admin listener, blocking, over a connection of its own: `umbra gateway status`
/// and the commands that give orders.
public enum StatusClient {
    /// How long a whole exchange may take, milliseconds, unless the caller says otherwise.
    public static let timeoutMsDefault = 2_000

    /// The text of `/status`: one line of JSON, or tables for a terminal. Throws where nobody
    /// answers within `timeoutMs`, or with anything but 200.
    public static func status(
        _ address: SocketAddress, token: String?, asJSON: Bool, timeoutMs: Int = timeoutMsDefault
    ) throws(StatusFault) -> String {
        try page(address, "/status", token: token, asJSON: asJSON, timeoutMs: timeoutMs)
    }

    /// The same of another page that has both forms.
    public static func page(
        _ address: SocketAddress, _ path: String, token: String?, asJSON: Bool,
        timeoutMs: Int = timeoutMsDefault
    ) throws(StatusFault) -> String {
        let path = asJSON ? path : path + "?format=text"
        let answer = try get(address, path, token: token, timeoutMs: timeoutMs)
        switch answer.status {
        case 200: return answer.body
        case 401:
            let reason = token == nil ? "asks for a token" : "does not take this token"
            throw StatusFault("the admin listener at \(address.text) \(reason)")
        case let status:
            throw StatusFault("the admin listener at \(address.text) answered \(status)")
        }
    }

    /// Status and body of a GET of `path`, which starts with `/`, or of a POST of `json`. Throws
    /// where there is no whole, well-formed answer within `timeoutMs`, or where `token` cannot
    /// stand in a field.
    public static func get(
        _ address: SocketAddress, _ path: String, posting json: String? = nil, token: String?,
        timeoutMs: Int = timeoutMsDefault
    ) throws(StatusFault) -> (status: Int, body: String) {
        precondition(path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } && path.hasPrefix("/"))
        let deadline = Instant.now().adding(ms: timeoutMs)
        let fd = try connected(address, deadline)
        defer { close(fd) }
        // A Unix path is no authority (RFC 9110 §7.2).
        let host = address.isUnix ? "localhost" : address.text
        let method = json == nil ? "GET" : "POST"
        var request = "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n"
        if let json {
            request += "Content-Type: application/json\r\nContent-Length: \(json.utf8.count)\r\n"
        }
        if let token {
            guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw StatusFault("the token has bytes that cannot stand in a field")
            }
            request += "Authorization: Bearer \(token)\r\n"
        }
        try send(fd, Array((request + "\r\n" + (json ?? "")).utf8), address, deadline)
        return try parse(try receive(fd, address, deadline), address)
    }

    private static func connected(
        _ address: SocketAddress, _ deadline: Instant
    ) throws(StatusFault) -> Int32 {
        func fault(_ code: Int32) -> StatusFault {
            StatusFault(
                "no gateway answers at \(address.text): \(SystemError.text(code))")
        }
        switch Socket.connect(to: address) {
        case .connected(let fd): return fd
        case .failed(let code): throw fault(code)
        case .inProgress(let fd):
            do throws(StatusFault) {
                try wait(fd, POLLOUT, address, deadline)
                let code = Socket.pendingError(fd)
                if code != 0 { throw fault(code) }
            } catch {
                close(fd)
                throw error
            }
            return fd
        }
    }

    private static func wait(
        _ fd: Int32, _ events: Int32, _ address: SocketAddress, _ deadline: Instant
    ) throws(StatusFault) {
        while true {
            let leftMs = deadline.nanoseconds(since: Instant.now()) / 1_000_000
            guard leftMs > 0 else {
                throw StatusFault("no gateway answers at \(address.text) in time")
            }
            var entry = pollfd(fd: fd, events: Int16(events), revents: 0)
            if poll(&entry, 1, Int32(min(leftMs, 1_000))) > 0 { return }
        }
    }

    private static func send(
        _ fd: Int32, _ request: [UInt8], _ address: SocketAddress, _ deadline: Instant
    ) throws(StatusFault) {
        var sent = 0
        while sent < request.count {
            let outcome = request.withUnsafeBytes {
                Socket.send(fd, $0.baseAddress! + sent, $0.count - sent)
            }
            switch outcome {
            case .bytes(let count): sent += count
            case .wouldBlock: try wait(fd, POLLOUT, address, deadline)
            case .failed(let code):
                throw StatusFault("\(address.text): \(SystemError.text(code))")
            }
        }
    }

    /// Everything until the server closes.
    private static func receive(
        _ fd: Int32, _ address: SocketAddress, _ deadline: Instant
    ) throws(StatusFault) -> [UInt8] {
        var answer: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while answer.count <= AdminLimits.statusBytesMax {
            try wait(fd, POLLIN, address, deadline)
            let outcome = piece.withUnsafeMutableBytes {
                Socket.receive(fd, $0.baseAddress!, $0.count)
            }
            switch outcome {
            case .bytes(let count): answer += piece[..<count]
            case .wouldBlock: continue
            case .endOfStream: return answer
            case .failed(let code):
                throw StatusFault("\(address.text): \(SystemError.text(code))")
            }
        }
        throw StatusFault("\(address.text): the answer is longer than any of a gateway")
    }

    private static func parse(
        _ answer: [UInt8], _ address: SocketAddress
    ) throws(StatusFault) -> (status: Int, body: String) {
        guard !answer.isEmpty else {
            throw StatusFault(
                "what listens at \(address.text) closed without an answer: it is no admin listener, "
                    + "or all its connections are taken; try again")
        }
        let head = ResponseHead(limits: HeadLimits(headBytesMax: AdminLimits.headBytesMax))
        let outcome = answer.withUnsafeBytes { head.parse($0, toHead: false) }
        guard case .complete(let headBytes) = outcome, case .length(let length) = head.framing
        else { throw StatusFault("what listens at \(address.text) is no admin listener") }
        let body = answer[headBytes...]
        guard body.count == length else {
            throw StatusFault("\(address.text): the answer was cut off")
        }
        return (head.status, String(decoding: body, as: UTF8.self))
    }
}
