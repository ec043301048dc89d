/// UUIDs of version 7 (RFC 9562 §5.7): 48 bits of milliseconds, the rest random.
public enum UUIDv7 {
    /// Characters of the text form.
    public static let textBytes = 36

    /// The UUID of a moment, `milliseconds` since 1970, with the random bits of `a` and `b`.
    @inlinable
    public static func make(milliseconds: UInt64, _ a: UInt64, _ b: UInt64) -> (UInt64, UInt64) {
        (milliseconds << 16 | 0x7000 | a >> 52, 0x8000_0000_0000_0000 | b >> 2)
    }

    /// Appends the 36 characters of the UUID with these two halves, in lower case.
    public static func append(_ high: UInt64, _ low: UInt64, to writer: inout HeadWriter) {
        let words = (
            digits(high >> 32), digits(high & 0xFFFF_FFFF), digits(low >> 32),
            digits(low & 0xFFFF_FFFF)
        )
        var text = InlineArray<36, UInt8>(repeating: 0x2D)
        withUnsafeMutableBytes(of: &text) { bytes in
            bytes.storeBytes(of: words.0, toByteOffset: 0, as: UInt64.self)
            bytes.storeBytes(
                of: UInt32(truncatingIfNeeded: words.1), toByteOffset: 9, as: UInt32.self)
            bytes.storeBytes(
                of: UInt32(truncatingIfNeeded: words.1 >> 32), toByteOffset: 14, as: UInt32.self)
            bytes.storeBytes(
                of: UInt32(truncatingIfNeeded: words.2), toByteOffset: 19, as: UInt32.self)
            bytes.storeBytes(
                of: UInt32(truncatingIfNeeded: words.2 >> 32), toByteOffset: 24, as: UInt32.self)
            bytes.storeBytes(of: words.3, toByteOffset: 28, as: UInt64.self)
            writer.append(UnsafeRawBufferPointer(bytes))
        }
    }

    /// The eight lower-case hexadecimal digits of 32 bits, the first in the lowest byte: all at
    /// once, in the bytes of one word.
    private static func digits(_ value: UInt64) -> UInt64 {
        var x = value
        x = (x | x << 16) & 0x0000_FFFF_0000_FFFF
        x = (x | x << 8) & 0x00FF_00FF_00FF_00FF
        x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F
        let isLetter = (x &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
        return (x &+ 0x3030_3030_3030_3030 &+ isLetter &* 0x27).byteSwapped
    }
}
