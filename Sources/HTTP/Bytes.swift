/// The bytes of one message as far as a parser may look: the codec's only way to memory.
///
/// Reads outside `0..<count` trap in debug builds (and in the fuzz targets, by AddressSanitizer);
/// every caller compares with `count` first.
struct Bytes {
    let base: UnsafeRawPointer
    let count: Int

    @inline(__always)
    init(base: UnsafeRawPointer, count: Int) {
        self.base = base
        self.count = count
    }

    @inline(__always)
    subscript(_ index: Int) -> UInt8 {
        assert(index >= 0 && index < count)
        return base.load(fromByteOffset: index, as: UInt8.self)
    }

    @inline(__always)
    func vector(at index: Int) -> SIMD16<UInt8> {
        assert(index >= 0 && index &+ 16 <= count)
        return base.loadUnaligned(fromByteOffset: index, as: SIMD16<UInt8>.self)
    }

    @inline(__always)
    func word<T: FixedWidthInteger & BitwiseCopyable>(at index: Int, as type: T.Type) -> T {
        assert(index >= 0 && index &+ MemoryLayout<T>.size <= count)
        return base.loadUnaligned(fromByteOffset: index, as: T.self)
    }

    /// True where `range` is `text`, bytes compared as they are.
    @inline(__always)
    func equals(_ range: ByteRange, _ text: StaticString) -> Bool {
        guard Int(range.count) == text.utf8CodeUnitCount else { return false }
        var index = 0
        while index < text.utf8CodeUnitCount {
            if self[range.start &+ index] != text.utf8Start[index] { return false }
            index &+= 1
        }
        return true
    }

    /// True where `range` is `text` (lower case), ASCII letters compared without case.
    func equalsIgnoringCase(_ range: ByteRange, _ text: StaticString) -> Bool {
        guard Int(range.count) == text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount
        where Self.lower(self[range.start &+ index]) != text.utf8Start[index] {
            return false
        }
        return true
    }

    /// True where both ranges hold the same bytes, ASCII letters compared without case.
    func equalsIgnoringCase(_ a: ByteRange, _ b: ByteRange) -> Bool {
        guard a.count == b.count else { return false }
        for index in 0..<Int(a.count)
        where Self.lower(self[a.start &+ index]) != Self.lower(self[b.start &+ index]) {
            return false
        }
        return true
    }

    @inline(__always)
    static func lower(_ byte: UInt8) -> UInt8 {
        byte &- 0x41 < 26 ? byte | 0x20 : byte
    }

    /// `range` without spaces and tabs at both ends.
    func trimmed(_ range: ByteRange) -> ByteRange {
        var start = range.start
        var end = range.end
        while start < end, Self.isSpace(self[start]) { start &+= 1 }
        while end > start, Self.isSpace(self[end &- 1]) { end &-= 1 }
        return ByteRange(start, end)
    }

    /// OWS of RFC 9110 §5.6.3: SP or HTAB.
    @inline(__always)
    static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    /// tchar of RFC 9110 §5.6.2, as two words of bits: a table behind a lazy global would cost an
    /// accessor for each byte.
    @inline(__always)
    static func isToken(_ byte: UInt8) -> Bool {
        let low: UInt64 = 0x03FF_6CFA_0000_0000  // ! # $ % & ' * + - . 0-9
        let high: UInt64 = 0x57FF_FFFF_C7FF_FFFE  // A-Z ^ _ ` a-z | ~
        guard byte < 0x80 else { return false }
        return (byte < 0x40 ? low : high) &>> UInt64(byte & 0x3F) & 1 == 1
    }

    /// True where `range` is one token (1*tchar).
    func isToken(_ range: ByteRange) -> Bool {
        guard !range.isEmpty else { return false }
        for index in range.start..<range.end where !Self.isToken(self[index]) { return false }
        return true
    }
}
