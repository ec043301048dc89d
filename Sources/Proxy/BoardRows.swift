public import CoreLoop
import EventLog
import Mirror
public import Upstream

/// What becomes of a cell's value when another configuration takes over.
public enum CellKind: Sendable {
    /// Only grows: the next configuration's processes count on from it.
    case counter
    /// How much there is now, of the processes of all configurations together.
    case level
    /// A state, a time or a high-water mark: each configuration has its own.
    case own
}

/// Cells of the board that belong to one thing which has a name, whatever configuration is at work.
public struct BoardRow: Sendable {
    /// Where they are.
    public let cells: CellRun
    /// One for all cells, or one for each.
    private let kinds: [CellKind]

    init(_ cells: CellRun, _ kinds: [CellKind]) {
        self.cells = cells
        self.kinds = kinds
    }

    /// What the cell at `place` is.
    public func kind(_ place: Int) -> CellKind { kinds.count == 1 ? kinds[0] : kinds[place] }
}

extension Board {
    /// Every row that counts, by its name: the same name is the same thing in each configuration.
    ///
    /// Workers and shadow processes go by their number, routes, targets and shadows by their names,
    /// endpoints by their URL's authority (of two with the same one, the last).
    public func rows(_ settings: GatewaySettings) -> [String: BoardRow] {
        var rows: [String: BoardRow] = [:]
        let routes = settings.distinctRouteNames
        for index in workers.indices { addWorker(index, settings, routes, &rows) }
        addProcesses(&rows)
        rows["control"] = BoardRow(mirror.control.run, MirrorControl.allCases.map(\.carried))
        for process in 0..<mirror.shape.shadowProcesses {
            for (place, shadow) in settings.shadows.enumerated() {
                let name = "\(process)/\(shadow.targetID)"
                rows["gauges/" + name] = BoardRow(
                    mirror.gauges(process: process, shadow: place).run,
                    ShadowGauge.allCases.map(\.carried))
                rows["shadow-latency/" + name] = BoardRow(
                    mirror.latency(process: process, shadow: place).run, [.counter])
            }
        }
        for (name, place) in Self.endpoints(settings, upstreams) {
            rows["checks/\(name.text)"] = BoardRow(
                upstreams.verdict(place).run, HealthCell.allCases.map(\.carried))
            rows["look-ups/\(name.text)"] = BoardRow(upstreams.resolver(place).run, [.counter])
        }
        return rows
    }

    private func addWorker(
        _ index: Int, _ settings: GatewaySettings, _ routes: [String],
        _ rows: inout [String: BoardRow]
    ) {
        let worker = workers[index]
        rows["worker/\(index)"] = BoardRow(
            worker.counters.run, WorkerCounter.allCases.map(\.carried))
        let histograms = [
            ("mirrored", worker.mirrored), ("unmirrored", worker.unmirrored),
            ("ineligible", worker.ineligible), ("turn", worker.turnTime),
        ]
        for (name, histogram) in histograms {
            rows["\(name)/\(index)"] = BoardRow(histogram.run, [.counter])
        }
        rows["tap/\(index)"] = BoardRow(
            mirror.tap(worker: index).run, TapGauge.allCases.map(\.carried))
        for (shadow, part) in settings.shadows.enumerated() {
            let tally = mirror.tally(worker: index, shadow: shadow)
            let name = "\(index)/\(part.targetID)"
            rows["sent/" + name] = BoardRow(CellRun(tally.sent), [.counter])
            rows["outstanding/" + name] = BoardRow(CellRun(tally.outstanding), [.level])
            rows["dropped/" + name] = BoardRow(tally.drops.run, [.counter])
            rows["results/" + name] = BoardRow(tally.outcomes.run, [.counter])
            for (route, routeName) in routes.enumerated() {
                rows["lane/\(name)/\(routeName)"] = BoardRow(
                    mirror.lane(worker: index, route: route, shadow: shadow).run, [.counter])
            }
        }
        for (place, target) in settings.targets.enumerated() {
            rows["target/\(index)/\(target.id)"] = BoardRow(
                upstreams.target(worker: index, place).run, [.counter])
        }
        for (name, place) in Self.endpoints(settings, upstreams) {
            rows["endpoint/\(index)/\(name.text)"] = BoardRow(
                upstreams.endpoint(worker: index, place).run,
                EndpointCounter.allCases.map(\.carried))
        }
    }

    private func addProcesses(_ rows: inout [String: BoardRow]) {
        let kinds = ProcessCell.allCases.map(\.carried)
        for (index, row) in workerProcesses.enumerated() {
            rows["process/worker/\(index)"] = BoardRow(row.run, kinds)
        }
        for (index, row) in shadowProcesses.enumerated() {
            rows["process/shadow/\(index)"] = BoardRow(row.run, kinds)
        }
        rows["process/supervisor"] = BoardRow(supervisor.run, kinds)
        rows["process/admin"] = BoardRow(admin.run, kinds)
        if let health { rows["process/health"] = BoardRow(health.run, kinds) }
        if let events { rows["process/events"] = BoardRow(events.run, kinds) }
        if let eventLog {
            rows["event-log"] = BoardRow(eventLog.run, LogCounter.allCases.map(\.carried))
        }
    }

    /// What the checks have found, by endpoint.
    public func verdicts(
        _ settings: GatewaySettings
    ) -> [EndpointName: CounterRow<HealthCell>] {
        var rows: [EndpointName: CounterRow<HealthCell>] = [:]
        for (name, place) in Self.endpoints(settings, upstreams) {
            rows[name] = upstreams.verdict(place)
        }
        return rows
    }

    /// The name of each endpoint and its place on the board.
    private static func endpoints(
        _ settings: GatewaySettings, _ board: UpstreamBoard
    ) -> [(EndpointName, Int)] {
        settings.targets.enumerated().flatMap { index, target in
            target.endpoints.enumerated().map { place, endpoint in
                (
                    EndpointName(target: target.id, authority: endpoint.authority),
                    board.firstEndpoints[index] + place
                )
            }
        }
    }
}

/// What an endpoint is called in each configuration that has it.
public struct EndpointName: Hashable, Sendable {
    /// The target's id.
    public let target: String
    /// The authority of its URL.
    public let authority: String

    var text: String { "\(target)/\(authority)" }
}

extension GatewaySettings {
    /// The routes' names, those that repeat an earlier one with a number behind.
    public var distinctRouteNames: [String] {
        var seen: Set<String> = []
        return routes.map { route in
            var candidate = route.name
            var number = 2
            while !seen.insert(candidate).inserted {
                candidate = "\(route.name)#\(number)"
                number += 1
            }
            return candidate
        }
    }
}

// MARK: What each cell is

extension WorkerCounter {
    var carried: CellKind {
        switch self {
        case .connectionsOpen, .upstreamOpen, .upstreamIdle, .tunnelsOpen, .blocksTaken: .level
        case .blocksTakenHigh: .own
        default: .counter
        }
    }
}

extension ProcessCell {
    var carried: CellKind {
        switch self {
        case .restarts, .logRepeated, .logUnwritten: .counter
        default: .own
        }
    }
}

extension LogCounter {
    var carried: CellKind {
        switch self {
        case .pendingBytes, .lastSequence, .durableSequence: .own
        default: .counter
        }
    }
}

extension MirrorControl {
    var carried: CellKind { self == .guardHoldsTotal ? .counter : .own }
}

extension TapGauge {
    var carried: CellKind {
        switch self {
        case .blocksOnLoan, .ticketsUsed: .level
        case .blocksOnLoanHigh, .ringDepthHigh: .own
        case .bytesCopied, .wakes: .counter
        }
    }
}

extension ShadowGauge {
    var carried: CellKind {
        switch self {
        case .inFlight, .connectionsOpen, .connectionsIdle: .level
        case .inFlightHigh, .breakerState, .coolDownUntil: .own
        case .connects, .connectFailures, .breakerOpened, .answerBytes, .tlsHandshakes,
            .tlsFailures, .tlsResumed:
            .counter
        }
    }
}

extension EndpointCounter {
    var carried: CellKind {
        switch self {
        case .open, .idle: .level
        case .ejectedUntilMs: .own
        default: .counter
        }
    }
}

extension HealthCell {
    var carried: CellKind {
        switch self {
        case .state, .sinceMs, .lastResult, .lastStatus: .own
        default: .counter
        }
    }
}
