import CoreLoop
import Mirror
import Proxy

/// What the mirror has counted, read for one answer.
///
/// At rest, for each shadow over all workers:
/// `eligible = sampled + notSampled`, `sampled = sent + Σ dropped + outstanding`,
/// `sent = Σ results`.
/// While requests run, `sampled` is ahead by those whose bodies are still coming: they are chosen,
/// and neither handed over nor dropped. The cells of one worker cannot be read at one moment:
/// `isWhole` says whether a reading caught it between two of them; `BoardView` then looks again.
struct MirrorReading {
    /// One worker's counts of one route and shadow.
    struct Lane: Equatable {
        var worker: Int
        var route: Int
        var shadow: Int
        var eligible: UInt64
        var sampled: UInt64
        var notSampled: UInt64
    }

    /// One shadow's counts, summed over the workers.
    struct Shadow: Equatable {
        var sampled: UInt64 = 0
        var sent: UInt64 = 0
        /// By the reason's and the result's raw value.
        var dropped = [UInt64](repeating: 0, count: DropReason.allCases.count)
        var results = [UInt64](repeating: 0, count: CopyResult.allCases.count)
        var outstanding: UInt64 = 0

        mutating func add(_ other: Shadow) {
            sampled &+= other.sampled
            sent &+= other.sent
            for index in dropped.indices { dropped[index] &+= other.dropped[index] }
            for index in results.indices { results[index] &+= other.results[index] }
            outstanding &+= other.outstanding
        }
    }

    private(set) var lanes: [Lane] = []
    private(set) var shadows: [Shadow]

    /// Whether no cell of a worker was caught between two of its writes.
    var isWhole: Bool {
        lanes.allSatisfy { $0.eligible == $0.sampled &+ $0.notSampled }
            && shadows.allSatisfy { $0.sent == $0.results.reduce(0, &+) }
    }

    /// Reads every lane that the routes have.
    init(_ board: Board, _ settings: GatewaySettings) {
        shadows = settings.shadows.map { _ in Shadow() }
        for worker in board.workers.indices {
            for shadow in settings.shadows.indices {
                let part = Self.read(board.mirror, settings, worker: worker, shadow: shadow)
                shadows[shadow].add(part.total)
                lanes += part.lanes
            }
        }
        lanes.sort { ($0.worker, $0.route, $0.shadow) < ($1.worker, $1.route, $1.shadow) }
    }

    // What is counted last is read first, so that no part is ever larger than its whole.
    private static func read(
        _ board: MirrorBoard, _ settings: GatewaySettings, worker: Int, shadow: Int
    ) -> (total: Shadow, lanes: [Lane]) {
        let tally = board.tally(worker: worker, shadow: shadow)
        var total = Shadow()
        total.results = CopyResult.allCases.map { tally.results($0).value }
        total.sent = tally.sent.value
        total.dropped = DropReason.allCases.map { tally.dropped($0).value }
        total.outstanding = tally.outstanding.value
        var lanes: [Lane] = []
        for (index, route) in settings.routes.enumerated()
        where route.lanes.contains(where: { $0.shadow == shadow }) {
            let cells = board.lane(worker: worker, route: index, shadow: shadow)
            let notSampled = cells.value(.notSampled)
            let sampled = cells.value(.sampled)
            let eligible = cells.value(.eligible)
            total.sampled &+= sampled
            lanes.append(
                Lane(
                    worker: worker, route: index, shadow: shadow, eligible: eligible,
                    sampled: sampled, notSampled: notSampled))
        }
        return (total, lanes)
    }
}

/// What the shadow processes say of one shadow.
struct ShadowGauges {
    /// One for each shadow process.
    let processes: [[UInt64]]

    init(_ board: MirrorBoard, shadow: Int) {
        processes = (0..<board.shape.shadowProcesses).map { process in
            ShadowGauge.allCases.map { board.gauges(process: process, shadow: shadow).value($0) }
        }
    }

    /// One gauge summed over the shadow processes.
    func sum(_ gauge: ShadowGauge) -> UInt64 {
        processes.reduce(0) { $0 &+ $1[gauge.rawValue] }
    }

    /// The breaker as the worst of the shadow processes has it.
    var breakerLabel: String {
        let states = Set(processes.map { $0[ShadowGauge.breakerState.rawValue] })
        if states.contains(1) { return "open" }
        return states.contains(2) ? "half_open" : "closed"
    }
}
