/// Every bound of the load generator and the origin, in one place.
public enum LoadLimits {
    /// Connections of one generator or one origin.
    public static let connectionsMax = 16_384
    /// Bytes of one message head, and of what may be kept of a connection between two reads.
    public static let headBytesMax = 64 << 10
    /// Bytes that one `recv` may bring.
    public static let receiveBytes = 64 << 10
    /// Bytes of a body from which on the kernel throws them away instead of copying them here:
    /// with bodies of 1 MiB the copies would make the generator the bottleneck.
    public static let discardBytesMin = 32 << 10
    /// Requests that may wait for a free connection, unless the options say otherwise.
    public static let backlogDefault = 1_000_000
    /// Bytes of one chunk where a body goes out chunked.
    public static let chunkBytes = 4_096
    /// Largest body that an echoing origin keeps.
    public static let echoBytesMax = 1 << 20
    /// Arrivals that an origin keeps, unless the options say otherwise (32 bytes each).
    public static let arrivalsDefault = 1_000_000
    /// How often deadlines, the end and the progress call are looked at, milliseconds.
    public static let housekeepingMs = 20
    /// Time that all connections have to be made before the first request, milliseconds.
    public static let connectMs = 3_000
    /// Pause of a closed loop after a failed connect, milliseconds: so a refusing target does not
    /// spin it.
    public static let connectRetryMs = 10
    /// Decimal digits of a number that is written into each request.
    public static let numberDigits = 12
}
