public import CoreLoop
public import Synchronization

/// At most `qps` sends in any sliding second, over all processes that share the memory.
///
/// A ring of send times, taken by compare-and-swap: the send number n may go once the send number n
/// − qps is more than a window old. A token bucket would not do: its burst and its refill together
/// fill one window twice.
///
/// The processes need not agree on `qps`: while a reload has two configurations at work, no second
/// holds more sends than the larger of the two allows.
public struct QPSCap: Sendable {
    /// The window is longer than a second by this much: a send that is late on the wire must not
    /// fall into one second with those that came a second later.
    public static let marginNs: UInt64 = 20_000_000
    /// Nanoseconds of a second.
    public static let secondNs: UInt64 = 1_000_000_000
    /// Turns that one call takes when others are sending at the same time; then it refuses.
    static let attemptsMax = 64
    /// Smaller caps count as this one, one send in 31 years, so that the window fits 64 bits.
    static let qpsMin = 1e-9

    /// Send times that an ordinary ring holds, and one for caps beyond it: more than any `qps`.
    static let capacityOrdinary = 1 << 16
    static let capacityLarge = 1 << 20

    /// How many sends there were, and from when on there may be any, nanoseconds.
    @usableFromInline nonisolated(unsafe) let sends: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline nonisolated(unsafe) let opens: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline nonisolated(unsafe) let times: UnsafeMutablePointer<Atomic<UInt64>>
    /// Send times that the ring holds, a power of two: a larger `qps` counts as one less than this.
    public let capacity: Int

    /// Times that are kept for a cap of `qps`. Two sizes only, so that hardly any reload needs
    /// another ring.
    public static func capacity(for qps: Double) -> Int {
        qps < Double(capacityOrdinary) ? capacityOrdinary : capacityLarge
    }

    /// Bytes of a cap of this capacity, whole pages.
    public static func byteCount(capacity: Int) -> Int {
        var plan = MemoryPlan()
        _ = QPSCap(plan: &plan, capacity: capacity)
        plan.alignToPage()
        return plan.byteCount
    }

    /// Takes the room of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan, capacity: Int) {
        precondition(
            capacity > 0 && capacity & (capacity - 1) == 0, "a cap's ring is a power of two")
        self.capacity = capacity
        let sends = plan.take(Atomic<UInt64>.self, count: 8)
        let times = plan.take(Atomic<UInt64>.self, count: capacity)
        guard let sends, let times else { return nil }
        self.sends = sends
        opens = sends + 1
        self.times = times
    }

    /// The cap at `base`, whose memory is zero or is another process's cap of the same capacity.
    public static func map(_ base: UnsafeMutableRawPointer, capacity: Int) -> QPSCap {
        var plan = MemoryPlan(base: base)
        return QPSCap(plan: &plan, capacity: capacity)!
    }

    /// Lets nobody send before `time`: for ever where another ring takes this one's place, for a
    /// window where this one does.
    public func close(until time: Instant) {
        opens.pointee.store(time.nanoseconds, ordering: .releasing)
    }

    /// Takes the right to send one copy now. `clock` is read after the position, so that times in
    /// the ring ascend.
    ///
    /// A whole part of `qps` counts: 2.5 sends two in any second. Below 1 it is one send in 1/qps
    /// seconds; 0 is never.
    public func take(qps: Double, clock: () -> Instant) -> Bool {
        guard qps > 0 else { return false }
        let (count, window) = bounds(qps)
        for _ in 0..<Self.attemptsMax {
            let number = sends.pointee.load(ordering: .acquiring)
            let place = self.place(of: number)
            let old = place.pointee.load(ordering: .acquiring)
            let previous = number == 0 ? 0 : time(of: number - 1)
            if old != 0 && old >= previous {
                // The place already holds this number's time, not that of a round ago: another
                // process took the number and has not moved on yet, or died before it could.
                advance(from: number)
                continue
            }
            let now = clock().nanoseconds
            if now < opens.pointee.load(ordering: .acquiring) { return false }
            if number >= count, time(of: number - count) + window > now { return false }
            let (taken, _) = place.pointee.compareExchange(
                expected: old, desired: now, ordering: .acquiringAndReleasing)
            advance(from: number)
            if taken { return true }
        }
        return false
    }

    /// Whether `take` would not refuse now: a look ahead for what is not worth starting otherwise.
    /// Takes nothing. `clock` is read only where `earlier`, a time before it, does not settle it.
    public func hasRoom(qps: Double, earlier: Instant, clock: () -> Instant) -> Bool {
        guard qps > 0 else { return false }
        let (count, window) = bounds(qps)
        let number = sends.pointee.load(ordering: .acquiring)
        let last = number < count ? 0 : time(of: number - count) + window
        let opening = max(last, opens.pointee.load(ordering: .acquiring))
        return opening <= earlier.nanoseconds || opening <= clock().nanoseconds
    }

    /// How many sends may lie in which window, nanoseconds.
    private func bounds(_ qps: Double) -> (count: UInt64, windowNs: UInt64) {
        // One place less than the ring has: the time of a round ago has to be older than the
        // send before, or it would pass for a number that somebody has just taken.
        let count = qps < 1 ? 1 : UInt64(min(qps, Double(capacity - 1)))
        let window = qps < 1 ? UInt64(Double(Self.secondNs) / max(qps, Self.qpsMin)) : Self.secondNs
        return (count, window + Self.marginNs)
    }

    private func time(of number: UInt64) -> UInt64 {
        place(of: number).pointee.load(ordering: .acquiring)
    }

    private func place(of number: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        times + (Int(truncatingIfNeeded: number) & (capacity - 1))
    }

    private func advance(from number: UInt64) {
        _ = sends.pointee.compareExchange(
            expected: number, desired: number + 1, ordering: .acquiringAndReleasing)
    }
}
