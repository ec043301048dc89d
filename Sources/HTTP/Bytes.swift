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
    func vector(at index: Int) -> SIMD16<Int8> {
        assert(index >= 0 && index &+ 16 <= count)
        return base.loadUnaligned(fromByteOffset: index, as: SIMD16<Int8>.self)
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
        return hasWords(of: text, at: range.start, ignoringCase: false)
    }

    /// True where `range` is `text`, ASCII letters compared without case.
    ///
    /// `text` consists of small letters, digits and hyphens, and the range of no control byte.
    @inline(__always)
    func equalsIgnoringCase(_ range: ByteRange, _ text: StaticString) -> Bool {
        guard Int(range.count) == text.utf8CodeUnitCount else { return false }
        return hasWords(of: text, at: range.start, ignoringCase: true)
    }

    /// True where `text`, a literal of 2 to 24 bytes, stands at `start`, with room for all of it.
    ///
    /// It folds to one to three comparisons of words that overlap. Without case, 0x20 is set in
    /// each byte: outside of control bytes that maps nothing but capitals to small letters, digits
    /// and hyphens, so that the comparison is exact for such a text.
    @inline(__always)
    func hasWords(of text: StaticString, at start: Int, ignoringCase: Bool) -> Bool {
        let length = text.utf8CodeUnitCount
        let blur: UInt64 = ignoringCase ? 0x2020_2020_2020_2020 : 0
        if length >= 8 {
            guard hasWord(of: text, 0, at: start, blur),
                hasWord(of: text, length &- 8, at: start, blur)
            else { return false }
            return length <= 16 || hasWord(of: text, 8, at: start, blur)
        }
        if length >= 4 {
            let small = UInt32(truncatingIfNeeded: blur)
            return hasWord(of: text, 0, at: start, small)
                && hasWord(of: text, length &- 4, at: start, small)
        }
        let small = UInt16(truncatingIfNeeded: blur)
        return hasWord(of: text, 0, at: start, small)
            && hasWord(of: text, length &- 2, at: start, small)
    }

    @inline(__always)
    private func hasWord<T: FixedWidthInteger & BitwiseCopyable>(
        of text: StaticString, _ offset: Int, at start: Int, _ blur: T
    ) -> Bool {
        let expected = UnsafeRawPointer(text.utf8Start)
            .loadUnaligned(fromByteOffset: offset, as: T.self)
        return word(at: start &+ offset, as: T.self) | blur == expected
    }

    /// True where the name `range` is `text` (lower case). Slower than `equalsIgnoringCase`, for
    /// texts that are no literals.
    func isName(_ range: ByteRange, _ text: StaticString) -> Bool {
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
        return ByteRange(found: start, end)
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
