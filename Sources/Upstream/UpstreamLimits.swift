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
    /// Fields of such a head, and interim answers (1xx) before it.
    public static let checkFieldsMax = 128
    public static let checkInterimMax = 8
    /// A check comes at most this part of the interval early or late.
    public static let checkJitterPart = 10
    /// Entries of `health.status`.
    public static let statusRangesMax = 16
    /// The longest sleep of the health process, milliseconds.
    public static let healthTurnMsMax = 250

    /// Servers of one resolv.conf or of `resolver.nameservers`, and domains of a search list.
    public static let nameserversMax = 3
    public static let searchMax = 6
    /// Bytes that are read of resolv.conf, nsswitch.conf and hosts.
    public static let systemFileBytesMax = 1 << 20
    /// Look-ups that are out at one time, each of two questions; further ones wait.
    public static let lookupsAtOnceMax = 64
    /// How long one try may take, and tries for each server, where resolv.conf says nothing.
    public static let dnsTimeoutMs = 2_000
    public static let dnsAttempts = 2
    /// Answers to nobody's question that one try puts up with: whoever sends more is guessing.
    public static let dnsStraysMax = 16
    /// Bytes that are read of a DNS answer over UDP, and over TCP: the most that a message has.
    public static let dnsDatagramBytesMax = 4_096
    public static let dnsAnswerBytesMax = 65_535
    /// Records of one answer that are looked at, and pointers within one name.
    public static let dnsRecordsMax = 512
    public static let dnsPointersMax = 64
    /// Aliases (CNAME) that are followed within one answer.
    public static let dnsAliasesMax = 8
    /// A TTL is kept within these: below, a broken zone would be asked without end; above, a
    /// mistake in a zone would stay for days.
    public static let dnsTTLMsMin = 1_000
    public static let dnsTTLMsMax = 300_000
    /// How long after a failed look-up the name is asked for again; twice as long each time, up to
    /// the second.
    public static let dnsRetryMs = 2_000
    public static let dnsRetryMsMax = 30_000
    /// Stack of the thread that asks the system.
    public static let resolverStackBytes = 1 << 20
    /// Longest key of a provider.
    public static let keyBytesMax = 4_096
}
