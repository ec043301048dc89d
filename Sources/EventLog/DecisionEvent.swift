/// What became of one request, and of its copy: one record of the log.
///
/// Prompts and answers are in it only where the configuration says so, after redaction. A member
/// without a value is left out of the record.
public struct DecisionEvent: Sendable {
    /// What the policies decided.
    public enum Verdict: Int, CaseIterable, Sendable {
        /// Passed on; stopped; passed on with parts taken out; to be looked at by a person.
        case allow, block, redact, escalate

        /// The word in the record.
        public var label: StaticString {
            switch self {
            case .allow: "allow"
            case .block: "block"
            case .redact: "redact"
            case .escalate: "escalate"
            }
        }
    }

    /// How one side's exchange ended.
    public enum SideStatus: Int, CaseIterable, Sendable {
        /// A whole answer of status 1xx to 3xx, and the ways to have none.
        case success, error4xx, error5xx, rateLimited, timeout, connectFailed, reset
        case invalidAnswer, tooLarge, cancelled

        /// The word in the record.
        public var label: StaticString {
            switch self {
            case .success: "success"
            case .error4xx: "error_4xx"
            case .error5xx: "error_5xx"
            case .rateLimited: "rate_limited"
            case .timeout: "timeout"
            case .connectFailed: "connect_failed"
            case .reset: "reset"
            case .invalidAnswer: "invalid_answer"
            case .tooLarge: "too_large"
            case .cancelled: "cancelled"
            }
        }
    }

    /// Tokens of one exchange.
    public struct Usage: Sendable, Equatable {
        /// As the provider counted them, or as the gateway did where it did not.
        public var inputTokens: Int
        public var outputTokens: Int
        public var isEstimated: Bool

        /// Tokens as the provider counted them, or estimated ones.
        public init(inputTokens: Int, outputTokens: Int, isEstimated: Bool = false) {
            self.inputTokens = inputTokens
            self.outputTokens = outputTokens
            self.isEstimated = isEstimated
        }
    }

    /// What one side answered.
    public struct Side: Sendable {
        /// The target's id, and the model that it was asked for; nil where there is none.
        public var provider: String
        public var model: String?
        /// Until the last byte of the answer, and until the first, microseconds.
        public var latencyUs: Int
        public var firstByteUs: Int?
        public var usage: Usage?
        public var status: SideStatus
        /// 0 where no answer came.
        public var httpStatus = 0
        /// Bodies; nil where nobody counted.
        public var requestBytes: Int?
        public var answerBytes: Int?
        /// What pins the answer: the model's revision and the index that it read.
        public var modelRevision: String?
        public var indexHash: String?
        public var finishReason: String?
        /// The model declined.
        public var isRefusal = false
        /// Names of the tools that the answer calls.
        public var toolCalls: [String] = []
        /// The rate-limit fields of the answer, by their names, and seconds of Retry-After.
        public var rateLimit: [(name: String, value: String)] = []
        public var retryAfterSeconds: Int?
        /// The answer's text, where the configuration has it stored.
        public var response: String?

        /// A side by what is always known of it.
        public init(provider: String, model: String?, latencyUs: Int, status: SideStatus) {
            self.provider = provider
            self.model = model
            self.latencyUs = latencyUs
            self.status = status
        }
    }

    /// How the shadow's answer compares with the primary's.
    public struct Comparison: Sendable {
        /// Whether latencies and output tokens are compared: shadow minus primary.
        public var latency = true
        public var tokens = true
        /// 1 − ΔS, and the embedder that it was measured by.
        public var contentSimilarity: Double?
        public var embedder: String?

        /// A comparison of latencies and tokens.
        public init() {}
    }

    /// The id, which the record shows as `evt_` and 32 hexadecimal digits.
    public var id: (UInt64, UInt64)
    /// When the request came, milliseconds since 1970.
    public var timestampMs: UInt64
    public var verdict: Verdict
    /// Why, in a word: `ok`, a policy's reason, an error's code.
    public var reasonCode: String
    /// The policy that decided, and all that had something to say.
    public var policy: String?
    public var policies: [String] = []
    /// The model that the client asked for.
    public var model: String?
    /// Which configuration served it.
    public var configVersion: String
    public var requestID: String
    public var route: String?
    /// SHA-256 of the canonical request, hexadecimal.
    public var requestHash: String?
    /// What the user was answered by.
    public var primary: Side
    /// The copy: its id, its side where it was sent, why where it was not, and what its translation
    /// left out.
    public var shadowID: String?
    public var shadow: Side?
    /// The target of a copy that was not sent.
    public var shadowProvider: String?
    public var dropReason: String?
    public var translationLoss: [String] = []
    /// What the translation of the user's own request left out.
    public var primaryTranslationLoss: [String] = []
    public var comparison: Comparison?
    /// The prompt, where the configuration has it stored.
    public var prompt: String?

    /// An event by what is always known of it.
    public init(
        id: (UInt64, UInt64), timestampMs: UInt64, verdict: Verdict, reasonCode: String,
        requestID: String, configVersion: String, primary: Side
    ) {
        self.id = id
        self.timestampMs = timestampMs
        self.verdict = verdict
        self.reasonCode = reasonCode
        self.requestID = requestID
        self.configVersion = configVersion
        self.primary = primary
    }
}
