/// Every bound of TLS that is not a setting, in one place.
public enum TLSLimits {
    /// Bytes of content that one record carries (RFC 8446 §5.1), and so the most that is gathered
    /// for one `send`.
    public static let recordBytesMax = 16_384
    /// Buffers shorter than a record are put together in one; longer ones are sent where they lie.
    public static let gatheredBytesMax = 16_384
    /// Records that one read takes: small ones cost as much as large ones.
    public static let recordsPerReadMax = 64
    /// Steps of a connection's state machine behind its handshake, two or three for each message:
    /// a key has to be changed once in 2^24 records at most (RFC 8446 §5.5).
    public static let stepsMax = 255
    /// Bytes of one file with a certificate, a key, an authority or an OCSP answer.
    public static let fileBytesMax = 1 << 20
    /// Files of one configuration, and certificates in one of them.
    public static let filesMax = 1_024
    public static let certificatesPerFileMax = 512
    /// Certificates of one listener.
    public static let certificatesMax = 256
    /// Certificates in a chain that a peer may send (RFC 8446 names no bound).
    public static let chainDepthMax = 8
    /// Bytes of a client certificate's subject as text; a longer one is refused, because a cut one
    /// could pass for another.
    public static let subjectBytesMax = 512
    /// Key generations of session tickets that are kept: the present one, and those before it.
    public static let ticketKeysKept = 4
    /// Of these, how many still open a ticket.
    public static let ticketKeysAccepted = 2
    /// A ticket's lifetime, seconds: RFC 8446 §4.6.1 allows seven days, one is enough.
    public static let ticketSecondsMax = 86_400
    /// A warning before a certificate ends, days.
    public static let expiryWarningDays = 14
    /// Least strength of a key in bits of security (NIST SP 800-57: RSA with 2,048 bits has 112).
    public static let keySecurityBitsMin = 112
}
