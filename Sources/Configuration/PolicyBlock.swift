import EventLog
import Policy
import Proxy

/// `pack` and `policies`, in both forms: a list of policies, or `chain` and `policy`.
struct PolicyBlock {
    var pack: PackSettings?
    /// In the order of the chain.
    var policies: [PolicySettings] = []
    /// What the chain's audit-logger asks of the event log.
    var audit: AuditKeys?
    private var isEnabled = true

    /// Those that act: none of a pack that is switched off.
    var active: [PolicySettings] { isEnabled ? policies : [] }

    static func read(_ root: Section, _ findings: Findings) -> PolicyBlock {
        var block = PolicyBlock()
        let pack = PackBlock.read(root, findings)
        block.pack = pack.settings
        block.isEnabled = pack.isEnabled
        if let (node, place) = root.value("policies") {
            switch node.content {
            case .list(let items): block.readList(items, findings)
            case .mapping: block.readChain(root, findings)
            case .scalar:
                findings.add(
                    .wrongType, place, "must be \(root.type("policies").text), is \(node.kindText)",
                    "write [{type: content_filter, action: flag}]")
            }
        }
        if !block.isEnabled {
            block.audit = nil
            if !block.policies.isEmpty, let section = root.section("pack") {
                findings.add(
                    .withoutEffect, section.place("enabled"),
                    "is false: none of the policies acts", "write enabled: true")
            }
        }
        return block
    }

    // MARK: The list

    private mutating func readList(_ items: [YAMLNode], _ findings: Findings) {
        guard items.count <= ConfigurationLimits.policiesMax else {
            findings.add(
                .tooLarge, Place("policies", items[0]),
                "has \(items.count) entries; at most \(ConfigurationLimits.policiesMax) are read")
            return
        }
        for (index, node) in items.enumerated() {
            let path = "policies[\(index)]"
            guard
                let section = Section(
                    node, path: path, schemaPath: "policies[]", findings: findings)
            else { continue }
            guard
                let (text, place) = section.required("type", "write one of \(Self.kindNames)"),
                let kind = Self.kind(text, place, findings)
            else { continue }
            checkForeignKeys(section, kind, findings)
            add(section, kind, name: name(section, kind, findings), findings)
        }
    }

    private func name(
        _ section: Section, _ kind: PolicySettings.KindName, _ findings: Findings
    ) -> String? {
        var name = kind.rawValue
        var place = section.place
        if let (text, at) = section.text("name") {
            (name, place) = (text, at)
            guard section.isName(text, at) else { return nil }
        }
        if policies.contains(where: { $0.name == name }) {
            findings.add(
                .duplicate, place, "there is a policy \(name) already", "give it another name")
            return nil
        }
        return name
    }

    /// Keys that the schema has for an entry, and that are another kind's.
    private func checkForeignKeys(
        _ section: Section, _ kind: PolicySettings.KindName, _ findings: Findings
    ) {
        for entry in section.entries {
            let owners = PolicySettings.KindName.allCases.filter {
                Schema.childNames["policies.policy.\($0.rawValue)"]!.contains(entry.key)
            }
            guard !owners.isEmpty, !owners.contains(kind) else { continue }
            let names = owners.map(\.rawValue).joined(separator: " and ")
            findings.add(
                .conflict, section.place(entry.key),
                "is a key of \(names), not of "
                    + kind.rawValue, "leave it out")
        }
    }

    // MARK: The chain

    private mutating func readChain(_ root: Section, _ findings: Findings) {
        guard let section = root.section("policies") else { return }
        let blocks = blocks(section, findings)
        guard section.has("chain") else {
            findings.add(
                .missingKey, section.place("chain"), "required",
                "name the policies in their order")
            return
        }
        var chained: [PolicySettings.KindName] = []
        for (node, place) in section.list("chain", max: ConfigurationLimits.policiesMax) ?? [] {
            guard let text = Section.text(of: node, place, "the kind of a policy", findings),
                let kind = Self.kind(text, place, findings)
            else { continue }
            guard !chained.contains(kind) else {
                findings.add(
                    .duplicate, place, "\(kind.rawValue) stands in the chain already",
                    "keep one of them")
                continue
            }
            chained.append(kind)
            guard let block = blocks.first(where: { $0.kind == kind }) else {
                findings.add(
                    .chainedWithoutBlock, place,
                    "\(kind.rawValue) is chained, and policies.policy has no block of it",
                    "add policy: {\(kind.rawValue): {}}")
                continue
            }
            if let section = block.section { add(section, kind, name: kind.rawValue, findings) }
        }
        for block in blocks where !chained.contains(block.kind) {
            findings.add(
                .withoutEffect, block.place, "is not in the chain: nothing acts on it",
                "add \(block.kind.rawValue) to policies.chain")
        }
    }

    private struct Block {
        let kind: PolicySettings.KindName
        let place: Place
        /// Nil where it is no mapping, which has been reported.
        let section: Section?
    }

    /// The entries of `policies.policy`.
    private func blocks(_ section: Section, _ findings: Findings) -> [Block] {
        guard let (node, place) = section.value("policy") else { return [] }
        guard case .mapping(let entries) = node.content else {
            findings.add(
                .wrongType, place, "must be \(section.type("policy").text), is \(node.kindText)")
            return []
        }
        var blocks: [Block] = []
        for entry in entries {
            let path = YAMLReader.join(place.path, entry.key)
            let at = Place(path, line: entry.line, column: entry.column)
            guard let kind = Self.kind(entry.key, at, findings) else { continue }
            if blocks.contains(where: { $0.kind == kind }) {
                findings.add(
                    .duplicate, at, "\(kind.rawValue) has a block already", "keep one of them")
                continue
            }
            let inner = Section(
                entry.value, path: path, schemaPath: "policies.policy.\(kind.rawValue)",
                findings: findings)
            blocks.append(Block(kind: kind, place: at, section: inner))
        }
        return blocks
    }

    // MARK: One policy

    private static let kindNames =
        PolicySettings.KindName.allCases.map(\.rawValue).joined(separator: ", ")

    private static func kind(
        _ text: String, _ place: Place, _ findings: Findings
    ) -> PolicySettings.KindName? {
        if let kind = PolicySettings.KindName(folding: text) { return kind }
        let names = PolicySettings.KindName.allCases.map(\.rawValue)
        findings.add(
            .unknownKind, place, "unknown kind of policy \(quoted(text))",
            NearestName.of(text, in: names).map { "did you mean \($0)?" }
                ?? "there are \(kindNames)")
        return nil
    }

    /// Reads a policy's own keys, which stand in `section`. Without a name it is read for its
    /// faults alone.
    private mutating func add(
        _ section: Section, _ kind: PolicySettings.KindName, name: String?, _ findings: Findings
    ) {
        let settings: PolicySettings.Kind
        switch kind {
        case .contentFilter:
            var filter = ContentFilterSettings()
            Self.readAction(section, into: &filter.action, kind, findings)
            if let patterns = PatternList.read(section, findings) { filter.patterns = patterns }
            settings = .contentFilter(filter)
        case .piiDetector:
            var detector = PIISettings()
            Self.readAction(section, into: &detector.action, kind, findings)
            let rows = PIIKinds.names.map { ($0.name, $0.kind) }
            let kinds = section.words(
                "detect", max: ConfigurationLimits.listEntriesMax, rows, "kind of data",
                empty: "names nothing", "leave the key out for everything, or the policy")
            if let kinds { detector.kinds = kinds }
            settings = .piiDetector(detector)
        case .auditLogger:
            let keys = AuditKeys(section)
            if audit != nil {
                findings.add(
                    .duplicate, section.place, "there is an audit-logger already",
                    "keep one of them")
            }
            audit = keys
            settings = .auditLogger
        }
        if let name { policies.append(PolicySettings(name: name, kind: settings)) }
    }

    /// In the list form all kinds share the key: which of its words a kind knows is checked here.
    private static func readAction<Action: RawRepresentable<String> & CaseIterable>(
        _ section: Section, into action: inout Action, _ kind: PolicySettings.KindName,
        _ findings: Findings
    ) {
        guard let word = section.choice("action") else { return }
        if let known = Action(rawValue: word) {
            action = known
            return
        }
        let words = Action.allCases.map(\.rawValue)
        findings.add(
            .wrongType, section.place("action"),
            "\(kind.rawValue) knows \(words.joined(separator: " and ")), not \(word)")
    }
}

/// What an audit-logger says of the event log.
struct AuditKeys {
    let place: Place
    private let isImmutable: Bool?
    private let retentionDays: Int?
    private let logsAllAccess: Bool

    init(_ section: Section) {
        place = section.place
        var standard = EventLogSettings()
        section.read("immutable", into: &standard.isImmutable)
        section.read("retention_days", into: &standard.retentionDays)
        section.read("log_all_access", into: &standard.logsAllAccess)
        isImmutable = section.has("immutable") ? standard.isImmutable : nil
        retentionDays = section.has("retention_days") ? standard.retentionDays : nil
        logsAllAccess = standard.logsAllAccess
    }

    func lay(over log: inout EventLogSettings) {
        if let isImmutable { log.isImmutable = isImmutable }
        if let retentionDays { log.retentionDays = retentionDays }
        log.logsAllAccess = logsAllAccess
    }

    /// `log` is what `event_log` itself says: the two may not contradict each other.
    func checkBeside(_ section: Section, _ log: EventLogSettings, _ findings: Findings) {
        func conflict(_ key: String) {
            findings.add(
                .conflict, section.place(key), "the audit-logger says something else",
                "keep one of the two")
        }
        if section.has("immutable"), let isImmutable, isImmutable != log.isImmutable {
            conflict("immutable")
        }
        if section.has("retention_days"), let retentionDays, retentionDays != log.retentionDays {
            conflict("retention_days")
        }
    }
}

/// `patterns` of a content_filter: texts, and `{regex: PATTERN}`.
enum PatternList {
    static func read(_ section: Section, _ findings: Findings)
        -> [ContentFilterSettings.Pattern]?
    {
        guard
            let items = section.list(
                "patterns", max: ConfigurationLimits.patternsMax,
                empty: "names nothing to look for", "leave the key out for the built-in ones")
        else { return nil }
        let patterns = items.compactMap { node, place in pattern(node, place, section, findings) }
        guard patterns.count == items.count else { return nil }
        do throws(PatternFault) {
            _ = try PatternSet(patterns)
        } catch {
            findings.add(.wrongType, items[error.index].place, error.text)
            return nil
        }
        return patterns
    }

    private static func pattern(
        _ node: YAMLNode, _ place: Place, _ section: Section, _ findings: Findings
    ) -> ContentFilterSettings.Pattern? {
        guard case .mapping = node.content else {
            guard
                let text = Section.text(of: node, place, "a text or {regex: PATTERN}", findings)
            else { return nil }
            if text.isEmpty {
                findings.add(.wrongType, place, "is empty: it would be found everywhere")
                return nil
            }
            return .literal(text)
        }
        guard
            let inner = Section(
                node, path: place.path, schemaPath: section.schemaPath + ".patterns[]",
                findings: findings)
        else { return nil }
        return inner.required("regex").map { .expression($0.text) }
    }
}
