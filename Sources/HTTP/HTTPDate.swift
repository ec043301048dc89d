/// Dates as HTTP writes them, `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
public enum HTTPDate {
    /// Bytes of every IMF-fixdate.
    public static let bytesCount = 29
    /// The last second that four digits of a year can write: 9999-12-31 23:59:59.
    public static let secondsMax: Int64 = 253_402_300_799

    private static let days: StaticString = "SunMonTueWedThuFriSat"
    private static let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"

    /// Appends the date of `unixSeconds`, which is held within 1970 to 9999.
    public static func append(_ unixSeconds: Int64, to writer: inout HeadWriter) {
        let seconds = min(max(unixSeconds, 0), secondsMax)
        let day = seconds / 86_400
        let time = UInt64(seconds % 86_400)
        let date = civil(day)
        // 1970-01-01 was a Thursday.
        append(days, Int((day + 4) % 7), to: &writer)
        writer.append(", ")
        writer.append(decimal: UInt64(date.day), digits: 2)
        writer.append(byte: 0x20)
        append(months, date.month - 1, to: &writer)
        writer.append(byte: 0x20)
        writer.append(decimal: UInt64(date.year), digits: 4)
        writer.append(byte: 0x20)
        writer.append(decimal: time / 3_600, digits: 2)
        writer.append(byte: 0x3A)
        writer.append(decimal: time / 60 % 60, digits: 2)
        writer.append(byte: 0x3A)
        writer.append(decimal: time % 60, digits: 2)
        writer.append(" GMT")
    }

    private static func append(_ names: StaticString, _ index: Int, to writer: inout HeadWriter) {
        writer.append(UnsafeRawBufferPointer(start: names.utf8Start + 3 * index, count: 3))
    }

    /// The second that `bytes` name; nil where they are no IMF-fixdate from 1970 on, or a date that
    /// no calendar has. The name of the day is not compared with the date; a leap second counts as
    /// the one before it.
    public static func parse(_ bytes: UnsafeRawBufferPointer) -> Int64? {
        guard bytes.count == bytesCount else { return nil }
        let shape: StaticString = "www, dd mmm dddd dd:dd:dd GMT"
        for index in 0..<bytesCount {
            let allowed =
                switch shape.utf8Start[index] {
                case 0x64: Bytes.isDigit(bytes[index])
                case 0x77, 0x6D: true
                default: bytes[index] == shape.utf8Start[index]
                }
            guard allowed else { return nil }
        }
        guard indexOfName(days, 7, bytes, at: 0) != nil,
            let month = indexOfName(months, 12, bytes, at: 8)
        else { return nil }
        let day = number(bytes, 5, 2)
        let year = number(bytes, 12, 4)
        let hour = number(bytes, 17, 2)
        let minute = number(bytes, 20, 2)
        let second = min(number(bytes, 23, 2), 59)
        guard year >= 1970, day >= 1, hour <= 23, minute <= 59, number(bytes, 23, 2) <= 60 else {
            return nil
        }
        let dayNumber = daysSince1970(year: year, month: month + 1, day: day)
        // A 30th of February comes back as another date.
        let date = civil(Int64(dayNumber))
        guard date.day == day, date.month == month + 1 else { return nil }
        return Int64(dayNumber * 86_400 + hour * 3_600 + minute * 60 + second)
    }

    private static func indexOfName(
        _ names: StaticString, _ count: Int, _ bytes: UnsafeRawBufferPointer, at offset: Int
    ) -> Int? {
        (0..<count).first { index in
            (0..<3).allSatisfy { names.utf8Start[3 * index + $0] == bytes[offset + $0] }
        }
    }

    private static func number(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> Int {
        var value = 0
        for index in start..<(start + count) { value = value * 10 + Int(bytes[index] - 0x30) }
        return value
    }

    // Both ways by Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms": years start in
    // March, so that the leap day is a year's last; 719,468 days lie between 0000-03-01 and 1970.
    private static func civil(_ day: Int64) -> (year: Int, month: Int, day: Int) {
        let shifted = Int(day) + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra =
            (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }

    private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted % 400
        let monthFromMarch = month > 2 ? month - 3 : month + 9
        let dayOfYear = (153 * monthFromMarch + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }
}
