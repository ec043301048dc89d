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
}
