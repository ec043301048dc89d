import CoreLoop

/// What one generation's health process has found, for the next generation: a reload begins with
/// what is known, asks the DNS for new names only, and sends nobody to an endpoint that is known to
/// be dead. A copy: the old board may go.
public struct UpstreamHandover: Sendable {
    private struct Verdict {
        let health: HealthSettings
        let cells: [(HealthCell, UInt64)]
    }

    /// By target and endpoint.
    private var verdicts: [String: Verdict] = [:]
    /// By host, with the port of whoever had it.
    private var addresses: [String: [SocketAddress]] = [:]

    /// Reads the board of a generation with these targets.
    public init(_ targets: [TargetSettings], _ board: UpstreamBoard) {
        for (index, target) in targets.enumerated() {
            for (place, endpoint) in target.endpoints.enumerated() {
                let number = board.firstEndpoints[index] + place
                if let health = target.health, board.health(number) != .unknown {
                    let cells = board.verdict(number)
                    let kept: [HealthCell] = [.state, .sinceMs, .lastResult, .lastStatus]
                    verdicts[Self.key(target, endpoint)] = Verdict(
                        health: health, cells: kept.map { ($0, cells.value($0)) })
                }
                let known = board.addresses(number).read() ?? endpoint.addresses
                if endpoint.isNamed, !known.isEmpty { addresses[endpoint.host] = known }
            }
        }
    }

    private static func key(_ target: TargetSettings, _ endpoint: EndpointSettings) -> String {
        // Neither holds a line's end.
        "\(target.id)\n\(endpoint.label)"
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

    /// Writes the verdicts on endpoints that are checked as they were. Before the new generation's
    /// processes start: until then the caller is the board's one writer.
    public func publish(to board: UpstreamBoard, _ targets: [TargetSettings]) {
        for (index, target) in targets.enumerated() {
            for (place, endpoint) in target.endpoints.enumerated() {
                guard let verdict = verdicts[Self.key(target, endpoint)],
                    verdict.health == target.health
                else { continue }
                let cells = board.verdict(board.firstEndpoints[index] + place)
                for (cell, value) in verdict.cells { cells[cell].set(value) }
            }
        }
        board.healthVersion.publish(board.healthVersion.value &+ 1)
    }
}
