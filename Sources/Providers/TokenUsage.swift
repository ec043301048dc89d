/// The tokens of one exchange.
public struct TokenUsage: Equatable, Sendable {
    /// All of the prompt's, those from and into a cache among them.
    public var input = 0
    /// The answer's, reasoning among them.
    public var output = 0
    /// Of the prompt's, those that were read from the provider's cache.
    public var cacheRead = 0
    /// Of the prompt's, those that were written into it.
    public var cacheWrite = 0
    /// Of the answer's, those of reasoning, where the provider tells them.
    public var reasoning = 0
    /// Counted by us from the text's length, not by the provider.
    public var isEstimated = false

    /// No tokens.
    public init() {}

    /// So many of the prompt and of the answer.
    public init(input: Int, output: Int) {
        self.input = input
        self.output = output
    }

    /// Reads a `usage` object of any of the APIs: chat and legacy completions, responses,
    /// embeddings, messages. Nil where it is no object or has none of their members.
    public init?(_ usage: JSONValue?) {
        guard let usage, usage.kind == .object else { return nil }
        if let prompt = Self.count(usage["prompt_tokens"]) {
            input = prompt
            output = Self.count(usage["completion_tokens"]) ?? 0
            readDetails(usage, "prompt_tokens_details", "completion_tokens_details")
        } else if let read = Self.count(usage["input_tokens"]) {
            input = read
            output = Self.count(usage["output_tokens"]) ?? 0
            if usage["input_tokens_details"] != nil || usage["total_tokens"] != nil {
                readDetails(usage, "input_tokens_details", "output_tokens_details")
            } else {
                addCache(usage)
            }
        } else if let written = Self.count(usage["output_tokens"]) {
            output = written
        } else {
            return nil
        }
    }

    // Anthropic counts what its cache took part in apart from the rest.
    private mutating func addCache(_ usage: JSONValue) {
        cacheRead = Self.count(usage["cache_read_input_tokens"]) ?? 0
        cacheWrite = Self.count(usage["cache_creation_input_tokens"]) ?? 0
        input = Self.sum(input, Self.sum(cacheRead, cacheWrite))
    }

    private mutating func readDetails(
        _ usage: JSONValue, _ prompt: StaticString, _ answer: StaticString
    ) {
        cacheRead = Self.count(usage[prompt]?["cached_tokens"]) ?? 0
        reasoning = Self.count(usage[answer]?["reasoning_tokens"]) ?? 0
    }

    /// Takes a later `usage` of the same Messages stream, which is cumulative: what it tells
    /// replaces what was known.
    mutating func update(_ usage: JSONValue) {
        if let written = Self.count(usage["output_tokens"]) { output = written }
        guard let read = Self.count(usage["input_tokens"]) else { return }
        input = read
        addCache(usage)
    }

    /// Nothing that a provider sends may overflow what we add up.
    private static func count(_ value: JSONValue?) -> Int? {
        guard let number = value?.integer, number >= 0 else { return nil }
        return min(number, Limits.tokensMax)
    }

    private static func sum(_ one: Int, _ other: Int) -> Int { min(one + other, Limits.tokensMax) }

    /// About what a text of `bytes` bytes makes: one token for four bytes, at least one for any.
    public static func estimate(bytes: Int) -> Int { (bytes + 3) / 4 }

    /// Writes it as chat completions tell it.
    func writeChat(_ name: String, to writer: inout JSONWriter) {
        writer.object(name) { writer in
            writer.member("prompt_tokens", input)
            writer.member("completion_tokens", output)
            writer.member("total_tokens", input + output)
            writer.object("prompt_tokens_details") { $0.member("cached_tokens", cacheRead) }
            writer.object("completion_tokens_details") {
                $0.member("reasoning_tokens", reasoning)
            }
        }
    }

    /// Writes it as messages tell it.
    func writeMessages(_ name: String, to writer: inout JSONWriter) {
        writer.object(name) { writer in
            writer.member("input_tokens", max(0, input - cacheRead - cacheWrite))
            writer.member("cache_creation_input_tokens", cacheWrite)
            writer.member("cache_read_input_tokens", cacheRead)
            writer.member("output_tokens", output)
        }
    }
}
