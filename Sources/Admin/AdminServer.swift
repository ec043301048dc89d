import CLinux
public import CoreLoop
import HTTP
public import Proxy

/// The admin listener: a small HTTP/1.1 server with an epoll loop of its own.
///
/// Pages to read, and orders (POST with a little JSON) that the supervisor carries out while the
/// client waits: docs/admin-api.md. Everything a client can make it hold or do is bounded
/// (`AdminLimits`): connections, heads, contents, times, orders, and answer bytes that wait. One
/// request of each connection is answered in one turn, so that nobody who pipelines keeps the
/// others waiting. One thread.
public final class AdminServer {
    private enum Kind {
        static let listener: UInt8 = 1
        static let connection: UInt8 = 2
        static let orders: UInt8 = 3
    }

    /// An order that the supervisor has not answered, and whose it is.
    private struct Order {
        let place: Int
        let slot: Int
        let serial: UInt32
        let action: AdminPages.Action
    }

    private let pages: AdminPages
    private var isEnding = false
    private let board: Board
    private let epoll: Epoll
    private let listener: Int32
    private let head: RequestHead
    private var connections: [AdminConnection?]
    private var mailbox: ControlMailbox?
    private var orders: [Order] = []
    private var serial: UInt32 = 0
    private var acceptPausedUntil: Instant?
    /// Smaller in tests.
    var pendingBytesMax = AdminLimits.pendingBytesMax
    /// The time at the turn's start.
    private var now: Instant

    /// A server on a socket that listens and does not block; it stays open when the server goes.
    ///
    /// - Parameters:
    ///   - token: what `Authorization: Bearer` must carry for all but the probes; nil asks for
    ///     none, an empty one fits no request.
    ///   - view: what pages show; nil shows the board alone.
    ///   - mailbox: to the supervisor; without one no order is taken.
    ///   - startedAt: when the gateway started, for the uptime.
    ///
    /// Throws where descriptors have run out.
    public init(
        settings: GatewaySettings, board: Board, view: BoardView? = nil, listener: Int32,
        token: String?, mailbox: ControlMailbox? = nil, startedAt: Instant, version: String
    ) throws(SystemError) {
        pages = AdminPages(
            settings: settings, board: board, view: view, token: token, startedAt: startedAt,
            version: version)
        self.board = board
        self.listener = listener
        self.mailbox = mailbox
        now = Instant.now()
        head = RequestHead(
            limits: HeadLimits(
                headBytesMax: AdminLimits.headBytesMax, fieldsMax: AdminLimits.fieldsMax,
                targetBytesMax: AdminLimits.targetBytesMax))
        connections = Array(repeating: nil, count: AdminLimits.connectionsMax)
        epoll = try Epoll()
        try epoll.add(listener, Self.listenerToken, mode: .level)
        if let mailbox {
            let token = Token(kind: Kind.orders, slot: 0, generation: 0)
            try epoll.add(mailbox.answersFD, token, mode: .level)
        }
    }

    private static let listenerToken = Token(kind: Kind.listener, slot: 0, generation: 0)

    /// Connections that are open.
    public var connectionCount: Int { connections.count { $0 != nil } }

    /// Turns the loop until `isOver` says so, which is asked at least once a second and after each
    /// signal.
    public func run(until isOver: () -> Bool) {
        while !isOver() { turn(timeoutMs: Int32(AdminLimits.turnMsMax)) }
    }

    /// Takes no further connection, and ends once what was asked is answered: within
    /// `AdminLimits.finishMs`. The listening socket stays open.
    public func finish() {
        isEnding = true
        if acceptPausedUntil == nil { epoll.remove(listener) }
        acceptPausedUntil = nil
        let end = Instant.now().adding(ms: AdminLimits.finishMs)
        while Instant.now() < end {
            for slot in connections.indices where connections[slot]?.isIdle == true {
                connections[slot] = nil
            }
            guard connectionCount > 0 else { return }
            turn(timeoutMs: 20)
        }
    }

    /// Waits at most `timeoutMs` (and never longer than `AdminLimits.turnMsMax`) for events,
    /// handles them, and cuts who was too slow. Writes the admin process's heartbeat.
    ///
    /// `now` moves the clock by hand, for tests; nil reads it after the wait.
    public func turn(now moved: Instant? = nil, timeoutMs: Int32) {
        let count = epoll.wait(timeoutMs: waitMs(timeoutMs))
        now = moved ?? Instant.now()
        let due = connections.indices.filter { connections[$0]?.goesOn == true }
        for place in 0..<count {
            let (token, _) = epoll.event(place)
            if token.kind == Kind.listener {
                acceptConnections()
            } else if token.kind == Kind.orders {
                mailbox?.clearAnswers()
            } else if let connection = connections[token.slot],
                connection.serial == token.generation, !connection.goesOn
            {
                drive(token.slot)
            }
        }
        takeAnswers(now: moved)
        // Whoever began to go on in this turn has had its answer of this turn.
        for slot in due { drive(slot) }
        for slot in connections.indices {
            if let connection = connections[slot], connection.deadline <= now { expire(slot) }
        }
        resumeAccepting()
        board.admin[.heartbeatMs].set(now.milliseconds)
    }

    private func waitMs(_ wanted: Int32) -> Int32 {
        var wait = AdminLimits.turnMsMax
        if wanted >= 0 { wait = min(wait, Int(wanted)) }
        func shorten(to deadline: Instant) {
            // Rounded up: a turn just before a deadline would only turn again.
            wait = min(wait, Int(clamping: deadline.nanoseconds(since: now) / 1_000_000) + 1)
        }
        for case let connection? in connections {
            if connection.goesOn { return 0 }
            shorten(to: connection.deadline)
        }
        if let acceptPausedUntil { shorten(to: acceptPausedUntil) }
        return Int32(wait)
    }

    // MARK: Accepting

    private func acceptConnections() {
        var address = sockaddr_storage()
        var length = socklen_t()
        for _ in 0..<CoreLoop.Limits.acceptsPerTurnMax {
            switch Socket.accept(listener, &address, &length) {
            case .connection(let fd): take(fd)
            case .aborted: continue
            case .wouldBlock: return
            case .exhausted:
                // Told by level, an accept that cannot succeed would spin the loop.
                epoll.remove(listener)
                acceptPausedUntil = now.adding(ms: AdminLimits.acceptPauseMs)
                return
            }
        }
    }

    private func resumeAccepting() {
        guard let until = acceptPausedUntil, until <= now else { return }
        acceptPausedUntil = now.adding(ms: AdminLimits.acceptPauseMs)
        if (try? epoll.add(listener, Self.listenerToken, mode: .level)) != nil {
            acceptPausedUntil = nil
        }
    }

    private func take(_ fd: Int32) {
        guard let slot = connections.firstIndex(where: { $0 == nil }) ?? evict() else {
            close(fd)
            return
        }
        serial &+= 1
        let token = Token(kind: Kind.connection, slot: slot, generation: serial)
        guard (try? epoll.add(fd, token, mode: .edge)) != nil else {
            close(fd)
            return
        }
        // Left to itself the kernel keeps megabytes for each slow reader.
        var size = AdminLimits.sendBufferBytes
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        connections[slot] = AdminConnection(fd: fd, serial: serial, now: now)
    }

    /// Makes room by closing who has waited longest for nothing; nil where all have work.
    private func evict() -> Int? {
        func idleSince(_ slot: Int) -> Instant? {
            guard let connection = connections[slot] else { return nil }
            switch connection.phase {
            case .writing, .parked: return nil
            case .lingering: return Instant(nanoseconds: 0)
            case .reading: return connection.goesOn ? nil : connection.waitingSince
            }
        }
        let waiting = connections.indices.compactMap { slot in idleSince(slot).map { (slot, $0) } }
        guard let longest = waiting.min(by: { $0.1 < $1.1 }) else { return nil }
        connections[longest.0] = nil
        return longest.0
    }

    // MARK: One connection

    private func drive(_ slot: Int) {
        guard let connection = connections[slot] else { return }
        connection.goesOn = false
        switch connection.phase {
        case .lingering:
            if connection.discard() { connections[slot] = nil }
        case .writing: write(slot, connection)
        // What it sends meanwhile waits in the socket.
        case .parked: return
        case .reading: read(slot, connection)
        }
    }

    private func read(_ slot: Int, _ connection: AdminConnection) {
        let wasIdle = connection.inputCount == 0
        guard connection.fill() else {
            connections[slot] = nil
            return
        }
        if wasIdle, connection.inputCount > 0 {
            connection.deadline = now.adding(ms: AdminLimits.headTimeoutMs)
        }
        let bytes = connection.received
        let outcome =
            connection.seen == 0 ? head.parse(bytes) : head.parse(bytes, seen: connection.seen)
        switch outcome {
        case .incomplete:
            connection.seen = bytes.count
            if connection.hasEnded { connections[slot] = nil }
        case .invalid(let fault):
            respond(slot, connection, .refusal(fault), isHead: false, closes: true)
        case .complete(let headBytes):
            let step =
                isOverloaded ? .answer(.overloaded) : pages.receive(head, bytes, now: now)
            take(slot, connection, headBytes: headBytes, step)
        }
    }

    private func take(
        _ slot: Int, _ connection: AdminConnection, headBytes: Int, _ step: AdminPages.Step
    ) {
        let isLast = !head.keepAlive || head.versionMinor == 0 || isEnding
        switch step {
        case .answer(let answer):
            // Content is not read: with it the connection ends, so that no byte of it can be
            // taken for a request.
            let hasContent = head.framing != .none && head.framing != .length(0)
            connection.consume(headBytes)
            respond(
                slot, connection, answer, isHead: head.method == .head,
                closes: isLast || hasContent)
        case .content(let count, let action):
            guard connection.inputCount >= headBytes + count else {
                if connection.hasEnded { return connections[slot] = nil }
                if head.expectContinue { connection.sayContinue() }
                // Parsed again with the rest: within the time of a head, or it is cut.
                connection.seen = 0
                return
            }
            let body = Array(connection.received[headBytes..<headBytes + count])
            connection.consume(headBytes + count)
            switch pages.act(action, body) {
            case .answer(let answer):
                respond(slot, connection, answer, isHead: false, closes: isLast)
            case .order(let order):
                guard let place = mailbox?.ask(order) else {
                    return respond(slot, connection, .ordersWait, isHead: false, closes: isLast)
                }
                orders.append(
                    Order(place: place, slot: slot, serial: connection.serial, action: action))
                connection.isLast = isLast
                connection.phase = .parked
                connection.deadline = now.adding(ms: AdminLimits.controlTimeoutMs)
            }
        }
    }

    /// Passes the supervisor's answers on; those to clients that are gone are dropped. What they
    /// tell of may be younger than this turn: the time is read once they are here.
    private func takeAnswers(now moved: Instant?) {
        var waiting: [Order] = []
        for order in orders {
            guard let answer = mailbox?.takeAnswer(order.place) else {
                waiting.append(order)
                continue
            }
            guard let connection = connections[order.slot], connection.serial == order.serial,
                connection.phase == .parked
            else { continue }
            respond(
                order.slot, connection, pages.answer(order.action, answer, now: moved ?? .now()),
                isHead: false, closes: connection.isLast)
        }
        orders = waiting
    }

    private var isOverloaded: Bool {
        connections.reduce(0) { $0 + ($1?.pendingBytes ?? 0) } > pendingBytesMax
    }

    private func respond(
        _ slot: Int, _ connection: AdminConnection, _ answer: AdminAnswer, isHead: Bool,
        closes: Bool
    ) {
        connection.isLast = closes
        connection.deadline = now.adding(ms: AdminLimits.writeTimeoutMs)
        connection.send(
            answer.bytes(isHead: isHead, closes: closes, wallMs: WallClock.milliseconds()))
        write(slot, connection)
    }

    private func write(_ slot: Int, _ connection: AdminConnection) {
        switch connection.flush() {
        case .waits: return
        case .failed: connections[slot] = nil
        case .done where connection.isLast:
            Socket.shutdownWrites(connection.fd)
            connection.phase = .lingering
            connection.deadline = now.adding(ms: AdminLimits.lingerMs)
            if connection.discard() { connections[slot] = nil }
        case .done:
            connection.phase = .reading
            connection.waitingSince = now
            connection.deadline = now.adding(
                ms: connection.inputCount > 0
                    ? AdminLimits.headTimeoutMs : AdminLimits.idleTimeoutMs)
            // The next request may be in the buffer or the socket already: no event will say so.
            connection.goesOn = true
        }
    }

    /// A deadline passed: who has begun a request is told, whoever else is closed.
    private func expire(_ slot: Int) {
        guard let connection = connections[slot] else { return }
        switch connection.phase {
        case .reading where connection.inputCount > 0:
            respond(slot, connection, .tooSlow, isHead: false, closes: true)
        case .parked: respond(slot, connection, .unanswered, isHead: false, closes: true)
        default: connections[slot] = nil
        }
    }
}
