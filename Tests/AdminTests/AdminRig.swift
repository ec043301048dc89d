import CLinux
import CoreLoop
import Testing

@testable import Admin

/// An admin server on a loopback port, turned by hand with a clock of its own, so that a test needs
/// neither threads nor waits.
final class AdminRig {
    let bench: Bench
    let server: AdminServer
    /// The supervisor's end of the mailbox.
    let desk: ControlDesk
    private let mailboxMemory: SharedMemory
    let address: SocketAddress
    private let listener: Int32
    var now = Bench.now

    init(token: String? = nil, bench: Bench? = nil) throws {
        self.bench = try bench ?? Bench()
        self.bench.runAll()
        listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        address = try Socket.localAddress(listener)
        desk = try ControlDesk()
        mailboxMemory = try .map(
            fd: dup(desk.memoryFD), byteCount: ControlMailbox.byteCount, writable: true)
        server = try AdminServer(
            settings: self.bench.settings, board: self.bench.board, listener: listener,
            token: token,
            mailbox: ControlMailbox(
                memory: mailboxMemory.base, bell: desk.bell, replyBell: desk.replyBell),
            startedAt: Bench.startedAt, version: "1.2.3")
        // The server began with the real clock: its first turn moves to the tests' own.
        turn()
    }

    deinit { close(listener) }

    func turn(_ times: Int = 4) {
        for _ in 0..<times { server.turn(now: now, timeoutMs: 0) }
    }

    func pass(ms: Int) {
        now = now.adding(ms: ms)
        turn()
    }

    func connect() -> AdminClient {
        let client = AdminClient(address)
        turn()
        return client
    }

    /// Sends `request` on a connection of its own and returns what came until nothing more does.
    func ask(_ request: String) -> String {
        let client = connect()
        client.send(request)
        turn()
        return client.receive(self)
    }

    /// Status, head and body of a GET.
    func get(_ target: String, fields: String = "", method: String = "GET") throws -> Reply {
        let text = ask("\(method) \(target) HTTP/1.1\r\nHost: localhost\r\n\(fields)\r\n")
        return try Reply(text)
    }
}

/// One answer, its parts told apart.
struct Reply {
    let status: Int
    let head: String
    let body: String

    init(_ text: String) throws {
        let end = try #require(text.firstRange(of: "\r\n\r\n"), "\(text)")
        head = String(text[..<end.lowerBound])
        body = String(text[end.upperBound...])
        status = try #require(Int(head.dropFirst(9).prefix(3)))
    }

    /// The value of a field.
    func field(_ name: String) -> String? {
        head.split(separator: "\r\n").first { $0.hasPrefix(name + ": ") }
            .map { String($0.dropFirst(name.count + 2)) }
    }
}

/// The other end: a non-blocking socket.
final class AdminClient {
    let fd: Int32
    private(set) var hasEnded = false
    private(set) var wasReset = false

    init(_ address: SocketAddress) {
        // Loopback connects at once or as soon as the listener's queue has it.
        switch Socket.connect(to: address) {
        case .connected(let fd), .inProgress(let fd): self.fd = fd
        case .failed(let code): fatalError("connect to loopback: \(SystemError.text(code))")
        }
        // A small window, so that an answer of a megabyte waits for who does not read.
        var size: Int32 = 64 << 10
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        var entry = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
        poll(&entry, 1, 1_000)
    }

    deinit { close(fd) }

    @discardableResult
    func send(_ text: String) -> Int { send(Array(text.utf8)) }

    /// How many bytes the kernel took; 0 where the peer is gone.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Int {
        let outcome = bytes.withUnsafeBytes { Socket.send(fd, $0.baseAddress!, $0.count) }
        if case .bytes(let count) = outcome { return count }
        return 0
    }

    /// What has come by now; with a rig, until turning it brings no more.
    func receive(_ rig: AdminRig? = nil) -> String {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 256 << 10)
        var idleTurns = 0
        while idleTurns < 3, !hasEnded {
            switch piece.withUnsafeMutableBytes({ Socket.receive(fd, $0.baseAddress!, $0.count) }) {
            case .bytes(let count):
                bytes += piece[..<count]
                idleTurns = 0
            case .wouldBlock:
                idleTurns += 1
                guard let rig else { return String(decoding: bytes, as: UTF8.self) }
                rig.turn()
            case .endOfStream: hasEnded = true
            case .failed:
                hasEnded = true
                wasReset = true
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether the server closes its side: the kernel may take its time to tell either of it.
    func closes(_ rig: AdminRig) -> Bool {
        let end = Instant.now().adding(ms: 2_000)
        while !isClosed(rig), Instant.now() < end {
            var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, 1)
        }
        return hasEnded
    }

    /// Whether the server has closed its side.
    func isClosed(_ rig: AdminRig) -> Bool {
        rig.turn()
        _ = receive(rig)
        return hasEnded
    }
}
