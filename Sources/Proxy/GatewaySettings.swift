public import CoreLoop
public import EventLog
public import Mirror
public import Policy
public import TLS
public import Upstream

/// Everything that a configuration file says, checked and with all defaults filled in.
public struct GatewaySettings: Sendable, Equatable {
    /// `listen`: where clients connect; empty only before the configuration was read.
    public var listen: [ListenerSettings] = []
    /// The blocks of the same names.
    public var admin = AdminSettings()
    public var runtime = RuntimeSettings()
    public var limits = LimitSettings()
    public var forwarding = ForwardingSettings()
    public var resolver = ResolverSettings()
    /// `providers.targets`, and the entries of `traffic_mirror`: everything else points into the
    /// two by index.
    public var targets: [TargetSettings] = []
    public var shadows: [ShadowSettings] = []
    /// At least one; the last matches every request.
    public var routes: [RouteSettings] = []
    /// `access_log`; nil writes none.
    public var accessLog: AccessLogSettings?
    /// `event_log`: where a record for each mirrored request goes; nil writes none.
    public var eventLog: EventLogSettings?
    /// `auth`: who may use the gateway; nil asks for no key.
    public var auth: AuthSettings?
    /// `policies`: what requests to LLM targets are held against, in the order of the chain. Those
    /// of a pack that is not enabled are not among them.
    public var policies: [PolicySettings] = []
    /// `pack`: what the document calls itself.
    public var pack: PackSettings?
    /// `log`: what the gateway says of itself.
    public var log = GatewayLogSettings()
    /// `traffic_mirror.enabled`: false starts with mirroring off; it can be switched on later.
    public var mirrorEnabled = true
    /// `traffic_mirror.guard.p99_overhead`: what mirroring may add to the users' P99, as a share;
    /// nil watches nothing.
    public var guardOverheadMax: Double?
    /// `traffic_mirror.log_primary_response`: the texts of the primary's answers stand in events.
    public var logsPrimaryResponse = false
    /// `traffic_mirror.compare_metrics`.
    public var compareMetrics = CompareMetrics.all
    /// `traffic_mirror.capture_bytes`: bytes that are kept of one request, and of its answer, for
    /// the events.
    public var captureBytes = ShadowSettings.captureBytesDefault

    public init() {}

    /// Whether any target is an LLM provider.
    public var hasProviders: Bool { targets.contains { $0.provider != nil } }

    /// Whether there is anything to check or to look up while the gateway runs: work for the health
    /// process.
    public var needsHealthProcess: Bool {
        targets.contains { $0.health != nil || $0.endpoints.contains(where: \.isNamed) }
    }
}

/// One entry of `listen`: where clients connect, and what is spoken there.
public struct ListenerSettings: Sendable, Equatable {
    /// Where it listens.
    public var address: SocketAddress
    /// Nil for plain HTTP.
    public var tls: ServerTLSSettings?
    /// `redirect_to_https`: the port that every request of this plain listener is sent to instead
    /// of being served; nil serves them.
    public var redirectPort: UInt16?

    /// A plain listener.
    public init(_ address: SocketAddress) { self.address = address }
}

/// `admin`: the endpoint for metrics, status and the mirror's switch.
public struct AdminSettings: Sendable, Equatable {
    /// Where it listens; nil is `off`.
    public var listen: SocketAddress? = SocketAddress("127.0.0.1:41003")
    /// The environment variable that holds the bearer token; nil asks for none.
    public var tokenVariable: String?
    /// Names that it may be asked by besides `localhost` and addresses, lower case.
    public var hosts: [String] = []

    public init() {}
}

/// `auth`: the keys by which clients are let in.
public struct AuthSettings: Sendable, Equatable {
    /// One client's key.
    public struct Key: Sendable, Equatable {
        /// Who has it, for logs.
        public var name: String
        /// Where it is read from.
        public var source: ProviderSettings.KeySource
        /// In workers, where there is one: the key. Nil everywhere else.
        public var key: ProviderKey?

        /// The key of `name`, which comes from `source`.
        public init(name: String, source: ProviderSettings.KeySource) {
            self.name = name
            self.source = source
        }
    }

    /// At least one.
    public var keys: [Key] = []

    public init() {}
}

/// `pack`: the name that a document gives itself.
public struct PackSettings: Sendable, Equatable {
    /// 1 to 200 characters.
    public var name: String
    /// As Semantic Versioning writes it.
    public var version: String

    /// A pack of this name and version.
    public init(name: String, version: String) {
        self.name = name
        self.version = version
    }
}

/// `runtime`: processes, and the memory that each maps at its start and never adds to.
public struct RuntimeSettings: Sendable, Equatable {
    /// Worker processes; nil is `auto`: one for each CPU of the process's affinity mask.
    public var workers: Int?
    /// Whether each worker stays on one CPU.
    public var pinCPUs = true
    /// Shadow processes.
    public var shadows = 1
    /// Their nice value, and the memory that each may have for connections and answers.
    public var shadowNice = 10
    public var shadowMemoryBytes = 256 << 20
    /// A power of two, 4 KiB to 1 MiB.
    public var blockBytes = 16 << 10
    /// Blocks and client connections of one worker: 503 beyond them.
    public var blocksPerWorker = 4_096
    public var connectionsPerWorker = 16_384
    /// Copies that wait between a worker and the shadow process; a power of two.
    public var ringDepth = 4_096
    /// Blocks of one worker that copies may hold at one time; further copies are dropped.
    public var blocksOnLoanMax = 2_048
    /// How long a stopping process lets requests end.
    public var drainTimeoutMs = 30_000

    public init() {}
}

/// `limits`: what one client may ask for; times are milliseconds.
public struct LimitSettings: Sendable, Equatable {
    /// Bytes and field lines of one head: 431 beyond them (RFC 6585 §5).
    public var headBytes = 64 << 10
    public var fields = 128
    /// Largest request body; 0 is no limit.
    public var bodyBytes = 0
    /// For a request's whole head, for each further 4 KiB of a body, and for the next request of a
    /// connection.
    public var headTimeoutMs = 10_000
    public var bodyTimeoutMs = 30_000
    public var idleTimeoutMs = 75_000
    /// For a connection to a target, and for a target to begin its answer: 504 beyond them.
    public var connectTimeoutMs = 2_000
    public var answerTimeoutMs = 600_000

    public init() {}
}

/// `forwarding`: what is added to requests on their way to a target.
public struct ForwardingSettings: Sendable, Equatable {
    /// Append to the client's, put ours in their place, or leave them.
    public enum ForwardedFor: String, Sendable, CaseIterable { case append, replace, off }

    /// Whether requests carry a trace: leave `traceparent` as it came, give it a span of our own,
    /// or begin one where there is none.
    public enum Trace: String, Sendable, CaseIterable { case off, on, always }

    /// What becomes of X-Forwarded-For, -Proto and -Host, and of Forwarded (RFC 7239).
    public var forwardedFor = ForwardedFor.append
    public var forwarded = ForwardedFor.off
    /// Peers whose word on their own clients counts; Unix sockets have no address. With any of
    /// them named, what others say of it is taken out.
    public var trustedProxies: [IPNetwork] = []
    public var trustsUnix = false
    /// What becomes of traceparent and tracestate (W3C Trace Context).
    public var trace = Trace.on
    /// Whether TRACE is passed on; it is refused with 405 otherwise.
    public var allowTrace = false
    /// The name in Via.
    public var viaName = "umbra"

    public init() {}
}

/// One entry of `routes`: which requests it matches, and where they go. The first that matches
/// counts.
public struct RouteSettings: Sendable, Equatable {
    /// The path alone, without query: any, this one with its exact bytes, or whatever begins so.
    public enum PathMatch: Sendable, Equatable {
        case any
        case exact(String)
        case prefix(String)
    }

    /// A field that a request has to have.
    public struct HeaderMatch: Sendable, Equatable {
        /// Lower case.
        public var name: String
        /// The exact value; nil asks only that the field is there.
        public var value: String?

        /// A match of the field `name`, in lower case, with `value`.
        public init(name: String, value: String?) {
            self.name = name
            self.value = value
        }
    }

    /// For metrics and logs: `name`, else `route-1`, `route-2`, …; `default` for the closing one.
    public var name: String
    /// Lower case, without port; `*.example.com` matches every name below; nil matches all.
    public var host: String?
    public var path = PathMatch.any
    /// Upper case; empty matches all.
    public var methods: [String] = []
    public var headers: [HeaderMatch] = []
    /// Index in `GatewaySettings.targets`.
    public var target: Int
    /// Replaces the matched prefix (`rewrite_prefix`); nil leaves the path as it is.
    public var rewritePrefix: String?
    /// One for each shadow that this route is mirrored to.
    public var lanes: [LaneSettings] = []

    /// A route that sends every request to `target`, mirrored nowhere.
    public init(name: String, target: Int) {
        self.name = name
        self.target = target
    }
}

/// `access_log`: one JSON line for each request.
public struct AccessLogSettings: Sendable, Equatable {
    /// A file, or `-` for standard output.
    public var path = "-"

    public init() {}
}

/// `log`: what the gateway says of itself, on standard error.
public struct GatewayLogSettings: Sendable, Equatable {
    /// Whether lines begin with `<N>`, by which the journal knows a line's level: where standard
    /// error is the journal's, never, or always.
    public enum Destination: String, CaseIterable, Sendable { case auto, stderr, journald }

    /// Lines of this level, and of those that matter more, are written.
    public var level = LogLevel.info
    public var format = LogFormat.text
    public var destination = Destination.auto

    public init() {}
}
