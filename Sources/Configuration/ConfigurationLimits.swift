/// Every bound of reading a configuration, in one place.
public enum ConfigurationLimits {
    /// Bytes of one document.
    public static let documentBytesMax = 1 << 20
    /// Lines that begin with `%`, as directives do: libyaml compares each with all before it.
    public static let directivesMax = 64
    /// Values and keys that one document may write.
    public static let nodesMax = 100_000
    /// How deep lists and mappings may stand in each other.
    public static let depthMax = 64
    /// Values and keys that aliases and merges may repeat, all together; a bomb of nested
    /// aliases names billions in a few lines.
    public static let aliasedNodesMax = 100_000
    /// Faults that are listed; the rest are counted.
    public static let diagnosticsMax = 200
    /// Characters of the user's own text that a message quotes.
    public static let quotedCharactersMax = 64

    /// The smallest share above 0; the sampler counts in these steps.
    public static let sampleRateStep = 1e-9
    /// The smallest cap above 0: one copy in a thousand seconds.
    public static let qpsMin = 0.001

    /// Addresses of `listen`.
    public static let listenersMax = 64
    /// Entries of `providers.targets`.
    public static let targetsMax = 1_024
    /// Entries of `routes`.
    public static let routesMax = 4_096
    /// Entries of `traffic_mirror.shadows`.
    public static let shadowsMax = 8
    /// Policies, models of one mapping, keys of clients, and patterns of one filter.
    public static let policiesMax = 32
    public static let mappedModelsMax = 1_024
    public static let clientKeysMax = 64
    public static let patternsMax = 256
    /// Characters of a pack's name.
    public static let packNameCharactersMax = 200
    /// Entries of one list of methods, header matches or names of fields.
    public static let listEntriesMax = 256
    /// Characters of a target's id, a route's name, a method, a field name.
    public static let nameCharactersMax = 128
    /// Characters of a path, a header value or a URL.
    public static let textCharactersMax = 4_096
    /// Bytes of one worker's blocks (`block_bytes` × `blocks_per_worker`).
    public static let blockPoolBytesMax = 16 << 30
}
