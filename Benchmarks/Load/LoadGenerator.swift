import CLinux
public import CoreLoop
import Synchronization
public import TLS

/// An HTTP/1.1 load generator: one thread, keep-alive connections, one request on each at a time.
///
/// Open loop (`rate`): requests have intended send times that do not wait for answers. Where all
/// connections are busy a request waits, and its latency counts from its intended time all the
/// same, so that a stalled target cannot hide its stall (no coordinated omission). Closed loop:
/// each connection sends as soon as it was answered; that finds saturation, not latency.
/// `run` belongs to one thread; only `stop` may be called from others.
public final class LoadGenerator: @unchecked Sendable {
    let options: LoadOptions
    let epoll: Epoll
    private let timer: KernelTimer
    let templates: UnsafeMutablePointer<RequestTemplate>
    let requestCount: Int
    let connections: UnsafeMutablePointer<LoadConnection>
    let connectionCount: Int
    /// Connections without a request, first in, first out, so that all are used alike.
    let free: UnsafeMutablePointer<UInt32>
    var freeHead = 0
    var freeCount = 0
    let buffer: UnsafeMutablePointer<UInt8>
    let stash: SharedMemory
    private let counterMemory: SharedMemory
    let total: CounterRow<LoadCounter>
    let measured: CounterRow<LoadCounter>
    let latency: Histogram
    let lateness: Histogram

    var schedule: Schedule?
    /// Runs ahead of `schedule` to know how many requests are due.
    var due: Schedule?
    var serial: UInt64 = 0
    var inFlight = 0
    /// Unix sockets cannot throw bytes away unread, and TLS may not.
    let canDiscard: Bool
    /// Nil where the target is plain.
    let security: ClientContext?
    var measureFrom: UInt64 = 0
    var endAt: UInt64 = 0
    var pausedUntil: UInt64 = 0
    private var armedAt: UInt64 = 0
    private let stopAsked: Atomic<Bool>

    private static let timerToken = Token(kind: 1, slot: 0, generation: 0)
    static let connectionKind: UInt8 = 2

    /// Makes room for everything; connects nothing yet. `options.requests` must not be empty.
    /// `security` is for a target that speaks TLS, as its endpoint number 0; connections have a
    /// session each where it keeps that many.
    public init(_ options: LoadOptions, security: ClientContext? = nil) throws(SystemError) {
        precondition(!options.requests.isEmpty, "a load without a request")
        self.options = options
        self.security = security
        canDiscard = !options.target.isUnix && security == nil
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
        for index in 0..<connectionCount { closeSocket(index) }
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
            schedule = Schedule(
                start: start, rate: rate, arrivals: options.arrivals, seed: options.seed)
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
                let seconds =
                    Double(now.nanoseconds(since: progressAt)) / 1e9 + Double(options.progressMs)
                    / 1e3
                let answered = total.value(.answered)
                progress(
                    LoadProgress(
                        elapsedSeconds: Double(now.nanoseconds(since: start)) / 1e9,
                        offered: total.value(.offered), answered: answered,
                        failed: LoadCounts(total).failed,
                        inFlight: inFlight,
                        answersPerSecond: Double(answered - answeredBefore) / seconds))
                answeredBefore = answered
                progressAt = now.adding(ms: options.progressMs)
            }
            // A thread that was kept off its CPU over the end still owes what fell due before it.
            if now.nanoseconds >= endAt { sendDue(now.nanoseconds) }
            if isOver(now.nanoseconds) { break }
        }
        return finish(cpuNs: threadCPUNs() - cpuBefore)
    }

    static func ns(_ seconds: Double) -> UInt64 { UInt64(max(0, seconds) * 1e9) }

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
            for slot in 0..<connectionCount where isConnecting(slot) { pending += 1 }
        }
        // Those still connecting join when they are through.
    }

    func isConnecting(_ slot: Int) -> Bool {
        connections[slot].phase == .connecting || connections[slot].phase == .securing
    }

    private func armTimer() {
        guard let schedule, freeCount > 0, schedule.next < endAt, schedule.next != armedAt else {
            return
        }
        armedAt = schedule.next
        timer.arm(at: armedAt)
    }

    private func turn(timeoutMs: Int32) {
        let events = epoll.wait(timeoutMs: timeoutMs)
        for index in 0..<events {
            let event = epoll.event(index)
            guard event.token.kind == Self.connectionKind else { continue }
            let slot = event.token.slot
            guard connections[slot].generation == event.token.generation, connections[slot].fd >= 0
            else { continue }
            ready(slot, event.readiness)
            // Requests that fall due while a long batch is worked off are not late for it.
            if index & 7 == 7 { sendDue(Instant.now().nanoseconds) }
        }
    }

    @inline(__always)
    func count(_ name: LoadCounter, _ isMeasured: Bool) {
        total.add(name)
        if isMeasured { measured.add(name) }
    }
}
