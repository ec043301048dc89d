/// Every bound of the stand-ins, in one place.
public enum MockLimits {
    /// Clients at once; those beyond are closed at once.
    public static let connectionsMax = 4_096
    /// Longest request body: what Anthropic takes.
    public static let bodyBytesMax = 32 << 20
    /// Bodies of all clients together; beyond it a request is answered 503.
    public static let bodiesBytesMax = 512 << 20
    /// Bytes that one `recv` may bring.
    static let receiveBytes = 64 << 10
    /// Answer bytes that wait for a slow reader before the next events are held back.
    static let pendingBytesMax = 256 << 10
    /// Longest answer, tokens.
    public static let outputTokensMax = 16_384
    /// Answers to one prompt, and sequences that may stop one, as OpenAI bounds them.
    static let choicesMax = 128
    static let stopSequencesMax = 4
    /// Inputs of one call for embeddings, and the dimensions of each, as OpenAI bounds them.
    static let embeddingInputsMax = 2_048
    static let dimensionsMax = 3_072
    /// How deep an answer made after a schema follows it.
    static let schemaDepthMax = 8
    /// A turn of the loop waits no longer than this, milliseconds.
    static let turnMsMax: Int32 = 1_000
}
