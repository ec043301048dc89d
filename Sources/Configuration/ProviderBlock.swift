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
            let (source, file) = SecretBlock.source(reference, findings)
        else { return provider }
        provider.keySource = source
        switch source {
        case .variable: files.append(.variable(file))
        case .file: files.append(.secret(file))
        }
        return provider
    }
}
