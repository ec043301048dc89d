/// Bounds of a head that a configuration may set. Each has its status: a breach is a refusal, never
/// growth.
public struct HeadLimits: Sendable, Equatable {
    /// Longest head, request line and closing empty line included: 431 beyond it, or 414 where
    /// not even the request line ended.
    public var headBytesMax = 64 * 1024
    /// Most field lines of one head or trailer section: 431 beyond it.
    public var fieldsMax = 128
    /// Longest request target: 414 beyond it.
    public var targetBytesMax = 16 * 1024

    public init() {}

    /// Limits other than the defaults. Traps outside 1...`headBytesCeiling` and
    /// 1...`fieldsCeiling`.
    public init(headBytesMax: Int, fieldsMax: Int = 128, targetBytesMax: Int = 16 * 1024) {
        precondition((1...Limits.headBytesCeiling).contains(headBytesMax))
        precondition((1...Limits.fieldsCeiling).contains(fieldsMax))
        precondition(targetBytesMax >= 1)
        self.headBytesMax = headBytesMax
        self.fieldsMax = fieldsMax
        self.targetBytesMax = targetBytesMax
    }
}

/// Bounds of the codec that no configuration changes.
public enum Limits {
    /// Largest `headBytesMax` that may be set: offsets are 32 bits wide.
    public static let headBytesCeiling = 16 * 1024 * 1024
    /// Largest `fieldsMax` that may be set: indices of fields are 16 bits wide.
    public static let fieldsCeiling = 4_096
    /// Longest method token; the longest registered one is UPDATEREDIRECTREF (17). 501 beyond it.
    public static let methodBytesMax = 32
    /// Longest field name: 431 beyond it.
    public static let fieldNameBytesMax = 1_024
    /// Empty lines that are skipped before a request line (RFC 9112 §2.2 asks for at least one).
    public static let leadingLinesMax = 4
    /// Names that Connection may list besides `close`, `keep-alive` and `upgrade`. Each is looked
    /// up among all fields, so that without a bound a head would cost the product of both: 431.
    public static let connectionOptionsMax = 32
    /// Largest Content-Length and chunk size: what still fits a signed 64-bit offset.
    public static let bodyBytesMax = UInt64(Int64.max)
    /// Digits of the largest Content-Length.
    public static let contentLengthDigitsMax = 19
    /// Digits of a chunk size, leading zeros included.
    public static let chunkSizeDigitsMax = 16
    /// Bytes of one chunk's extensions, from the size to the line's end.
    public static let chunkExtensionBytesMax = 256
    /// Bytes of the extensions of all chunks of a message: a flood of them costs the reader work
    /// and carries nothing (CVE-2023-39326, CVE-2024-22019).
    public static let chunkExtensionsBytesMax = 16 * 1024
    /// Bytes of a trailer section: 431 beyond it.
    public static let trailerBytesMax = 8 * 1024
    /// Largest Max-Forwards that is told apart; larger ones count as this.
    public static let maxForwardsCeiling = 1_000_000
}
