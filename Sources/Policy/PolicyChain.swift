public import Providers

/// The policies of a configuration, ready to look at requests and answers. For one thread.
public final class PolicyChain {
    private enum Policy {
        case filter(PatternSet, ContentFilterSettings.Action)
        case detector(PIIKinds, PIISettings.Action)
        /// The event log's.
        case none
    }

    /// What is to be done with a request.
    public enum Decision: Sendable {
        case pass
        /// This in its place.
        case replace([UInt8])
        /// Answered with 409; `policy` is its place in the chain.
        case refuse(policy: Int)
    }

    private let names: [String]
    private let policies: [Policy]
    /// Kinds that any detector replaces or blocks: what no stored text shows.
    private let hidden: PIIKinds

    /// The chain. Throws what is wrong with a pattern; none is in a configuration that was checked.
    public init(_ settings: [PolicySettings]) throws(PatternFault) {
        var policies: [Policy] = []
        var hidden: PIIKinds = []
        for policy in settings.prefix(Limits.policiesMax) {
            switch policy.kind {
            case .contentFilter(let filter):
                policies.append(.filter(try PatternSet(filter.patterns), filter.action))
            case .piiDetector(let detector):
                policies.append(.detector(detector.kinds, detector.action))
                hidden.formUnion(detector.kinds)
            case .auditLogger: policies.append(.none)
            }
        }
        self.policies = policies
        self.hidden = hidden
        names = settings.map(\.name)
    }

    /// Whether any policy looks at requests at all.
    public var inspectsRequests: Bool {
        policies.contains {
            if case .none = $0 { false } else { true }
        }
    }

    /// Whether a request that cannot be read has to be refused.
    public var isStrict: Bool {
        policies.contains {
            switch $0 {
            case .filter(_, let action): action == .block
            case .detector: true
            case .none: false
            }
        }
    }

    /// The name of the policy at a place in the chain.
    public func name(_ place: Int) -> String { names[place] }

    /// The names of the policies that found something.
    public func names(_ report: PolicyReport) -> [String] {
        policies.indices.filter { report.bits >> UInt32($0) & 1 == 1 }.map { names[$0] }
    }

    // MARK: Requests

    /// Holds a request's body, one JSON document, against all policies in their order: what one
    /// replaces the next does not see. Every string in it is looked at, wherever it stands, but for
    /// pictures and sound in base64.
    public func inspect(_ document: JSONDocument, _ report: inout PolicyReport) -> Decision {
        guard inspectsRequests else { return .pass }
        report.isInspected = true
        var document = document
        var isReplaced = false
        for (place, policy) in policies.enumerated() {
            switch policy {
            case .none: break
            case .filter(let patterns, let action):
                guard let isDecided = Self.holds(patterns, document) else { continue }
                if !isDecided { report.isUndecided = true }
                report.note(place, action == .block ? .block : .escalate)
                if action == .block { return .refuse(policy: place) }
            case .detector(let kinds, let action):
                let found = Redaction.find(document, kinds)
                if found.isUndecided { report.isUndecided = true }
                guard !found.kinds.isEmpty || found.isUndecided else { continue }
                let isRefused = action == .block || found.isUndecided
                report.note(place, isRefused ? .block : .redact, found.kinds)
                guard !isRefused, let next = try? JSONDocument(found.replaced(document)) else {
                    report.note(place, .block)
                    return .refuse(policy: place)
                }
                document = next
                isReplaced = true
            }
        }
        return isReplaced ? .replace(document.bytes) : .pass
    }

    /// Whether a filter's patterns are in a document: nil where not, false where that could not be
    /// decided.
    private static func holds(_ patterns: PatternSet, _ document: JSONDocument) -> Bool? {
        patterns.beginRequest()
        return search(patterns, document, depth: 0)
    }

    private static func search(
        _ patterns: PatternSet, _ document: JSONDocument, depth: Int
    ) -> Bool? {
        var outcome: Bool?
        document.forEachString { value in
            let one = value.withText { text -> PatternSet.Outcome in
                if EncodedText.holds(text) { return .absent }
                let plain = patterns.search(text)
                guard plain == .absent, let inner = NestedText.document(text, depth: depth) else {
                    return plain
                }
                switch search(patterns, inner, depth: depth + 1) {
                case true?: return .found
                case false?: return .undecided
                case nil: return .absent
                }
            }
            switch one {
            case .found: outcome = true
            case .undecided: outcome = false
            case .absent, nil: return true
            }
            return false
        }
        return outcome
    }

    // MARK: Answers and stored texts

    /// What the filters of the chain find in an answer's text, and in what the escapes of JSON in
    /// it stand for: a flag in its event, whatever their action, because the answer is out already.
    public func inspectAnswer(_ text: UnsafeRawBufferPointer, _ report: inout PolicyReport) {
        let unescaped = UnescapedText(text)
        for (place, policy) in policies.enumerated() {
            guard case .filter(let patterns, _) = policy else { continue }
            patterns.beginRequest()
            var outcome = patterns.search(text)
            if outcome == .absent, let unescaped {
                outcome = unescaped.bytes.withUnsafeBytes { patterns.search($0) }
            }
            switch outcome {
            case .absent: break
            case .found: report.note(place, .escalate)
            case .undecided:
                report.isUndecided = true
                report.note(place, .escalate)
            }
        }
    }

    /// A text as it may be stored: with what any detector looks for replaced, also where it only
    /// shows once the escapes of JSON in the text are read. Nil where there is nothing to replace.
    public func redacted(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
        guard !hidden.isEmpty else { return nil }
        if let unescaped = UnescapedText(text), let clean = redacted(text, unescaped) {
            return clean.withUnsafeBytes { plainRedacted($0) } ?? clean
        }
        return plainRedacted(text)
    }

    private func plainRedacted(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
        var candidates = Limits.candidatesMax
        let (findings, end) = PIIScanner.find(text, hidden, &candidates)
        if findings.isEmpty, end == text.count { return nil }
        // What was not looked at is not stored.
        return Redaction.replace(findings, in: UnsafeRawBufferPointer(rebasing: text[..<end]))
    }

    private func redacted(
        _ text: UnsafeRawBufferPointer, _ unescaped: UnescapedText
    ) -> [UInt8]? {
        var candidates = Limits.candidatesMax
        let (found, end) = unescaped.bytes.withUnsafeBytes {
            PIIScanner.find($0, hidden, &candidates)
        }
        if found.isEmpty, end == unescaped.bytes.count { return nil }
        let findings = found.map {
            PIIScanner.Finding(range: unescaped.source($0.range), kind: $0.kind)
        }
        let seen = text[..<unescaped.source(0..<end).upperBound]
        return Redaction.replace(findings, in: UnsafeRawBufferPointer(rebasing: seen))
    }

    /// A request as it may be stored, with what any detector looks for replaced as it is in
    /// requests that go on; nil where not all of it could be looked at.
    public func redacted(_ document: JSONDocument) -> JSONDocument? {
        guard !hidden.isEmpty else { return document }
        let found = Redaction.find(document, hidden)
        guard !found.isUndecided else { return nil }
        return found.kinds.isEmpty ? document : try? JSONDocument(found.replaced(document))
    }

    /// The same for a String.
    public func redacted(_ text: String) -> String {
        var text = text
        return text.withUTF8 { bytes in
            redacted(UnsafeRawBufferPointer(bytes)).map { String(decoding: $0, as: UTF8.self) }
        } ?? text
    }

    // MARK: Refusals

    /// The body of a 409, in the client's dialect.
    public func refusal(_ dialect: Dialect, policy: Int) -> [UInt8] {
        let name = names[policy]
        let message = "The policy \(name) does not let this request pass."
        return JSONWriter.write { writer in
            writer.object { writer in
                if dialect == .anthropic { writer.member("type", "error") }
                writer.object("error") { error in
                    error.member("type", "policy_violation")
                    error.member("message", message)
                    error.member("policy", name)
                    error.member("code", "policy_violation")
                }
            }
        }
    }
}
