/// Bounded appends into memory that somebody else owns.
///
/// An append that does not fit writes nothing and sets `overflowed`; so does every one after it, so
/// that a head is either whole or refused, with one check at the end.
public struct HeadWriter {
    @usableFromInline let memory: UnsafeMutableRawBufferPointer
    @usableFromInline var writtenCount = 0
    @usableFromInline var hasOverflowed = false

    /// A writer to the start of `memory`, which must outlive it.
    @inlinable
    public init(_ memory: UnsafeMutableRawBufferPointer) {
        self.memory = memory
    }

    /// Bytes written so far.
    @inlinable public var count: Int { writtenCount }

    /// True once an append did not fit.
    @inlinable public var overflowed: Bool { hasOverflowed }

    /// The bytes written so far.
    @inlinable public var written: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory[..<count])
    }

    // The place for `length` bytes, counted as written; nil where they do not fit.
    @inlinable @inline(__always)
    mutating func reserve(_ length: Int) -> UnsafeMutableRawPointer? {
        guard !hasOverflowed, length <= memory.count &- writtenCount,
            let base = memory.baseAddress
        else {
            if length > 0 { hasOverflowed = true }
            return nil
        }
        let place = base + writtenCount
        writtenCount &+= length
        return place
    }

    /// Appends `bytes`.
    @inlinable
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, let place = reserve(bytes.count) else { return }
        place.copyMemory(from: source, byteCount: bytes.count)
    }

    /// Appends the UTF-8 bytes of a literal.
    @inlinable @inline(__always)
    public mutating func append(_ text: StaticString) {
        guard let place = reserve(text.utf8CodeUnitCount) else { return }
        place.copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    }

    /// Appends one byte.
    @inlinable @inline(__always)
    public mutating func append(byte: UInt8) {
        reserve(1)?.storeBytes(of: byte, as: UInt8.self)
    }

    /// Appends a number in decimal, without leading zeros.
    public mutating func append(decimal number: UInt64) {
        var digits = 1
        var bound: UInt64 = 10
        while number >= bound {
            digits += 1
            let (next, overflow) = bound.multipliedReportingOverflow(by: 10)
            if overflow { break }
            bound = next
        }
        append(decimal: number, digits: digits)
    }

    /// Appends the lowest `digits` decimal digits of a number, with leading zeros.
    public mutating func append(decimal number: UInt64, digits: Int) {
        precondition(digits >= 0 && digits <= 20)
        guard let place = reserve(digits) else { return }
        var rest = number
        var index = digits
        while index > 0 {
            index -= 1
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            place.storeBytes(of: 0x30 + UInt8(digit), toByteOffset: index, as: UInt8.self)
            rest = quotient
        }
    }

    /// Appends a number in lower-case hexadecimal, without leading zeros: a chunk size.
    public mutating func append(hex number: UInt64) {
        append(hex: number, digits: max(1, (64 - number.leadingZeroBitCount + 3) / 4))
    }

    /// Appends the lowest `digits` hexadecimal digits of a number, with leading zeros.
    public mutating func append(hex number: UInt64, digits: Int) {
        precondition(digits >= 0 && digits <= 16)
        guard let place = reserve(digits) else { return }
        for index in 0..<digits {
            let nibble = UInt8(truncatingIfNeeded: number >> UInt64(4 * (digits - 1 - index))) & 15
            let letter = nibble < 10 ? 0x30 + nibble : 0x57 + nibble
            place.storeBytes(of: letter, toByteOffset: index, as: UInt8.self)
        }
    }
}
