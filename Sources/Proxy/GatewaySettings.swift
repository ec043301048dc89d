public import CoreLoop
public import Mirror
public import Upstream

/// Everything that a configuration file says, checked and with all defaults filled in.
public struct GatewaySettings: Sendable, Equatable {
    public var listen: [SocketAddress] = []
    public var admin = AdminSettings()
    public var runtime = RuntimeSettings()
    public var limits = LimitSettings()
    public var forwarding = ForwardingSettings()
    public var targets: [TargetSettings] = []
    public var shadows: [ShadowSettings] = []
    /// At least one; the last matches every request.
    public var routes: [RouteSettings] = []
    public var accessLog: AccessLogSettings?
    /// `traffic_mirror.enabled`: false starts with mirroring off; it can be switched on later.
    public var mirrorEnabled = true

    public init() {}
}

public struct AdminSettings: Sendable, Equatable {
    public var listen: SocketAddress? = SocketAddress("127.0.0.1:41003")
    /// The environment variable that holds the bearer token; nil asks for none.
    public var tokenVariable: String?

    public init() {}
}

public struct RuntimeSettings: Sendable, Equatable {
    /// Worker processes; nil is `auto`: one for each CPU of the process's affinity mask.
    public var workers: Int?
    public var pinCPUs = true
    /// Shadow processes.
    public var shadows = 1
    public var shadowNice = 10
    public var shadowMemoryBytes = 256 << 20
    /// A power of two, 4 KiB to 1 MiB.
    public var blockBytes = 16 << 10
    public var blocksPerWorker = 4_096
    public var connectionsPerWorker = 16_384
    /// Copies that wait between a worker and the shadow process; a power of two.
    public var ringDepth = 4_096
    public var blocksOnLoanMax = 2_048
    public var drainTimeoutMs = 30_000

    public init() {}
}

public struct LimitSettings: Sendable, Equatable {
    public var headBytes = 64 << 10
    public var fields = 128
    /// Largest request body; 0 is no limit.
    public var bodyBytes = 0
    public var headTimeoutMs = 10_000
    public var bodyTimeoutMs = 30_000
    public var idleTimeoutMs = 75_000
    public var connectTimeoutMs = 2_000
    public var answerTimeoutMs = 600_000

    public init() {}
}

public struct ForwardingSettings: Sendable, Equatable {
    public enum ForwardedFor: String, Sendable, CaseIterable { case append, replace, off }

    /// What becomes of X-Forwarded-For, -Proto and -Host.
    public var forwardedFor = ForwardedFor.append
    /// Whether TRACE is passed on; it is refused with 405 otherwise.
    public var allowTrace = false
    /// The name in Via.
    public var viaName = "umbra"

    public init() {}
}

public struct RouteSettings: Sendable, Equatable {
    public enum PathMatch: Sendable, Equatable {
        case any
        case exact(String)
        case prefix(String)
    }

    public struct HeaderMatch: Sendable, Equatable {
        /// Lower case.
        public var name: String
        /// The exact value; nil asks only that the field is there.
        public var value: String?

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

    public init(name: String, target: Int) {
        self.name = name
        self.target = target
    }
}

public struct AccessLogSettings: Sendable, Equatable {
    /// A file, or `-` for standard output.
    public var path = "-"

    public init() {}
}
