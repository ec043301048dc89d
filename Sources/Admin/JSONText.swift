/// A JSON value to be written on one line; members keep their order.
indirect enum JSONText {
    case number(Double)
    case integer(UInt64)
    case text(String)
    case flag(Bool)
    case null
    case list([JSONText])
    case object([(String, JSONText)])

    /// `value`, or null.
    static func optional(_ value: UInt64?) -> JSONText { value.map { .integer($0) } ?? .null }

    /// `value`, or null.
    static func optional(_ value: String?) -> JSONText { value.map { .text($0) } ?? .null }

    /// `value` with three decimals, or null.
    static func optional(_ value: Double?) -> JSONText {
        value.map { .number(($0 * 1_000).rounded() / 1_000) } ?? .null
    }

    /// The text, without a newline.
    var written: String {
        switch self {
        // Not a number and infinity have no form in JSON.
        case .number(let value): value.isFinite ? "\(value)" : "null"
        case .integer(let value): "\(value)"
        case .text(let value): Self.quoted(value)
        case .flag(let value): value ? "true" : "false"
        case .null: "null"
        case .list(let values): "[" + values.map(\.written).joined(separator: ",") + "]"
        case .object(let members):
            "{" + members.map { Self.quoted($0.0) + ":" + $0.1.written }.joined(separator: ",")
                + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case let control where control.value < 0x20:
                let digits = String(control.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
