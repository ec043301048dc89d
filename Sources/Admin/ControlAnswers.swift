import CoreLoop

extension ControlAnswer {
    /// What was asked is done: one member that says so.
    public static func done(_ status: Int, _ what: String) -> ControlAnswer {
        ControlAnswer(status: status, json: .object([(what, .flag(true))]))
    }

    /// An error in the form that all of the gateway's own errors have.
    public static func failure(_ status: Int, _ code: String, _ message: String) -> ControlAnswer {
        let answer = AdminAnswer.failure(status, code, message)
        return ControlAnswer(status: status, body: answer.body)
    }

    init(status: Int, json: JSONText) {
        self.init(status: status, body: Array((json.written + "\n").utf8))
    }
}

/// Times as they are written in the configuration and in orders: `30m`.
public enum SpanText {
    private static let units = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]

    /// Milliseconds in the largest unit that leaves a whole number.
    public static func text(ms: Int) -> String {
        for (name, scale) in units.reversed() where ms >= scale && ms % scale == 0 {
            return "\(ms / scale)\(name)"
        }
        return "\(ms)ms"
    }

    /// Reads `90s`, `30m`, `2h` or `1d`, milliseconds; nil for anything else.
    public static func milliseconds(_ text: String) -> Int? {
        guard let (name, scale) = units.first(where: { text.hasSuffix($0.0) }) else { return nil }
        let digits = text.dropLast(name.utf8.count)
        guard (1...9).contains(digits.utf8.count),
            digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let number = Int(digits)
        else { return nil }
        return number * scale
    }
}
