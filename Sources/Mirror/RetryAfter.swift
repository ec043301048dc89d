import HTTP

/// The value of Retry-After (RFC 9110 §10.2.3).
enum RetryAfter {
    /// The pause that it asks for, milliseconds; 0 where it is over already or cannot be read.
    /// Large ones are cut to `ShadowLimits.coolDownMsMax`.
    static func milliseconds(_ value: UnsafeRawBufferPointer, wallMs: UInt64) -> Int {
        if let unixSeconds = HTTPDate.parse(value) {
            let (pause, overflow) = (unixSeconds &* 1_000).subtractingReportingOverflow(
                Int64(wallMs))
            guard !overflow, pause > 0 else { return 0 }
            return Int(min(pause, Int64(ShadowLimits.coolDownMsMax)))
        }
        guard !value.isEmpty else { return 0 }
        var seconds = 0
        for byte in value {
            guard byte &- 0x30 < 10 else { return 0 }
            seconds = min(seconds * 10 + Int(byte - 0x30), ShadowLimits.coolDownMsMax)
        }
        return min(seconds * 1_000, ShadowLimits.coolDownMsMax)
    }
}
