/// What a field's name alone says of whether the field goes to the shadow.
enum NameVerdict: UInt8 {
    case drop, keep
    /// Unless its value is a bearer token.
    case keepUnlessBearer
}

/// Verdicts on names seen before, by their exact bytes: a direct-mapped cache. A name that is not
/// in it is judged anew, so that whoever sends ever new names gains nothing but that.
struct NameVerdicts: ~Copyable {
    /// Longer names are not kept.
    static let nameBytesMax = 32
    static let entryCount = 512

    /// A name of at most `nameBytesMax` bytes in words that overlap: with its length they say all
    /// of it.
    private struct Key: Equatable {
        var first: UInt64 = 0
        var last: UInt64 = 0
        // Of names of more than 16 bytes.
        var second: UInt64 = 0
        var third: UInt64 = 0

        @inline(__always)
        init(_ name: UnsafeRawPointer, _ count: Int) {
            if count >= 8 {
                first = Self.word(name, UInt64.self)
                last = Self.word(name + count - 8, UInt64.self)
                if count > 16 {
                    second = Self.word(name + 8, UInt64.self)
                    third = Self.word(name + count - 16, UInt64.self)
                }
            } else if count >= 4 {
                first = UInt64(Self.word(name, UInt32.self))
                last = UInt64(Self.word(name + count - 4, UInt32.self))
            } else {
                first = UInt64(Self.word(name, UInt8.self))
                second = UInt64(Self.word(name + count / 2, UInt8.self))
                last = UInt64(Self.word(name + count - 1, UInt8.self))
            }
        }

        @inline(__always)
        private static func word<T: BitwiseCopyable>(_ place: UnsafeRawPointer, _: T.Type) -> T {
            place.loadUnaligned(as: T.self)
        }
    }

    private struct Entry {
        var key: Key
        var count: UInt8
        var verdict: NameVerdict
    }

    private let entries: UnsafeMutablePointer<Entry?>

    init() {
        entries = .allocate(capacity: Self.entryCount)
        entries.initialize(repeating: nil, count: Self.entryCount)
    }

    deinit { entries.deallocate() }

    @inline(__always)
    private func entry(_ key: Key, _ count: Int) -> UnsafeMutablePointer<Entry?> {
        let folded =
            (key.first &* 0x9E37_79B9_7F4A_7C15) ^ (key.last &* 0xC2B2_AE3D_27D4_EB4F)
            ^ key.second ^ key.third ^ UInt64(count)
        let mixed = folded &* 0x9E37_79B9_7F4A_7C15
        return entries + Int(mixed &>> 55)
    }

    /// The verdict on the `count` bytes at `name`; nil where it is not known.
    @inline(__always)
    func find(_ name: UnsafeRawPointer, _ count: Int) -> NameVerdict? {
        guard count > 0, count <= Self.nameBytesMax else { return nil }
        let key = Key(name, count)
        guard let entry = entry(key, count).pointee, Int(entry.count) == count, entry.key == key
        else { return nil }
        return entry.verdict
    }

    /// Remembers the verdict on that name, in the place of whatever stood there.
    func keep(_ verdict: NameVerdict, for name: UnsafeRawPointer, _ count: Int) {
        guard count > 0, count <= Self.nameBytesMax else { return }
        let key = Key(name, count)
        entry(key, count).pointee = Entry(key: key, count: UInt8(count), verdict: verdict)
    }
}
