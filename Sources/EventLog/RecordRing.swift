public import CoreLoop
import Synchronization

/// A ring of whole records between one producer and the log's writer, in memory that both map.
///
/// Records are as long as they are: eight bytes of length, then the bytes, padded to eight. None
/// crosses the end of the memory: what is left there is skipped. After a crash of either side it
/// is as that side's last completed call left it, so that records outlive their producer.
public struct RecordRing: Sendable {
    nonisolated(unsafe) fileprivate let head: UnsafeMutablePointer<Atomic<UInt64>>
    nonisolated(unsafe) fileprivate let tail: UnsafeMutablePointer<Atomic<UInt64>>
    nonisolated(unsafe) fileprivate let sleeping: UnsafeMutablePointer<Atomic<UInt64>>
    nonisolated(unsafe) fileprivate let dropped: UnsafeMutablePointer<Atomic<UInt64>>
    nonisolated(unsafe) fileprivate let noted: UnsafeMutablePointer<Atomic<UInt64>>
    nonisolated(unsafe) fileprivate let bytes: UnsafeMutableRawPointer
    fileprivate let capacity: Int

    /// What stands where the memory's end is skipped.
    fileprivate static let skip = UInt64.max

    /// Takes the ring's room of `plan`; nil while the plan only counts. `byteCount` is a power of
    /// two, and at least twice what the longest record takes.
    public init?(plan: inout MemoryPlan, byteCount: Int = Limits.ringBytes) {
        precondition(byteCount & (byteCount - 1) == 0 && byteCount >= 64, "a power of two")
        let head = plan.take(Atomic<UInt64>.self, count: 16)
        let tail = plan.take(Atomic<UInt64>.self, count: 16)
        let sleeping = plan.take(Atomic<UInt64>.self, count: 16)
        let dropped = plan.take(Atomic<UInt64>.self, count: 16)
        let noted = plan.take(Atomic<UInt64>.self, count: 16)
        let words = plan.take(UInt64.self, count: byteCount / 8)
        guard let head, let tail, let sleeping, let dropped, let noted, let words else {
            return nil
        }
        self.head = head
        self.tail = tail
        self.sleeping = sleeping
        self.dropped = dropped
        self.noted = noted
        bytes = UnsafeMutableRawPointer(words)
        capacity = byteCount
    }

    /// Bytes that a ring takes of a memory.
    public static func byteCount(of ringBytes: Int = Limits.ringBytes) -> Int {
        var plan = MemoryPlan()
        _ = RecordRing(plan: &plan, byteCount: ringBytes)
        return plan.byteCount
    }

    /// Records that did not fit, since the memory was made.
    public var droppedCount: UInt64 { dropped.pointee.load(ordering: .relaxed) }

    /// Whether all that was pushed is taken. Asked by whoever is at neither end.
    public var isEmpty: Bool {
        head.pointee.load(ordering: .acquiring) == tail.pointee.load(ordering: .acquiring)
    }

    fileprivate static func size(of count: Int) -> Int { 8 + (count + 7) & ~7 }
}

/// A ring's producing side. Not shared between threads.
public struct RecordProducer: ~Copyable {
    private let ring: RecordRing
    private var tail: UInt64
    private var cachedHead: UInt64

    /// The one producer of `ring`, going on where its predecessor stopped.
    public init(_ ring: RecordRing) {
        self.ring = ring
        tail = ring.tail.pointee.load(ordering: .acquiring)
        cachedHead = ring.head.pointee.load(ordering: .acquiring)
    }

    /// Copies a record into the ring; false, and counted, where it is full or the record longer
    /// than half of it.
    public mutating func push(_ record: UnsafeRawBufferPointer) -> Bool {
        push(byteCount: record.count) { $0.copyMemory(from: record) }
    }

    /// As above, a record of `byteCount` bytes that `fill` writes where it is to lie; not called
    /// where there is no room.
    public mutating func push(
        byteCount: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void
    ) -> Bool {
        let place = Int(truncatingIfNeeded: tail) & (ring.capacity - 1)
        let size = RecordRing.size(of: byteCount)
        let left = ring.capacity - place
        let needed = size <= left ? size : left + size
        guard byteCount > 0, 2 * size <= ring.capacity, hasRoom(for: needed) else {
            countDropped()
            return false
        }
        var target = ring.bytes + place
        if size > left {
            target.storeBytes(of: RecordRing.skip, as: UInt64.self)
            target = ring.bytes
        }
        target.storeBytes(of: UInt64(byteCount), as: UInt64.self)
        fill(UnsafeMutableRawBufferPointer(start: target + 8, count: byteCount))
        tail &+= UInt64(needed)
        ring.tail.pointee.store(tail, ordering: .releasing)
        return true
    }

    /// Counts a record that could not even be made as dropped.
    public func countDropped() {
        ring.dropped.pointee.store(
            ring.dropped.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }

    private mutating func hasRoom(for needed: Int) -> Bool {
        if tail &+ UInt64(needed) &- cachedHead <= UInt64(ring.capacity) { return true }
        cachedHead = ring.head.pointee.load(ordering: .acquiring)
        return tail &+ UInt64(needed) &- cachedHead <= UInt64(ring.capacity)
    }

    /// Whether the writer sleeps and has to be woken; true once for each sleep. After `push`.
    public func consumerNeedsWaking() -> Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        guard ring.sleeping.pointee.load(ordering: .relaxed) != 0 else { return false }
        return ring.sleeping.pointee.exchange(0, ordering: .sequentiallyConsistent) != 0
    }
}

/// A ring's consuming side. Trusts nothing that a producer gone wild could have written.
public struct RecordConsumer: ~Copyable {
    private let ring: RecordRing
    private var head: UInt64

    /// The one consumer of `ring`, going on where its predecessor stopped.
    public init(_ ring: RecordRing) {
        self.ring = ring
        head = ring.head.pointee.load(ordering: .acquiring)
    }

    /// What the ring has to give.
    public enum Next {
        /// A record; its bytes are good until `consume`.
        case record(UnsafeRawBufferPointer)
        /// Nothing yet.
        case empty
        /// Positions or lengths that cannot be: the ring was emptied.
        case invalid
    }

    /// The next record, which stays in the ring until `consume`.
    public mutating func peek() -> Next {
        let tail = ring.tail.pointee.load(ordering: .acquiring)
        while true {
            let filled = tail &- head
            if filled == 0 { return .empty }
            let place = Int(truncatingIfNeeded: head) & (ring.capacity - 1)
            guard filled <= UInt64(ring.capacity), filled & 7 == 0, place & 7 == 0 else {
                return giveUp(tail)
            }
            let length = (ring.bytes + place).load(as: UInt64.self)
            if length == RecordRing.skip {
                let left = UInt64(ring.capacity - place)
                guard filled > left else { return giveUp(tail) }
                move(by: left)
                continue
            }
            guard length > 0, length <= UInt64(ring.capacity / 2),
                UInt64(RecordRing.size(of: Int(length))) <= filled,
                place + RecordRing.size(of: Int(length)) <= ring.capacity
            else { return giveUp(tail) }
            return .record(
                UnsafeRawBufferPointer(start: ring.bytes + place + 8, count: Int(length)))
        }
    }

    /// Gives the place of a record of `byteCount` bytes, which `peek` gave, back to the producer.
    public mutating func consume(_ byteCount: Int) {
        move(by: UInt64(RecordRing.size(of: byteCount)))
    }

    private mutating func move(by count: UInt64) {
        head &+= count
        ring.head.pointee.store(head, ordering: .releasing)
    }

    /// Empties the ring: the next record begins on a multiple of eight again, wherever the
    /// producer is.
    private mutating func giveUp(_ tail: UInt64) -> Next {
        head = tail
        ring.head.pointee.store(head, ordering: .releasing)
        return .invalid
    }

    /// Whether more than half of the ring's room is taken.
    public var isHalfFull: Bool {
        ring.tail.pointee.load(ordering: .acquiring) &- head > UInt64(ring.capacity / 2)
    }

    /// Records that the producer dropped since this was last asked, by whichever writer.
    public func takeDropped() -> UInt64 {
        let count = ring.dropped.pointee.load(ordering: .relaxed)
        let before = ring.noted.pointee.load(ordering: .relaxed)
        if count != before { ring.noted.pointee.store(count, ordering: .relaxed) }
        return count &- before
    }

    /// Announces sleep. True where the ring was still empty afterwards.
    public mutating func prepareToSleep() -> Bool {
        ring.sleeping.pointee.store(1, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        if case .empty = peek() { return true }
        wokeUp()
        return false
    }

    /// Takes the announcement back.
    public func wokeUp() { ring.sleeping.pointee.store(0, ordering: .relaxed) }
}
