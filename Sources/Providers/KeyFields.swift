public import HTTP

extension FieldText {
    /// Whether a field of this name is one that LLM providers read a key from.
    public var namesProviderKey: Bool {
        equalsFolded("authorization") || equalsFolded("x-api-key") || equalsFolded("api-key")
            || equalsFolded("x-goog-api-key") || equalsFolded("ocp-apim-subscription-key")
    }
}
