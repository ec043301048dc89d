/// A set of bytes.
struct ByteSet: Hashable, Sendable {
    private var words = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))

    static func == (a: ByteSet, b: ByteSet) -> Bool { a.words == b.words }

    func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }

    init() {}

    init(_ ranges: ClosedRange<UInt8>...) {
        for range in ranges { insert(range) }
    }

    var isEmpty: Bool { words == (0, 0, 0, 0) }

    mutating func insert(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

    mutating func insert(_ byte: UInt8) {
        let bit = UInt64(1) << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: words.0 |= bit
        case 1: words.1 |= bit
        case 2: words.2 |= bit
        default: words.3 |= bit
        }
    }

    mutating func form(union other: ByteSet) {
        words.0 |= other.words.0
        words.1 |= other.words.1
        words.2 |= other.words.2
        words.3 |= other.words.3
    }

    func contains(_ byte: UInt8) -> Bool {
        let word =
            switch byte >> 6 {
            case 0: words.0
            case 1: words.1
            case 2: words.2
            default: words.3
            }
        return word >> UInt64(byte & 63) & 1 == 1
    }

    /// The bytes of ASCII that are not in it.
    var asciiComplement: ByteSet {
        var set = ByteSet()
        set.words.0 = ~words.0
        set.words.1 = ~words.1
        return set
    }

    /// With each letter of ASCII in its other case.
    var caseless: ByteSet {
        var set = self
        for byte in UInt8(ascii: "A")...UInt8(ascii: "Z") {
            if contains(byte) { set.insert(byte | 0x20) }
            if contains(byte | 0x20) { set.insert(byte) }
        }
        return set
    }

    static let digits = ByteSet(0x30...0x39)
    /// Letters, digits and `_`; what is beyond ASCII counts as a letter.
    static let words = ByteSet(0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A, 0x80...0xFF)
    static let spaces = ByteSet(0x09...0x0D, 0x20...0x20)
}
