import CLinux

/// Points of the wall clock as people and log readers take them.
public enum TimeText {
    /// `2026-11-27T19:03:17.042Z` (RFC 3339) for milliseconds since 1970.
    public static func utc(_ wallMs: UInt64) -> String {
        var seconds = time_t(wallMs / 1_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ n: Int32) -> String { n < 10 ? "0\(n)" : "\(n)" }
        let ms = wallMs % 1_000
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))."
            + (ms < 10 ? "00\(ms)Z" : ms < 100 ? "0\(ms)Z" : "\(ms)Z")
    }
}
