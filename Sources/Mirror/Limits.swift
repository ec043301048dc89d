/// Every bound of the mirror that is not a setting, in one place.
public enum MirrorLimits {
    /// Shadows of one configuration, and so lanes of one route.
    public static let shadowsMax = 8
    /// Slices of one copy: 1 MiB of body in 16 KiB blocks, twice over for bodies that come in small
    /// pieces.
    public static let slicesPerCopyMax = 512
    /// Slices that fit in the first ring entry of a copy, and in each further one.
    public static let slicesInFirstEntry = 2
    public static let slicesPerEntry = 5
    /// Returns that a worker takes back in one turn; the rest come with the next.
    public static let returnsPerTurnMax = 512
    /// A sleeping shadow process is woken at the end of the turn behind the one that pushed a copy,
    /// which begins within so many milliseconds.
    public static let knockDelayMs: Int32 = 1
}
