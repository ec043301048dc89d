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
}
