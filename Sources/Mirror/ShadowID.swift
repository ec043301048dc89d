public import CoreLoop
public import HTTP

/// The `shadow_id` of a copy: a UUID of version 7 (RFC 9562 §5.7), 48 bits of milliseconds since
/// 1970, then 74 random ones. Sorts by time, tells nothing else, and is no secret.
public struct ShadowID: BitwiseCopyable, Sendable, Equatable {
    /// Characters of the text form.
    public static let textBytes = UUIDv7.textBytes

    /// Its first and last eight bytes, as big-endian numbers: time, version and 12 random bits;
    /// then the variant and 62 random bits.
    public var high: UInt64
    public var low: UInt64

    /// An id of these halves, which are not checked.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An id for `wallMs` milliseconds since 1970.
    public init(wallMs: UInt64, random: inout FastRandom) {
        (high, low) = UUIDv7.make(milliseconds: wallMs, random.next(), random.next())
    }

    /// The id of the copy's span in a trace: its random bits, never 0.
    public var spanID: UInt64 { low << 2 | high & 0x3 | 1 << 63 }

    /// Appends the 36 characters of the text form, in lower case.
    public func append(to writer: inout HeadWriter) {
        UUIDv7.append(high, low, to: &writer)
    }
}
