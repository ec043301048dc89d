public import CoreLoop
public import TLS

/// The health process: one loop that checks endpoints and looks their names up. It writes to the
/// board and to nothing else, so that its death leaves everybody with what was known last; its next
/// life goes on from there.
public final class HealthWorker {
    private enum Kind {
        static let check: UInt8 = 1
        static let query: UInt8 = 2
        static let system: UInt8 = 3
    }

    private let epoll: Epoll
    /// Ids: the endpoints, the checks' connections, then the names.
    private let timers: TimerWheel
    private let firstName: Int
    private let endpointCount: Int
    private let checks: HealthChecks
    private var names: NameWatch

    /// - Parameters:
    ///   - security: the contexts of https targets that have checks, by target.
    ///   - board: written by this process alone as far as health and addresses go.
    ///
    /// The first checks and look-ups are due with the first turn. Throws where descriptors or
    /// memory have run out.
    public init(
        targets: [TargetSettings], resolver: ResolverSettings, security: [ClientContext?],
        board: UpstreamBoard, now: Instant, seed: UInt64
    ) throws(SystemError) {
        epoll = try Epoll()
        endpointCount = board.endpointCount
        firstName = endpointCount + UpstreamLimits.checksAtOnceMax
        checks = try HealthChecks(
            targets, security: security, board: board, kind: Kind.check, seed: seed)
        names = try NameWatch(
            targets, resolver, board: board, kind: Kind.query, seed: seed &+ 1)
        timers = try TimerWheel(capacity: firstName + names.count, now: now)
        if let wake = names.wake {
            try epoll.add(
                wake.fd, Token(kind: Kind.system, slot: 0, generation: 0), mode: .level)
        }
        for (endpoint, addresses) in names.known { checks.setAddresses(endpoint, addresses) }
        for endpoint in 0..<endpointCount where checks.isChecked(endpoint) {
            timers.schedule(endpoint, at: now)
        }
        for name in 0..<names.count { timers.schedule(firstName + name, at: now) }
    }

    /// Has `body` told of each verdict that changes: an endpoint by its target's and its own index,
    /// what it is now, and what the last check came to.
    public func onVerdict(
        _ body:
            @escaping (_ target: Int, _ place: Int, HealthState, CheckResult, _ status: Int)
            -> Void
    ) {
        checks.onVerdict = body
    }

    /// Runs until `isOver`, which is asked in each turn, at least every
    /// `UpstreamLimits.healthTurnMsMax`.
    public func run(_ isOver: () -> Bool) {
        while !isOver() { turn(timeoutMs: Int32(UpstreamLimits.healthTurnMsMax)) }
    }

    /// Waits at most `timeoutMs` for events, and handles them and what is due.
    public func turn(timeoutMs: Int32) {
        var now = Instant.now()
        var wait = timers.sleepMs(now: now, atMost: timeoutMs)
        if let deadline = names.nextDeadline {
            let leftMs = deadline.nanoseconds(since: now) / 1_000_000 + 1
            wait = min(wait, Int32(clamping: leftMs))
        }
        let count = epoll.wait(timeoutMs: wait)
        now = Instant.now()
        for place in 0..<count {
            let (token, readiness) = epoll.event(place)
            switch token.kind {
            case Kind.check: checks.handle(token, readiness, epoll, timers, now: now)
            case Kind.query: names.handle(token, readiness, epoll, now: now)
            default: break  // taken below
            }
        }
        for _ in 0..<Limits.timersPerTurnMax {
            guard let id = timers.popExpired(now: now) else { break }
            fire(id, now)
        }
        checks.startWaiting(epoll, timers, now: now)
        names.expire(epoll, now: now)
        for found in names.takeFinished() { take(found, now) }
    }

    private func fire(_ id: Int, _ now: Instant) {
        if id < endpointCount {
            checks.start(id, epoll, timers, now: now)
        } else if id < firstName {
            checks.expire(slot: id - endpointCount, epoll, timers, now: now)
        } else if let found = names.start(id - firstName, epoll, now: now) {
            take(found, now)
        }
    }

    private func take(_ found: NameWatch.Found, _ now: Instant) {
        for (endpoint, addresses) in found.changed { checks.setAddresses(endpoint, addresses) }
        timers.schedule(firstName + found.name, at: now.adding(ms: found.nextMs))
    }
}
