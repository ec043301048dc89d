import CYAML

/// Reads one YAML document from libyaml's events into a tree, within `ConfigurationLimits`.
///
/// libyaml scans and parses; what it leaves to its user is done here: anchors, merge keys (`<<`),
/// duplicate keys, and the bounds that keep a hostile document small.
struct YAMLReader: ~Copyable {
    private struct Frame {
        let path: String
        let depth: Int
    }

    // On the heap: the parser points into itself once it has its input.
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let bytes: UnsafeBufferPointer<UInt8>
    private let findings: Findings
    private var anchors: [String: YAMLNode] = [:]
    private var nodes = 0
    private var aliasedNodes = 0

    /// The document's root; nil where it is no YAML, empty, or above a bound, which `findings` then
    /// says.
    static func read(_ bytes: [UInt8], findings: Findings) -> YAMLNode? {
        guard bytes.count <= ConfigurationLimits.documentBytesMax else {
            findings.add(
                Diagnostic(
                    .tooLarge,
                    message: "the document has \(bytes.count) bytes; at most "
                        + "\(SizeText.text(ConfigurationLimits.documentBytesMax)) are read"))
            return nil
        }
        // An empty array may have no address, and libyaml asserts that it gets one.
        guard !bytes.isEmpty else {
            findings.add(Diagnostic(.badYAML, line: 1, column: 1, message: "the document is empty"))
            return nil
        }
        return bytes.withUnsafeBufferPointer { buffer in
            // libyaml counts the mark as a column, and then takes no directive in that line.
            let text = buffer.starts(with: byteOrderMark) ? buffer[3...] : buffer[...]
            let directivesMax = ConfigurationLimits.directivesMax
            guard directives(text) <= directivesMax else {
                findings.add(
                    Diagnostic(.tooLarge, message: "more than \(directivesMax) lines begin with %"))
                return nil
            }
            do throws(YAMLFault) {
                var reader = try YAMLReader(UnsafeBufferPointer(rebasing: text), findings: findings)
                return try reader.document()
            } catch {
                findings.add(error.diagnostic)
                return nil
            }
        }
    }

    private static func directives(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Int {
        var count = 0
        var startsLine = true
        for byte in text {
            if startsLine, byte == UInt8(ascii: "%") { count += 1 }
            startsLine = byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
        }
        return count
    }

    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

    private init(_ bytes: UnsafeBufferPointer<UInt8>, findings: Findings) throws(YAMLFault) {
        parser = .allocate(capacity: 1)
        parser.initialize(to: yaml_parser_t())
        self.bytes = bytes
        self.findings = findings
        // Its only failure is memory, where a process of this kind has to end.
        precondition(yaml_parser_initialize(parser) == 1, "libyaml: no memory")
        // Without this a byte order mark could turn the text into UTF-16.
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        yaml_parser_set_input_string(parser, bytes.baseAddress!, bytes.count)
    }

    deinit {
        yaml_parser_delete(parser)
        parser.deallocate()
    }

    private mutating func document() throws(YAMLFault) -> YAMLNode {
        _ = try next()  // the stream's start
        let start = try next()
        guard start.kind == YAML_DOCUMENT_START_EVENT else {
            throw YAMLFault(.badYAML, 1, 1, "the document is empty")
        }
        let root = try node(try next(), Frame(path: "", depth: 1))
        _ = try next()  // the document's end
        let end = try next()
        guard end.kind == YAML_STREAM_END_EVENT else {
            throw YAMLFault(
                .badYAML, end.line, end.column, "a second document starts here",
                "keep one document in a file")
        }
        if root.isNull {
            throw YAMLFault(.badYAML, root.line, root.column, "the document is empty")
        }
        return root
    }

    // MARK: Values

    private mutating func node(_ event: YAMLEvent, _ frame: Frame) throws(YAMLFault) -> YAMLNode {
        guard frame.depth <= ConfigurationLimits.depthMax else {
            throw YAMLFault(
                .tooLarge, event.line, event.column,
                "more than \(ConfigurationLimits.depthMax) levels of lists and mappings",
                path: frame.path)
        }
        nodes += 1
        guard nodes <= ConfigurationLimits.nodesMax else {
            throw YAMLFault(
                .tooLarge, event.line, event.column,
                "more than \(ConfigurationLimits.nodesMax) values and keys", path: frame.path)
        }
        let made: YAMLNode
        switch event.kind {
        case YAML_ALIAS_EVENT: return try alias(event, frame)
        case YAML_SCALAR_EVENT: made = try scalar(event, frame)
        case YAML_SEQUENCE_START_EVENT: made = try list(event, frame)
        case YAML_MAPPING_START_EVENT: made = try mapping(event, frame)
        default:
            preconditionFailure("libyaml gave event \(event.kind.rawValue) where a value stands")
        }
        // Set only now, so that an anchor cannot contain itself.
        if let anchor = event.anchor { anchors[anchor] = made }
        return made
    }

    private mutating func alias(_ event: YAMLEvent, _ frame: Frame) throws(YAMLFault) -> YAMLNode {
        let name = event.anchor ?? ""
        guard let target = anchors[name] else {
            throw YAMLFault(
                .badYAML, event.line, event.column,
                "alias *\(quoted(name)) has no anchor &\(quoted(name)) before it", path: frame.path)
        }
        aliasedNodes += target.weight
        guard aliasedNodes <= ConfigurationLimits.aliasedNodesMax else {
            throw YAMLFault(
                .tooLarge, event.line, event.column,
                "aliases repeat more than \(ConfigurationLimits.aliasedNodesMax) values and keys",
                path: frame.path)
        }
        return target
    }

    private func scalar(_ event: YAMLEvent, _ frame: Frame) throws(YAMLFault) -> YAMLNode {
        var plain = event.plain
        if let tag = event.tag {
            switch tag {
            case "!", "tag:yaml.org,2002:str": plain = false
            case "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool",
                "tag:yaml.org,2002:null":
                plain = true
            default: throw badTag(tag, event, frame)
            }
        }
        return YAMLNode(
            .scalar(event.text, plain: plain), line: event.line, column: event.column, weight: 1)
    }

    private mutating func list(_ event: YAMLEvent, _ frame: Frame) throws(YAMLFault) -> YAMLNode {
        if let tag = event.tag, tag != "tag:yaml.org,2002:seq", tag != "!" {
            throw badTag(tag, event, frame)
        }
        var items: [YAMLNode] = []
        var weight = 1
        while true {
            let event = try next()
            if event.kind == YAML_SEQUENCE_END_EVENT { break }
            let item = try node(
                event, Frame(path: "\(frame.path)[\(items.count)]", depth: frame.depth + 1))
            weight += item.weight
            items.append(item)
        }
        return YAMLNode(.list(items), line: event.line, column: event.column, weight: weight)
    }

    private mutating func mapping(_ event: YAMLEvent, _ frame: Frame) throws(YAMLFault) -> YAMLNode
    {
        if let tag = event.tag, tag != "tag:yaml.org,2002:map", tag != "!" {
            throw badTag(tag, event, frame)
        }
        var entries: [YAMLEntry] = []
        var lines: [String: Int] = [:]
        var merged: [YAMLEntry] = []
        var weight = 1
        while true {
            let keyEvent = try next()
            if keyEvent.kind == YAML_MAPPING_END_EVENT { break }
            let key = try node(keyEvent, Frame(path: frame.path, depth: frame.depth + 1))
            guard case .scalar(let name, let plain) = key.content else {
                throw YAMLFault(
                    .badYAML, keyEvent.line, keyEvent.column,
                    "a key must be a text, not \(key.kindText)",
                    path: frame.path)
            }
            let path = Self.join(frame.path, name)
            let value = try node(try next(), Frame(path: path, depth: frame.depth + 1))
            weight += value.weight + 1
            if let first = lines[name] {
                findings.add(
                    Diagnostic(
                        .duplicate, path: path, line: keyEvent.line, column: keyEvent.column,
                        message: "this key stands already in line \(first)",
                        suggestion: "keep one of them"))
                continue
            }
            lines[name] = keyEvent.line
            if name == "<<", plain {
                try merge(value, into: &merged, path: frame.path)
            } else {
                entries.append(
                    YAMLEntry(key: name, line: keyEvent.line, column: keyEvent.column, value: value)
                )
            }
        }
        // The mapping's own keys win over merged ones, the first merged over later ones.
        for entry in merged where lines.updateValue(entry.line, forKey: entry.key) == nil {
            entries.append(entry)
        }
        return YAMLNode(.mapping(entries), line: event.line, column: event.column, weight: weight)
    }

    /// `<<: *base` and `<<: [*first, *second]` (the merge key type of YAML 1.1).
    private func merge(_ value: YAMLNode, into merged: inout [YAMLEntry], path: String)
        throws(YAMLFault)
    {
        let sources: [YAMLNode] =
            if case .list(let items) = value.content { items } else { [value] }
        for source in sources {
            guard case .mapping(let entries) = source.content else {
                throw YAMLFault(
                    .badYAML, value.line, value.column,
                    "<< merges mappings, not \(source.kindText)",
                    path: path)
            }
            merged += entries
        }
    }

    private func badTag(_ tag: String, _ event: YAMLEvent, _ frame: Frame) -> YAMLFault {
        YAMLFault(
            .badYAML, event.line, event.column, "the tag \(quoted(tag)) has no meaning here",
            "leave the tag out", path: frame.path)
    }

    static func join(_ path: String, _ key: String) -> String {
        path.isEmpty ? quoted(key) : "\(path).\(quoted(key))"
    }

    // MARK: Events

    private func next() throws(YAMLFault) -> YAMLEvent {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else { throw syntaxFault() }
        defer { yaml_event_delete(&event) }
        return YAMLEvent(event)
    }

    /// What libyaml says, with the place that it names.
    private func syntaxFault() -> YAMLFault {
        var message = parser.pointee.problem.map { String(cString: $0) } ?? "not YAML"
        var line = parser.pointee.problem_mark.line + 1
        var column = parser.pointee.problem_mark.column + 1
        if parser.pointee.error == YAML_READER_ERROR {
            (line, column) = place(offset: parser.pointee.problem_offset)
            if parser.pointee.problem_value >= 0 {
                message += " (0x\(String(parser.pointee.problem_value, radix: 16)))"
            }
        } else if let context = parser.pointee.context {
            message += " \(String(cString: context))"
            let mark = parser.pointee.context_mark
            if mark.line + 1 != line { message += " of line \(mark.line + 1)" }
        }
        return YAMLFault(.badYAML, line, column, message)
    }

    /// Line and column (in characters) of a byte.
    private func place(offset: Int) -> (line: Int, column: Int) {
        var line = 1
        var column = 1
        for byte in bytes.prefix(offset) {
            if byte == UInt8(ascii: "\n") {
                line += 1
                column = 1
            } else if byte & 0xC0 != 0x80 {
                column += 1
            }
        }
        return (line, column)
    }
}

/// What stops the reading of a document.
private struct YAMLFault: Error {
    var diagnostic: Diagnostic

    init(
        _ code: DiagnosticCode, _ line: Int, _ column: Int, _ message: String,
        _ suggestion: String? = nil,
        path: String = ""
    ) {
        diagnostic = Diagnostic(
            code, path: path, line: line, column: column, message: message, suggestion: suggestion)
    }
}

/// The parts of a libyaml event that are used here, copied out of its memory.
private struct YAMLEvent {
    let kind: yaml_event_type_t
    let line: Int
    let column: Int
    var anchor: String?
    var tag: String?
    var text = ""
    var plain = false

    init(_ event: yaml_event_t) {
        kind = event.type
        line = event.start_mark.line + 1
        column = event.start_mark.column + 1
        switch event.type {
        case YAML_ALIAS_EVENT:
            anchor = Self.string(event.data.alias.anchor)
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            anchor = Self.string(scalar.anchor)
            tag = Self.string(scalar.tag)
            text = String(
                decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length),
                as: UTF8.self)
            plain = scalar.style == YAML_PLAIN_SCALAR_STYLE
        case YAML_SEQUENCE_START_EVENT:
            anchor = Self.string(event.data.sequence_start.anchor)
            tag = Self.string(event.data.sequence_start.tag)
        case YAML_MAPPING_START_EVENT:
            anchor = Self.string(event.data.mapping_start.anchor)
            tag = Self.string(event.data.mapping_start.tag)
        default: break
        }
    }

    private static func string(_ bytes: UnsafeMutablePointer<UInt8>?) -> String? {
        bytes.map { String(cString: $0) }
    }
}
