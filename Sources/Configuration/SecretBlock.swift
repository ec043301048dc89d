import Upstream

/// Where secrets come from: `env` and `file` of the mapping that asks for one.
///
/// What stands there in the place of a name may be the secret itself: it is not repeated, because
/// findings end in logs.
enum SecretBlock {
    /// Where a key of a provider or of a client is read from. Nil and a report where the section
    /// does not say so.
    static func source(
        _ section: Section, _ findings: Findings
    ) -> (ProviderSettings.KeySource, NamedFile)? {
        let variable = section.text("env")
        let file = section.text("file")
        if let variable, file != nil {
            findings.add(
                .conflict, variable.place, "stands beside file", "keep one of the two")
        } else if let (name, place) = variable {
            guard isVariable(name, place, of: "key", findings) else { return nil }
            return (.variable(name), NamedFile(name: name, place: place))
        } else if let (path, place) = file {
            guard !path.isEmpty, !path.utf8.contains(where: { $0 < 0x20 }) else {
                findings.add(.wrongType, place, "names no file", "write the path of a file")
                return nil
            }
            return (.file(path), NamedFile(name: path, place: place))
        } else if !section.has("env"), !section.has("file") {
            findings.add(
                .missingKey, section.place("env"), "required",
                "write {env: NAME} or {file: PATH}")
        }
        return nil
    }

    /// Whether a text is the name of a variable that may hold a `secret`; reported where it is not.
    static func isVariable(
        _ name: String, _ place: Place, of secret: String, _ findings: Findings
    ) -> Bool {
        if TextForm.isToken(name), !name.contains("="), !looksLikeKey(name) { return true }
        findings.add(
            .wrongType, place, "is no name of an environment variable",
            "the \(secret) itself does not belong here")
        return false
    }

    /// Names of variables hold no hyphens; keys begin with some.
    private static func looksLikeKey(_ text: String) -> Bool {
        text.utf8.count > 20 && text.contains("-")
    }
}
