/// Every bound of upstreams that is not a setting, in one place.
public enum UpstreamLimits {
    /// Endpoints of one target: those that an exchange has tried are the bits of one word.
    public static let endpointsMax = 64
    /// Addresses kept of one endpoint's name; further ones are left out.
    public static let addressesMax = 16
    /// Seconds of the window in which a retry budget is counted.
    public static let budgetWindowSeconds = 10
    /// Retries that a worker may make in each window whatever the share: without them a quiet
    /// target would have none.
    public static let budgetFloor = 10
    /// An ejection lasts at most this many times `ejection.time`.
    public static let ejectionGrowthMax = 10
    /// So many good exchanges make up for one ejection.
    public static let ejectionForgottenAfter: UInt32 = 64
    /// The weight that a slow start begins with, in 256ths.
    public static let slowStartShareMin = 26
    /// After this long without a connection the other address family is tried beside the first
    /// (RFC 8305 §5).
    public static let raceDelayMs = 250

    /// Checks that are out at one time; further ones wait for their turn.
    public static let checksAtOnceMax = 256
    /// Bytes of an answer to a check that are read for its head; a longer head fails the check.
    public static let checkHeadBytesMax = 16 << 10
    /// Fields of such a head.
    public static let checkFieldsMax = 128
    /// The longest sleep of the health process, milliseconds.
    public static let healthTurnMsMax = 250

    /// Bytes of a DNS answer: the most that a message can have.
    public static let dnsAnswerBytesMax = 65_535
    /// Aliases (CNAME) that are followed within one answer.
    public static let dnsAliasesMax = 8
    /// A TTL is kept within these: below, a broken zone would be asked without end; above, a
    /// mistake in a zone would stay for days.
    public static let dnsTTLMsMin = 1_000
    public static let dnsTTLMsMax = 300_000
    /// How long after a failed look-up the name is asked for again.
    public static let dnsRetryMs = 2_000
    /// Stack of the resolver's thread: the system's resolver puts an answer of 64 KiB on it.
    public static let resolverStackBytes = 1 << 20
}
