/// Every bound of the event log that is not a setting, in one place.
public enum Limits {
    /// Longest record as a producer hands it over, and its line with the frame and the newline.
    public static let recordBytesMax = 1 << 20
    public static let lineBytesMax = recordBytesMax + frameBytesMax
    /// What the frame of a line takes at most: its number, the hash before it, the newline.
    static let frameBytesMax = 128
    /// Text of a prompt or an answer that one record keeps; what is longer is cut and marked.
    public static let textBytesMax = 256 << 10
    /// Room of one ring between a producer and the writer: whole records wait in it.
    public static let ringBytes = 4 << 20
    /// Records that the writer takes off one ring before it looks at the next one.
    public static let recordsPerTurnMax = 1_024
    /// Of them, those that events have yet to be made of: each is work of some 0.1 ms, and what a
    /// turn has taken is lost where the process is killed before its write.
    static let madePerTurnMax = 8
    /// Lines that wait for the disk; at this bound records are dropped and counted.
    public static let pendingBytesMax = 8 << 20
    /// How soon a write that failed is tried again.
    static let retryMs: UInt64 = 250
    /// How often expired segments are looked for, besides each start and each new segment.
    static let retentionEveryMs: UInt64 = 3_600_000
    /// A wall clock that runs ahead of the monotonic one by more than this has jumped: nothing is
    /// removed on its word.
    static let clockJumpMsMax: UInt64 = 3_600_000
    /// Segments that one retention run removes; the rest go with the next one.
    static let segmentsPerRemovalMax = 32
    /// Sizes that a segment may be given, and days that it may be kept.
    public static let segmentBytes = 64 << 10...4 << 30
    public static let retentionDays = 1...36_500
    /// What a reader takes from the disk at once: it stays in the processor's cache.
    static let readBytes = 256 << 10
    /// Output that is gathered before it is written.
    static let outputBytes = 256 << 10
    /// How often a reader that follows the log looks for more.
    static let followMs: Int32 = 100
    /// Nesting of a record's objects and lists that readers look into.
    static let nestingMax = 32
}
