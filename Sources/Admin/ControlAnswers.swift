public import Configuration
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

    /// The new configuration serves: it is the gateway's `generation`th, and changing took
    /// `tookMs`.
    public static func reloaded(generation: Int, tookMs: Int) -> ControlAnswer {
        ControlAnswer(
            status: 200,
            json: .object([
                ("reloaded", .flag(true)), ("generation", .integer(UInt64(generation))),
                ("took_ms", .integer(UInt64(tookMs))),
            ]))
    }

    /// The configuration in `file` cannot be taken: nothing has changed. At most
    /// `AdminLimits.findingsMax` findings are told.
    public static func invalid(file: String, _ findings: [Diagnostic]) -> ControlAnswer {
        let list = findings.prefix(AdminLimits.findingsMax).map { finding -> JSONText in
            .object([
                ("path", .text(finding.path)), ("line", .integer(UInt64(max(0, finding.line)))),
                ("column", .integer(UInt64(max(0, finding.column)))),
                ("code", .text(finding.code.rawValue)),
                ("severity", .text(finding.severity.rawValue)),
                ("message", .text(finding.message)),
                ("remedy", .optional(finding.suggestion)),
            ])
        }
        let error: [(String, JSONText)] = [
            ("type", .text("validation_error")),
            ("message", .text("The configuration is not valid; nothing has changed.")),
            ("code", .text("invalid_configuration")),
        ]
        return ControlAnswer(
            status: 422,
            json: .object([
                ("error", .object(error)), ("file", .text(file)), ("findings", .list(list)),
            ]))
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
