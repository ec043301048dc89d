/// Every bound of the admin process, in one place.
public enum AdminLimits {
    /// Connections at one time. A further one takes the place of the one that has waited longest
    /// for a whole request, so that whoever holds all of them keeps nobody out; where all have
    /// work, it is closed.
    public static let connectionsMax = 64
    /// Longest request head, its field lines and its target: 431 or 414 beyond them.
    public static let headBytesMax = 8 << 10
    public static let fieldsMax = 64
    public static let targetBytesMax = 2 << 10
    /// From a request's first byte (or from the accept) to the end of its head; then it is cut.
    public static let headTimeoutMs = 5_000
    /// How long a connection may wait between two requests.
    public static let idleTimeoutMs = 60_000
    /// From the start of an answer to its last byte in the kernel; a slower reader is cut.
    public static let writeTimeoutMs = 10_000
    /// How long an admin process that is to end still answers what was asked.
    public static let finishMs = 1_000
    /// Milliseconds and bytes that are read and thrown away before a close, so that a reset does
    /// not overtake the answer.
    public static let lingerMs = 1_000
    public static let lingerBytesMax = 64 << 10
    /// Answer bytes that may wait for slow readers, over all connections; beyond it, 503.
    public static let pendingBytesMax = 32 << 20
    /// What the kernel may hold of one answer.
    static let sendBufferBytes: Int32 = 256 << 10
    /// After running out of descriptors, accepting rests this long.
    public static let acceptPauseMs = 100
    /// Longest wait of the loop, so that the admin process's own heartbeat stays fresh.
    public static let turnMsMax = 1_000
    /// A worker whose heartbeat is older than this is not ready: it wakes at least each second.
    public static let heartbeatMsMax: UInt64 = 5_000
    /// Samples on either side below which no P99 is told: fewer than ten would lie above it.
    public static let meterSamplesMin: UInt64 = 1_000
    /// Times that one shadow's counters are read until they agree with each other.
    public static let readingAttemptsMax = 8
    /// Longest content of a POST, 413 beyond it, and the values in it.
    public static let bodyBytesMax = 4 << 10
    public static let bodyValuesMax = 64
    /// What a connection keeps of what its client sends.
    public static let inputBytesMax = headBytesMax + bodyBytesMax
    /// How long a client's order may wait for the supervisor's answer; 504 beyond it.
    public static let controlTimeoutMs = 60_000
    /// Orders that may wait for the supervisor at one time; 503 beyond them.
    public static let controlSlots = 8
    /// Longest answer of the supervisor.
    public static let controlBodyBytesMax = 64 << 10
    /// Findings of a refused configuration that are told: they fit into such an answer.
    public static let findingsMax = 64
    /// How long the supervisor lets a mailbox rest between two looks, so that an admin process gone
    /// wild does not keep it busy.
    public static let controlRestMs = 5
    /// Endpoints that the doctor connects to at one time, how long one address may take, and how
    /// long the look-up of all names may.
    static let probesMax = 128
    static let probeTimeoutMs = 3_000
    static let doctorLookUpMs = 10_000
    /// Room on a disk below which the doctor warns, bytes.
    static let freeBytesMin: UInt64 = 256 << 20
    /// Largest answer that the status client reads, and its head.
    public static let statusBytesMax = 16 << 20
}
