/// Every bound of the policies, in one place.
public enum Limits {
    /// Letters that all expressions of one filter may stand for: `a{1,50}` counts fifty.
    static let positionsMax = 4_096
    /// Pairs of letters that may follow each other.
    static let edgesMax = 65_536
    /// Depth of groups in an expression.
    static let groupDepthMax = 32
    /// The largest number in braces, and conditions under which a part may be empty.
    static let repeatsMax = 1_000
    static let emptinessMax = 16
    /// States of a filter that are kept; then they are worked out anew.
    static let statesMax = 2_048
    static let tableCellsMax = 512 << 10
    /// Steps of working states out that one request may cost: some tens of milliseconds. What is
    /// not decided then counts as found.
    static let stepsMax = 16 << 20
    /// Policies of one chain: a bit each.
    public static let policiesMax = 32
    /// Strings of one request that are replaced; more are a refusal.
    static let replacementsMax = 65_536
    /// Parts of one number: `030 / 12 34 56` has four.
    static let digitGroupsMax = 12
    /// Numbers, account numbers and marks of mail addresses that one request may have looked at: a
    /// tenth of a second at most. With more it counts as one that holds some.
    static let candidatesMax = 1 << 17
    /// Bytes of a mail address's parts (RFC 5321, section 4.5.3.1).
    static let localPartBytesMax = 64
    static let domainBytesMax = 253
    /// Bytes before a number in which the word that says what it is may stand.
    static let contextBytesMax = 24
    /// Longest token that is looked at whole.
    static let tokenBytesMax = 8_192
    /// JSON in strings of JSON, one within the other, that is read.
    static let nestedTextsMax = 4
    /// Longer texts of base64's letters alone are pictures or sound, and hold nothing to read.
    static let encodedBytesMin = 1_024
    /// Bytes of a `data:` URL in which its content has begun.
    static let dataURLHeadBytesMax = 256
}
