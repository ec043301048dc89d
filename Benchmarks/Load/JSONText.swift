/// A JSON value to be written out; members keep their order.
public indirect enum JSONText {
    case number(Double)
    case integer(Int)
    case text(String)
    case flag(Bool)
    case null
    case list([JSONText])
    case object([(String, JSONText)])

    /// A counter, cut off at the largest Int.
    public static func integer(_ value: UInt64) -> JSONText { .integer(Int(clamping: value)) }

    /// The text, indented by two blanks a level; lists of plain values stay on one line.
    public func written(indent: Int = 0) -> String {
        let inner = String(repeating: "  ", count: indent + 1)
        let outer = String(repeating: "  ", count: indent)
        switch self {
        // Not a number and infinity have no form in JSON.
        case .number(let value): return value.isFinite ? Self.shortened(value) : "null"
        case .integer(let value): return "\(value)"
        case .text(let value): return Self.quoted(value)
        case .flag(let value): return value ? "true" : "false"
        case .null: return "null"
        case .list(let values):
            if values.allSatisfy(\.isPlain) {
                return "[" + values.map { $0.written() }.joined(separator: ", ") + "]"
            }
            return "[\n"
                + values.map { inner + $0.written(indent: indent + 1) }.joined(separator: ",\n")
                + "\n\(outer)]"
        case .object(let members):
            if members.isEmpty { return "{}" }
            let lines = members.map {
                "\(inner)\(Self.quoted($0.0)): \($0.1.written(indent: indent + 1))"
            }
            return "{\n" + lines.joined(separator: ",\n") + "\n\(outer)}"
        }
    }

    private var isPlain: Bool {
        switch self {
        case .list, .object: false
        default: true
        }
    }

    private static func shortened(_ value: Double) -> String {
        // Six significant decimals behind the point are more than any figure here is exact to.
        let rounded = (value * 1e6).rounded() / 1e6
        if rounded == rounded.rounded(), abs(rounded) < 1e15 { return "\(Int(rounded))" }
        return "\(rounded)"
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case let control where control.value < 0x20:
                let digits = String(control.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
