/// Every bound of what is read from and written to LLM APIs, in one place.
public enum Limits {
    /// Longest JSON document: what Anthropic takes of a request, and more than OpenAI does.
    public static let documentBytesMax = 32 << 20
    /// Deepest nesting of lists and objects. A tool's schema of real use stays below 20.
    public static let depthMax = 128
    /// Values of one document, names of members included; each takes 20 bytes while it is read.
    public static let valuesMax = 1 << 20
    /// Names that are kept of those that an object holds more than once.
    public static let repeatedNamesMax = 16
    /// Longest line of an event stream, and all the data of one event: a tool's arguments may come
    /// in one piece.
    public static let eventLineBytesMax = 4 << 20
    public static let eventDataBytesMax = 4 << 20
    /// Sequences that may stop an answer, and answers to one prompt, as OpenAI bounds them.
    public static let stopSequencesMax = 4
    public static let choicesMax = 128
    /// Inputs of one call for embeddings, as OpenAI bounds them.
    public static let embeddingInputsMax = 2_048
    /// Dimensions of the largest embedding.
    public static let dimensionsMax = 3_072
    /// More tokens than any exchange has: what a provider claims beyond is cut to it.
    public static let tokensMax = 1 << 40
    /// Losses that are listed of one translation; more are not.
    public static let lossesMax = 32
    /// Bytes, and digits, of a member's name that is told in a loss: `web_search_20250305` has
    /// eight digits.
    static let lossNameBytesMax = 40
    static let lossNameDigitsMax = 8
    /// Longest names of tools: Anthropic's and OpenAI's.
    public static let messagesToolNameBytesMax = 128
    public static let chatToolNameBytesMax = 64
    /// Longest `metadata.user_id`.
    public static let userIDBytesMax = 256
    /// Content blocks of one streamed answer, and tool calls of one; what is beyond is a fault.
    public static let blocksMax = 1_024
    /// What is kept of one answer in the common form: text, reasoning and refusal, and the
    /// arguments of all its calls.
    public static let summaryTextBytesMax = 1 << 20
    public static let summaryArgumentBytesMax = 256 << 10
    /// Calls of tools that are kept of one answer in the common form.
    public static let summaryCallsMax = 128
}
