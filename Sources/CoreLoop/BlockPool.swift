import CLinux

/// Fixed-size blocks of one mapping, lent by slot number and counted in private memory.
///
/// The memory may be shared with a process that reads it; the counts are this process's alone,
/// so taking and giving back costs no atomic. Freed blocks are taken again first (they are in the
/// cache); those not needed for a while are given back to the kernel by `trim`.
public struct BlockPool: ~Copyable {
    /// What a pool hands out where it has nothing.
    public static let none = UInt32.max
    /// Blocks that `trim` always leaves mapped: they serve the everyday load.
    public static let keptBlocks = 64
    /// Blocks that one call of `trim` gives back at most: each is a system call.
    public static let trimmedPerCallMax = 64

    @usableFromInline struct State {
        @usableFromInline var freeCount: Int
        /// The least `freeCount` since the last trim: what lies below was not needed.
        @usableFromInline var freeLow: Int
        @usableFromInline init(freeCount: Int) {
            self.freeCount = freeCount
            freeLow = freeCount
        }
    }

    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline let references: UnsafeMutablePointer<UInt32>
    @usableFromInline let free: UnsafeMutablePointer<UInt32>
    @usableFromInline let touched: UnsafeMutablePointer<Bool>
    @usableFromInline let state: UnsafeMutablePointer<State>
    private let fd: Int32
    private let fileOffset: Int
    /// Bytes of one block, and how many blocks there are: the slots are 0 ..< `count`.
    public let blockBytes: Int
    public let count: Int

    /// A pool over `count * blockBytes` bytes at `base`. With a memfd (`fd` ≥ 0, `base` at
    /// `fileOffset` in it) unused blocks are punched out of it; without, they stay.
    /// Punching works on whole pages: with a memfd, block size and offset are multiples of 4,096.
    public init(
        base: UnsafeMutableRawPointer, blockBytes: Int, count: Int, fd: Int32 = -1,
        fileOffset: Int = 0
    ) {
        precondition(count > 0 && count < Int(Self.none) && blockBytes > 0)
        precondition(fd < 0 || (blockBytes | fileOffset) & 4_095 == 0, "a block is whole pages")
        self.base = base
        self.blockBytes = blockBytes
        self.count = count
        self.fd = fd
        self.fileOffset = fileOffset
        references = .allocate(capacity: count)
        references.initialize(repeating: 0, count: count)
        free = .allocate(capacity: count)
        for index in 0..<count { free[index] = UInt32(count - 1 - index) }
        touched = .allocate(capacity: count)
        touched.initialize(repeating: false, count: count)
        state = .allocate(capacity: 1)
        state.initialize(to: State(freeCount: count))
    }

    deinit {
        references.deallocate()
        free.deallocate()
        touched.deallocate()
        state.deallocate()
    }

    /// A block with one reference; `BlockPool.none` where all are taken.
    @inlinable
    public func take() -> UInt32 {
        let left = state.pointee.freeCount &- 1
        if left < 0 { return Self.none }
        state.pointee.freeCount = left
        if left < state.pointee.freeLow { state.pointee.freeLow = left }
        let slot = free[left]
        assert(references[Int(slot)] == 0)
        references[Int(slot)] = 1
        touched[Int(slot)] = true
        return slot
    }

    /// One more reference to a taken block.
    @inlinable
    public func retain(_ slot: UInt32) {
        assert(references[Int(slot)] > 0)
        references[Int(slot)] &+= 1
    }

    /// One reference fewer; the last one frees the block. Traps where the block is free already.
    @inlinable
    public func release(_ slot: UInt32) {
        let left = references[Int(slot)] &- 1
        precondition(left != .max, "a block was released once too often")
        references[Int(slot)] = left
        if left == 0 {
            free[state.pointee.freeCount] = slot
            state.pointee.freeCount &+= 1
        }
    }

    /// Whether somebody else holds the block too: then what was handed out may not be changed.
    @inlinable
    public func isShared(_ slot: UInt32) -> Bool { references[Int(slot)] > 1 }

    /// The block's first byte.
    @inlinable
    public func pointer(_ slot: UInt32) -> UnsafeMutableRawPointer {
        assert(Int(slot) < count)
        return base + Int(slot) &* blockBytes
    }

    /// Blocks that can be taken, and blocks that are.
    @inlinable public var freeCount: Int { state.pointee.freeCount }
    @inlinable public var takenCount: Int { count - state.pointee.freeCount }

    /// Gives blocks back to the kernel that were not needed since the last call, at most
    /// `trimmedPerCallMax` of them. Returns how many.
    @discardableResult
    public func trim() -> Int {
        let cold = min(state.pointee.freeLow, count - Self.keptBlocks)
        state.pointee.freeLow = state.pointee.freeCount
        guard fd >= 0, cold > 0 else { return 0 }
        var trimmed = 0
        for index in 0..<cold where touched[Int(free[index])] {
            let slot = Int(free[index])
            let offset = off_t(fileOffset + slot * blockBytes)
            guard fallocate(fd, Int32(UMBRA_FALLOC_PUNCH_HOLE), offset, off_t(blockBytes)) == 0
            else { break }
            touched[slot] = false
            trimmed += 1
            if trimmed == Self.trimmedPerCallMax { break }
        }
        return trimmed
    }
}

/// A run of bytes in a block.
public struct Slice: BitwiseCopyable, Equatable, Sendable {
    /// The block, and where in it the bytes begin and how many they are.
    public var slot: UInt32
    public var offset: UInt32
    public var count: UInt32

    /// `offset` and `count` below 2^32.
    @inlinable
    public init(slot: UInt32, offset: Int, count: Int) {
        self.slot = slot
        self.offset = UInt32(truncatingIfNeeded: offset)
        self.count = UInt32(truncatingIfNeeded: count)
    }
}

/// A first-in-first-out list of slices, its nodes in a `SlicePool`. Each slice holds a reference
/// to its block.
public struct SliceQueue: BitwiseCopyable, Sendable {
    @usableFromInline var head = SlicePool.none
    @usableFromInline var tail = SlicePool.none
    @usableFromInline var slices: UInt32 = 0
    @usableFromInline var bytes = 0

    @inlinable public init() {}
    /// Whether there is no slice; one of no bytes counts as well.
    @inlinable public var isEmpty: Bool { head == SlicePool.none }
    /// Slices, and the bytes of all of them.
    @inlinable public var sliceCount: Int { Int(slices) }
    @inlinable public var byteCount: Int { bytes }
}

/// The nodes of all slice queues of one worker: taken and given back in a few instructions.
public struct SlicePool: ~Copyable {
    @usableFromInline static let none = UInt32.max

    @usableFromInline struct Node {
        @usableFromInline var slice: Slice
        @usableFromInline var next: UInt32
        @usableFromInline init(slice: Slice, next: UInt32) {
            self.slice = slice
            self.next = next
        }
    }

    @usableFromInline struct State {
        @usableFromInline var firstFree: UInt32
        @usableFromInline var fresh: UInt32
        @usableFromInline var used: Int
    }

    @usableFromInline let nodes: UnsafeMutablePointer<Node>
    @usableFromInline let state: UnsafeMutablePointer<State>
    @usableFromInline let capacity: Int

    /// A pool of `capacity` nodes: slices that all its queues hold together.
    public init(capacity: Int) {
        precondition(capacity > 0 && capacity < Int(Self.none))
        self.capacity = capacity
        nodes = .allocate(capacity: capacity)
        state = .allocate(capacity: 1)
        state.initialize(to: State(firstFree: Self.none, fresh: 0, used: 0))
    }

    deinit {
        nodes.deallocate()
        state.deallocate()
    }

    /// Nodes in use.
    @inlinable public var usedCount: Int { state.pointee.used }

    @inlinable
    func takeNode() -> UInt32 {
        let node: UInt32
        if state.pointee.firstFree != Self.none {
            node = state.pointee.firstFree
            state.pointee.firstFree = nodes[Int(node)].next
        } else {
            guard Int(state.pointee.fresh) < capacity else { return Self.none }
            node = state.pointee.fresh
            state.pointee.fresh &+= 1
        }
        state.pointee.used &+= 1
        return node
    }

    /// Appends a slice and takes a reference to its block. False where no node is left: nothing
    /// changed.
    @inlinable
    public func append(_ slice: Slice, to queue: inout SliceQueue, _ blocks: borrowing BlockPool)
        -> Bool
    {
        let node = takeNode()
        if node == Self.none { return false }
        blocks.retain(slice.slot)
        nodes[Int(node)] = Node(slice: slice, next: Self.none)
        if queue.tail == Self.none { queue.head = node } else { nodes[Int(queue.tail)].next = node }
        queue.tail = node
        queue.slices &+= 1
        queue.bytes &+= Int(slice.count)
        return true
    }

    /// Removes the first `byteCount` bytes, releasing the blocks that they end, and slices of no
    /// bytes that then come first. Traps where the queue holds fewer.
    public func consume(
        _ byteCount: Int, from queue: inout SliceQueue, _ blocks: borrowing BlockPool
    ) {
        var left = byteCount
        precondition(left >= 0 && left <= queue.byteCount, "more was consumed than there is")
        queue.bytes -= left
        while left > 0 || (!queue.isEmpty && nodes[Int(queue.head)].slice.count == 0) {
            let index = queue.head
            let count = Int(nodes[Int(index)].slice.count)
            if left < count {
                nodes[Int(index)].slice.offset += UInt32(left)
                nodes[Int(index)].slice.count -= UInt32(left)
                return
            }
            left -= count
            blocks.release(nodes[Int(index)].slice.slot)
            queue.head = nodes[Int(index)].next
            if queue.head == Self.none { queue.tail = Self.none }
            queue.slices -= 1
            giveBack(index)
        }
    }

    @inlinable
    func giveBack(_ node: UInt32) {
        nodes[Int(node)].next = state.pointee.firstFree
        state.pointee.firstFree = node
        state.pointee.used &-= 1
    }

    /// Empties the queue and releases all its blocks.
    @inlinable
    public func clear(_ queue: inout SliceQueue, _ blocks: borrowing BlockPool) {
        var index = queue.head
        while index != Self.none {
            let node = nodes[Int(index)]
            blocks.release(node.slice.slot)
            giveBack(index)
            index = node.next
        }
        queue = SliceQueue()
    }

    /// Calls `body` with each slice in order until it returns false.
    @inlinable
    public func forEach(_ queue: SliceQueue, _ body: (Slice) -> Bool) {
        var index = queue.head
        while index != Self.none {
            let node = nodes[Int(index)]
            if !body(node.slice) { return }
            index = node.next
        }
    }
}
