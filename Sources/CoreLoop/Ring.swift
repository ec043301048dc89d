public import Synchronization

/// The shared part of a single-producer single-consumer ring: two positions, each on a cache line
/// of its own, the consumer's sleep flag, and `depth` entries. Positions only grow; an entry's
/// place is its position modulo `depth`. No pointers, so that each process may map it where it
/// likes.
///
/// After a crash of either side the memory is as that side's last completed push or pop left it.
public struct RingMemory<Entry: BitwiseCopyable>: Sendable {
    @usableFromInline nonisolated(unsafe) let head: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline nonisolated(unsafe) let tail: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline nonisolated(unsafe) let sleeping: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline nonisolated(unsafe) let entries: UnsafeMutablePointer<Entry>
    /// Entries that fit.
    public let depth: Int

    /// Takes the ring's room of `plan`; nil while the plan only counts. `depth` is a power of two.
    public init?(plan: inout MemoryPlan, depth: Int) {
        precondition(depth > 0 && depth & (depth - 1) == 0, "a ring's depth is a power of two")
        // 128 bytes apart: the adjacent-line prefetcher would couple two neighbouring lines.
        let head = plan.take(Atomic<UInt64>.self, count: 16)
        let tail = plan.take(Atomic<UInt64>.self, count: 16)
        let sleeping = plan.take(Atomic<UInt64>.self, count: 16)
        let entries = plan.take(Entry.self, count: depth)
        guard let head, let tail, let sleeping, let entries else { return nil }
        self.head = head
        self.tail = tail
        self.sleeping = sleeping
        self.entries = entries
        self.depth = depth
    }

    /// Entries pushed and not yet popped, 0 to `depth`. From a third process: a moment's estimate.
    ///
    /// Positions that a side gone wild left in the memory give a wrong count, never a trap.
    @inlinable
    public var count: Int {
        let tail = tail.pointee.load(ordering: .acquiring)
        let head = head.pointee.load(ordering: .acquiring)
        return tail >= head ? Int(min(tail &- head, UInt64(depth))) : 0
    }

    /// Empties the ring. Only while no other process uses it.
    public func reset() {
        head.pointee.store(0, ordering: .releasing)
        tail.pointee.store(0, ordering: .releasing)
        sleeping.pointee.store(0, ordering: .sequentiallyConsistent)
    }
}

/// The writing side of a ring. Not shared between threads.
public struct RingProducer<Entry: BitwiseCopyable>: ~Copyable {
    @usableFromInline struct State {
        @usableFromInline var tail: UInt64
        @usableFromInline var cachedHead: UInt64
        @usableFromInline init(tail: UInt64, cachedHead: UInt64) {
            self.tail = tail
            self.cachedHead = cachedHead
        }
    }

    /// The ring that this is one side of.
    public let memory: RingMemory<Entry>
    @usableFromInline let state: UnsafeMutablePointer<State>

    /// One side of the ring, going on where its predecessor stopped. Only one at a time.
    public init(_ memory: RingMemory<Entry>) {
        self.memory = memory
        state = .allocate(capacity: 1)
        state.initialize(to: State(tail: 0, cachedHead: 0))
        resume()
    }

    deinit { state.deallocate() }

    /// Reads the positions anew, after a reset.
    public func resume() {
        state.pointee = State(
            tail: memory.tail.pointee.load(ordering: .acquiring),
            cachedHead: memory.head.pointee.load(ordering: .acquiring))
    }

    /// Whether `count` more entries fit.
    @inlinable
    public func hasRoom(for count: Int) -> Bool {
        let depth = UInt64(memory.depth)
        if state.pointee.tail &+ UInt64(count) &- state.pointee.cachedHead <= depth { return true }
        state.pointee.cachedHead = memory.head.pointee.load(ordering: .acquiring)
        return state.pointee.tail &+ UInt64(count) &- state.pointee.cachedHead <= depth
    }

    /// Writes an entry `ahead` places behind the last published one, where `hasRoom` said that it
    /// fits. The consumer sees it after `publish`.
    @inlinable
    public func write(_ entry: Entry, ahead: Int) {
        let place =
            Int(truncatingIfNeeded: state.pointee.tail &+ UInt64(ahead)) & (memory.depth &- 1)
        memory.entries[place] = entry
    }

    /// Shows the next `count` written entries to the consumer.
    @inlinable
    public func publish(_ count: Int) {
        state.pointee.tail &+= UInt64(count)
        memory.tail.pointee.store(state.pointee.tail, ordering: .releasing)
    }

    /// One entry written and shown; false where the ring is full.
    @inlinable
    public func push(_ entry: Entry) -> Bool {
        guard hasRoom(for: 1) else { return false }
        write(entry, ahead: 0)
        publish(1)
        return true
    }

    /// Whether the consumer sleeps. Call after publishing: the fence orders it behind the store,
    /// so that a consumer that is not seen asleep sees the entry before it goes to sleep.
    @inlinable
    public func consumerSleeps() -> Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        return memory.sleeping.pointee.load(ordering: .relaxed) != 0
    }

    /// Whether the consumer sleeps and has to be woken; says so once for each sleep. Call after
    /// publishing, as `consumerSleeps`.
    @inlinable
    public func consumerNeedsWaking() -> Bool {
        guard consumerSleeps() else { return false }
        return memory.sleeping.pointee.exchange(0, ordering: .sequentiallyConsistent) != 0
    }
}

/// The reading side of a ring. Not shared between threads.
public struct RingConsumer<Entry: BitwiseCopyable>: ~Copyable {
    @usableFromInline struct State {
        @usableFromInline var head: UInt64
        @usableFromInline var cachedTail: UInt64
        @usableFromInline init(head: UInt64, cachedTail: UInt64) {
            self.head = head
            self.cachedTail = cachedTail
        }
    }

    /// The ring that this is one side of.
    public let memory: RingMemory<Entry>
    @usableFromInline let state: UnsafeMutablePointer<State>

    /// One side of the ring, going on where its predecessor stopped. Only one at a time.
    public init(_ memory: RingMemory<Entry>) {
        self.memory = memory
        state = .allocate(capacity: 1)
        state.initialize(to: State(head: 0, cachedTail: 0))
        resume()
    }

    deinit { state.deallocate() }

    /// Reads the positions anew, after a reset.
    public func resume() {
        state.pointee = State(
            head: memory.head.pointee.load(ordering: .acquiring),
            cachedTail: memory.tail.pointee.load(ordering: .acquiring))
    }

    /// The entry `ahead` places behind the next one; nil where it is not there yet.
    @inlinable
    public func peek(ahead: Int = 0) -> Entry? {
        let position = state.pointee.head &+ UInt64(ahead)
        if position >= state.pointee.cachedTail {
            state.pointee.cachedTail = memory.tail.pointee.load(ordering: .acquiring)
            if position >= state.pointee.cachedTail { return nil }
        }
        return memory.entries[Int(truncatingIfNeeded: position) & (memory.depth &- 1)]
    }

    /// Gives the places of the next `count` entries back to the producer.
    @inlinable
    public func consume(_ count: Int) {
        state.pointee.head &+= UInt64(count)
        assert(state.pointee.head <= state.pointee.cachedTail)
        memory.head.pointee.store(state.pointee.head, ordering: .releasing)
    }

    /// The next entry, its place given back; nil where the ring is empty.
    @inlinable
    public func pop() -> Entry? {
        guard let entry = peek() else { return nil }
        consume(1)
        return entry
    }

    /// Announces sleep. True where the ring was still empty afterwards: wait now. False: entries
    /// came meanwhile.
    @inlinable
    public func prepareToSleep() -> Bool {
        memory.sleeping.pointee.store(1, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        if peek() == nil { return true }
        memory.sleeping.pointee.store(0, ordering: .relaxed)
        return false
    }

    /// Takes the announcement back after waking for another reason.
    @inlinable
    public func wokeUp() { memory.sleeping.pointee.store(0, ordering: .relaxed) }
}
