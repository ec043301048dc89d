import CLinux

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
    static let nameBytesMax = 48
    static let entryCount = 512

    private typealias Key = (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    private struct Entry {
        var key: Key = (0, 0, 0, 0, 0, 0)
        /// 0 is an empty entry: no name has no bytes.
        var count: UInt8 = 0
        var verdict = NameVerdict.drop
    }

    private let entries: UnsafeMutablePointer<Entry>

    init() {
        entries = .allocate(capacity: Self.entryCount)
        entries.initialize(repeating: Entry(), count: Self.entryCount)
    }

    deinit { entries.deallocate() }

    private static func key(_ name: UnsafeRawBufferPointer) -> Key {
        var key: Key = (0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &key) {
            _ = memcpy($0.baseAddress!, name.baseAddress!, name.count)
        }
        return key
    }

    private func entry(_ key: Key, _ count: Int) -> UnsafeMutablePointer<Entry> {
        let folded =
            (key.0 &* 0x9E37_79B9_7F4A_7C15) ^ (key.1 &* 0xC2B2_AE3D_27D4_EB4F) ^ key.2 ^ key.3
            ^ key.4
            ^ key.5 ^ UInt64(count)
        let mixed = folded &* 0x9E37_79B9_7F4A_7C15
        return entries + Int(mixed >> 55)
    }

    /// The verdict on `name`; nil where it is not known.
    func find(_ name: UnsafeRawBufferPointer) -> NameVerdict? {
        guard name.count > 0, name.count <= Self.nameBytesMax else { return nil }
        let key = Self.key(name)
        let entry = entry(key, name.count)
        guard Int(entry.pointee.count) == name.count, entry.pointee.key.0 == key.0,
            entry.pointee.key.1 == key.1, entry.pointee.key.2 == key.2,
            entry.pointee.key.3 == key.3,
            entry.pointee.key.4 == key.4, entry.pointee.key.5 == key.5
        else { return nil }
        return entry.pointee.verdict
    }

    /// Remembers the verdict on `name`, in the place of whatever stood there.
    func keep(_ verdict: NameVerdict, for name: UnsafeRawBufferPointer) {
        guard name.count > 0, name.count <= Self.nameBytesMax else { return }
        let key = Self.key(name)
        entry(key, name.count).pointee = Entry(
            key: key, count: UInt8(name.count), verdict: verdict)
    }
}
