/// A run of bytes within a head; offsets count from the first byte that was given to the parser.
public struct ByteRange: Sendable, Equatable {
    /// Offset of the first byte.
    public var offset: UInt32
    /// Bytes in the run.
    public var count: UInt32

    /// The run of `count` bytes that starts at `offset`.
    @inlinable
    public init(offset: UInt32, count: UInt32) {
        self.offset = offset
        self.count = count
    }

    /// The run `start..<end`. Traps unless `0 <= start <= end <= UInt32.max`.
    @inlinable
    public init(_ start: Int, _ end: Int) {
        precondition(start <= end)
        self.init(offset: UInt32(start), count: UInt32(end - start))
    }

    // For positions that a parser found itself, which a limit keeps within 32 bits.
    @inline(__always)
    init(found start: Int, _ end: Int) {
        assert(start >= 0 && start <= end && end <= Int(UInt32.max))
        offset = UInt32(truncatingIfNeeded: start)
        count = UInt32(truncatingIfNeeded: end &- start)
    }

    /// The empty run at offset 0.
    @inlinable public static var empty: ByteRange { ByteRange(offset: 0, count: 0) }

    /// Offset of the first byte, as Int.
    @inlinable public var start: Int { Int(offset) }

    /// Offset behind the last byte.
    @inlinable public var end: Int { Int(offset) + Int(count) }

    /// True where `count` is 0, wherever the run begins.
    @inlinable public var isEmpty: Bool { count == 0 }

    /// The bytes of this run, unchecked, where `head` is the first byte that was parsed.
    @inlinable @inline(__always)
    public func bytes(from head: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: head + start, count: Int(count))
    }

    /// The bytes of this run in the buffer that was parsed. Traps where the buffer is shorter.
    @inlinable
    public func bytes(in head: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: head[start..<end])
    }
}
