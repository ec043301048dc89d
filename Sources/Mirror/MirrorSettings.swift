public import Providers

/// How a request is chosen for the shadow.
public enum SampleKey: Sendable, Equatable {
    /// One at a random position of each stratum of 1/p requests.
    case request
    /// By a hash of this header's value: the same value is always or never mirrored, on every
    /// worker and instance.
    case header(String)
}

/// Which requests that ask a model are copied, by what they could do (`safety.tools`).
public enum ToolSafety: String, Sendable, CaseIterable {
    /// Those that bring no tools.
    case none
    /// Those, and such whose tools the client runs: nobody runs what the shadow calls.
    case client
    /// All.
    case all
}

/// One shadow of one primary: everything that holds for all routes. An entry of `traffic_mirror`.
public struct ShadowSettings: Sendable, Equatable {
    /// What holds where the configuration says nothing: copies at the shadow at one time,
    /// milliseconds for one copy, and sends a second.
    public static let inFlightDefault = 256
    public static let timeoutMsDefault = 5_000
    /// The same for a shadow that is an LLM provider, whose answers take their time.
    public static let modelTimeoutMsDefault = 60_000
    public static let qpsDefault = 200.0
    /// The largest `qps`: the cap's ring holds one time for each send of a window.
    public static let qpsMax = 1_000_000.0

    /// The target's id and its index in `GatewaySettings.targets`.
    public var targetID: String
    public var target: Int
    /// Sends in any sliding second, over all processes; 0 sends nothing, a fraction is one send in
    /// 1/qps seconds.
    public var qps = Self.qpsDefault
    /// Copies that may be at this shadow at one time, over all shadow processes.
    public var inFlightMax = Self.inFlightDefault
    /// From the moment the copy is taken off the ring to the end of its answer, milliseconds.
    public var timeoutMs = Self.timeoutMsDefault
    /// Bytes of one answer that are read before the connection is given up.
    public var answerBytesMax = 64 << 20
    /// A copy is given up where its client leaves before the primary's answer was whole.
    public var cancelsWithClient = false
    /// Field names (lower case) that are removed from the copy besides the built-in ones.
    public var stripFields: [String] = []
    /// Field names (lower case) of the built-in list that are sent all the same
    /// (`safety.allow_fields`).
    public var allowFields: [String] = []
    /// Names of query members whose values are removed from the copy's target besides the built-in
    /// ones, lower case.
    public var stripQuery: [String] = []
    /// What copies that ask a model may bring along.
    public var tools = ToolSafety.client
    /// Consecutive failures that open the breaker, and how long it stays open at first and at most,
    /// milliseconds.
    public var breakerFailures = 5
    public var breakerOpenMs = 1_000
    public var breakerOpenMsMax = 30_000

    /// `model_mapping`: the shadow's model for each of the primary's; one that is not in here keeps
    /// its name where both speak one API, else the request is not mirrored.
    public var modelMapping: [String: String] = [:]
    /// The keys of the mapping in the document's order, for whoever shows it.
    public var mappedModels: [String] = []
    /// What events say of its answers where these do not; with the target's own laid under it.
    public var tags = PinnedTags()
    /// `log_shadow_response`: its answers' texts stand in the events.
    public var logsResponse = false
    /// `capture_bytes`: bytes of one answer that are kept to be compared.
    public var captureBytes = Self.captureBytesDefault
    /// Where the configuration says nothing, and the most that it may say.
    public static let captureBytesDefault = 1 << 20

    /// A shadow at this target with all defaults.
    public init(targetID: String, target: Int) {
        self.targetID = targetID
        self.target = target
    }
}

/// What one route sends to one shadow: `traffic_mirror` with the route's `mirror` keys laid over
/// it.
public struct LaneSettings: Sendable, Equatable {
    /// Index in `GatewaySettings.shadows`.
    public var shadow: Int
    public var enabled = true
    /// 0 to 1, in steps of 1e-9.
    public var sampleRate = 1.0
    public var sampleBy = SampleKey.request
    /// Requests with a larger body are counted as `body_too_large` and not mirrored.
    public var bodyBytesMax = 1 << 20
    /// Methods that are mirrored (`safety.methods`), upper case.
    public var methods: [String] = ["GET", "HEAD", "OPTIONS"]
    /// POSTs that ask a model (`Inference`) are mirrored beside them: they read.
    public var takesInference = false

    /// A lane to this shadow with all defaults: every GET, HEAD and OPTIONS.
    public init(shadow: Int) { self.shadow = shadow }
}
