public import CoreLoop

/// One service that requests can be sent to: an entry of `providers.targets`.
public struct TargetSettings: Sendable, Equatable {
    /// The name that routes and `traffic_mirror` use.
    public var id: String
    /// Host and port of `base_url`, in the form that a Host field takes (`127.0.0.1:9001`,
    /// `[::1]:80`, `app:80`).
    public var authority: String
    /// Host alone and port, for name resolution; the host is an IP literal or a DNS name.
    public var host: String
    public var port: UInt16
    /// The path of `base_url` without its closing slash; empty where there is none. Put before each
    /// request's path.
    public var pathPrefix: String
    /// Where to connect, in order of preference. Empty until resolved; IP literals and Unix sockets
    /// are resolved by the configuration.
    public var addresses: [SocketAddress]

    /// A target of these parts, which are not checked: `Configuration` reads them from `base_url`.
    public init(
        id: String, authority: String, host: String, port: UInt16, pathPrefix: String = "",
        addresses: [SocketAddress] = []
    ) {
        self.id = id
        self.authority = authority
        self.host = host
        self.port = port
        self.pathPrefix = pathPrefix
        self.addresses = addresses
    }
}
