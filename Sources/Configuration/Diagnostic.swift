/// How bad a finding is: an error keeps the file from being used, a warning does not.
public enum Severity: String, Sendable {
    case error, warning
}

/// What kind of fault it is. The raw values are stable: tools match on them. W001 and W014 are no
/// longer given.
public enum DiagnosticCode: String, Sendable, CaseIterable {
    case unknownKind = "E001"
    case unknownKey = "E002"
    case chainedWithoutBlock = "E003"
    case wrongType = "E004"
    case outOfRange = "E005"
    case undefinedName = "E006"
    case missingKey = "E007"
    case duplicate = "E008"
    case conflict = "E009"
    case badAddress = "E011"
    case badYAML = "E012"
    case tooLarge = "E013"
    case unreadable = "E014"
    case unresolved = "E015"
    case badKeyFile = "E016"
    case adminExposed = "E017"
    case badSecret = "E018"
    case openGateway = "E019"

    case neverMirrored = "W002"
    case selfMirrored = "W003"
    case unreachable = "W004"
    case tightMemory = "W005"
    case rewriteSlashes = "W006"
    case chosenPort = "W007"
    case blindGuard = "W008"
    case withoutEffect = "W009"
    case keyExposed = "W010"
    case unverifiedTarget = "W011"
    case certificateEnds = "W012"
    case missingSecret = "W013"
    case rawTexts = "W015"

    /// An E is an error, a W a warning.
    public var severity: Severity { rawValue.first == "E" ? .error : .warning }

    /// What the code stands for, in a few words; `docs/configuration.md` lists them.
    public var meaning: String {
        switch self {
        case .unknownKind: "unknown kind of provider or policy"
        case .unknownKey: "unknown key"
        case .chainedWithoutBlock: "a policy in the chain that has no block"
        case .wrongType: "wrong type, or a text that is not of the form the key takes"
        case .outOfRange: "out of range"
        case .undefinedName: "a target or shadow that nothing defines"
        case .missingKey: "a required key is missing"
        case .duplicate: "written twice"
        case .conflict: "two settings exclude each other, or a key stands where it has no meaning"
        case .badAddress: "bad address or URL"
        case .badYAML: "not one YAML document"
        case .tooLarge: "larger than a bound of the reader"
        case .unreadable: "the file cannot be read"
        case .unresolved: "a host name that cannot be resolved"
        case .badKeyFile: "a certificate, key or list of ciphers that cannot be used"
        case .badSecret: "a key that cannot be used"
        case .adminExposed: "the admin listener is reachable from other machines without a token"
        case .neverMirrored: "mirroring is configured and sends nothing"
        case .selfMirrored: "copies go to the service that answers the user"
        case .unreachable: "something that no request can reach"
        case .tightMemory: "blocks or loans that leave too little for the other use"
        case .rewriteSlashes: "a rewrite that doubles or loses a slash"
        case .chosenPort: "port 0: the kernel chooses"
        case .blindGuard: "a latency guard that has nothing to compare"
        case .withoutEffect: "a setting that nothing acts on"
        case .keyExposed: "a key file that every user of the machine can read"
        case .unverifiedTarget: "a target whose certificate is not checked"
        case .missingSecret: "a key that is not set"
        case .rawTexts: "prompts and answers are stored as they are"
        case .openGateway: "LLM targets that everyone on the network can use"
        case .certificateEnds: "a certificate that has ended, ends soon, or is not valid yet"
        }
    }
}

/// One finding about a configuration, with its place.
public struct Diagnostic: Sendable, Equatable {
    /// The kind of the fault.
    public var code: DiagnosticCode
    /// The key's place: `routes[2].match.path_prefix`; empty for the document as a whole.
    public var path: String
    /// Counted from 1; 0 where the finding has no place in the text.
    public var line: Int
    public var column: Int
    /// What is wrong; begins in lower case, follows the path.
    public var message: String
    /// What to write instead.
    public var suggestion: String?

    /// That of the code.
    public var severity: Severity { code.severity }

    /// A finding; without a place where the text has none for it.
    public init(
        _ code: DiagnosticCode, path: String = "", line: Int = 0, column: Int = 0,
        message: String, suggestion: String? = nil
    ) {
        self.code = code
        self.path = path
        self.line = line
        self.column = column
        self.message = message
        self.suggestion = suggestion
    }

    /// `FILE:LINE:COLUMN: error[E002]: PATH: MESSAGE; SUGGESTION`; parts that are not known are
    /// left out.
    public func text(file: String) -> String {
        let place =
            line > 0 ? "\(quoted(file, max: .max)):\(line):\(column)" : quoted(file, max: .max)
        let about = path.isEmpty ? "" : "\(path): "
        let remedy = suggestion.map { "; \($0)" } ?? ""
        return "\(place): \(severity.rawValue)[\(code.rawValue)]: \(about)\(message)\(remedy)"
    }
}

/// The user's own text, fit for a terminal and for one line: controls are escaped (a configuration
/// from elsewhere could otherwise steer the reader's terminal), long ones are cut.
func quoted(_ text: some StringProtocol, max: Int = ConfigurationLimits.quotedCharactersMax)
    -> String
{
    var out = ""
    var count = 0
    for scalar in text.unicodeScalars {
        if count == max { return out + "…" }
        count += 1
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
            .unassigned:
            out += "\\u{\(String(scalar.value, radix: 16))}"
        default:
            out.unicodeScalars.append(scalar)
        }
    }
    return out
}
