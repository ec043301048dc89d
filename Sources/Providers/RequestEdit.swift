/// Changes of a request that stays in its dialect: only the bytes at fault are replaced.
public enum RequestEdit {
    /// The body with another model; nil where it names none.
    public static func replacingModel(_ document: JSONDocument, with model: String) -> [UInt8]? {
        modelChange(document, model).map { apply([$0], to: document) }
    }

    /// The body of a chat request that asks for a stream's usage; nil where it does already, or
    /// asks for no stream.
    public static func includingUsage(_ document: JSONDocument) -> [UInt8]? {
        usageChange(document).map { apply([$0], to: document) }
    }

    /// What becomes of `store`, by which a provider keeps the request and its answer.
    public enum Store: Sendable {
        case asWritten
        /// False where it is anything else.
        case notIfAsked
        /// False, also where it is not written: for responses the default is true.
        case never
    }

    /// All in one: the body with another `model` (nil leaves it), where `asksForUsage`, asking for
    /// a stream's usage, and with `store` as said; nil where nothing is to be changed.
    public static func edited(
        _ document: JSONDocument, model: String?, asksForUsage: Bool, store: Store = .asWritten
    ) -> [UInt8]? {
        var changes: [Change] = []
        if let change = storeChange(document, store) { changes.append(change) }
        if let model, let change = modelChange(document, model) { changes.append(change) }
        if asksForUsage, let change = usageChange(document) { changes.append(change) }
        return changes.isEmpty ? nil : apply(changes, to: document)
    }

    /// Bytes in the place of others.
    private struct Change {
        let range: Range<Int>
        let bytes: [UInt8]
    }

    private static func modelChange(_ document: JSONDocument, _ model: String) -> Change? {
        guard let value = document.root["model"], value.kind == .string else { return nil }
        return Change(range: value.raw.indices, bytes: JSONWriter.write { $0.value(model) })
    }

    private static func usageChange(_ document: JSONDocument) -> Change? {
        let root = document.root
        guard root["stream"]?.flag == true else { return nil }
        guard let options = root["stream_options"] else {
            // In front of all others: the object is not empty, as `stream` is in it.
            let start = root.raw.startIndex + 1
            return Change(
                range: start..<start,
                bytes: Array(#""stream_options":{"include_usage":true},"#.utf8))
        }
        guard options.kind == .object, options.count > 0 else {
            return Change(range: options.raw.indices, bytes: Array(#"{"include_usage":true}"#.utf8))
        }
        if let flag = options["include_usage"] {
            if flag.flag == true { return nil }
            return Change(range: flag.raw.indices, bytes: Array("true".utf8))
        }
        let start = options.raw.startIndex + 1
        return Change(range: start..<start, bytes: Array(#""include_usage":true,"#.utf8))
    }

    private static func storeChange(_ document: JSONDocument, _ store: Store) -> Change? {
        let root = document.root
        guard store != .asWritten, root.count > 0 else { return nil }
        if let value = root["store"] {
            if value.flag == false || (value.isNull && store == .notIfAsked) { return nil }
            return Change(range: value.raw.indices, bytes: Array("false".utf8))
        }
        guard store == .never else { return nil }
        let start = root.raw.startIndex + 1
        return Change(range: start..<start, bytes: Array(#""store":false,"#.utf8))
    }

    private static func apply(_ changes: [Change], to document: JSONDocument) -> [UInt8] {
        let source = document.bytes
        var result: [UInt8] = []
        result.reserveCapacity(source.count + changes.reduce(0) { $0 + $1.bytes.count })
        var at = 0
        for change in changes.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
            result.append(contentsOf: source[at..<change.range.lowerBound])
            result.append(contentsOf: change.bytes)
            at = change.range.upperBound
        }
        result.append(contentsOf: source[at...])
        return result
    }
}
