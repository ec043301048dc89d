import CLinux

/// Which records a reader wants.
public struct EventFilter: Sendable {
    /// Moments of `timestamp`, milliseconds since 1970: not before `sinceMs`, before `untilMs`.
    public var sinceMs: UInt64? { didSet { sinceText = sinceMs.map(Self.moment) } }
    public var untilMs: UInt64? { didSet { untilText = untilMs.map(Self.moment) } }
    /// The log's own records too, not only decisions.
    public var includesAll = false

    private var sinceText: [UInt8]?
    private var untilText: [UInt8]?
    private var policy: [UInt8]?
    private var wanted: [(name: StaticString, value: [UInt8])] = []

    /// Every decision.
    public init() {}

    private static func moment(_ ms: UInt64) -> [UInt8] { Array("\"\(EventTime.text(ms))\"".utf8) }

    /// Only records whose member `name` is the text `value`.
    public mutating func require(_ name: StaticString, _ value: String) {
        wanted.append((name, JSONText.quoted(value)))
    }

    /// Only records in which this policy decided, or had something to say.
    public mutating func require(policy name: String) { policy = JSONText.quoted(name) }

    /// Whether a record is wanted. Reads it only as far as needed.
    func accepts(_ line: UnsafeRawBufferPointer) -> Bool {
        var open = wanted.count
        if !includesAll { open += 1 }
        if sinceText != nil || untilText != nil { open += 1 }
        if policy != nil { open += 1 }
        if open == 0 { return true }
        var members = JSONMembers(line)
        while open > 0, let (name, value) = members.next() {
            switch judge(name, value) {
            case true?: open -= 1
            case false?: return false
            case nil: continue
            }
        }
        return open == 0
    }

    /// True where a member is as wanted, false where no record with it is, nil where it says
    /// nothing.
    private func judge(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) -> Bool? {
        switch name.count {
        case 9 where JSONText.equals(name, "timestamp"):
            if sinceText == nil, untilText == nil { return nil }
            // All moments are written alike, so that their bytes compare as they do.
            if let sinceText, Self.isBefore(value, sinceText) { return false }
            if let untilText, !Self.isBefore(value, untilText) { return false }
            return true
        case 10 where !includesAll && JSONText.equals(name, "event_type"):
            return JSONText.equals(value, "\"decision\"")
        case 6 where policy != nil && JSONText.equals(name, "policy"):
            return JSONText.equals(value, policy!) ? true : nil
        case 8 where policy != nil && JSONText.equals(name, "policies"):
            return JSONMembers.elements(value).contains { JSONText.equals($0, policy!) }
                ? true : nil
        default:
            for (other, text) in wanted where JSONText.equals(name, other) {
                return JSONText.equals(value, text)
            }
            return nil
        }
    }

    private static func isBefore(_ a: UnsafeRawBufferPointer, _ b: [UInt8]) -> Bool {
        guard a.count == b.count else { return a.count < b.count }
        return b.withUnsafeBytes { memcmp(a.baseAddress!, $0.baseAddress!, a.count) < 0 }
    }
}
