import CLinux
import CoreLoop

@testable import Upstream

/// A health process's loop on a board in plain memory, turned by hand.
final class HealthRig {
    let targets: [TargetSettings]
    let board: UpstreamBoard
    private(set) var worker: HealthWorker
    private let memory: SharedMemory
    private let resolver: ResolverSettings

    init(_ targets: [TargetSettings], _ resolver: ResolverSettings = .init()) throws {
        self.targets = targets
        self.resolver = resolver
        let shape = UpstreamBoard.Shape(workers: 1, endpoints: targets.map(\.endpoints.count))
        var sizing = MemoryPlan()
        _ = UpstreamBoard(plan: &sizing, shape: shape)
        memory = try .plain(byteCount: sizing.byteCount)
        var plan = MemoryPlan(base: memory.base)
        board = UpstreamBoard(plan: &plan, shape: shape)!
        worker = try HealthWorker(
            targets: targets, resolver: resolver, security: [], board: board, now: .now(), seed: 1)
    }

    /// The process dies, and its next life begins on the same board.
    func restart() throws {
        worker = try HealthWorker(
            targets: targets, resolver: resolver, security: [], board: board, now: .now(), seed: 2)
    }

    /// Turns until `condition` holds; false where that takes more than ten seconds.
    func turn(serving serve: () -> Void = {}, until condition: () -> Bool) -> Bool {
        let deadline = Instant.now().adding(ms: 10_000)
        while !condition() {
            guard Instant.now() < deadline else { return false }
            worker.turn(timeoutMs: 5)
            serve()
        }
        return true
    }
}

/// A TCP server on loopback that answers each connection with the same bytes.
final class FixedServer {
    let address: SocketAddress
    var answer: [UInt8]
    private let listener: Int32
    private var connections: [Int32] = []
    private(set) var accepted = 0
    private(set) var requests: [UInt8] = []

    init(_ answer: String = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") throws {
        self.answer = Array(answer.utf8)
        listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        address = try Socket.localAddress(listener)
    }

    deinit {
        close(listener)
        for fd in connections { close(fd) }
    }

    func serve() {
        var storage = sockaddr_storage()
        var length: socklen_t = 0
        while case .connection(let fd) = Socket.accept(listener, &storage, &length) {
            accepted += 1
            connections.append(fd)
        }
        for (index, fd) in connections.enumerated().reversed() {
            var bytes = [UInt8](repeating: 0, count: 4_096)
            switch bytes.withUnsafeMutableBytes({ Socket.receive(fd, $0.baseAddress!, $0.count) }) {
            case .bytes(let count):
                requests += bytes[..<count]
                _ = answer.withUnsafeBytes { Socket.send(fd, $0.baseAddress!, $0.count) }
            case .wouldBlock: continue
            case .endOfStream, .failed:
                close(fd)
                connections.remove(at: index)
            }
        }
    }

    /// Closes everything that is open without a word.
    func drop() {
        for fd in connections { close(fd) }
        connections = []
    }
}
