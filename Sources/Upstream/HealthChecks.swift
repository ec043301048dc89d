import CLinux
import CoreLoop
import HTTP
import TLS

/// One check under way.
private struct CheckConnection {
    enum Phase { case connecting, securing, exchanging }

    var fd: Int32 = -1
    var tls = TLSSession()
    let endpoint: Int
    var phase = Phase.connecting
    /// Which of the endpoint's addresses it goes to, and how many were tried.
    var address = 0
    var tried = 0
    let deadline: Instant
    var sent = 0
    var received = 0
    var interim = 0

    var channel: Channel { Channel(fd: fd, tls: tls) }
}

/// Sends the checks and judges what comes back. No check waits for another; each is a connection of
/// its own, because a pooled one would only show that an old connection still works.
final class HealthChecks {
    /// What is known of one endpoint.
    private struct Checked {
        let target: Int
        let place: Int
        let settings: HealthSettings
        let request: [UInt8]
        let cells: CounterRow<HealthCell>
        var judge: HealthJudge
        var addresses: [SocketAddress]
        /// The address that answered last.
        var preferred = 0
        var nextAt: Instant
    }

    private let board: UpstreamBoard
    private let security: [ClientContext?]
    /// By the endpoint's number on the board; nil for those without checks.
    private var endpoints: [Checked?]
    private let connections: Slab<CheckConnection>
    /// Room for a head of each connection.
    private let heads: SharedMemory
    private let head = ResponseHead(
        limits: HeadLimits(
            headBytesMax: UpstreamLimits.checkHeadBytesMax,
            fieldsMax: UpstreamLimits.checkFieldsMax))
    /// Endpoints whose check is due and has no connection yet.
    private var waiting: [Int] = []
    private let kind: UInt8
    private var random: FastRandom
    /// Told of each verdict that has changed.
    var onVerdict: ((_ target: Int, _ place: Int, HealthState, CheckResult, _ status: Int) -> Void)?

    init(
        _ targets: [TargetSettings], security: [ClientContext?], board: UpstreamBoard, kind: UInt8,
        seed: UInt64
    ) throws(SystemError) {
        self.board = board
        self.security = security
        self.kind = kind
        random = FastRandom(seed: seed)
        endpoints = Array(repeating: nil, count: board.endpointCount)
        connections = try Slab(capacity: UpstreamLimits.checksAtOnceMax)
        heads = try .plain(
            byteCount: UpstreamLimits.checksAtOnceMax * UpstreamLimits.checkHeadBytesMax)
        for (index, target) in targets.enumerated() {
            guard let health = target.health else { continue }
            for (place, endpoint) in target.endpoints.enumerated() {
                let number = board.firstEndpoints[index] + place
                endpoints[number] = Checked(
                    target: index, place: place, settings: health,
                    request: health.request(
                        endpoint, pathPrefix: target.pathPrefix, isSecure: target.tls != nil),
                    cells: board.verdict(number),
                    judge: HealthJudge(health, state: board.health(number)),
                    addresses: endpoint.addresses, nextAt: Instant(nanoseconds: 0))
            }
        }
    }

    deinit {
        for slot in 0..<connections.walkEnd where connections.isUsed(slot) {
            connections[slot].pointee.tls.close(saysGoodbye: false)
            if connections[slot].pointee.fd >= 0 { close(connections[slot].pointee.fd) }
        }
    }

    /// Whether an endpoint has checks.
    func isChecked(_ endpoint: Int) -> Bool { endpoints[endpoint] != nil }

    /// Takes the addresses that a look-up has found.
    func setAddresses(_ endpoint: Int, _ addresses: [SocketAddress]) {
        endpoints[endpoint]?.addresses = addresses
        endpoints[endpoint]?.preferred = 0
    }

    // MARK: Beginning

    /// Timers are asked for and given back by ids: endpoints first, then connections.
    private func timer(ofSlot slot: Int) -> Int { board.endpointCount + slot }

    /// Begins a check, or has it wait for a connection. Its timer is set when it ends.
    func start(
        _ endpoint: Int, _ epoll: borrowing Epoll, _ timers: borrowing TimerWheel, now: Instant
    ) {
        guard let checked = endpoints[endpoint] else { return }
        let ms = CheckPace.nextMs(intervalMs: checked.settings.intervalMs, random: random.next())
        endpoints[endpoint]!.nextAt = now.adding(ms: ms)
        let connection = CheckConnection(
            endpoint: endpoint, deadline: now.adding(ms: checked.settings.timeoutMs))
        guard !checked.addresses.isEmpty else {
            return note(endpoint, .address, status: 0, timers, now)
        }
        guard let slot = connections.insert(connection) else {
            waiting.append(endpoint)
            return
        }
        connectNext(slot, epoll, timers, now, otherwise: .connect)
    }

    /// Begins checks that waited, as far as there are connections.
    func startWaiting(
        _ epoll: borrowing Epoll, _ timers: borrowing TimerWheel, now: Instant
    ) {
        while !waiting.isEmpty, connections.usedCount < connections.capacity {
            start(waiting.removeFirst(), epoll, timers, now: now)
        }
    }

    /// Tries the endpoint's next address; the check ends `otherwise` where none is left.
    private func connectNext(
        _ slot: Int, _ epoll: borrowing Epoll, _ timers: borrowing TimerWheel, _ now: Instant,
        otherwise: CheckResult
    ) {
        let connection = connections[slot]
        let endpoint = connection.pointee.endpoint
        let addresses = endpoints[endpoint]!.addresses
        closeConnection(slot)
        while connection.pointee.tried < addresses.count {
            let preferred = endpoints[endpoint]!.preferred
            connection.pointee.address = (preferred + connection.pointee.tried) % addresses.count
            connection.pointee.tried += 1
            let fd: Int32
            switch Socket.connect(to: addresses[connection.pointee.address]) {
            case .connected(let new), .inProgress(let new): fd = new
            case .failed: continue
            }
            let token = Token(kind: kind, slot: slot, generation: connections.generation(slot))
            do throws(SystemError) { try epoll.add(fd, token) } catch {
                close(fd)
                continue
            }
            connection.pointee.fd = fd
            connection.pointee.phase = .connecting
            // One that swallows everything leaves time for those behind it.
            let left = connection.pointee.deadline.nanoseconds(since: now)
            let share = left / UInt64(1 + addresses.count - connection.pointee.tried)
            timers.schedule(
                timer(ofSlot: slot), at: Instant(nanoseconds: now.nanoseconds + share))
            return
        }
        end(slot, otherwise, status: 0, timers, now)
    }

    private func closeConnection(_ slot: Int) {
        let connection = connections[slot]
        connection.pointee.tls.close(saysGoodbye: false)
        connection.pointee.tls = TLSSession()
        if connection.pointee.fd >= 0 { close(connection.pointee.fd) }
        connection.pointee.fd = -1
    }

    // MARK: Events

    /// One event of a connection of ours.
    func handle(
        _ token: Token, _ readiness: Readiness, _ epoll: borrowing Epoll,
        _ timers: borrowing TimerWheel, now: Instant
    ) {
        let slot = token.slot
        guard connections.isLive(slot, token.generation) else { return }
        switch connections[slot].pointee.phase {
        case .connecting:
            if Socket.pendingError(connections[slot].pointee.fd) != 0 {
                connectNext(slot, epoll, timers, now, otherwise: .connect)
            } else if readiness.contains(.writable) {
                connected(slot, timers, now)
            }
        case .securing: secure(slot, timers, now)
        case .exchanging: exchange(slot, timers, now)
        }
    }

    /// A deadline is over. `slot` is that of a connection.
    func expire(
        slot: Int, _ epoll: borrowing Epoll, _ timers: borrowing TimerWheel, now: Instant
    ) {
        guard connections.isUsed(slot) else { return }
        if connections[slot].pointee.phase == .connecting {
            connectNext(slot, epoll, timers, now, otherwise: .timeout)
        } else {
            end(slot, .timeout, status: 0, timers, now)
        }
    }

    private func connected(
        _ slot: Int, _ timers: borrowing TimerWheel, _ now: Instant
    ) {
        let connection = connections[slot]
        let checked = endpoints[connection.pointee.endpoint]!
        timers.schedule(timer(ofSlot: slot), at: connection.pointee.deadline)
        guard checked.target < security.count, let context = security[checked.target] else {
            connection.pointee.phase = .exchanging
            return exchange(slot, timers, now)
        }
        guard
            let session = context.connect(
                connection.pointee.fd, endpoint: checked.place,
                address: connection.pointee.address)
        else { return end(slot, .tls, status: 0, timers, now) }
        connection.pointee.tls = session
        connection.pointee.phase = .securing
        secure(slot, timers, now)
    }

    private func secure(_ slot: Int, _ timers: borrowing TimerWheel, _ now: Instant) {
        switch connections[slot].pointee.tls.handshake() {
        case .wouldBlock: return
        case .plainHTTP, .failed: end(slot, .tls, status: 0, timers, now)
        case .done:
            connections[slot].pointee.phase = .exchanging
            exchange(slot, timers, now)
        }
    }

    /// Sends what is left of the request and reads what has come.
    private func exchange(_ slot: Int, _ timers: borrowing TimerWheel, _ now: Instant) {
        let connection = connections[slot]
        let request = endpoints[connection.pointee.endpoint]!.request
        var couldSend = true
        if connection.pointee.sent < request.count {
            let sent = connection.pointee.sent
            let outcome = request.withUnsafeBytes {
                connection.pointee.channel.send($0.baseAddress! + sent, $0.count - sent)
            }
            switch outcome {
            case .bytes(let count): connection.pointee.sent += count
            case .wouldBlock: break
            // An answer may be here already: it is read before this counts.
            case .failed: couldSend = false
            }
        }
        let memory = heads.base + slot * UpstreamLimits.checkHeadBytesMax
        while true {
            let room = UpstreamLimits.checkHeadBytesMax - connection.pointee.received
            guard room > 0 else { return end(slot, .malformed, status: 0, timers, now) }
            let place = memory + connection.pointee.received
            switch connection.pointee.channel.receive(place, room) {
            case .bytes(let count): connection.pointee.received += count
            case .wouldBlock:
                if !couldSend { end(slot, .malformed, status: 0, timers, now) }
                return
            case .endOfStream, .failed: return end(slot, .malformed, status: 0, timers, now)
            }
            if judge(slot, memory, timers, now) { return }
        }
    }

    /// Reads the head as far as it has come; true where the check has ended.
    private func judge(
        _ slot: Int, _ memory: UnsafeMutableRawPointer, _ timers: borrowing TimerWheel,
        _ now: Instant
    ) -> Bool {
        let connection = connections[slot]
        let settings = endpoints[connection.pointee.endpoint]!.settings
        while true {
            let bytes = UnsafeRawBufferPointer(start: memory, count: connection.pointee.received)
            switch head.parse(bytes, toHead: settings.method == .head) {
            case .incomplete: return false
            case .invalid:
                end(slot, .malformed, status: 0, timers, now)
                return true
            case .complete(let next):
                guard head.isInterim else {
                    let passes = settings.passes(head.status)
                    end(slot, passes ? .passed : .status, status: head.status, timers, now)
                    return true
                }
                connection.pointee.interim += 1
                guard connection.pointee.interim <= UpstreamLimits.checkInterimMax else {
                    end(slot, .malformed, status: 0, timers, now)
                    return true
                }
                connection.pointee.received -= next
                memmove(memory, memory + next, connection.pointee.received)
            }
        }
    }

    // MARK: Ending

    private func end(
        _ slot: Int, _ result: CheckResult, status: Int, _ timers: borrowing TimerWheel,
        _ now: Instant
    ) {
        let connection = connections[slot]
        let endpoint = connection.pointee.endpoint
        if endpoints[endpoint]!.addresses.count > 1 {
            // The one that answered is asked again; one that did not comes last the next time.
            let next = connection.pointee.address + (result == .timeout ? 1 : 0)
            endpoints[endpoint]!.preferred = next % endpoints[endpoint]!.addresses.count
        }
        closeConnection(slot)
        timers.cancel(timer(ofSlot: slot))
        connections.remove(slot)
        note(endpoint, result, status: status, timers, now)
    }

    /// Counts a result, publishes what changes by it, and sets the time of the next check.
    private func note(
        _ endpoint: Int, _ result: CheckResult, status: Int, _ timers: borrowing TimerWheel,
        _ now: Instant
    ) {
        let cells = endpoints[endpoint]!.cells
        cells.add(HealthCell(result))
        cells[.lastResult].set(UInt64(result.rawValue))
        cells[.lastStatus].set(UInt64(status))
        let before = endpoints[endpoint]!.judge.state
        if endpoints[endpoint]!.judge.note(passed: result == .passed) {
            let state = endpoints[endpoint]!.judge.state
            if before != .unknown { cells.add(.changes) }
            cells[.sinceMs].set(now.milliseconds)
            cells[.state].set(UInt64(state.rawValue))
            board.healthVersion.publish(board.healthVersion.value &+ 1)
            // What is well from the beginning is no news.
            if before != .unknown || state == .unhealthy {
                let checked = endpoints[endpoint]!
                onVerdict?(checked.target, checked.place, state, result, status)
            }
        }
        timers.schedule(endpoint, at: max(endpoints[endpoint]!.nextAt, now))
    }
}
