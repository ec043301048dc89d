public import CoreLoop
public import Providers
public import TLS

/// One service that requests can be sent to: an entry of `providers.targets`. It has one or several
/// endpoints, which are taken to be alike.
public struct TargetSettings: Sendable, Equatable {
    /// The name that routes and `traffic_mirror` use.
    public var id: String
    /// The path of its URLs without the closing slash; empty where there is none. Put before each
    /// request's path, whichever endpoint it goes to.
    public var pathPrefix: String
    /// Where it is: at least one.
    public var endpoints: [EndpointSettings]
    /// How an `https` target is spoken to; nil for a plain one.
    public var tls: ClientTLSSettings?
    /// Whose API it speaks; nil for a plain HTTP service.
    public var provider: ProviderSettings?
    /// What events say of its answers where these do not.
    public var tags = PinnedTags()
    /// Who gets the next request.
    public var balance = BalancePolicy.roundRobin
    /// Active checks; nil is none.
    public var health: HealthSettings?
    /// When an endpoint that fails is left out; nil is never.
    public var ejection: EjectionSettings? = EjectionSettings()
    /// Below this share of usable endpoints all of them are used: few that are overrun serve fewer
    /// users than many of which some fail.
    public var panicThreshold = 0.5
    /// How long an endpoint that comes back takes to get its full weight, milliseconds.
    public var slowStartMs = 0
    /// What may be sent again.
    public var retries = RetrySettings()

    /// A target with one endpoint, of these parts, which are not checked: `Configuration` reads
    /// them from `base_url`.
    public init(
        id: String, authority: String, host: String, port: UInt16, pathPrefix: String = "",
        addresses: [SocketAddress] = []
    ) {
        self.id = id
        self.pathPrefix = pathPrefix
        endpoints = [
            EndpointSettings(authority: authority, host: host, port: port, addresses: addresses)
        ]
    }

    /// The first endpoint's: what a request without a Host field gets.
    public var authority: String { endpoints[0].authority }
    /// The same without a port that its scheme has anyway: some providers take no other.
    public var plainAuthority: String {
        let standard = tls == nil ? ":80" : ":443"
        return authority.hasSuffix(standard)
            ? String(authority.dropLast(standard.utf8.count)) : authority
    }
    /// The first endpoint's host.
    public var host: String { endpoints[0].host }
    /// The first endpoint's port.
    public var port: UInt16 { endpoints[0].port }
    /// The first endpoint's addresses.
    public var addresses: [SocketAddress] {
        get { endpoints[0].addresses }
        set { endpoints[0].addresses = newValue }
    }
    /// The addresses of all endpoints, one after the other, at most
    /// `UpstreamLimits.addressesMax`: what a shadow is reached at.
    public var allAddresses: [SocketAddress] {
        Array(endpoints.flatMap(\.addresses).prefix(UpstreamLimits.addressesMax))
    }

    /// Times that one request may be sent again. Without a word of its own, a target of several
    /// endpoints has one, and a target of one has none: what its only endpoint answers is the
    /// answer.
    public var retryAttempts: Int { retries.attempts ?? (endpoints.count > 1 ? 1 : 0) }
}

/// One place where a target is.
public struct EndpointSettings: Sendable, Equatable {
    /// Host and port in the form that a Host field takes (`127.0.0.1:9001`, `[::1]:80`, `app:80`).
    public var authority: String
    /// Host alone and port, for name resolution; the host is an IP literal or a DNS name.
    public var host: String
    public var port: UInt16
    /// Its share of the requests beside the others.
    public var weight = 1
    /// Connections to it at one time, over all workers; 0 is no limit.
    public var connectionsMax = 0
    /// Where to connect, in order of preference. Empty until resolved; IP literals and Unix sockets
    /// are resolved by the configuration.
    public var addresses: [SocketAddress]
    /// Whether its host is a name, whose addresses may change.
    public var isNamed: Bool

    /// An endpoint with all defaults. One without addresses is named.
    public init(authority: String, host: String, port: UInt16, addresses: [SocketAddress] = []) {
        self.authority = authority
        self.host = host
        self.port = port
        self.addresses = addresses
        isNamed = addresses.isEmpty
    }

    /// What metrics and pages call it: its authority, or the path of its socket.
    public var label: String {
        if let address = addresses.first, address.isUnix { return address.text }
        return authority
    }
}

/// `balance`: who gets the next request.
public enum BalancePolicy: Sendable, Equatable {
    /// Each in turn, by weight.
    case roundRobin
    /// The less busy of two that are drawn by weight.
    case leastRequests
    /// Always the same for the same value of this field (lower case), while it can be used.
    case hash(header: String)
}

/// Ways in which an exchange with an endpoint fails: what retries and ejection look at.
public struct EndpointFailure: OptionSet, Sendable, Hashable {
    /// One bit a way.
    public let rawValue: UInt8
    /// Takes the bits as they are.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The connection was refused, or not made in time.
    public static let connect = EndpointFailure(rawValue: 1 << 0)
    /// The connection ended before the answer was whole, or the answer was malformed.
    public static let reset = EndpointFailure(rawValue: 1 << 1)
    /// No answer within `answer_timeout`.
    public static let timeout = EndpointFailure(rawValue: 1 << 2)
    /// An answer with this status.
    public static let status500 = EndpointFailure(rawValue: 1 << 3)
    public static let status502 = EndpointFailure(rawValue: 1 << 4)
    public static let status503 = EndpointFailure(rawValue: 1 << 5)
    public static let status504 = EndpointFailure(rawValue: 1 << 6)

    /// What an answer's status counts as; empty for all others.
    @inlinable
    public init(status: Int) {
        switch status {
        case 500: self = .status500
        case 502: self = .status502
        case 503: self = .status503
        case 504: self = .status504
        default: self = []
        }
    }

    /// All of them by the words of the configuration.
    public static let words: [(word: String, failure: EndpointFailure)] = [
        ("connect", .connect), ("reset", .reset), ("timeout", .timeout), ("500", .status500),
        ("502", .status502), ("503", .status503), ("504", .status504),
    ]
}

/// `ejection`: an endpoint that fails time after time is left out for a while. Each worker judges
/// by its own exchanges.
public struct EjectionSettings: Sendable, Equatable {
    /// Failures in a row.
    public var failures = 5
    /// How long it is left out the first time; longer each time it fails anew.
    public var timeMs = 10_000
    /// Most endpoints that are left out at one time, as a share; one at least, never all.
    public var shareMax = 0.5
    /// What counts as a failure.
    public var on: EndpointFailure = [
        .connect, .reset, .timeout, .status502, .status503, .status504,
    ]

    public init() {}
}

/// `retries`: what may be sent again.
public struct RetrySettings: Sendable, Equatable {
    /// Times that one request may be sent again; nil leaves it to the number of endpoints.
    public var attempts: Int?
    /// Retries as a share of the requests of the last seconds.
    public var budget = 0.2
    /// After what.
    public var on: EndpointFailure = [.connect, .reset, .status502, .status503, .status504]

    public init() {}
}

/// `health`: a request that the health process sends to each endpoint time after time.
public struct HealthSettings: Sendable, Equatable {
    /// What the request is; neither has a body.
    public enum Method: String, Sendable, CaseIterable { case get = "GET", head = "HEAD" }

    /// GET unless said otherwise.
    public var method = Method.get
    /// What is asked for, behind the target's path prefix.
    public var path: String
    /// The Host field; nil is the endpoint's own.
    public var host: String?
    /// From one check's beginning to the next, and how long one may take.
    public var intervalMs = 5_000
    public var timeoutMs = 2_000
    /// Checks in a row that change the verdict.
    public var healthy = 2
    public var unhealthy = 3
    /// The statuses that pass.
    public var status = [200...399]

    /// Checks of `path` with all defaults.
    public init(path: String) { self.path = path }
}

/// `resolver`: how names of endpoints are looked up while the gateway runs.
public struct ResolverSettings: Sendable, Equatable {
    /// DNS servers to ask in the system's place, in this order; empty asks as the system does.
    public var nameservers: [SocketAddress] = []
    /// How often a name is looked up whose time to live nobody tells.
    public var intervalMs = 30_000

    public init() {}
}
