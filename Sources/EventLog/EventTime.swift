import CLinux
import CoreLoop

/// Moments as records have them: RFC 3339, UTC, milliseconds: `2026-11-27T19:05:00.123Z`.
public enum EventTime {
    /// Bytes of the written form.
    public static let textBytes = 24
    static let dayMs: UInt64 = 86_400_000
    /// The last moment that four digits of a year can write: 9999-12-31T23:59:59.999Z.
    static let msMax: UInt64 = 253_402_300_799_999

    /// Writes the 24 bytes of `ms` since 1970; what lies behind the year 9999 is held at its end.
    static func write(_ ms: UInt64, to target: UnsafeMutableRawPointer) {
        let ms = min(ms, msMax)
        var seconds = time_t(ms / 1_000)
        var date = tm()
        gmtime_r(&seconds, &date)
        let bytes = target.assumingMemoryBound(to: UInt8.self)
        func put(_ value: Int32, _ digits: Int, at place: Int, then byte: UInt8) {
            var rest = value
            for index in stride(from: place + digits - 1, through: place, by: -1) {
                bytes[index] = 0x30 + UInt8(rest % 10)
                rest /= 10
            }
            bytes[place + digits] = byte
        }
        put(date.tm_year + 1_900, 4, at: 0, then: UInt8(ascii: "-"))
        put(date.tm_mon + 1, 2, at: 5, then: UInt8(ascii: "-"))
        put(date.tm_mday, 2, at: 8, then: UInt8(ascii: "T"))
        put(date.tm_hour, 2, at: 11, then: UInt8(ascii: ":"))
        put(date.tm_min, 2, at: 14, then: UInt8(ascii: ":"))
        put(date.tm_sec, 2, at: 17, then: UInt8(ascii: "."))
        put(Int32(ms % 1_000), 3, at: 20, then: UInt8(ascii: "Z"))
    }

    /// The written form of `ms` since 1970.
    public static func text(_ ms: UInt64) -> String {
        String(unsafeUninitializedCapacity: textBytes) {
            write(ms, to: UnsafeMutableRawPointer($0.baseAddress!))
            return textBytes
        }
    }

    /// Milliseconds since 1970 of an RFC 3339 date and time, with any fraction and offset, or of a
    /// date alone; nil for anything else, or a moment before 1970.
    ///
    /// A leap second counts as the one before it; digits behind milliseconds are dropped.
    public static func parse(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        func number(_ start: Int, _ count: Int) -> Int? {
            guard start + count <= bytes.count else { return nil }
            var value = 0
            for index in start..<start + count {
                guard (0x30...0x39).contains(bytes[index]) else { return nil }
                value = value * 10 + Int(bytes[index] - 0x30)
            }
            return value
        }
        func byte(_ index: Int) -> UInt8 { index < bytes.count ? bytes[index] : 0 }
        guard let year = number(0, 4), let month = number(5, 2), let day = number(8, 2),
            byte(4) == UInt8(ascii: "-"), byte(7) == UInt8(ascii: "-")
        else { return nil }
        guard let midnight = midnight(year, month, day) else { return nil }
        if bytes.count == 10 { return midnight }
        guard let hour = number(11, 2), let minute = number(14, 2), let second = number(17, 2),
            [UInt8(ascii: "T"), UInt8(ascii: "t"), 0x20].contains(byte(10)),
            byte(13) == UInt8(ascii: ":"), byte(16) == UInt8(ascii: ":"),
            hour < 24, minute < 60, second <= 60
        else { return nil }
        var at = 19
        var fraction: UInt64 = 0
        if byte(at) == UInt8(ascii: ".") {
            at += 1
            let first = at
            while (0x30...0x39).contains(byte(at)) {
                if at - first < 3 { fraction = fraction * 10 + UInt64(byte(at) - 0x30) }
                at += 1
            }
            guard at > first else { return nil }
            for _ in min(at - first, 3)..<3 { fraction *= 10 }
        }
        let time = UInt64((hour * 60 + minute) * 60 + min(second, 59)) * 1_000 + fraction
        switch byte(at) {
        case UInt8(ascii: "Z"), UInt8(ascii: "z"):
            return at + 1 == bytes.count ? midnight + time : nil
        case let sign where sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"):
            guard at + 6 == bytes.count, byte(at + 3) == UInt8(ascii: ":"),
                let hours = number(at + 1, 2), let minutes = number(at + 4, 2),
                hours < 24, minutes < 60
            else { return nil }
            let offset = UInt64(hours * 60 + minutes) * 60_000
            if sign == UInt8(ascii: "-") { return midnight + time + offset }
            return midnight + time >= offset ? midnight + time - offset : nil
        default: return nil
        }
    }

    /// Milliseconds of the first moment of a day; nil where the calendar has no such day.
    private static func midnight(_ year: Int, _ month: Int, _ day: Int) -> UInt64? {
        var date = tm()
        date.tm_year = Int32(year - 1_900)
        date.tm_mon = Int32(month - 1)
        date.tm_mday = Int32(day)
        let seconds = timegm(&date)
        // A 30th of February comes back as another date.
        guard seconds >= 0, date.tm_mon == Int32(month - 1), date.tm_mday == Int32(day) else {
            return nil
        }
        return UInt64(seconds) * 1_000
    }

    /// The day `number` days after 1970-01-01, as eight digits: 20261127.
    static func dayText(_ number: Int) -> String {
        String(text(UInt64(number) * dayMs).prefix(10).filter { $0 != "-" })
    }

    /// The day that eight digits name, counted from 1970-01-01.
    static func day(_ digits: Substring) -> Int? {
        guard digits.utf8.count == 8, let number = Int(digits), digits.first != "+" else {
            return nil
        }
        return midnight(number / 10_000, number / 100 % 100, number % 100).map {
            Int($0 / dayMs)
        }
    }

    /// A moment as people name it: RFC 3339, a date, or a time back from `now` (`90s`, `5m`, `2h`,
    /// `7d`); nil for anything else.
    public static func parse(_ text: String, now: UInt64) -> UInt64? {
        let units: [Character: UInt64] = [
            "s": 1_000, "m": 60_000, "h": 3_600_000, "d": dayMs, "w": 7 * dayMs,
        ]
        if let unit = text.last.flatMap({ units[$0] }), let count = UInt64(text.dropLast()),
            text.utf8.first != UInt8(ascii: "+")
        {
            let (back, overflow) = count.multipliedReportingOverflow(by: unit)
            return overflow || back > now ? 0 : now - back
        }
        var copy = text
        return copy.withUTF8 { parse(UnsafeRawBufferPointer($0)) }
    }
}

/// Both clocks of one turn: the monotonic one for intervals, the wall clock for what is written.
public struct LogTime: Sendable {
    /// Milliseconds of the monotonic clock, and of the wall clock since 1970, UTC.
    public var monotonicMs: UInt64
    public var wallMs: UInt64

    /// A moment, for tests.
    public init(monotonicMs: UInt64, wallMs: UInt64) {
        self.monotonicMs = monotonicMs
        self.wallMs = wallMs
    }

    /// This very moment.
    public static func now() -> LogTime {
        LogTime(monotonicMs: Instant.now().milliseconds, wallMs: WallClock.milliseconds())
    }

    /// The day, UTC, counted from 1970-01-01.
    var day: Int { Int(wallMs / EventTime.dayMs) }
}
