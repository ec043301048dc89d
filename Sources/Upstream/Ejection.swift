/// Leaves out endpoints that fail time after time. Pure: one worker's view of one target.
public struct Ejection: Sendable {
    /// What a failure or a success led to.
    public enum Outcome: Equatable, Sendable {
        case nothing
        /// The endpoint is left out, for so many milliseconds.
        case ejected(ms: Int)
        /// It would be, but too many others are.
        case spared
    }

    private let settings: EjectionSettings?

    /// Ejection by these settings; nil ejects nobody.
    public init(_ settings: EjectionSettings?) { self.settings = settings }

    /// What counts as a failure.
    public var failures: EndpointFailure { settings?.on ?? [] }

    /// Whether anybody can ever be ejected from among so many.
    public func isActive(among count: Int) -> Bool { settings != nil && count > 1 }

    /// An exchange went well.
    @inlinable
    public func succeeded(_ state: UnsafeMutablePointer<EndpointState>) {
        state.pointee.clearFailures()
    }

    /// An exchange failed in a way that counts.
    public func failed(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ place: Int, nowMs: UInt64
    ) -> Outcome {
        guard let settings, states.count > 1 else { return .nothing }
        states[place].failures &+= 1
        guard states[place].failures >= UInt32(settings.failures),
            states[place].ejectedUntilMs == 0
        else { return .nothing }
        var ejected = 0
        for other in states.indices where states[other].ejectedUntilMs != 0 { ejected += 1 }
        let most = min(
            states.count - 1, max(1, Int(Double(states.count) * settings.shareMax)))
        guard ejected < most else { return .spared }
        states[place].failures = 0
        states[place].successes = 0
        states[place].ejections = min(
            states[place].ejections + 1, UInt32(UpstreamLimits.ejectionGrowthMax))
        let ms = settings.timeMs * Int(states[place].ejections)
        states[place].ejectedUntilMs = nowMs + UInt64(ms)
        return .ejected(ms: ms)
    }

    /// Takes back endpoints whose time is over. Returns when the next one's is; nil where none is
    /// ejected any more.
    public func expire(
        _ states: UnsafeMutableBufferPointer<EndpointState>, nowMs: UInt64
    ) -> UInt64? {
        var next: UInt64?
        for place in states.indices where states[place].ejectedUntilMs != 0 {
            if states[place].ejectedUntilMs <= nowMs {
                states[place].ejectedUntilMs = 0
                states[place].rampStartMs = nowMs
            } else {
                next = min(next ?? .max, states[place].ejectedUntilMs)
            }
        }
        return next
    }
}

extension EndpointState {
    /// Something went well: failures are counted anew. An ejection is forgotten
    /// after `UpstreamLimits.ejectionForgottenAfter` good exchanges.
    @usableFromInline
    mutating func clearFailures() {
        if failures == 0, ejections == 0 { return }
        failures = 0
        successes &+= 1
        if ejections > 0, successes % UpstreamLimits.ejectionForgottenAfter == 0 {
            ejections -= 1
        }
    }

    /// The checks' verdict.
    public mutating func setHealthy(_ healthy: Bool, nowMs: UInt64) {
        if healthy, !isHealthy { rampStartMs = max(1, nowMs) }
        isHealthy = healthy
    }
}

/// Bounds retries to a share of the requests of the last `UpstreamLimits.budgetWindowSeconds`, plus
/// a few: where everything fails, retries would multiply the load on what is left. Pure.
public struct RetryBudget: BitwiseCopyable, Sendable {
    // One pair for each second of the window.
    private typealias Row = (
        UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32, UInt32
    )
    private var requests: Row = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private var retries: Row = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private var second: UInt64 = 0
    private let share: Double

    /// A budget of `share` retries for each request.
    public init(share: Double) { self.share = share }

    /// A first try of a request.
    public mutating func noteRequest(nowMs: UInt64) {
        advance(nowMs)
        Self.add(&requests, Int(second % UInt64(UpstreamLimits.budgetWindowSeconds)))
    }

    /// Takes one retry out of the budget; false where there is none left.
    public mutating func take(nowMs: UInt64) -> Bool {
        advance(nowMs)
        let allowed = Double(Self.sum(requests)) * share + Double(UpstreamLimits.budgetFloor)
        guard Double(Self.sum(retries)) + 1 <= allowed else { return false }
        Self.add(&retries, Int(second % UInt64(UpstreamLimits.budgetWindowSeconds)))
        return true
    }

    private mutating func advance(_ nowMs: UInt64) {
        let now = nowMs / 1_000
        guard now > second else { return }
        let window = UInt64(UpstreamLimits.budgetWindowSeconds)
        let stale = min(now - second, window)
        for step in 0..<stale {
            let place = Int((now - step) % window)
            Self.clear(&requests, place)
            Self.clear(&retries, place)
        }
        second = now
    }

    private static func add(_ row: inout Row, _ place: Int) {
        withUnsafeMutableBytes(of: &row) {
            $0.assumingMemoryBound(to: UInt32.self)[place] &+= 1
        }
    }

    private static func clear(_ row: inout Row, _ place: Int) {
        withUnsafeMutableBytes(of: &row) { $0.assumingMemoryBound(to: UInt32.self)[place] = 0 }
    }

    private static func sum(_ row: Row) -> UInt64 {
        withUnsafeBytes(of: row) { bytes in
            bytes.assumingMemoryBound(to: UInt32.self).reduce(0) { $0 + UInt64($1) }
        }
    }
}
