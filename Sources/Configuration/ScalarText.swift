/// What became of a number's text.
enum NumberOutcome<Value> {
    case value(Value)
    /// It has the form, and more digits than the type holds.
    case tooLarge
    /// It has not the form; what to write instead, where that can be guessed.
    case malformed(suggestion: String?)
}

/// Whole numbers in decimal: `0`, `42`, `-7`.
enum IntegerText {
    static func read(_ text: String) -> NumberOutcome<Int> {
        let digits = text.first == "-" ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else {
            return .malformed(suggestion: nil)
        }
        // YAML 1.1 reads 010 as eight, YAML 1.2 as ten.
        if digits.count > 1, digits.first == "0" {
            return .malformed(suggestion: "write it without the leading zero")
        }
        guard let value = Int(text) else { return .tooLarge }
        return .value(value)
    }
}

/// Decimal fractions: `200`, `0.5`, `1e-3`. No infinities, no hexadecimal.
enum DecimalText {
    static func read(_ text: String) -> NumberOutcome<Double> {
        let allowed = text.utf8.allSatisfy {
            ($0 >= 0x30 && $0 <= 0x39) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
                || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "e") || $0 == UInt8(ascii: "E")
        }
        guard allowed, text.utf8.contains(where: { $0 >= 0x30 && $0 <= 0x39 }),
            let value = Double(text)
        else {
            return .malformed(suggestion: nil)
        }
        return value.isFinite ? .value(value) : .tooLarge
    }

    /// The shortest text that reads back as `value`, without `.0`.
    static func text(_ value: Double) -> String {
        let text = "\(value)"
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }
}

/// Shares of one: `0.1`, or `10%`.
enum RateText {
    static func read(_ text: String) -> NumberOutcome<Double> {
        guard text.hasSuffix("%") else { return DecimalText.read(text) }
        let number = text.dropLast().last == " " ? text.dropLast(2) : text.dropLast()
        return switch DecimalText.read(String(number)) {
        case .value(let percent): .value(percent / 100)
        case let other: other
        }
    }
}

/// Byte counts: `64KiB`, `1 MiB`, `4096`.
enum SizeText {
    private static let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]

    static func read(_ text: String) -> NumberOutcome<Int> {
        guard let (number, unit) = splitUnit(text) else { return .malformed(suggestion: nil) }
        if unit.isEmpty { return IntegerText.read(number) }
        guard let scale = units.first(where: { $0.0 == unit })?.1 else {
            return .malformed(suggestion: meant(number, unit))
        }
        return scaled(number, by: scale)
    }

    // `64KB` and `64k` are 64,000 to some and 65,536 to others.
    private static func meant(_ number: String, _ unit: String) -> String? {
        switch unit.lowercased() {
        case "k", "kb", "ki", "kib": "write \(number)KiB"
        case "m", "mb", "mi", "mib": "write \(number)MiB"
        case "g", "gb", "gi", "gib": "write \(number)GiB"
        case "b", "byte", "bytes": "write \(number)"
        default: nil
        }
    }

    /// In the largest unit that leaves a whole number.
    static func text(_ bytes: Int) -> String {
        let unit = units.reversed().first { bytes >= $0.1 && bytes % $0.1 == 0 } ?? units[0]
        return unit.1 == 1 ? "\(bytes)" : "\(bytes / unit.1)\(unit.0)"
    }
}

/// Times: `500ms`, `10s`, `2m`, `1h`; in milliseconds.
enum DurationText {
    private static let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]

    /// `plainIsMs`: a number without a unit counts milliseconds, because the key's name says so.
    static func read(_ text: String, plainIsMs: Bool) -> NumberOutcome<Int> {
        guard let (number, unit) = splitUnit(text) else { return .malformed(suggestion: nil) }
        if unit.isEmpty {
            if plainIsMs || number == "0" { return IntegerText.read(number) }
            return .malformed(suggestion: "write \(number)s or \(number)ms")
        }
        guard let scale = units.first(where: { $0.0 == unit })?.1 else {
            return .malformed(suggestion: meant(number, unit))
        }
        return scaled(number, by: scale)
    }

    private static func meant(_ number: String, _ unit: String) -> String? {
        switch unit.lowercased() {
        case "ms", "msec", "millis", "milliseconds": "write \(number)ms"
        case "s", "sec", "secs", "second", "seconds": "write \(number)s"
        case "m", "min", "mins", "minute", "minutes": "write \(number)m"
        case "h", "hour", "hours": "write \(number)h"
        default: nil
        }
    }

    static func text(_ milliseconds: Int) -> String {
        let unit =
            units.reversed().first { milliseconds >= $0.1 && milliseconds % $0.1 == 0 } ?? units[1]
        return "\(milliseconds / unit.1)\(unit.0)"
    }
}

/// Number and unit; one space may stand between them. Nil where it does not begin with a number.
private func splitUnit(_ text: String) -> (number: String, unit: String)? {
    let number = text.prefix { $0 == "-" || ($0 >= "0" && $0 <= "9") }
    guard !number.isEmpty else { return nil }
    var unit = text[number.endIndex...]
    if unit.first == " " {
        unit = unit.dropFirst()
        guard !unit.isEmpty else { return nil }
    }
    return (String(number), String(unit))
}

private func scaled(_ number: String, by scale: Int) -> NumberOutcome<Int> {
    switch IntegerText.read(number) {
    case .value(let count):
        let (product, overflow) = count.multipliedReportingOverflow(by: scale)
        return overflow ? .tooLarge : .value(product)
    case let other: return other
    }
}
