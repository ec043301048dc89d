import CLinux
public import CoreLoop
import HTTP

/// A stand-in for an LLM provider: an HTTP/1.1 server with one event loop, on one thread.
public final class MockServer {
    private enum Kind {
        static let listener: UInt8 = 1
        static let connection: UInt8 = 2
    }

    /// Where it listens, the port found where 0 was asked for.
    public let address: SocketAddress
    private let listener: Int32
    private let epoll: Epoll
    private let head = RequestHead(limits: HeadLimits())
    private let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: MockLimits.receiveBytes, alignment: 16)
    private var connections: [MockConnection?]
    private var free: [Int]
    private var api: MockAPI
    private var serial: UInt32 = 0
    private var acceptPausedUntil: Instant?
    /// Told each request that was answered: its method, path and status.
    private let onAnswer: ((String, String, Int) -> Void)?

    /// Binds and listens; serves once `run` is called.
    public init(
        _ options: MockOptions, onAnswer: ((String, String, Int) -> Void)? = nil
    ) throws(SystemError) {
        self.onAnswer = onAnswer
        ProcessControl.raiseFileLimit(to: MockLimits.connectionsMax + 64)
        listener = try Socket.listen(on: options.listen, sharesPort: false)
        address = try Socket.localAddress(listener)
        connections = Array(repeating: nil, count: MockLimits.connectionsMax)
        free = (0..<MockLimits.connectionsMax).reversed()
        api = MockAPI(options, now: .now())
        epoll = try Epoll()
        try epoll.add(
            listener, Token(kind: Kind.listener, slot: 0, generation: 0), mode: .level)
    }

    deinit {
        close(listener)
        buffer.deallocate()
    }

    /// Serves until `isOver` says so, which is asked after each turn of at most a second.
    public func run(until isOver: () -> Bool) {
        while !isOver() { turn() }
    }

    private func turn() {
        let count = epoll.wait(timeoutMs: waitMs(.now()))
        let now = Instant.now()
        for place in 0..<count {
            let (token, readiness) = epoll.event(place)
            if token.kind == Kind.listener {
                acceptAll(now)
            } else if let connection = connections[token.slot],
                connection.serial == token.generation
            {
                if !readiness.isDisjoint(with: [.peerClosed, .hangUp, .error]),
                    connection.peerIsGone()
                {
                    drop(token.slot)
                } else {
                    drive(token.slot, now)
                }
            }
        }
        for slot in connections.indices {
            if let due = connections[slot]?.dueAt, due <= now { drive(slot, now) }
        }
        if let until = acceptPausedUntil, until <= now { resumeAccepting(now) }
    }

    private func waitMs(_ now: Instant) -> Int32 {
        var least = UInt64(MockLimits.turnMsMax) * 1_000_000
        for case let connection? in connections {
            guard let due = connection.dueAt else { continue }
            least = min(least, due <= now ? 0 : due.nanoseconds(since: now))
        }
        // Rounded up: a turn just before it is due would only turn again.
        return Int32((least + 999_999) / 1_000_000)
    }

    // MARK: Connections

    private func acceptAll(_ now: Instant) {
        var storage = sockaddr_storage()
        var length = socklen_t(0)
        for _ in 0..<CoreLoop.Limits.acceptsPerTurnMax {
            switch Socket.accept(listener, &storage, &length) {
            case .connection(let fd): take(fd, now)
            case .aborted: continue
            case .wouldBlock: return
            case .exhausted:
                // Told by level, an accept that cannot succeed would spin the loop.
                epoll.remove(listener)
                acceptPausedUntil = now.adding(ms: Int(MockLimits.turnMsMax))
                return
            }
        }
    }

    private func resumeAccepting(_ now: Instant) {
        acceptPausedUntil = now.adding(ms: Int(MockLimits.turnMsMax))
        let token = Token(kind: Kind.listener, slot: 0, generation: 0)
        if (try? epoll.add(listener, token, mode: .level)) != nil { acceptPausedUntil = nil }
    }

    private func take(_ fd: Int32, _ now: Instant) {
        guard let slot = free.popLast() else {
            close(fd)
            return
        }
        serial &+= 1
        Socket.setNoDelay(fd)
        connections[slot] = MockConnection(fd: fd, serial: serial)
        let token = Token(kind: Kind.connection, slot: slot, generation: serial)
        if (try? epoll.add(fd, token)) == nil { drop(slot) }
    }

    private func drop(_ slot: Int) {
        connections[slot] = nil
        free.append(slot)
    }

    private func drive(_ slot: Int, _ now: Instant) {
        guard let connection = connections[slot] else { return }
        while true {
            switch connection.proceed(head, buffer, now: now) {
            case .waits: return
            case .closed: return drop(slot)
            case .request:
                let request = connection.request
                let isFull = bodiesBytes > MockLimits.bodiesBytesMax
                let reply =
                    isFull
                    ? MockReply(status: 503)
                    : api.answer(request, now: now, wallMs: WallClock.milliseconds())
                onAnswer?(request.method, request.path, reply.status)
                connection.begin(reply, now: now)
            }
        }
    }

    private var bodiesBytes: Int { connections.reduce(0) { $0 + ($1?.bodyBytes ?? 0) } }
}
