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
            for key in ["secret_key_ref", "annotate_provider"] where kind != nil && section.has(key)
            {
                findings.add(
                    .conflict, section.place(key), "a target of provider http has none",
                    "write provider: openai or anthropic")
            }
            return nil
        }
        var provider = ProviderSettings(kind == "openai" ? .openAI : .anthropic)
        section.read("annotate_provider", into: &provider.annotates)
        guard let reference = section.section("secret_key_ref") else { return provider }
        let variable = reference.text("env")
        let file = reference.text("file")
        if let variable, file != nil {
            findings.add(
                .conflict, variable.1, "stands beside file", "keep one of the two")
        } else if let (name, place) = variable {
            guard TextForm.isToken(name), !name.contains("=") else {
                findings.add(
                    .wrongType, place, "\(quoted(name)) is no name of an environment variable")
                return provider
            }
            provider.keySource = .variable(name)
            files.append(.variable(NamedFile(name: name, place: place)))
        } else if let (path, place) = file {
            guard !path.isEmpty, !path.utf8.contains(where: { $0 < 0x20 }) else {
                findings.add(.wrongType, place, "names no file", "write the path of a file")
                return provider
            }
            provider.keySource = .file(path)
            files.append(.secret(NamedFile(name: path, place: place)))
        } else if !reference.has("env"), !reference.has("file") {
            findings.add(
                .missingKey, reference.place("env"), "required",
                "write {env: NAME} or {file: PATH}")
        }
        return provider
    }
}
