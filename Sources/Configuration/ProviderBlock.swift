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
            let keys = ["secret_key_ref", "annotate_provider", "max_tokens", "azure"]
            for key in keys where kind != nil && section.has(key) {
                findings.add(
                    .conflict, section.place(key), "a target of provider http has none",
                    key == "azure"
                        ? "write provider: openai" : "write provider: openai or anthropic")
            }
            return nil
        }
        var provider = ProviderSettings(kind == "openai" ? .openAI : .anthropic)
        section.read("annotate_provider", into: &provider.annotates)
        section.read("max_tokens", into: &provider.maxTokens)
        provider.azure = azure(section, kind, findings)
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

    private static func azure(
        _ section: Section, _ kind: String, _ findings: Findings
    ) -> AzureSettings? {
        guard let azure = section.section("azure") else { return nil }
        guard kind == "openai" else {
            findings.add(
                .conflict, azure.place, "belongs to a target of provider openai",
                "write provider: openai")
            return nil
        }
        if !section.has("base_url"), !section.has("endpoints") {
            findings.add(
                .missingKey, section.place("base_url"), "required",
                "write https://RESOURCE.openai.azure.com")
        }
        let deployment = azure.required("deployment", "name the model's deployment")
        let version = azure.required("api_version", "write a version of the API: 2024-10-21")
        // Both are looked at: a fault of the one hides none of the other.
        let areNames = [deployment, version].compactMap { $0 }.map {
            isPathName(azure, $0.text, $0.place, findings)
        }
        guard let deployment, let version, !areNames.contains(false) else { return nil }
        return AzureSettings(deployment: deployment.text, apiVersion: version.text)
    }

    /// Whether a text may stand in a path: a server would take dots alone for a way up.
    private static func isPathName(
        _ section: Section, _ text: String, _ place: Place, _ findings: Findings
    ) -> Bool {
        guard section.isName(text, place) else { return false }
        guard text.allSatisfy({ $0 == "." }) else { return true }
        findings.add(
            .wrongType, place, "is a way through folders, not a name",
            "write it as Azure's portal shows it")
        return false
    }
}
