public import CoreLoop

/// Stops copies to a shadow that fails again and again: a refusing shadow costs no connect per
/// sample.
///
/// Closed, it lets everything through and counts failures in a row. Open, it lets nothing through
/// until a time is over; then one copy is the probe (half open). A good probe closes it, a bad one
/// opens it for twice as long. Takes time as an argument; does no I/O.
public struct Breaker: Sendable {
    /// In the order of `ShadowGauge.breakerState`.
    public enum State: UInt64, Sendable { case closed, open, halfOpen }

    /// What a copy that was let through is to the breaker; handed back with its result.
    public enum Pass: UInt8, Sendable, BitwiseCopyable { case ordinary, probe }

    /// What it does now; only `enter` makes an open one half open.
    public private(set) var state = State.closed
    /// How often it opened, failed probes included.
    public private(set) var openedCount: UInt64 = 0
    /// When a probe may go; means something only while it is open.
    public private(set) var openUntil = Instant(nanoseconds: 0)
    private var failuresInARow = 0
    private var isProbeOut = false
    private var openMs: Int
    private let failuresMax: Int
    private let openMsFirst: Int
    private let openMsMax: Int

    /// A closed breaker that opens after `failuresMax` failures in a row, for `openMs` at first and
    /// at most `openMsMax`. All are at least 1.
    public init(failuresMax: Int, openMs: Int, openMsMax: Int) {
        self.failuresMax = max(1, failuresMax)
        openMsFirst = max(1, openMs)
        self.openMsMax = max(openMsFirst, openMsMax)
        self.openMs = openMsFirst
    }

    /// Whether a copy would be let through now. Changes nothing: other checks may still refuse the
    /// copy.
    public func admits(now: Instant) -> Bool {
        switch state {
        case .closed: true
        case .open: now >= openUntil
        case .halfOpen: !isProbeOut
        }
    }

    /// Lets a copy through that `admits` admitted. Its end comes by exactly one of `succeed`,
    /// `fail`, `abandon`.
    public mutating func enter(now: Instant) -> Pass {
        precondition(admits(now: now), "a copy passed a breaker that is open")
        if state == .closed { return .ordinary }
        state = .halfOpen
        isProbeOut = true
        return .probe
    }

    /// The shadow gave an answer, of any status.
    public mutating func succeed(_ pass: Pass) {
        if pass == .probe {
            state = .closed
            isProbeOut = false
            openMs = openMsFirst
        }
        // Answers to copies from before it opened do not close it: only the probe knows how things
        // are now.
        if state == .closed { failuresInARow = 0 }
    }

    /// No connection, a reset, a timeout, a malformed answer.
    public mutating func fail(_ pass: Pass, now: Instant) {
        if pass == .probe {
            isProbeOut = false
            openMs = min(openMs * 2, openMsMax)
            open(now: now)
        } else if state == .closed {
            failuresInARow += 1
            if failuresInARow >= failuresMax { open(now: now) }
        }
    }

    /// The copy ended without a word about the shadow: the cap refused it, or we gave it up. After
    /// a probe the next copy is the probe.
    public mutating func abandon(_ pass: Pass) {
        if pass == .probe { isProbeOut = false }
    }

    private mutating func open(now: Instant) {
        state = .open
        openUntil = now.adding(ms: openMs)
        failuresInARow = 0
        openedCount += 1
    }
}
