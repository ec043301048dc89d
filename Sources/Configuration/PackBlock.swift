import Proxy

/// `pack`: the name, the version and the switch of the document's policies.
struct PackBlock {
    var settings: PackSettings?
    var isEnabled = true

    static func read(_ root: Section, _ findings: Findings) -> PackBlock {
        var block = PackBlock()
        guard let section = root.section("pack") else { return block }
        section.read("enabled", into: &block.isEnabled)
        for key in ["id", "author", "description"] { _ = section.text(key) }
        for key in ["name", "version"] where !section.has(key) {
            findings.add(
                .missingKey, section.place(key), "required",
                key == "name" ? "give the pack a name" : "write a version, as 1.0.0")
        }
        let name = name(section, findings)
        let version = version(section, findings)
        if let name, let version { block.settings = PackSettings(name: name, version: version) }
        return block
    }

    private static func name(_ section: Section, _ findings: Findings) -> String? {
        guard let (text, place) = section.text("name") else { return nil }
        let range = 1...ConfigurationLimits.packNameCharactersMax
        guard range.contains(text.count) else {
            findings.add(
                .outOfRange, place,
                "must have 1 to \(range.upperBound) characters, has \(text.count)")
            return nil
        }
        return text
    }

    private static func version(_ section: Section, _ findings: Findings) -> String? {
        guard let (text, place) = section.text("version") else { return nil }
        guard isSemantic(text) else {
            findings.add(
                .wrongType, place,
                "must be a version as semver.org has it, is \(quoted(text))", "write it as 1.0.0")
            return nil
        }
        return text
    }

    /// MAJOR.MINOR.PATCH, with what may stand behind it (Semantic Versioning 2.0.0, items 2, 9
    /// and 10).
    static func isSemantic(_ text: String) -> Bool {
        let parts = text.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2, !areIdentifiers(parts[1], strict: false) { return false }
        let core = parts[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        if core.count == 2, !areIdentifiers(core[1], strict: true) { return false }
        let numbers = core[0].split(separator: ".", omittingEmptySubsequences: false)
        return numbers.count == 3 && numbers.allSatisfy(isNumber)
    }

    private static func isNumber(_ text: Substring) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy(TextForm.isDigit)
            && (text.utf8.count == 1 || text.first != "0")
    }

    /// `strict`: numbers have no leading zero.
    private static func areIdentifiers(_ text: Substring, strict: Bool) -> Bool {
        text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty
                && part.utf8.allSatisfy { TextForm.isAlphanumeric($0) || $0 == 0x2D }
                && (!strict || !part.utf8.allSatisfy(TextForm.isDigit) || isNumber(part))
        }
    }
}
