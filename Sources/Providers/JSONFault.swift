/// Why a text is no JSON document (RFC 8259), or none within the limits; and where.
public struct JSONFault: Error, Equatable, Sendable {
    /// What is wrong.
    public enum Kind: Sendable, CaseIterable {
        case empty, byteOrderMark, unexpectedByte, unexpectedEnd, badNumber, badEscape
        case controlInString, badUTF8, textBehind
        case tooLong, tooDeep, tooManyValues
    }

    /// What it is.
    public let kind: Kind
    /// The offset of the byte at which it was noticed.
    public let offset: Int

    /// A fault at a byte.
    public init(_ kind: Kind, at offset: Int) {
        self.kind = kind
        self.offset = offset
    }

    /// One short sentence for an error answer.
    public var text: String {
        let sentence: StaticString =
            switch kind {
            case .empty: "there is nothing"
            case .byteOrderMark: "it begins with a byte order mark"
            case .unexpectedByte: "a byte is not what JSON allows here"
            case .unexpectedEnd: "it ends too early"
            case .badNumber: "a number is malformed"
            case .badEscape: "an escape in a string is malformed"
            case .controlInString: "a control byte stands in a string"
            case .badUTF8: "it is not UTF-8"
            case .textBehind: "something stands behind the value"
            case .tooLong: "it is too long"
            case .tooDeep: "it is nested too deeply"
            case .tooManyValues: "it holds too many values"
            }
        return "\(sentence), at byte \(offset)"
    }
}
