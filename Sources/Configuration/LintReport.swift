import Policy
public import Proxy

/// What `umbra policy lint` prints.
public enum LintReport {
    /// One line for each finding, then one that sums up.
    public static func text(_ result: ConfigurationResult) -> String {
        var lines = result.diagnostics.map { $0.text(file: result.file) }
        let errors = result.errors.count
        let warnings = result.warnings.count
        let counts = warnings > 0 ? ", \(count(warnings, "warning"))" : ""
        if let settings = result.settings {
            lines.append(
                "\(quoted(result.file, max: .max)): valid: \(summary(settings))\(counts)")
        } else {
            lines.append(
                "\(quoted(result.file, max: .max)): not valid: \(count(errors, "error"))\(counts)")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// How much there is in a valid file: `2 targets, 1 route, 1 shadow`.
    public static func summary(_ settings: GatewaySettings) -> String {
        let policies = settings.policies.count
        let named = policies == 1 ? "1 policy" : "\(policies) policies"
        return
            ([
                count(settings.targets.count, "target"), count(settings.routes.count, "route"),
                count(settings.shadows.count, "shadow"),
            ] + (policies > 0 ? [named] : [])).joined(separator: ", ")
    }

    private static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }

    /// One JSON object in one line: `{valid, file, pack, chain, policy_count, warnings}` where the
    /// file is valid, `{valid, file, errors, warnings}` where it is not.
    public static func json(_ result: ConfigurationResult) -> String {
        var members = [
            "\"valid\":\(result.settings != nil)", "\"file\":\(JSONText.string(result.file))",
        ]
        if let settings = result.settings {
            let chain = settings.policies.map { JSONText.string($0.name) }.joined(separator: ",")
            members += [
                "\"pack\":\(settings.pack.map { JSONText.string($0.name) } ?? "null")",
                "\"chain\":[\(chain)]", "\"policy_count\":\(settings.policies.count)",
            ]
        } else {
            members.append("\"errors\":\(list(result.errors))")
        }
        members.append("\"warnings\":\(list(result.warnings))")
        return "{\(members.joined(separator: ","))}\n"
    }

    private static func list(_ diagnostics: [Diagnostic]) -> String {
        "[\(diagnostics.map(object).joined(separator: ","))]"
    }

    private static func object(_ diagnostic: Diagnostic) -> String {
        let members = [
            "\"code\":\(JSONText.string(diagnostic.code.rawValue))",
            "\"path\":\(JSONText.string(diagnostic.path))",
            "\"line\":\(diagnostic.line)",
            "\"message\":\(JSONText.string(diagnostic.message))",
            "\"suggestion\":\(diagnostic.suggestion.map(JSONText.string) ?? "null")",
        ]
        return "{\(members.joined(separator: ","))}"
    }
}

/// JSON strings (RFC 8259, section 7).
enum JSONText {
    static func string(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\u{0}"..."\u{1F}", "\u{7F}":
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
