/// What a chain of policies found in one request: small enough to travel with its log record.
public struct PolicyReport: BitwiseCopyable, Sendable, Equatable {
    /// What became of the request, the gravest last.
    public enum Verdict: UInt8, BitwiseCopyable, Sendable, Comparable {
        /// Nothing was found, or nothing looked.
        case allow
        /// Data were replaced.
        case redact
        /// It passed, and somebody should look at it.
        case escalate
        /// It was answered with 409.
        case block

        /// By gravity.
        public static func < (a: Verdict, b: Verdict) -> Bool { a.rawValue < b.rawValue }

        /// As events spell it.
        public var text: StaticString {
            switch self {
            case .allow: "allow"
            case .redact: "redact"
            case .escalate: "escalate"
            case .block: "block"
            }
        }
    }

    /// The gravest of all policies.
    public var verdict = Verdict.allow
    /// One bit for each policy of the chain that found something, the first one's the lowest.
    public var bits: UInt32 = 0
    /// Kinds of data that were found, over all policies.
    public var kinds = PIIKinds()
    /// Whether any policy looked at the request.
    public var isInspected = false
    /// Whether something could not be looked at to its end, and so counts as found.
    public var isUndecided = false

    /// Whether the body could not be read at all, and was refused for it.
    private(set) var isUnread = false
    /// Whether it was data that it was blocked for.
    private(set) var isDataBlocked = false

    /// Nothing found.
    public init() {}

    /// `reason_code` of an event; nil where nothing was found.
    public var reason: StaticString? {
        guard verdict != .allow else { return nil }
        if isUnread { return "unreadable" }
        if isUndecided { return "not_decided" }
        switch verdict {
        case .allow: return nil
        case .redact: return "pii_redacted"
        case .escalate: return "content_flagged"
        case .block: return isDataBlocked ? "pii_blocked" : "content_blocked"
        }
    }

    /// Refuses a body that no policy could look at.
    public mutating func refuseUnread() {
        isUnread = true
        verdict = .block
    }

    /// Adds what the policy at `place` found.
    mutating func note(_ place: Int, _ verdict: Verdict, _ kinds: PIIKinds = []) {
        bits |= 1 << UInt32(place)
        self.verdict = max(self.verdict, verdict)
        self.kinds.formUnion(kinds)
        if verdict == .block, !kinds.isEmpty { isDataBlocked = true }
    }
}
