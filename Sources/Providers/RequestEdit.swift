/// Changes of a request that stays in its dialect: only the bytes at fault are replaced.
public enum RequestEdit {
    /// The body with another model; nil where it names none.
    public static func replacingModel(_ document: JSONDocument, with model: String) -> [UInt8]? {
        guard let value = document.root["model"], value.kind == .string else { return nil }
        return replace(document, value, with: JSONWriter.write { $0.value(model) })
    }

    /// The body of a chat request that asks for a stream's usage; nil where it does already, or
    /// asks for no stream.
    public static func includingUsage(_ document: JSONDocument) -> [UInt8]? {
        let root = document.root
        guard root["stream"]?.flag == true else { return nil }
        let wanted = Array(#"{"include_usage":true}"#.utf8)
        guard let options = root["stream_options"] else {
            // In front of all others: the object is not empty, as `stream` is in it.
            let start = root.raw.startIndex + 1
            let member = Array(#""stream_options":{"include_usage":true},"#.utf8)
            return Array(document.bytes[..<start]) + member + document.bytes[start...]
        }
        guard options.kind == .object, options.count > 0 else {
            return replace(document, options, with: wanted)
        }
        if let flag = options["include_usage"] {
            if flag.flag == true { return nil }
            return replace(document, flag, with: Array("true".utf8))
        }
        let start = options.raw.startIndex + 1
        return Array(document.bytes[..<start]) + Array(#""include_usage":true,"#.utf8)
            + document.bytes[start...]
    }

    private static func replace(
        _ document: JSONDocument, _ value: JSONValue, with bytes: [UInt8]
    ) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(document.bytes.count + bytes.count)
        result.append(contentsOf: document.bytes[..<value.raw.startIndex])
        result.append(contentsOf: bytes)
        result.append(contentsOf: document.bytes[value.raw.endIndex...])
        return result
    }
}

/// Writes the member `provider` into a chat answer as it passes by, without reading it whole.
///
/// The member goes in front of the first one. So the answer's length grows by `count` bytes
/// whatever comes, and its head can be written before its body is there: what turns out to be no
/// object with a member gets as many spaces instead, which JSON allows there.
public struct ProviderAnnotation {
    private let member: [UInt8]
    private var isBehindBrace = false
    private var isDone = false

    /// An annotation with the target's name.
    public init(provider: String) {
        let written = JSONWriter.write { writer in
            writer.object { $0.member("provider", provider) }
        }
        member = Array(written.dropFirst().dropLast()) + [UInt8(ascii: ",")]
    }

    /// How many bytes the answer grows by.
    public var count: Int { member.count }

    /// Where in `bytes`, the next of the body, something is to be put in, and what; nil where
    /// nothing is.
    public mutating func next(
        _ bytes: UnsafeRawBufferPointer
    ) -> (offset: Int, inserted: [UInt8])? {
        if isDone { return nil }
        for (offset, byte) in bytes.enumerated() {
            switch byte {
            case 0x20, 0x09, 0x0A, 0x0D: continue
            case UInt8(ascii: "{") where !isBehindBrace: isBehindBrace = true
            case UInt8(ascii: "\"") where isBehindBrace:
                isDone = true
                return (offset, member)
            default:
                isDone = true
                return (offset, spaces)
            }
        }
        return nil
    }

    /// What goes behind a body that ended before there was a place; empty where there was one.
    public mutating func end() -> [UInt8] {
        defer { isDone = true }
        return isDone ? [] : spaces
    }

    private var spaces: [UInt8] { [UInt8](repeating: 0x20, count: member.count) }
}
