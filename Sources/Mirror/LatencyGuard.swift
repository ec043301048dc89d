public import CoreLoop

/// Watches what mirroring costs the users, and says when to hold it.
///
/// Sampling assigns requests at random, so that mirrored and unmirrored ones differ in nothing
/// else: where more of the mirrored are slow than chance explains, mirroring is the reason.
/// Judged by windows: at most 1 % of the mirrored requests may be slower than the unmirrored ones'
/// P99 times 1 + `overheadMax` (a one-sided test of two proportions). Takes time as an argument;
/// does no I/O.
///
/// Blind where everything is mirrored, and not to be trusted where a field's value decides
/// (`sample_by`): there the two sides are different users.
public struct LatencyGuard: Sendable {
    /// Requests that a window has on either side: below a thousand a P99 rests on fewer than ten.
    public static let samplesMin: UInt64 = 1_000
    /// A window is at least this long, so that one stall of the machine is one window's; one that
    /// has too few samples after the longest begins anew.
    public static let windowMsMin: UInt64 = 1_000
    public static let windowMsMax: UInt64 = 300_000
    /// Windows in a row that have to show it.
    public static let breachesMin = 2
    /// Standard deviations above which a window shows it: by chance one window in 1,000 does, two
    /// in a row one in 1,000,000.
    public static let deviationsMin = 3.09
    /// How long mirroring is held at first; twice as long each time after, up to the longest.
    public static let holdMsFirst: UInt64 = 30_000
    public static let holdMsMax: UInt64 = 900_000
    /// Windows without a breach after which the next hold is a first one again.
    public static let cleanWindowsMin = 20

    /// What is to be done.
    public enum Advice: Equatable, Sendable {
        case nothing
        /// Hold mirroring for so long: the mirrored requests' P99 was `ratio` of the others'.
        case hold(ms: UInt64, ratio: Double)
        /// Go on mirroring.
        case release
    }

    private let overheadMax: Double
    private var base: (mirrored: HistogramSnapshot, unmirrored: HistogramSnapshot)?
    private var windowStart = Instant(nanoseconds: 0)
    private var breaches = 0
    private var cleanWindows = 0
    private var nextHoldMs = Self.holdMsFirst
    private var heldUntil: Instant?

    /// A guard that allows the share `overheadMax` (0.05 is 5 %) on top of the unmirrored P99.
    public init(overheadMax: Double) { self.overheadMax = overheadMax }

    /// A guard over other histograms that goes on with this one's hold.
    public func continued(overheadMax: Double) -> LatencyGuard {
        var result = LatencyGuard(overheadMax: overheadMax)
        result.nextHoldMs = nextHoldMs
        result.cleanWindows = cleanWindows
        result.heldUntil = heldUntil
        return result
    }

    /// Looks at what both sides have counted so far; to be called about once a second.
    public mutating func look(
        mirrored: HistogramSnapshot, unmirrored: HistogramSnapshot, now: Instant
    ) -> Advice {
        if let until = heldUntil {
            guard now >= until else { return .nothing }
            heldUntil = nil
            begin(mirrored, unmirrored, now)
            return .release
        }
        guard let base else {
            begin(mirrored, unmirrored, now)
            return .nothing
        }
        let spentMs = now.nanoseconds(since: windowStart) / 1_000_000
        guard spentMs >= Self.windowMsMin else { return .nothing }
        let with = mirrored.since(base.mirrored)
        let without = unmirrored.since(base.unmirrored)
        guard with.count >= Self.samplesMin, without.count >= Self.samplesMin else {
            if spentMs >= Self.windowMsMax { begin(mirrored, unmirrored, now) }
            return .nothing
        }
        begin(mirrored, unmirrored, now)
        return judge(with, without, now)
    }

    private mutating func begin(
        _ mirrored: HistogramSnapshot, _ unmirrored: HistogramSnapshot, _ now: Instant
    ) {
        base = (mirrored, unmirrored)
        windowStart = now
    }

    private mutating func judge(
        _ with: HistogramSnapshot, _ without: HistogramSnapshot, _ now: Instant
    ) -> Advice {
        guard isBreach(with, without) else {
            breaches = 0
            cleanWindows += 1
            if cleanWindows >= Self.cleanWindowsMin { nextHoldMs = Self.holdMsFirst }
            return .nothing
        }
        cleanWindows = 0
        breaches += 1
        guard breaches >= Self.breachesMin else { return .nothing }
        breaches = 0
        let holdMs = nextHoldMs
        nextHoldMs = min(2 * nextHoldMs, Self.holdMsMax)
        heldUntil = now.adding(ms: Int(holdMs))
        let ratio = (with.value(at: 0.99) ?? 0) / max(1, without.value(at: 0.99) ?? 1)
        return .hold(ms: holdMs, ratio: ratio)
    }

    private func isBreach(_ with: HistogramSnapshot, _ without: HistogramSnapshot) -> Bool {
        guard let p99 = without.value(at: 0.99) else { return false }
        let bound = UInt64(min(p99 * (1 + overheadMax), 1e15))
        let slow = Double(with.count - with.count(atMost: bound))
        let mirrored = Double(with.count)
        // The bound itself is an estimate: the fewer unmirrored requests, the wider the chance.
        let variance = 0.01 * 0.99 * mirrored * (1 + mirrored / Double(without.count))
        return slow - 0.01 * mirrored > Self.deviationsMin * variance.squareRoot()
    }
}
