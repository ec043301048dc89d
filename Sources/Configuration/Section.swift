/// One mapping of the document beside its place in `Schema`: hands out values that have the key's
/// type and range, and reports those that have not.
struct Section {
    /// As written: `routes[2].match`.
    let path: String
    /// As in the schema: `routes[].match`.
    let schemaPath: String
    let node: YAMLNode
    let entries: [YAMLEntry]
    let findings: Findings

    /// The mapping at `path`; nil and a report where it is none. Keys that the schema does not have
    /// are reported here.
    init?(_ node: YAMLNode, path: String, schemaPath: String, findings: Findings) {
        guard case .mapping(let entries) = node.content else {
            findings.add(.wrongType, Place(path, node), "must be a mapping, is \(node.kindText)")
            return nil
        }
        self.path = path
        self.schemaPath = schemaPath
        self.node = node
        self.entries = entries
        self.findings = findings
        checkKeys()
    }

    var place: Place { Place(path, node) }

    /// Where a key stands, or would stand.
    func place(_ key: String) -> Place {
        guard let entry = entry(key) else {
            return Place(join(key), line: node.line, column: node.column)
        }
        return Place(join(key), line: entry.line, column: entry.column)
    }

    private func join(_ key: String) -> String { YAMLReader.join(path, key) }

    private func schemaJoin(_ key: String) -> String {
        schemaPath.isEmpty ? key : "\(schemaPath).\(key)"
    }

    private func entry(_ key: String) -> YAMLEntry? { entries.first { $0.key == key } }

    func has(_ key: String) -> Bool { entry(key) != nil }

    /// The value of a key with its place; nil where it is absent, or has no value (which is
    /// reported).
    func value(_ key: String) -> (node: YAMLNode, place: Place)? {
        guard let entry = entry(key) else { return nil }
        let place = Place(join(key), entry.value)
        guard !entry.value.isNull else {
            findings.add(
                .wrongType, self.place(key), "has no value",
                "give it one, or leave the key out for its default")
            return nil
        }
        return (entry.value, place)
    }

    // MARK: Keys

    private func checkKeys() {
        let names = Schema.childNames[schemaPath] ?? []
        if names.contains("*") { return }
        for entry in entries where !names.contains(entry.key) { unknown(entry, names) }
    }

    private func unknown(_ entry: YAMLEntry, _ names: [String]) {
        let place = Place(join(entry.key), line: entry.line, column: entry.column)
        let schemaPath = schemaJoin(entry.key)
        if let overlay = Schema.overlays.first(where: { schemaPath.hasPrefix($0.prefix + ".") }) {
            let rest = schemaPath.dropFirst(overlay.prefix.count)
            if let key = Schema.byPath["traffic_mirror" + rest], let scope = key.scope {
                let holds = scope == .block ? "the whole of traffic_mirror" : "the whole shadow"
                let here = overlay.prefix == "routes[].mirror" ? "one route" : "one shadow"
                findings.add(
                    .conflict, place, "holds for \(holds), not for \(here)", "set it as \(key.path)"
                )
                return
            }
        }
        findings.add(
            .unknownKey, place, "unknown key", findings.isFull ? nil : meant(entry.key, names))
    }

    private func meant(_ key: String, _ names: [String]) -> String? {
        if let name = NearestName.of(key, in: names) { return "did you mean \(name)?" }
        let block = String(schemaPath.prefix { $0 != "." && $0 != "[" })
        if let path = Schema.elsewhere(key, block: block) { return "did you mean \(path)?" }
        // `audit-logger` at the top level: where it belongs is elsewhere in the document.
        if schemaPath == "", let path = Schema.keys.first(where: { $0.name == key })?.path {
            return "did you mean \(path)?"
        }
        if schemaPath != "", Schema.childNames[""]!.contains(key) {
            return "\(key) stands at the top level"
        }
        return names.isEmpty ? nil : "known here: \(names.joined(separator: ", "))"
    }

    /// The schema's row of a key. The reader may only ask for keys that the schema has.
    func type(_ key: String) -> SchemaType {
        guard let row = Schema.byPath[schemaJoin(key)] else {
            preconditionFailure("the schema has no \(schemaJoin(key))")
        }
        return row.type
    }

    // MARK: Values

    func section(_ key: String) -> Section? { section(key, as: schemaJoin(key)) }

    /// The mapping of a key that has the keys of another place in the schema.
    func section(_ key: String, as schemaPath: String) -> Section? {
        guard let (node, place) = value(key) else { return nil }
        return Section(node, path: place.path, schemaPath: schemaPath, findings: findings)
    }

    /// The entries of a list with their places; nil and a report where it is none or longer than
    /// `max`. Where it may not be empty, `empty` says what it lacks then.
    func list(
        _ key: String, max: Int, empty: String? = nil, _ remedy: String? = nil
    ) -> [(node: YAMLNode, place: Place)]? {
        guard let (node, place) = value(key) else { return nil }
        guard case .list(let items) = node.content else {
            let remedy: String? =
                if case .scalar(let text, _) = node.content { "write [\(quoted(text))]" } else {
                    nil
                }
            findings.add(
                .wrongType, place, "must be \(type(key).text), is \(node.kindText)", remedy)
            return nil
        }
        guard items.count <= max else {
            findings.add(.tooLarge, place, "has \(items.count) entries; at most \(max) are read")
            return nil
        }
        if items.isEmpty, let empty { findings.add(.outOfRange, self.place(key), empty, remedy) }
        return items.enumerated().map { ($1, Place("\(place.path)[\($0)]", $1)) }
    }

    /// A text, quoted or not.
    func text(_ key: String) -> (text: String, place: Place)? {
        guard let (node, place) = value(key) else { return nil }
        guard let text = Self.text(of: node, place, type(key).text, findings) else { return nil }
        return (text, place)
    }

    /// The text of a key that has to be there; reported where it is not.
    func required(_ key: String, _ remedy: String? = nil) -> (text: String, place: Place)? {
        if let found = text(key) { return found }
        if !has(key) { findings.add(.missingKey, place(key), "required", remedy) }
        return nil
    }

    /// Whether a text has the form that names in a document have; reported where it has not.
    func isName(_ text: String, _ place: Place) -> Bool {
        if TextForm.isName(text) { return true }
        findings.add(.wrongType, place, TextForm.nameRule + ", is \(quoted(text))")
        return false
    }

    /// The text of a scalar of bounded length without control characters; nil and a report else.
    static func text(of node: YAMLNode, _ place: Place, _ form: String, _ findings: Findings)
        -> String?
    {
        guard case .scalar(let text, _) = node.content, !node.isNull else {
            findings.add(.wrongType, place, "must be \(form), is \(node.kindText)")
            return nil
        }
        guard text.utf8.count <= ConfigurationLimits.textCharactersMax else {
            findings.add(
                .tooLarge, place,
                "has \(text.utf8.count) bytes; at most \(ConfigurationLimits.textCharactersMax)")
            return nil
        }
        guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
            findings.add(.wrongType, place, "holds control characters: \"\(quoted(text))\"")
            return nil
        }
        return text
    }

    func read(_ key: String, into target: inout Bool) {
        guard let (node, place) = value(key) else { return }
        switch node.content {
        case .scalar(let text, plain: true) where Self.trueTexts.contains(text): target = true
        case .scalar(let text, plain: true) where Self.falseTexts.contains(text): target = false
        case .scalar(let text, plain: false)
        where (Self.trueTexts + Self.falseTexts).contains(text):
            wrong(key, node, place, "write it without quotes")
        default: wrong(key, node, place, nil)
        }
    }

    private static let trueTexts = ["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"]
    private static let falseTexts = [
        "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF",
    ]

    /// Whether a node is the plain word `off` (or `false`, which some tools write for it).
    static func isOff(_ node: YAMLNode) -> Bool {
        guard case .scalar(let text, _) = node.content else { return false }
        return falseTexts.contains(text)
    }

    /// Whether a node is the plain word `true`, or one that stands for it.
    static func isOn(_ node: YAMLNode) -> Bool {
        guard case .scalar(let text, plain: true) = node.content else { return false }
        return trueTexts.contains(text)
    }

    /// A number of the key's type: bytes, milliseconds or a count.
    func read(_ key: String, into target: inout Int) {
        guard let (node, place) = value(key) else { return }
        let type = type(key)
        guard case .scalar(let text, let plain) = node.content else {
            return wrong(key, node, place, nil)
        }
        let outcome: NumberOutcome<Int>
        let range: ClosedRange<Int>
        var needsPlain = true
        switch type {
        case .integer(let bounds), .integerOrAuto(let bounds), .powerOfTwo(let bounds):
            (outcome, range) = (IntegerText.read(text), bounds)
        case .size(let bounds), .sizePowerOfTwo(let bounds):
            (outcome, range, needsPlain) = (SizeText.read(text), bounds, false)
        case .duration(let bounds):
            (outcome, range, needsPlain) = (
                DurationText.read(text, plainIsMs: false), bounds, false
            )
        case .milliseconds(let bounds):
            (outcome, range, needsPlain) = (DurationText.read(text, plainIsMs: true), bounds, false)
        default: preconditionFailure("\(schemaJoin(key)) is no number")
        }
        switch outcome {
        case .malformed(let suggestion): wrong(key, node, place, suggestion)
        case .value where needsPlain && !plain: wrong(key, node, place, "write it without quotes")
        case .value(let number) where range.contains(number) && fits(number, type): target = number
        case .value, .tooLarge: outOfRange(key, text, place)
        }
    }

    private func fits(_ number: Int, _ type: SchemaType) -> Bool {
        switch type {
        case .powerOfTwo, .sizePowerOfTwo: number > 0 && number & (number - 1) == 0
        default: true
        }
    }

    func read(_ key: String, into target: inout Double) {
        guard let (node, place) = value(key) else { return }
        guard case .scalar(let text, let plain) = node.content else {
            return wrong(key, node, place, nil)
        }
        let outcome: NumberOutcome<Double>
        let range: ClosedRange<Double>
        let least: Double
        switch type(key) {
        case .number(let bounds, let smallest):
            (outcome, range, least) = (DecimalText.read(text), bounds, smallest)
        case .rate:
            (outcome, range, least) = (
                RateText.read(text), 0...1, ConfigurationLimits.sampleRateStep
            )
        default: preconditionFailure("\(schemaJoin(key)) is no fraction")
        }
        switch outcome {
        case .malformed(let suggestion): wrong(key, node, place, suggestion)
        case .value where !plain && !text.hasSuffix("%"):
            wrong(key, node, place, "write it without quotes")
        case .value(let number) where number > 0 && number < least:
            findings.add(
                .outOfRange, place,
                "must be 0, or at least \(DecimalText.text(least)), is \(quoted(text))")
        case .value(let number) where range.contains(number): target = number
        case .value, .tooLarge: outOfRange(key, text, place)
        }
    }

    /// One of the key's choices; nil and a report where it is none of them.
    func choice(_ key: String) -> String? {
        guard let (text, place) = text(key) else { return nil }
        guard case .choice(let names) = type(key) else {
            preconditionFailure("\(schemaJoin(key)) is no choice")
        }
        if names.contains(text) { return text }
        findings.add(
            .wrongType, place, "must be \(type(key).text), is \(quoted(text))",
            NearestName.of(text, in: names).map { "did you mean \($0)?" })
        return nil
    }

    /// What the words of a list stand for, by `rows`; each that is none of them is reported. `what`
    /// is what a word names: `kind of data`. Nil as for `list`.
    func words<Value: OptionSet>(
        _ key: String, max: Int, _ rows: [(String, Value)], _ what: String, empty: String? = nil,
        _ remedy: String? = nil
    ) -> Value? where Value.Element == Value {
        guard let items = list(key, max: max, empty: empty, remedy) else { return nil }
        var values: Value = []
        for (node, place) in items {
            guard let text = Self.text(of: node, place, "a \(what)", findings) else { continue }
            if let (_, value) = rows.first(where: { $0.0 == text }) {
                values.formUnion(value)
            } else {
                let known = rows.map(\.0)
                findings.add(
                    .wrongType, place, "\(quoted(text)) is no \(what)",
                    NearestName.of(text, in: known).map { "did you mean \($0)?" }
                        ?? "there are \(listed(known))")
            }
        }
        return values
    }

    private func wrong(_ key: String, _ node: YAMLNode, _ place: Place, _ suggestion: String?) {
        findings.add(
            .wrongType, place, "must be \(type(key).text), is \(node.kindText)", suggestion)
    }

    private func outOfRange(_ key: String, _ text: String, _ place: Place) {
        findings.add(.outOfRange, place, "must be \(type(key).text), is \(quoted(text))")
    }
}
