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
