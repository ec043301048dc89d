import Providers
import Upstream

/// What a target says of the LLM provider that it is.
enum ProviderBlock {
    /// Where a provider is without a word of its own; nil for a plain service.
    static func baseURL(_ kind: String) -> String? {
        switch kind {
        case "openai": "https://api.openai.com"
        case "anthropic": "https://api.anthropic.com"
        default: nil
        }
    }

    /// Reads `secret_key_ref`. Nil for a plain service, which has no key.
    static func read(
        _ section: Section, kind: String?, _ files: inout [KeyFileUse], _ findings: Findings
    ) -> ProviderSettings? {
        guard let kind, kind != "http" else {
            let keys = ["secret_key_ref", "annotate_provider", "max_tokens"]
            for key in keys where kind != nil && section.has(key) {
                findings.add(
                    .conflict, section.place(key), "a target of provider http has none",
                    "write provider: openai or anthropic")
            }
            return nil
        }
        var provider = ProviderSettings(kind == "openai" ? .openAI : .anthropic)
        section.read("annotate_provider", into: &provider.annotates)
        section.read("max_tokens", into: &provider.maxTokens)
        guard let reference = section.section("secret_key_ref"),
            let (source, file) = keySource(reference, findings)
        else { return provider }
        provider.keySource = source
        switch source {
        case .variable: files.append(.variable(file))
        case .file: files.append(.secret(file))
        }
        return provider
    }

    /// `env` or `file` of a section: where a key comes from. Nil and a report where it does not say
    /// so.
    static func keySource(
        _ section: Section, _ findings: Findings
    ) -> (ProviderSettings.KeySource, NamedFile)? {
        let variable = section.text("env")
        let file = section.text("file")
        if let variable, file != nil {
            findings.add(
                .conflict, variable.1, "stands beside file", "keep one of the two")
        } else if let (name, place) = variable {
            // What stands there may be the key itself: it is not repeated.
            guard TextForm.isToken(name), !name.contains("="), !looksLikeKey(name) else {
                findings.add(
                    .wrongType, place, "is no name of an environment variable",
                    "the key itself does not belong here")
                return nil
            }
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

    /// Names of variables hold no hyphens; keys begin with some.
    private static func looksLikeKey(_ text: String) -> Bool {
        text.utf8.count > 20 && text.contains("-")
    }
}
