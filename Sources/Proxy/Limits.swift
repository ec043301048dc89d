/// Every bound of the proxy that is not a setting, in one place.
public enum ProxyLimits {
    /// Buffers that one gathering write moves.
    public static let vectorsMax = 64
    /// Blocks that one read of a body fills: 512 KiB. With a quarter of it, 1 MiB uploads cost a
    /// fifth more.
    public static let relayBlocks = 32
    /// Bytes of one read where nobody says how many are to come.
    public static let relayBytesUnknown: UInt64 = 128 << 10
    /// Blocks that one rewritten head may fill.
    public static let headPartsMax = 64
    /// Reads that one connection may do in one turn before the others get theirs.
    public static let relayRoundsPerTurnMax = 2
    /// The size line of a chunk that the gateway looks at: 13 digits and CRLF.
    static let chunkLineBytesMax = 15
    /// White space in front of an answer's first member that is waited for.
    static let annotationLookMax = 64
    /// Reads of a client's heads in one turn: over TLS each may bring few bytes and cost as much as
    /// a large one.
    public static let headReadsPerTurnMax = 8
    /// Bytes that may wait for a peer that reads slowly; then we stop reading for it.
    public static let queuedBytesMax = 512 << 10
    /// And at most this share of the blocks that are free: slow readers in any number leave some to
    /// others.
    public static let queuedFreeShare = 16
    /// Body bytes that have to come (or go) within `body_timeout` for the deadline to move on.
    public static let progressBytesMin = 4_096
    /// Body bytes of a request that is held until it is whole, for policies or translation: 413
    /// beyond them.
    public static let heldBodyBytesMax = 10 << 20
    /// JSON values of a held request, names of members included: reading a million takes long
    /// enough for the worker's other clients to notice. A call for embeddings has 300,000 at most.
    static let heldValuesMax = 1 << 19
    /// Share of the blocks (one of so many) that held requests leave to everything else: 503 beyond
    /// them.
    public static let heldReserveShare = 4
    /// Bytes of an answer that is translated when it is whole, and of all of them in one worker:
    /// 502 and 503 beyond them.
    public static let translatedAnswerBytesMax = 10 << 20
    public static let translatedBytesMax = 64 << 20
    /// Field lines of a target's answer that its client gets in its own language.
    static let translatedFieldBytesMax = 2_048
    /// How long the end of a target's framing is waited for once its stream is over.
    static let translatedEndMs = 1_000
    /// Interim answers (1xx) to one request; more are a 502.
    public static let interimAnswersMax = 16
    /// Bytes and milliseconds of a refused request that are read and thrown away before the close,
    /// so that a reset does not overtake the answer.
    public static let lingerBytesMax = 256 << 10
    public static let lingerMs = 2_000
    /// How long idle connections of a worker that another generation has replaced may still bring a
    /// request.
    public static let retireGraceMs = 2_000
    /// An idle pooled connection is closed after this long.
    public static let poolIdleMs = 60_000
    /// Idle connections kept for one target and worker.
    public static let poolIdleMax = 1_024
    /// Heads larger than a block, read at one time; more are answered 503.
    public static let largeHeadsMax = 32
    /// What the proxy may add to a head: Via, X-Forwarded-*, X-Request-Id, framing, and a path
    /// prefix.
    public static let headGrowthMax = 1_024
    /// Places in queues for each block and for each connection: a head that waits for its upstream,
    /// is kept for a retry and is lent to a copy has three, and shares its block with others.
    static let slicesEach = 4
    /// Share of the blocks that stays free for reading while unsent requests are kept for a retry.
    public static let retryReserveShare = 4
    /// Answer bytes that are copied behind the head instead of being sent with a gathering write.
    public static let copiedBodyMax = 4_096
    /// Wait of the loop while copies are out, milliseconds: their returns are looked for.
    public static let returnPollMs: Int32 = 10
    /// After running out of descriptors, accepting rests this long before it looks again.
    public static let acceptPauseMs = 100
    /// Of a limit of open files that is too low for all connections, the share (one of so many)
    /// that clients leave to connections to targets.
    static let descriptorReserveShare = 4

    /// Descriptors that a worker of so many connections may want: one for each client and one for
    /// its upstream, and its own.
    public static func descriptors(connections: Int) -> Int { 2 * connections + 256 }

    /// The number from which on a client's descriptor has accepting rest: the kernel gives the
    /// lowest that is free.
    static func clientDescriptorMax(limit: Int, connections: Int) -> Int32 {
        if limit >= descriptors(connections: connections) { return .max }
        return Int32(clamping: limit - limit / descriptorReserveShare)
    }
    /// Blocks are given back to the kernel this often.
    public static let trimIntervalMs = 250
    /// Orders about mirroring that hold, or come back when others end.
    public static let mirrorOrdersMax = 64
    /// Exchanges with LLM targets that are kept for events at one time, and the share of the blocks
    /// that they may hold together.
    static let capturesMax = 4_096
    public static let captureBlocksShare = 4
    /// Lines about failed handshakes with targets are this far apart.
    public static let tlsFaultIntervalMs = 10_000
}
