/// One policy of the chain, as the configuration has it.
public struct PolicySettings: Sendable, Equatable {
    /// What it does.
    public enum Kind: Sendable, Equatable {
        case contentFilter(ContentFilterSettings)
        case piiDetector(PIISettings)
        /// What it asks for is the event log's to keep.
        case auditLogger
    }

    /// Its own name, else its kind's: for events and errors.
    public var name: String
    /// What it does, and how.
    public var kind: Kind

    /// A policy.
    public init(name: String, kind: Kind) {
        self.name = name
        self.kind = kind
    }

    /// The kind's name in the configuration, as its public pages spell it.
    public enum KindName: String, CaseIterable, Sendable {
        case contentFilter = "content_filter"
        case piiDetector = "pii-detector"
        case auditLogger = "audit-logger"

        /// Reads a kind's name; `_` and `-` are the same.
        public init?(folding text: String) {
            let plain = Self.folded(text)
            guard let kind = Self.allCases.first(where: { Self.folded($0.rawValue) == plain })
            else { return nil }
            self = kind
        }

        private static func folded(_ text: String) -> String {
            String(text.map { $0 == "_" ? "-" : $0 })
        }
    }
}

/// `content_filter`: what no request may say.
public struct ContentFilterSettings: Sendable, Equatable {
    /// What a filter may do.
    public enum Action: String, CaseIterable, Sendable {
        /// It passes, and its event tells.
        case flag
        /// It is answered with 409.
        case block
    }

    /// A text, or a regular expression, to look for; upper and lower case are the same.
    public enum Pattern: Sendable, Equatable {
        case literal(String)
        case expression(String)
    }

    /// What becomes of a request that holds a pattern.
    public var action = Action.flag
    /// What is looked for.
    public var patterns: [Pattern] = Self.standardPatterns

    /// A filter with the patterns that hold where the configuration has none.
    public init() {}

    /// Attempts to talk a model out of its instructions.
    public static let standardPatterns: [Pattern] = [
        .expression(
            "(ignore|disregard|forget|override) (all |any )?(of )?(the |your |my )?"
                + "(previous|prior|above|earlier|preceding) (instructions|prompts|rules|directions)"
        ),
        .expression(
            "(reveal|print|show|repeat|output) (me )?(the |your )(hidden |full |entire )?"
                + "system prompt"),
        .expression("you are (now )?(in )?(DAN|developer mode|jailbroken)\\b"),
        .literal("do anything now"),
        .literal("pretend you have no restrictions"),
        .literal("without any ethical guidelines"),
    ]
}

/// `pii-detector`: what of a person leaves the house with no request.
public struct PIISettings: Sendable, Equatable {
    /// What a detector may do.
    public enum Action: String, CaseIterable, Sendable {
        /// The data are replaced, and the request passes.
        case redact
        /// It is answered with 409.
        case block
    }

    /// What becomes of a request that holds some.
    public var action = Action.redact
    /// What is looked for.
    public var kinds = PIIKinds.all

    /// A detector of all kinds that redacts.
    public init() {}
}

/// Kinds of personal and secret data.
public struct PIIKinds: OptionSet, BitwiseCopyable, Sendable {
    /// One bit for each of those below.
    public let rawValue: UInt8
    public static let email = PIIKinds(rawValue: 1 << 0)
    public static let phone = PIIKinds(rawValue: 1 << 1)
    public static let card = PIIKinds(rawValue: 1 << 2)
    public static let iban = PIIKinds(rawValue: 1 << 3)
    public static let ipv4 = PIIKinds(rawValue: 1 << 4)
    /// Keys and tokens of APIs.
    public static let secret = PIIKinds(rawValue: 1 << 5)
    public static let all: PIIKinds = [.email, .phone, .card, .iban, .ipv4, .secret]

    /// A set of these bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Each kind by the name that the configuration has for it.
    public static let names: [(name: String, kind: PIIKinds)] = [
        ("email", .email), ("phone", .phone), ("card", .card), ("iban", .iban), ("ipv4", .ipv4),
        ("secret", .secret),
    ]
}
