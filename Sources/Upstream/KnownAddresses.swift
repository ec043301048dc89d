import CoreLoop

/// The addresses that one generation's health process has found, for the next generation: a reload
/// asks the DNS for new names only, and goes well while no name server answers. A copy: the old
/// board may go.
public struct KnownAddresses: Sendable {
    /// By host, with the port of whoever had it.
    private var addresses: [String: [SocketAddress]] = [:]

    /// Reads the board of a generation with these targets.
    public init(_ targets: [TargetSettings], _ board: UpstreamBoard) {
        for name in WatchedName.all(targets) {
            for (target, place) in name.endpoints {
                let known =
                    board.addresses(board.firstEndpoints[target] + place).read()
                    ?? targets[target].endpoints[place].addresses
                if !known.isEmpty { addresses[name.host] = known }
            }
        }
    }

    /// Gives endpoints whose names were known their addresses.
    public func fill(_ targets: inout [TargetSettings]) {
        for index in targets.indices {
            for place in targets[index].endpoints.indices {
                let endpoint = targets[index].endpoints[place]
                guard endpoint.isNamed, endpoint.addresses.isEmpty,
                    let known = addresses[endpoint.host]
                else { continue }
                targets[index].endpoints[place].addresses = known.map {
                    $0.with(port: endpoint.port)
                }
            }
        }
    }
}
