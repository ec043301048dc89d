/// One value of a YAML document, with its place in the text.
///
/// A class, so that all aliases of an anchor share one: a document cannot grow in memory by them.
final class YAMLNode {
    enum Content {
        /// `plain` is false for quoted and block scalars, and for those tagged `!!str`.
        case scalar(String, plain: Bool)
        case list([YAMLNode])
        case mapping([YAMLEntry])
    }

    let content: Content
    /// Counted from 1.
    let line: Int
    let column: Int
    /// Values and keys in here, aliases counted as often as they are written.
    let weight: Int

    init(_ content: Content, line: Int, column: Int, weight: Int) {
        self.content = content
        self.line = line
        self.column = column
        self.weight = weight
    }

    /// A plain scalar that says "no value" (YAML 1.2, section 10.3.2).
    var isNull: Bool {
        guard case .scalar(let text, plain: true) = content else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// What it is, for messages that say what was found.
    var kindText: String {
        switch content {
        case .list: "a list"
        case .mapping: "a mapping"
        case .scalar(let text, let plain):
            isNull ? "no value" : plain ? quoted(text) : "the string \"\(quoted(text))\""
        }
    }
}

/// One key of a mapping and its value.
struct YAMLEntry {
    let key: String
    let line: Int
    let column: Int
    let value: YAMLNode
}
