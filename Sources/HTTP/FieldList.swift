/// One field line of a head or trailer section, as ranges into the bytes that were parsed.
public struct Field: Sendable, Equatable {
    // 20 bytes instead of 28: the name always starts its line.
    @usableFromInline var lineOffset: UInt32
    @usableFromInline var lineCount: UInt32
    @usableFromInline var valueOffset: UInt32
    @usableFromInline var valueCount: UInt32
    @usableFromInline var nameCount: UInt16
    /// The name, where it is one of those that are treated specially.
    public var known: FieldName
    /// True where the field is not passed on: by its name, because Connection names it, or because
    /// it stands in a trailer section or in an answer where it may not.
    public var isHopByHop: Bool

    @inlinable
    init(
        line: Int, colon: Int, valueStart: Int, valueEnd: Int, lineEnd: Int, known: FieldName
    ) {
        lineOffset = UInt32(truncatingIfNeeded: line)
        lineCount = UInt32(truncatingIfNeeded: lineEnd &- line)
        valueOffset = UInt32(truncatingIfNeeded: valueStart)
        valueCount = UInt32(truncatingIfNeeded: valueEnd &- valueStart)
        nameCount = UInt16(truncatingIfNeeded: colon &- line)
        self.known = known
        isHopByHop = known.isHopByHop
    }

    /// The name, without its colon.
    @inlinable public var name: ByteRange {
        ByteRange(offset: lineOffset, count: UInt32(nameCount))
    }

    /// The value, without the spaces and tabs around it. May be empty.
    @inlinable public var value: ByteRange {
        ByteRange(offset: valueOffset, count: valueCount)
    }

    /// The whole line with its CRLF, as it came.
    @inlinable public var line: ByteRange {
        ByteRange(offset: lineOffset, count: lineCount)
    }
}

/// The fields of one message: a list of fixed capacity, allocated once and overwritten by each
/// parse.
///
/// Borrow it (`head.fields[i]`); it cannot be copied. What it holds is valid until the next parse
/// into it. Not for use by two threads.
public struct FieldList: ~Copyable {
    @usableFromInline let storage: UnsafeMutablePointer<Field>
    @usableFromInline let index: UnsafeMutablePointer<FieldIndex>
    // Position of the last field of each known name, by the name's raw value; meaningful only where
    // `present` has its bit.
    @usableFromInline let positions: UnsafeMutablePointer<UInt16>
    /// The most fields that it can hold.
    public let capacity: Int

    /// An empty list for up to `capacity` fields. Traps outside 1...`Limits.fieldsCeiling`.
    public init(capacity: Int) {
        precondition((1...Limits.fieldsCeiling).contains(capacity))
        self.capacity = capacity
        storage = .allocate(capacity: capacity)
        index = .allocate(capacity: 1)
        index.initialize(to: FieldIndex())
        positions = .allocate(capacity: FieldName.allCases.count)
        positions.initialize(repeating: 0, count: FieldName.allCases.count)
    }

    deinit {
        storage.deallocate()
        index.deallocate()
        positions.deallocate()
    }

    /// Fields that the last parse found.
    @inlinable public var count: Int { index.pointee.count }

    /// A bit for each known name that is there (`FieldName.bit`).
    @inlinable public var present: UInt64 { index.pointee.present }

    /// A bit for each known name that is there more than once.
    @inlinable public var repeated: UInt64 { index.pointee.repeated }

    /// The field at `position`, in the order of the message. Traps outside `0..<count`.
    @inlinable
    public subscript(_ position: Int) -> Field {
        precondition(position >= 0 && position < count)
        return storage[position]
    }

    /// True where a field of this name is there. `other` is never reported.
    @inlinable
    public func contains(_ known: FieldName) -> Bool { present & known.bit != 0 }

    /// The position of the first field of a known name; nil where there is none, and for `other`.
    @inlinable
    public func first(_ known: FieldName) -> Int? {
        guard contains(known) else { return nil }
        guard repeated & known.bit != 0 else { return Int(positions[Int(known.rawValue)]) }
        return (0..<count).first { storage[$0].known == known }
    }

    /// Empties the list.
    public func removeAll() {
        index.pointee.count = 0
        index.pointee.present = 0
        index.pointee.repeated = 0
    }

    @inline(__always)
    func markHopByHop(_ position: Int) {
        assert(position >= 0 && position < count)
        storage[position].isHopByHop = true
    }
}

/// What a list holds.
@usableFromInline
struct FieldIndex {
    @usableFromInline var count = 0
    @usableFromInline var present: UInt64 = 0
    @usableFromInline var repeated: UInt64 = 0

    init() {}
}
