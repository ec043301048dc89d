import CLinux
public import CoreLoop
import Synchronization

/// An HTTP/1.1 load generator: one thread, keep-alive connections, one request on each at a time.
///
/// Open loop (`rate`): requests have intended send times that do not wait for answers. Where all
/// connections are busy a request waits, and its latency counts from its intended time all the
/// same, so that a stalled target cannot hide its stall (no coordinated omission). Closed loop:
/// each connection sends as soon as it was answered; that finds saturation, not latency.
/// `run` belongs to one thread; only `stop` may be called from others.
public final class LoadGenerator: @unchecked Sendable {
    private let options: LoadOptions
    private let epoll: Epoll
    private let timer: KernelTimer
    private let templates: UnsafeMutablePointer<RequestTemplate>
    private let requestCount: Int
    let connections: UnsafeMutablePointer<LoadConnection>
    let connectionCount: Int
    /// Connections without a request, first in, first out, so that all are used alike.
    private let free: UnsafeMutablePointer<UInt32>
    private var freeHead = 0
    private var freeCount = 0
    private let buffer: UnsafeMutablePointer<UInt8>
    private let stash: SharedMemory
    private let counterMemory: SharedMemory
    private let total: CounterRow<LoadCounter>
    private let measured: CounterRow<LoadCounter>
    private let latency: Histogram
    private let lateness: Histogram

    private var schedule: Schedule?
    /// Runs ahead of `schedule` to know how many requests are due.
    private var due: Schedule?
    private var serial: UInt64 = 0
    private var inFlight = 0
    private var measureFrom: UInt64 = 0
    private var endAt: UInt64 = 0
    private var pausedUntil: UInt64 = 0
    private var armedAt: UInt64 = 0
    private let stopAsked: Atomic<Bool>

    private static let timerToken = Token(kind: 1, slot: 0, generation: 0)
    private static let connectionKind: UInt8 = 2

    /// Makes room for everything; connects nothing yet. `options.requests` must not be empty.
    public init(_ options: LoadOptions) throws(SystemError) {
        precondition(!options.requests.isEmpty, "a load without a request")
        self.options = options
        connectionCount = max(1, min(options.connections, LoadLimits.connectionsMax))
        requestCount = options.requests.count
        ProcessControl.raiseFileLimit(to: connectionCount + 256)
        epoll = try Epoll()
        timer = try KernelTimer()
        stash = try .plain(byteCount: connectionCount * LoadLimits.headBytesMax)
        var plan = MemoryPlan()
        Self.plan(&plan, nil)
        counterMemory = try .plain(byteCount: plan.byteCount)
        var parts: Parts?
        plan = MemoryPlan(base: counterMemory.base)
        Self.plan(&plan, &parts)
        (total, measured, latency, lateness) = parts!
        let host = options.host ?? options.target.text
        templates = .allocate(capacity: requestCount)
        for (index, request) in options.requests.enumerated() {
            (templates + index).initialize(
                to: RequestTemplate(request, host: host, numbered: options.numbered))
        }
        connections = .allocate(capacity: connectionCount)
        connections.initialize(repeating: LoadConnection(), count: connectionCount)
        free = .allocate(capacity: connectionCount)
        buffer = .allocate(capacity: LoadLimits.receiveBytes)
        stopAsked = Atomic(false)
        try epoll.add(timer.fd, Self.timerToken)
    }

    private typealias Parts = (
        CounterRow<LoadCounter>, CounterRow<LoadCounter>, Histogram, Histogram
    )

    private static func plan(_ plan: inout MemoryPlan, _ parts: UnsafeMutablePointer<Parts?>?) {
        let total = CounterRow<LoadCounter>(plan: &plan)
        let measured = CounterRow<LoadCounter>(plan: &plan)
        let latency = Histogram(plan: &plan)
        let lateness = Histogram(plan: &plan)
        guard let parts, let total, let measured, let latency, let lateness else { return }
        parts.pointee = (total, measured, latency, lateness)
    }

    deinit {
        for index in 0..<connectionCount where connections[index].fd >= 0 { close(connections[index].fd) }
        for index in 0..<requestCount { templates[index].deallocate() }
        templates.deallocate()
        connections.deallocate()
        free.deallocate()
        buffer.deallocate()
    }

    /// Ends `run` soon, from any thread or a signal handler: nothing more is sent, answers are
    /// waited for up to the grace time.
    public func stop() { stopAsked.store(true, ordering: .relaxed) }

    // MARK: The run

    /// Connects, sends, waits for the last answers. Calls `progress` every `progressMs`.
    /// Once for each generator.
    public func run(progress: ((LoadProgress) -> Void)? = nil) -> LoadResult {
        let cpuBefore = threadCPUNs()
        connectAll()
        let start = Instant.now()
        measureFrom = start.nanoseconds &+ Self.ns(options.warmUpSeconds)
        endAt = measureFrom &+ Self.ns(options.seconds)
        if let rate = options.rate {
            schedule = Schedule(start: start, rate: rate, arrivals: options.arrivals, seed: options.seed)
            due = schedule
        }
        var progressAt = start.adding(ms: options.progressMs)
        var answeredBefore: UInt64 = 0
        var sweepAt = start.adding(ms: LoadLimits.housekeepingMs)
        var now = start
        var stopped = false
        while true {
            sendDue(now.nanoseconds)
            armTimer()
            turn(timeoutMs: Int32(LoadLimits.housekeepingMs))
            now = Instant.now()
            if now >= sweepAt {
                sweepAt = now.adding(ms: LoadLimits.housekeepingMs)
                closeTimedOut(now.nanoseconds)
                if stopAsked.load(ordering: .relaxed), !stopped {
                    stopped = true
                    endAt = min(endAt, now.nanoseconds)
                }
            }
            if let progress, now >= progressAt {
                let seconds = Double(now.nanoseconds(since: progressAt)) / 1e9 + Double(options.progressMs) / 1e3
                let answered = total.value(.answered)
                progress(
                    LoadProgress(
                        elapsedSeconds: Double(now.nanoseconds(since: start)) / 1e9,
                        offered: total.value(.offered), answered: answered, failed: LoadCounts(total).failed,
                        inFlight: inFlight, answersPerSecond: Double(answered - answeredBefore) / seconds))
                answeredBefore = answered
                progressAt = now.adding(ms: options.progressMs)
            }
            if isOver(now.nanoseconds) { break }
        }
        return finish(cpuNs: threadCPUNs() - cpuBefore)
    }

    private static func ns(_ seconds: Double) -> UInt64 { UInt64(max(0, seconds) * 1e9) }

    /// All offered, and answered or out of time.
    private func isOver(_ now: UInt64) -> Bool {
        let limitReached = options.requestsMax > 0 && total.value(.offered) >= options.requestsMax
        guard now >= endAt || limitReached else { return false }
        // The time that no more was offered: the end, or the moment the limit was reached.
        if now < endAt { endAt = now }
        if inFlight == 0 && waiting == 0 { return true }
        return now >= endAt &+ Self.ns(options.graceSeconds)
    }

    /// Requests that are due and have no connection yet.
    private var waiting: UInt64 {
        guard let schedule, let due else { return 0 }
        return due.taken - schedule.taken
    }

    private func finish(cpuNs: UInt64) -> LoadResult {
        for index in 0..<connectionCount where connections[index].hasRequest {
            count(.unanswered, connections[index].isMeasured)
            connections[index].hasRequest = false
        }
        while var schedule, waiting > 0 {
            count(.unanswered, schedule.next >= measureFrom)
            schedule.advance()
            self.schedule = schedule
        }
        var result = LoadResult()
        result.total = LoadCounts(total)
        result.measured = LoadCounts(measured)
        result.latency = latency.snapshot()
        result.lateness = lateness.snapshot()
        result.seconds = endAt > measureFrom ? Double(endAt - measureFrom) / 1e9 : 0
        result.cpuNsPerRequest = Double(cpuNs) / Double(max(1, total.value(.sent)))
        return result
    }

    /// Makes all connections before the first request, so that no latency holds a handshake.
    private func connectAll() {
        var pending = 0
        for slot in 0..<connectionCount {
            if connect(slot) { pending += 1 } else { giveFree(slot) }
        }
        let giveUp = Instant.now().adding(ms: LoadLimits.connectMs)
        while pending > 0, Instant.now() < giveUp, !stopAsked.load(ordering: .relaxed) {
            turn(timeoutMs: 10)
            pending = 0
            for slot in 0..<connectionCount where connections[slot].phase == .connecting { pending += 1 }
        }
        // Those still connecting join when they are through.
    }

    private func armTimer() {
        guard let schedule, freeCount > 0, schedule.next < endAt, schedule.next != armedAt else { return }
        armedAt = schedule.next
        timer.arm(at: armedAt)
    }

    private func turn(timeoutMs: Int32) {
        let events = epoll.wait(timeoutMs: timeoutMs)
        for index in 0..<events {
            let event = epoll.event(index)
            guard event.token.kind == Self.connectionKind else { continue }
            let slot = event.token.slot
            guard connections[slot].generation == event.token.generation, connections[slot].fd >= 0 else { continue }
            ready(slot, event.readiness)
            // Requests that fall due while a long batch is worked off are not late for it.
            if index & 7 == 7 { sendDue(Instant.now().nanoseconds) }
        }
    }

    // MARK: Sending

    /// Sends what is due as far as there are connections, and keeps the backlog in its bound.
    private func sendDue(_ now: UInt64) {
        guard var schedule, var due else {
            sendClosedLoop(now)
            return
        }
        while due.next <= now, due.next < endAt, limitAllows(due.taken) {
            count(.offered, due.next >= measureFrom)
            due.advance()
            if due.taken - schedule.taken > UInt64(options.backlogMax), freeCount == 0 {
                let isMeasured = schedule.next >= measureFrom
                count(.unanswered, isMeasured)
                count(.backlogDropped, isMeasured)
                schedule.advance()
            }
        }
        while schedule.taken < due.taken, freeCount > 0 {
            let intended = schedule.next
            schedule.advance()
            assign(takeFree(), intended: intended, now: now)
        }
        self.schedule = schedule
        self.due = due
    }

    private func sendClosedLoop(_ now: UInt64) {
        guard now >= pausedUntil else { return }
        // Each connection at most once: one that fails at once must not be tried for ever.
        var left = freeCount
        while left > 0, freeCount > 0, now < endAt, limitAllows(serial) {
            count(.offered, now >= measureFrom)
            assign(takeFree(), intended: now, now: now)
            left -= 1
            if now < pausedUntil { return }
        }
    }

    private func limitAllows(_ offered: UInt64) -> Bool {
        options.requestsMax == 0 || offered < options.requestsMax
    }

    /// Gives a request to a connection without one, which may have to be made first.
    private func assign(_ slot: Int, intended: UInt64, now: UInt64) {
        let connection = connections + slot
        connection.pointee.hasRequest = true
        connection.pointee.isMeasured = intended >= measureFrom
        connection.pointee.intended = intended
        connection.pointee.started = now
        connection.pointee.serial = serial
        connection.pointee.request = UInt32(serial % UInt64(requestCount))
        connection.pointee.sentBytes = 0
        connection.pointee.headIsRead = false
        connection.pointee.body = .none
        connection.pointee.closesAfter = false
        serial &+= 1
        inFlight += 1
        if connection.pointee.phase == .open {
            write(slot)
        } else if !connect(slot) {
            fail(slot, .failedConnect)
        }
    }

    /// Hands the kernel as much of the request as it takes.
    private func write(_ slot: Int) {
        let connection = connections + slot
        let template = templates[Int(connection.pointee.request)]
        template.number(serial: connection.pointee.serial, connection: slot)
        while connection.pointee.sentBytes < template.byteCount {
            let sent = connection.pointee.sentBytes
            switch Socket.send(connection.pointee.fd, template.bytes + sent, template.byteCount - sent) {
            case .bytes(let bytes):
                if sent == 0 { countSent(slot) }
                connection.pointee.sentBytes = sent + bytes
            case .wouldBlock: return
            case .failed:
                // An answer may be there already: a server may refuse a body early and close.
                read(slot)
                if connection.pointee.phase == .open, connection.pointee.hasRequest { fail(slot, .failedReset) }
                return
            }
        }
    }

    private func countSent(_ slot: Int) {
        let connection = connections + slot
        count(.sent, connection.pointee.isMeasured)
        if connection.pointee.isMeasured {
            lateness.record(connection.pointee.started &- connection.pointee.intended)
        }
    }

    // MARK: Connections

    /// Starts a connection; false where the kernel refused at once.
    private func connect(_ slot: Int) -> Bool {
        let connection = connections + slot
        connection.pointee.generation &+= 1
        connection.pointee.stashed = 0
        switch Socket.connect(to: options.target) {
        case .failed:
            return false
        case .connected(let fd), .inProgress(let fd):
            connection.pointee.fd = fd
            connection.pointee.phase = .connecting
            let token = Token(
                kind: Self.connectionKind, slot: slot, generation: connection.pointee.generation)
            do throws(SystemError) { try epoll.add(fd, token) } catch {
                closeSocket(slot)
                return false
            }
            return true
        }
    }

    private func ready(_ slot: Int, _ readiness: Readiness) {
        let connection = connections + slot
        if connection.pointee.phase == .connecting {
            guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
            guard Socket.pendingError(connection.pointee.fd) == 0 else {
                fail(slot, .failedConnect)
                return
            }
            connection.pointee.phase = .open
            count(.connectionsMade, connection.pointee.isMeasured)
            if connection.pointee.hasRequest {
                write(slot)
            } else {
                giveFree(slot)
            }
            return
        }
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .error, .hangUp]) { read(slot) }
        if connection.pointee.phase == .open, connection.pointee.hasRequest, readiness.contains(.writable),
            connection.pointee.sentBytes < templates[Int(connection.pointee.request)].byteCount
        {
            write(slot)
        }
    }

    /// Ends the connection, and the request on it with it.
    private func fail(_ slot: Int, _ reason: LoadCounter) {
        let connection = connections + slot
        let wasConnecting = connection.pointee.phase == .connecting
        closeSocket(slot)
        if reason == .failedConnect, options.rate == nil {
            pausedUntil = Instant.now().adding(ms: LoadLimits.connectRetryMs).nanoseconds
        }
        if connection.pointee.hasRequest {
            count(reason, connection.pointee.isMeasured)
            connection.pointee.hasRequest = false
            inFlight -= 1
            giveFree(slot)
        } else if wasConnecting {
            // A connect of the start; an idle connection is in the free list already.
            giveFree(slot)
        }
    }

    private func closeSocket(_ slot: Int) {
        let connection = connections + slot
        if connection.pointee.fd >= 0 { close(connection.pointee.fd) }
        connection.pointee.fd = -1
        connection.pointee.phase = .closed
        connection.pointee.stashed = 0
    }

    private func closeTimedOut(_ now: UInt64) {
        guard options.timeoutSeconds > 0 else { return }
        let limit = Self.ns(options.timeoutSeconds)
        for slot in 0..<connectionCount where connections[slot].hasRequest {
            if now > connections[slot].started &+ limit { fail(slot, .failedTimeout) }
        }
    }

    private func giveFree(_ slot: Int) {
        var place = freeHead + freeCount
        if place >= connectionCount { place -= connectionCount }
        free[place] = UInt32(slot)
        freeCount += 1
    }

    private func takeFree() -> Int {
        let slot = Int(free[freeHead])
        freeHead += 1
        if freeHead == connectionCount { freeHead = 0 }
        freeCount -= 1
        return slot
    }

    // MARK: Receiving

    private func read(_ slot: Int) {
        let connection = connections + slot
        while connection.pointee.phase == .open {
            let kept = connection.pointee.stashed
            let own = stash.base.assumingMemoryBound(to: UInt8.self) + slot * LoadLimits.headBytesMax
            let start = kept > 0 ? own : buffer
            let room = (kept > 0 ? LoadLimits.headBytesMax : LoadLimits.receiveBytes) - kept
            if room == 0 {
                fail(slot, .failedBadAnswer)
                return
            }
            switch Socket.receive(connection.pointee.fd, start + kept, room) {
            case .wouldBlock: return
            case .failed:
                ended(slot, cleanly: false)
                return
            case .endOfStream:
                ended(slot, cleanly: true)
                return
            case .bytes(let received):
                if !take(slot, start, kept + received) { return }
                // A short read emptied the socket: what comes later is a new edge.
                if received < room { return }
            }
        }
    }

    /// The peer closed (`cleanly`) or reset the connection.
    private func ended(_ slot: Int, cleanly: Bool) {
        let connection = connections + slot
        guard connection.pointee.hasRequest else {
            // It stays in the free list and is made anew with the next request.
            closeSocket(slot)
            return
        }
        if cleanly, connection.pointee.headIsRead, connection.pointee.body.phase == .untilClose {
            connection.pointee.closesAfter = true
            answered(slot)
        } else {
            fail(slot, .failedReset)
        }
    }

    /// Reads `count` bytes of answer. False where the connection is gone.
    private func take(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) -> Bool {
        let connection = connections + slot
        var at = 0
        while at < count, connection.pointee.hasRequest {
            if !connection.pointee.headIsRead {
                switch readHead(slot, bytes + at, count - at) {
                case .bad:
                    fail(slot, .failedBadAnswer)
                    return false
                case .incomplete:
                    keep(slot, bytes + at, count - at)
                    return true
                case .complete(let headBytes): at += headBytes
                }
            }
            guard connection.pointee.headIsRead else { continue }
            at += connection.pointee.body.consume(bytes + at, count - at)
            switch connection.pointee.body.phase {
            case .done: answered(slot)
            case .bad:
                fail(slot, .failedBadAnswer)
                return false
            default:
                keep(slot, bytes + at, count - at)
                return true
            }
        }
        if at < count, connection.pointee.phase == .open {
            self.count(.strayBytes, connection.pointee.isMeasured)
            closeSocket(slot)
        }
        connection.pointee.stashed = 0
        return connection.pointee.phase == .open
    }

    private func keep(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
        let own = stash.base + slot * LoadLimits.headBytesMax
        if count > 0 { memmove(own, bytes, count) }
        connections[slot].stashed = count
    }

    private enum AnswerHead { case complete(Int), incomplete, bad }

    /// Reads status line and fields; interim answers are passed over.
    private func readHead(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) -> AnswerHead {
        let connection = connections + slot
        if memcmp(bytes, "HTTP/1.", min(7, count)) != 0 { return .bad }
        var head = HeadScan()
        switch head.scan(bytes, count) {
        case .incomplete: return .incomplete
        case .bad: return .bad
        case .complete: break
        }
        guard head.startLineBytes >= 12 else { return .bad }
        let status = HeadScan.number(bytes + 9, 3)
        guard status >= 100, status <= 599 else { return .bad }
        if status < 200, status != 101 {
            self.count(.status1xx, connection.pointee.isMeasured)
            return .complete(head.headBytes)
        }
        connection.pointee.status = UInt32(status)
        connection.pointee.headIsRead = true
        connection.pointee.closesAfter = head.closes || (bytes[7] == 0x30 && !head.keepsAlive)
        if templates[Int(connection.pointee.request)].isHead || status == 204 || status == 304 || status == 101 {
            connection.pointee.body = .none
        } else if head.isChunked {
            connection.pointee.body = .chunked
        } else if head.contentLength >= 0 {
            connection.pointee.body = .length(head.contentLength)
        } else {
            connection.pointee.body = .untilClose
        }
        return .complete(head.headBytes)
    }

    /// The answer is complete: counts it and frees the connection.
    private func answered(_ slot: Int) {
        let connection = connections + slot
        let now = Instant.now().nanoseconds
        let isMeasured = connection.pointee.isMeasured
        let bodyBytes = connection.pointee.body.bodyBytes
        count(.answered, isMeasured)
        switch connection.pointee.status / 100 {
        case 2: count(.status2xx, isMeasured)
        case 3: count(.status3xx, isMeasured)
        case 4: count(.status4xx, isMeasured)
        default: count(.status5xx, isMeasured)
        }
        if let expected = options.bodyBytesExpected, expected != bodyBytes { count(.wrongLength, isMeasured) }
        total.add(.bodyBytes, UInt64(bodyBytes))
        if isMeasured {
            measured.add(.bodyBytes, UInt64(bodyBytes))
            if now <= endAt { measured.add(.answeredInTime) }
            latency.record(now &- connection.pointee.intended)
        }
        connection.pointee.hasRequest = false
        inFlight -= 1
        let isHalfSent = connection.pointee.sentBytes < templates[Int(connection.pointee.request)].byteCount
        if connection.pointee.closesAfter || isHalfSent { closeSocket(slot) }
        giveFree(slot)
    }

    @inline(__always)
    private func count(_ name: LoadCounter, _ isMeasured: Bool) {
        total.add(name)
        if isMeasured { measured.add(name) }
    }
}
