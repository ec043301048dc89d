import Proxy
import Upstream

/// `auth`: the keys of the clients, or `none`.
enum AuthBlock {
    static func read(
        _ root: Section, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> AuthSettings? {
        guard let (node, place) = root.value("auth"), !isNone(node) else { return nil }
        if case .scalar = node.content {
            findings.add(
                .wrongType, place, "must be a mapping or none",
                "write {keys: [{name: team, env: UMBRA_KEY_TEAM}]}, or none")
            return nil
        }
        guard let section = root.section("auth") else { return nil }
        guard section.has("keys") else {
            findings.add(
                .missingKey, section.place("keys"), "required",
                "write keys: [{name: team, env: UMBRA_KEY_TEAM}]")
            return nil
        }
        guard
            let items = section.list(
                "keys", max: ConfigurationLimits.clientKeysMax,
                empty: "names no key: nobody could use the gateway",
                "write auth: none to ask for no key")
        else { return nil }
        var auth = AuthSettings()
        for (node, place) in items {
            guard let key = key(node, place, auth, &files, findings) else { continue }
            auth.keys.append(key)
        }
        return auth
    }

    /// Whether a node is the word `none`.
    static func isNone(_ node: YAMLNode) -> Bool {
        guard case .scalar(let text, _) = node.content else { return false }
        return text == "none"
    }

    private static func key(
        _ node: YAMLNode, _ place: Place, _ auth: AuthSettings, _ files: inout [KeyFileUse],
        _ findings: Findings
    ) -> AuthSettings.Key? {
        if case .scalar = node.content, !node.isNull {
            // It may be a key: it is not repeated.
            findings.add(
                .wrongType, place, "must be a mapping; the key itself does not belong here",
                "write {name: team, env: NAME}, and set that variable")
            return nil
        }
        guard
            let section = Section(
                node, path: place.path, schemaPath: "auth.keys[]", findings: findings)
        else { return nil }
        let name = name(section, auth, findings)
        guard let (source, file) = SecretBlock.source(section, findings), let name else {
            return nil
        }
        switch source {
        case .variable: files.append(.clientVariable(file))
        case .file: files.append(.secret(file))
        }
        return AuthSettings.Key(name: name, source: source)
    }

    private static func name(
        _ section: Section, _ auth: AuthSettings, _ findings: Findings
    ) -> String? {
        guard let (name, place) = section.required("name", "say who has the key"),
            section.isName(name, place)
        else { return nil }
        guard !auth.keys.contains(where: { $0.name == name }) else {
            findings.add(
                .duplicate, place, "\(name) has a key already", "give it another name")
            return nil
        }
        return name
    }
}
