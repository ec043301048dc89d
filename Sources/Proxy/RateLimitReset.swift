import EventLog

/// When a provider's limits are whole again: Anthropic tells the moment (RFC 3339), OpenAI how long
/// that takes (`1s`, `6m0s`, `12ms`).
enum RateLimitReset {
    /// The other API's words for `value`; nil where it is none of its own.
    static func translated(
        _ value: UnsafeRawBufferPointer, isMoment: Bool, wallMs: UInt64
    ) -> String? {
        if isMoment {
            guard let moment = EventTime.parse(value) else { return nil }
            let left = moment > wallMs ? moment - wallMs : 0
            return left < 1_000 ? "\(left)ms" : "\((left + 999) / 1_000)s"
        }
        return milliseconds(value).map { EventTime.text(wallMs + $0) }
    }

    /// Milliseconds of a duration, its fractions cut; nil for what is none, or longer than a
    /// century.
    static func milliseconds(_ text: UnsafeRawBufferPointer) -> UInt64? {
        var total = 0.0
        var at = 0
        while at < text.count {
            guard let value = number(text, &at), at < text.count else { return nil }
            let unit = text[at]
            at += 1
            switch unit {
            case UInt8(ascii: "d"): total += value * 86_400_000
            case UInt8(ascii: "h"): total += value * 3_600_000
            case UInt8(ascii: "m") where at < text.count && text[at] == UInt8(ascii: "s"):
                at += 1
                total += value
            case UInt8(ascii: "m"): total += value * 60_000
            case UInt8(ascii: "s"): total += value * 1_000
            default: return nil
            }
        }
        return text.isEmpty || total > 3_155_760_000_000 ? nil : UInt64(total)
    }

    /// Digits, at most one point among them.
    private static func number(_ text: UnsafeRawBufferPointer, _ at: inout Int) -> Double? {
        var value = 0.0
        var scale = 0.0
        let start = at
        while at < text.count {
            switch text[at] {
            case 0x30...0x39:
                value = value * 10 + Double(text[at] - 0x30)
                scale *= 10
            case UInt8(ascii: ".") where scale == 0: scale = 1
            default: return at > start ? (scale > 1 ? value / scale : value) : nil
            }
            at += 1
        }
        return nil
    }
}
