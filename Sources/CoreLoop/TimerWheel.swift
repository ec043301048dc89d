/// Deadlines by a small number (`id`), in a wheel of `Limits.timerBuckets` buckets.
///
/// A deadline that moves later costs one store: the timer stays in its bucket, and when the
/// wheel reaches it, it is filed again. Only one that moves earlier is moved at once.
/// Deadlines fire at most one tick late and never early.
public struct TimerWheel: ~Copyable {
    @usableFromInline struct Entry {
        /// When it shall fire, in ticks; 0 is never.
        @usableFromInline var due: UInt64
        /// The tick whose bucket it lies in; 0 where it lies in none.
        @usableFromInline var filed: UInt64
        @usableFromInline var next: UInt32
        @usableFromInline var previous: UInt32
    }

    @usableFromInline static let none = UInt32.max

    @usableFromInline let entries: UnsafeMutablePointer<Entry>
    @usableFromInline let buckets: UnsafeMutablePointer<UInt32>
    @usableFromInline let current: UnsafeMutablePointer<UInt64>
    private let memory: SharedMemory
    /// Timers: their ids are 0 ..< `capacity`.
    public let capacity: Int

    /// A wheel for the ids 0 ..< `capacity`, starting at `now`.
    public init(capacity: Int, now: Instant) throws(SystemError) {
        self.capacity = capacity
        memory = try .plain(byteCount: max(1, capacity) * MemoryLayout<Entry>.stride)
        // Zero bytes are the right start: due 0 and filed 0 say that a timer is not set.
        entries = memory.base.assumingMemoryBound(to: Entry.self)
        buckets = .allocate(capacity: Limits.timerBuckets)
        buckets.initialize(repeating: Self.none, count: Limits.timerBuckets)
        current = .allocate(capacity: 1)
        current.initialize(to: Self.tick(now))
    }

    deinit {
        buckets.deallocate()
        current.deallocate()
    }

    @inlinable
    static func tick(_ instant: Instant) -> UInt64 {
        instant.milliseconds / UInt64(Limits.timerTickMs)
    }

    /// Sets or moves the deadline of `id`.
    @inlinable
    public func schedule(_ id: Int, at deadline: Instant) {
        precondition(UInt(bitPattern: id) < UInt(bitPattern: capacity), "no timer has this id")
        let due = max(Self.tick(deadline) &+ 1, current.pointee &+ 1)
        let entry = entries + id
        entry.pointee.due = due
        if entry.pointee.filed == 0 {
            file(UInt32(truncatingIfNeeded: id), due)
        } else if due < entry.pointee.filed {
            unfile(UInt32(truncatingIfNeeded: id))
            file(UInt32(truncatingIfNeeded: id), due)
        }
    }

    /// Sets the deadline of `id` unless it has one.
    @inlinable
    public func scheduleIfUnset(_ id: Int, at deadline: Instant) {
        if entries[id].due == 0 { schedule(id, at: deadline) }
    }

    /// Takes the deadline of `id` back.
    @inlinable
    public func cancel(_ id: Int) {
        entries[id].due = 0
        if entries[id].filed != 0 { unfile(UInt32(truncatingIfNeeded: id)) }
    }

    /// Leaves `id` in its bucket but lets it fire no more: for a deadline that is soon set again.
    @inlinable
    public func pause(_ id: Int) { entries[id].due = 0 }

    /// How long a loop may sleep before a timer can be over, milliseconds: at most `limitMs`
    /// (below the wheel's span), 0 where `popExpired` has not yet returned nil.
    ///
    /// Looks at one bucket for each tick of the answer; a timer that was moved later may
    /// end the sleep once for nothing.
    public func sleepMs(now: Instant, atMost limitMs: Int32) -> Int32 {
        let tickMs = UInt64(Limits.timerTickMs)
        let limit = UInt64(max(0, limitMs))
        precondition(limit / tickMs < UInt64(Limits.timerBuckets) - 1, "longer than the wheel")
        let nowMs = now.milliseconds
        var tick = current.pointee
        while tick &* tickMs < nowMs &+ limit {
            if buckets[Int(tick % UInt64(Limits.timerBuckets))] != Self.none {
                return tick &* tickMs <= nowMs ? 0 : Int32(tick &* tickMs &- nowMs)
            }
            tick += 1
        }
        return Int32(limit)
    }

    @usableFromInline
    func file(_ id: UInt32, _ due: UInt64) {
        let span = UInt64(Limits.timerBuckets) &- 1
        let tick = min(due, current.pointee &+ span)
        let bucket = Int(tick % UInt64(Limits.timerBuckets))
        let first = buckets[bucket]
        entries[Int(id)].filed = tick
        entries[Int(id)].previous = Self.none
        entries[Int(id)].next = first
        if first != Self.none { entries[Int(first)].previous = id }
        buckets[bucket] = id
    }

    @usableFromInline
    func unfile(_ id: UInt32) {
        let entry = entries[Int(id)]
        if entry.previous == Self.none {
            buckets[Int(entry.filed % UInt64(Limits.timerBuckets))] = entry.next
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next != Self.none { entries[Int(entry.next)].previous = entry.previous }
        entries[Int(id)].filed = 0
    }

    /// The next id whose deadline is over at `now`, its timer unset; nil where there is none.
    /// Call until nil, or until the turn's budget is spent.
    public func popExpired(now: Instant) -> Int? {
        let end = Self.tick(now)
        while current.pointee <= end {
            let bucket = Int(current.pointee % UInt64(Limits.timerBuckets))
            var id = buckets[bucket]
            while id != Self.none {
                let entry = entries[Int(id)]
                let next = entry.next
                if entry.filed <= current.pointee {
                    unfile(id)
                    if entry.due != 0 {
                        if entry.due <= end {
                            entries[Int(id)].due = 0
                            return Int(id)
                        }
                        file(id, entry.due)
                    }
                }
                id = next
            }
            if current.pointee == end { return nil }
            current.pointee += 1
        }
        return nil
    }
}
