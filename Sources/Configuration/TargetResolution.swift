import CoreLoop
public import Proxy
import Upstream

extension ConfigurationReader {
    /// Looks up the names of all endpoints that have no address yet, and fills in their addresses
    /// in the order in which they are to be tried, at most `UpstreamLimits.addressesMax` each.
    ///
    /// Blocks as long as the name servers do: for the supervisor at start and reload, never for a
    /// worker. Returns an error for each endpoint whose name has no address; such an endpoint is
    /// left without, until the health process finds one.
    public static func resolveTargets(_ settings: inout GatewaySettings) -> [Diagnostic] {
        var diagnostics: [Diagnostic] = []
        var lookups = Lookups(settings)
        for index in settings.targets.indices {
            let several = settings.targets[index].endpoints.count > 1
            for place in settings.targets[index].endpoints.indices {
                let endpoint = settings.targets[index].endpoints[place]
                guard endpoint.isNamed, endpoint.addresses.isEmpty else { continue }
                switch lookups.addresses(of: endpoint) {
                case .success(let addresses):
                    settings.targets[index].endpoints[place].addresses = addresses
                case .failure(let failure):
                    let key = several ? "endpoints[\(place)].url" : "base_url"
                    diagnostics.append(
                        Diagnostic(
                            .unresolved, path: "providers.targets[\(index)].\(key)",
                            message: "\(quoted(endpoint.host)) has no address: \(failure.text)"))
                }
            }
        }
        return diagnostics
    }
}

/// Each name once: several endpoints of one host are common, and a look-up that fails may take many
/// seconds.
private struct Lookups {
    private let usesSystem: Bool
    private var known: [String: Result<[SocketAddress], NameLookup.Failure>] = [:]

    init(_ settings: GatewaySettings) {
        usesSystem = settings.resolver.nameservers.isEmpty
        guard !usesSystem else { return }
        var hosts: [String] = []
        for endpoint in settings.targets.flatMap(\.endpoints)
        where endpoint.isNamed && endpoint.addresses.isEmpty && !hosts.contains(endpoint.host) {
            hosts.append(endpoint.host)
        }
        let answers = try? NameLookup.run(hosts, nameservers: settings.resolver.nameservers)
        for host in hosts {
            let answer = answers?[host] ?? NameAnswer(.noAnswer)
            if let failure = answer.failure {
                known[host] = .failure(failure)
            } else {
                var memory = AddressMemory([])
                _ = memory.take(answer)
                known[host] = .success(memory.ordered(isReachable: { $0.hasRoute }))
            }
        }
    }

    mutating func addresses(
        of endpoint: EndpointSettings
    ) -> Result<[SocketAddress], NameLookup.Failure> {
        if known[endpoint.host] == nil, usesSystem {
            switch NameLookup.run(endpoint.host, port: 0) {
            case .found(let addresses, _):
                known[endpoint.host] = .success(NameLookup.interleaved(addresses))
            case .failed(let failure): known[endpoint.host] = .failure(failure)
            }
        }
        let found = known[endpoint.host] ?? .failure(.noAnswer)
        return found.map { $0.map { $0.with(port: endpoint.port) } }
    }
}
