/// Every bound of what is kept of exchanges and compared, in one place.
public enum VerdictLimits {
    /// Bytes of one body that a capture keeps, at most: `traffic_mirror.capture_bytes` is not more.
    public static let captureBodyBytesMax = 1 << 20
    /// Bytes of a capture's other parts: the model's name, the losses of a translation, the field
    /// lines that are kept of an answer.
    public static let captureModelBytesMax = 256
    public static let captureLossBytesMax = 4 << 10
    public static let captureFieldBytesMax = 4 << 10
    /// The longest capture.
    public static let captureBytesMax =
        CaptureRecord.headBytes + captureModelBytesMax + captureLossBytesMax + captureFieldBytesMax
        + 2 * captureBodyBytesMax
    /// Room of one ring of captures between a process and the judge: a power of two, and more than
    /// twice the longest capture.
    public static let captureRingBytes = 8 << 20
    /// Captures of one kind that wait for their request's end, and their bytes: beyond either the
    /// oldest is dropped.
    public static let waitingMax = 8_192
    public static let waitingBytesMax = 32 << 20
    /// Copies of one request, and the bytes of each text of a skeleton.
    static let copiesMax = 8
    static let skeletonTextBytesMax = 1_024
    /// The longest skeleton.
    static let skeletonBytesMax = 32 << 10
    /// A model's name, and another word that a provider tells, as events show it.
    static let wordBytesMax = 256
    /// Names of tools that an event lists.
    static let toolCallsMax = 32
    /// Rate-limit fields that an event shows.
    static let rateLimitsMax = 24
    /// Words of one text that the lexical embedder counts.
    static let wordsMax = 1 << 16
}
