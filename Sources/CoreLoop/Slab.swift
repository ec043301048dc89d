/// A fixed number of elements with stable addresses and a generation each.
///
/// The memory is mapped lazily: an element costs memory once it was first used. A slot's
/// generation moves on when it is freed, so that a token of its former life no longer fits.
public struct Slab<Element>: ~Copyable {
    @usableFromInline struct State {
        @usableFromInline var fresh = 0
        @usableFromInline var firstFree = -1
        @usableFromInline var used = 0
        @usableFromInline init() {}
    }

    @usableFromInline struct Slot {
        @usableFromInline var nextFree: Int32
        @usableFromInline var generation: UInt32
    }

    @usableFromInline let elements: UnsafeMutablePointer<Element>
    @usableFromInline let slots: UnsafeMutablePointer<Slot>
    @usableFromInline let state: UnsafeMutablePointer<State>
    private let memory: SharedMemory
    /// Elements that fit: the slots are 0 ..< `capacity`.
    public let capacity: Int

    /// A slab of free slots. Throws where there is no address space for it.
    public init(capacity: Int) throws(SystemError) {
        precondition(capacity > 0 && capacity <= Limits.slabSlotsMax)
        precondition(_isPOD(Element.self), "a slab never runs a destructor")
        self.capacity = capacity
        // One mapping for both: elements first, then the slots' own records.
        let elementBytes = (capacity * MemoryLayout<Element>.stride + 63) & ~63
        memory = try .plain(byteCount: elementBytes + capacity * MemoryLayout<Slot>.stride)
        elements = memory.base.assumingMemoryBound(to: Element.self)
        slots = (memory.base + elementBytes).assumingMemoryBound(to: Slot.self)
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    deinit { state.deallocate() }

    /// Slots in use.
    @inlinable public var usedCount: Int { state.pointee.used }

    /// A free slot holding `element`; nil where all are used.
    @inlinable
    public func insert(_ element: Element) -> Int? {
        let slot: Int
        if state.pointee.firstFree >= 0 {
            slot = state.pointee.firstFree
            state.pointee.firstFree = Int(slots[slot].nextFree)
        } else {
            guard state.pointee.fresh < capacity else { return nil }
            slot = state.pointee.fresh
            state.pointee.fresh += 1
            slots[slot].generation = 1
        }
        state.pointee.used += 1
        slots[slot].nextFree = -2
        elements[slot] = element
        return slot
    }

    /// Frees `slot`; its generation moves on. Traps where it is free already.
    @inlinable
    public func remove(_ slot: Int) {
        precondition(
            UInt(bitPattern: slot) < UInt(bitPattern: state.pointee.fresh)
                && slots[slot].nextFree == -2, "a free slot was freed again")
        slots[slot].generation &+= 1
        slots[slot].nextFree = Int32(truncatingIfNeeded: state.pointee.firstFree)
        state.pointee.firstFree = slot
        state.pointee.used -= 1
    }

    /// The generation of a slot that was ever used: with it `isLive` tells its lives apart.
    @inlinable public func generation(_ slot: Int) -> UInt32 { slots[slot].generation }

    /// Whether `slot` is in use and in the life that `generation` names.
    @inlinable
    public func isLive(_ slot: Int, _ generation: UInt32) -> Bool {
        slot < state.pointee.fresh && slots[slot].generation == generation
            && slots[slot].nextFree == -2
    }

    /// Whether `slot` is in use.
    @inlinable
    public func isUsed(_ slot: Int) -> Bool {
        slot < state.pointee.fresh && slots[slot].nextFree == -2
    }

    /// Slots that were ever used: the end for a walk over all.
    @inlinable public var walkEnd: Int { state.pointee.fresh }

    /// The element's place, the same for its whole life.
    @inlinable @inline(__always)
    public subscript(_ slot: Int) -> UnsafeMutablePointer<Element> {
        assert(slot >= 0 && slot < capacity)
        return elements + slot
    }
}
