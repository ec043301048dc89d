import CLinux
import CoreLoop
import Testing
import Upstream

@testable import Proxy

/// A worker whose clock the test moves, a primary spoken for by hand, and clients. Real sockets.
final class GatewayRig {
    let worker: ProxyWorker
    let board: Board
    let primary: Int32
    private let address: SocketAddress
    private let listener: Int32
    private let boardMemory: SharedMemory
    private let blockMemory: SharedMemory
    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)

    /// `backlog` nil listens as usual; else the primary's queue of connections is that short.
    init(
        backlog: Int32? = nil, security: Security = Security(),
        _ change: (inout GatewaySettings) -> Void = { _ in }
    ) throws {
        let any = try #require(SocketAddress("127.0.0.1:0"))
        primary = try Socket.listen(on: any, sharesPort: false)
        if let backlog { listen(primary, backlog) }
        listener = try Socket.listen(on: any, sharesPort: false)
        address = try Socket.localAddress(listener)
        var settings = GatewaySettings.plain()
        settings.targets[0].addresses = [try Socket.localAddress(primary)]
        settings.runtime.connectionsPerWorker = 64
        settings.runtime.blocksPerWorker = 1_024
        change(&settings)
        let shape = Board.Shape(settings: settings, workers: 1)
        boardMemory = try .plain(byteCount: Board.byteCount(shape))
        board = Board.map(boardMemory.base, shape)
        blockMemory = try .plain(
            byteCount: settings.runtime.blocksPerWorker * settings.runtime.blockBytes)
        worker = try ProxyWorker(
            settings: settings, security: security, index: 0, board: board,
            memory: blockMemory.base, memoryFD: -1, tap: nil, log: nil, wakeFD: -1, now: now,
            seed: 1, movesClock: true)
        try worker.addListener(listener)
    }

    deinit {
        close(listener)
        close(primary)
    }

    func counted(_ name: WorkerCounter) -> UInt64 { board.workers[0].counters.value(name) }

    func client(receiveBytes: Int32? = nil) throws -> Line {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
        let fd = socket(AF_INET, type, 0)
        if var receiveBytes {
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receiveBytes, 4)
            var segment: Int32 = 1_400
            setsockopt(fd, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, 4)
        }
        _ = address.withSockaddr { CLinux.connect(fd, $0, $1) }
        Socket.setNoDelay(fd)
        return Line(fd)
    }

    /// The next connection to the primary.
    func accept() throws -> Line {
        var line: Line?
        try #require(
            turn {
                var storage = sockaddr_storage()
                var length = socklen_t()
                if case .connection(let fd) = Socket.accept(self.primary, &storage, &length) {
                    line = Line(fd)
                }
                return line != nil
            })
        return try #require(line)
    }

    /// Moves the clock by `ms` and takes some turns.
    func turn(afterMs ms: Int = 0, turns: Int = 3) {
        now = now.adding(ms: ms)
        for _ in 0..<turns { worker.turn(now: now, timeoutMs: 0) }
    }

    /// Turns until `done`, at most two real seconds. False where it never came true.
    func turn(until done: () -> Bool) -> Bool {
        let end = Instant.now().adding(ms: 2_000)
        while !done() {
            if Instant.now() > end { return false }
            worker.turn(now: now, timeoutMs: 1)
        }
        return true
    }

    /// Turns until the line has got `text`.
    func expect(_ text: String, on line: Line) {
        let came = turn {
            line.read()
            return line.text.contains(text)
        }
        #expect(came, "\(text) in \(line.text.prefix(300))")
    }

    /// Turns until the line is over.
    func expectEnd(of line: Line) {
        let came = turn {
            line.read()
            return line.isEnded
        }
        #expect(came, "\(line.text.prefix(300)) goes on")
    }
}

/// One end of a connection.
final class Line {
    let fd: Int32
    private(set) var received: [UInt8] = []
    private(set) var isEnded = false

    init(_ fd: Int32) { self.fd = fd }
    deinit { if fd >= 0 { CLinux.close(fd) } }

    var text: String { String(decoding: received, as: UTF8.self) }

    func forget() { received = [] }

    func read() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while !isEnded {
            switch buffer.withUnsafeMutableBytes({ Socket.receive(fd, $0.baseAddress!, $0.count) })
            {
            case .bytes(let count): received += buffer[..<count]
            case .wouldBlock: return
            case .endOfStream, .failed: isEnded = true
            }
        }
    }

    /// Returns how many bytes the kernel took.
    @discardableResult
    func write(_ bytes: some Collection<UInt8>) -> Int {
        let outcome = Array(bytes).withUnsafeBytes { Socket.send(fd, $0.baseAddress!, $0.count) }
        guard case .bytes(let count) = outcome else { return 0 }
        return count
    }

    @discardableResult
    func write(_ text: String) -> Int { write(Array(text.utf8)) }
}
