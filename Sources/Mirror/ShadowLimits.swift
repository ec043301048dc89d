/// Every bound of the shadow process that is not a setting, in one place.
public enum ShadowLimits {
    /// A head as the front takes it at most by default, and what the proxy adds to it.
    public static let copyHeadBytesMax = (64 + 4) << 10
    /// The front has counted the fields already: this is only the size of the list.
    public static let copyFieldsMax = 1_024
    /// Longer field names do not leave with a copy.
    public static let fieldNameBytesMax = 256
    /// What stands around the body: the head with all that is added to it and the first chunk's
    /// size line; the last chunk with the trailers.
    public static let prefixBytesMax = copyHeadBytesMax + (8 << 10)
    public static let suffixBytesMax = 16 << 10

    /// Copies that one turn takes off all rings: answers are read in between, and free the
    /// connections that the next copies take. With more, a shadow process that is short of time
    /// sends on ever more connections, none of which is in a cache when its turn comes.
    public static let copiesPerTurnMax = 32
    /// Of the next copy's head, what is brought into the cache ahead.
    public static let prefetchedBytesMax = 512
    /// Copies that come within so long of each other keep the process awake: it looks for the next
    /// by itself, every `pollMs`, for as long. Else it announces sleep. A look costs about as much
    /// as being woken: where copies are further apart, looking costs more.
    public static let awakeMs = 2
    public static let pollMs: Int32 = 1
    /// The longest sleep, and the longest while copies are under way (their timers need the loop).
    public static let sleepMsMax: Int32 = 100
    public static let busySleepMsMax: Int32 = 32

    /// From so many events (answers above all) in a second on, a turn waits until `restEvents` of
    /// them have gathered, as the last `restWindowNs` had them, but never longer than `restNsMax`.
    public static let restEventsPerSecondMin: UInt64 = 4_000
    public static let restEvents: UInt64 = 16
    public static let restNsMax: UInt64 = 1_000_000
    public static let restWindowNs: UInt64 = 10_000_000

    /// A connect takes at most so long, or the shadow's timeout where that is shorter.
    public static let connectTimeoutMsMax = 2_000
    /// A connection that nobody used for so long is closed.
    public static let idleTimeoutMs = 30_000
    /// Idle connections that are kept to one shadow.
    public static let idleConnectionsMax = 64
    /// A connection idle for less than this is used without asking the kernel whether its peer has
    /// gone.
    public static let idleTrustedNs: UInt64 = 100_000_000
    /// What the kernel may hold of one connection's unsent bytes (it doubles the figure): a hung
    /// shadow must not fill its memory.
    public static let sendBufferBytes: Int32 = 256 << 10

    /// One `recv` of answer bytes, and how many of them one connection gets in a turn.
    public static let readBytes = 64 << 10
    public static let readsPerTurnMax = 4
    public static let answerHeadBytesMax = 64 << 10
    public static let answerFieldsMax = 256
    /// Interim answers (1xx) before the final one.
    public static let interimAnswersMax = 16
    /// The longest pause that Retry-After can ask for.
    public static let coolDownMsMax = 3_600_000

    /// Of requests that ask a model: the longest body that is read, and the share of the process's
    /// memory that it may be, as reading takes several times as much.
    public static let bodyBytesMax = 8 << 20
    public static let bodyShareOfMemory = 16
    /// Values of one body: each takes 20 bytes while it is read.
    public static let bodyValuesMax = 1 << 18
    /// Bytes of bodies that one turn reads: after so many, events come first.
    public static let bodyBytesPerTurnMax = 1 << 20
    /// What is held for all copies under way, and the share of the process's memory that it may be.
    public static let heldBytesMax = 64 << 20
    public static let heldShareOfMemory = 4
    /// Longer translated bodies are given back once they are sent, and their captures lack them.
    public static let bodyKeptBytesMax = 64 << 10
    /// The first room for an answer's capture; it doubles from there.
    public static let captureRoomBytes = 8 << 10
}
