/// Every bound of the loop and its parts, in one place.
public enum Limits {
    /// Events that one `epoll_wait` may return.
    public static let eventsPerTurnMax = 256
    /// Connections that one listener may accept in one turn, so that others get theirs.
    public static let acceptsPerTurnMax = 64
    /// Waiting connections that the kernel keeps for one listening socket.
    public static let listenBacklog = 4_096
    /// Slots of one slab; a token has room for 2^24 of them.
    public static let slabSlotsMax = 1 << 24
    /// Buckets of the timer wheel and the milliseconds of one: together 131 s, longer times go
    /// round again.
    public static let timerBuckets = 4_096
    public static let timerTickMs = 32
    /// Timers that one turn may fire; the rest come with the next turn.
    public static let timersPerTurnMax = 1_024
    /// The lowest nice value there is: who stands back with it keeps its own.
    public static let niceMin = -20
    /// The slice of time of processes that stand back, of the kernel's 0.1 to 100 ms. Its own slice
    /// is 3 ms and less.
    public static let longSliceNs: UInt64 = 10_000_000
    /// Bytes of one line of the gateway's own log, newline included: PIPE_BUF, so that what several
    /// processes write into one pipe is never mixed.
    public static let logLineBytesMax = 4_096
    /// Events of one kind that are said within a window; the rest are counted.
    public static let logBurstMax = 5
    public static let logWindowMs = 10_000
    /// Kinds of events that are counted at one time; those beyond are all said.
    public static let logKindsMax = 64
}
