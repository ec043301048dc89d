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
        // Several endpoints of one host are common, and a look-up that fails may take many seconds.
        var known: [String: NameLookup.Outcome] = [:]
        for index in settings.targets.indices {
            let several = settings.targets[index].endpoints.count > 1
            for place in settings.targets[index].endpoints.indices {
                let endpoint = settings.targets[index].endpoints[place]
                guard endpoint.isNamed, endpoint.addresses.isEmpty else { continue }
                let outcome =
                    known[endpoint.authority]
                    ?? NameLookup.run(
                        endpoint.host, port: endpoint.port,
                        nameserver: settings.resolver.nameserver)
                known[endpoint.authority] = outcome
                switch outcome {
                case .found(let addresses, _, _):
                    settings.targets[index].endpoints[place].addresses =
                        NameLookup.interleaved(addresses)
                case .failed(let failure):
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
