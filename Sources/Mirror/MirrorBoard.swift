public import CoreLoop
import Synchronization

/// Counted by the worker for each route and shadow. `eligible = sampled + notSampled`.
public enum LaneCounter: Int, CaseIterable, Sendable { case eligible, sampled, notSampled }

/// Counted by the worker for each shadow, when a copy's return arrives.
public struct ShadowTally: Sendable {
    /// Copies that went to the shadow, whole or in part: their first byte may have been sent.
    public let sent: Cell
    public let drops: CounterRow<DropReason>
    public let outcomes: CounterRow<CopyResult>
    /// Copies handed over whose return is still to come. At rest it is 0, and
    /// `sampled = sent + Σ dropped`; a request whose body still comes in is in none of these.
    public let outstanding: Cell

    init?(plan: inout MemoryPlan) {
        let cells = plan.take(Atomic<UInt64>.self, count: 2)
        let drops = CounterRow<DropReason>(plan: &plan)
        let outcomes = CounterRow<CopyResult>(plan: &plan)
        guard let cells, let drops, let outcomes else { return nil }
        sent = Cell(cells)
        outstanding = Cell(cells + 1)
        self.drops = drops
        self.outcomes = outcomes
    }

    /// The cell that counts copies dropped for `reason`, not a byte of them sent.
    @inlinable public func dropped(_ reason: DropReason) -> Cell { drops[reason] }
    /// The cell that counts copies that were sent and ended with `result`.
    public func results(_ result: CopyResult) -> Cell { outcomes[result] }

    /// Copies dropped for any reason, and copies whose result is known. Sums of single cells: while
    /// the worker runs, a moment's change may be in one and not yet in another.
    public var droppedTotal: UInt64 { DropReason.allCases.reduce(0) { $0 + drops[$1].value } }
    public var resultsTotal: UInt64 { CopyResult.allCases.reduce(0) { $0 + outcomes[$1].value } }
}

/// Written by the worker about its half of the mirror.
public enum TapGauge: Int, CaseIterable, Sendable {
    case blocksOnLoan, blocksOnLoanHigh, ringDepthHigh, ticketsUsed, bytesCopied, wakes
}

/// Written by a shadow process for each shadow.
public enum ShadowGauge: Int, CaseIterable, Sendable {
    case inFlight, inFlightHigh, connectionsOpen, connectionsIdle, connects, connectFailures
    /// 0 closed, 1 open, 2 half open.
    case breakerState
    case breakerOpened
    /// Until when copies are held back after Retry-After, monotonic nanoseconds; 0 where they are
    /// not.
    case coolDownUntil
    case answerBytes
    case tlsHandshakes, tlsFailures, tlsResumed
}

/// The switch of all mirroring. Written by the supervisor alone.
public enum MirrorControl: Int, CaseIterable, Sendable {
    /// 0 or 1: read with each request, and with each copy before its first byte.
    case enabled
    /// When `enabled` goes back by itself, monotonic milliseconds; 0 for never.
    case enabledUntilMs
    /// Raised after a change of an override: workers look at it once a turn.
    case version
    /// 1 while the latency guard holds mirroring, and how often it has. Written by the supervisor.
    case guardHolds, guardHoldsTotal
}

/// The mirror's part of the board: shared by all processes, each cell with one writer.
public struct MirrorBoard: Sendable {
    /// Whether mirroring is on.
    public let control: CounterRow<MirrorControl>
    /// What operators say of each route.
    public let overrides: [CounterRow<OverrideCell>]
    /// The epoch of each shadow process, from 1; raised by the supervisor after its death.
    public let shadowEpochs: [Cell]
    private let lanes: [CounterRow<LaneCounter>]
    private let tallies: [ShadowTally]
    private let taps: [CounterRow<TapGauge>]
    private let gauges: [CounterRow<ShadowGauge>]
    private let latencies: [Histogram]
    public let shape: Shape

    /// How many of each there are.
    public struct Shape: Sendable, Equatable {
        /// Worker processes, routes, and shadow processes.
        public var workers: Int
        public var routes: Int
        public var shadowProcesses: Int
        /// Shadows.
        public var shadows: Int

        /// A shape with these counts; `shadowProcesses` is 0 where nothing is mirrored.
        public init(workers: Int, routes: Int, shadowProcesses: Int, shadows: Int) {
            self.workers = workers
            self.routes = routes
            self.shadowProcesses = shadowProcesses
            self.shadows = shadows
        }
    }

    /// Takes the board's room of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan, shape: Shape) {
        self.shape = shape
        let control = CounterRow<MirrorControl>(plan: &plan)
        let overrides = (0..<shape.routes).map { _ in CounterRow<OverrideCell>(plan: &plan) }
        let epochs = (0..<shape.shadowProcesses).map { _ in plan.take(Atomic<UInt64>.self, count: 8)
        }
        let lanes = (0..<shape.workers * shape.routes * shape.shadows).map { _ in
            CounterRow<LaneCounter>(plan: &plan)
        }
        let tallies = (0..<shape.workers * shape.shadows).map { _ in ShadowTally(plan: &plan) }
        let taps = (0..<shape.workers).map { _ in CounterRow<TapGauge>(plan: &plan) }
        let perProcess = shape.shadowProcesses * shape.shadows
        let gauges = (0..<perProcess).map { _ in CounterRow<ShadowGauge>(plan: &plan) }
        let latencies = (0..<perProcess).map { _ in Histogram(plan: &plan) }
        guard let control else { return nil }
        self.control = control
        self.overrides = overrides.map { $0! }
        shadowEpochs = epochs.map { Cell($0!) }
        self.lanes = lanes.map { $0! }
        self.tallies = tallies.map { $0! }
        self.taps = taps.map { $0! }
        self.gauges = gauges.map { $0! }
        self.latencies = latencies.map { $0! }
    }

    /// What `worker` counts of one route and one shadow. Traps beyond the shape.
    public func lane(worker: Int, route: Int, shadow: Int) -> CounterRow<LaneCounter> {
        lanes[(worker * shape.routes + route) * shape.shadows + shadow]
    }

    /// What `worker` counts of one shadow over all routes. Traps beyond the shape.
    public func tally(worker: Int, shadow: Int) -> ShadowTally {
        tallies[worker * shape.shadows + shadow]
    }

    /// The gauges of `worker`'s half of the mirror.
    public func tap(worker: Int) -> CounterRow<TapGauge> { taps[worker] }

    /// What one shadow process shows of one shadow. Traps beyond the shape.
    public func gauges(process: Int, shadow: Int) -> CounterRow<ShadowGauge> {
        gauges[process * shape.shadows + shadow]
    }

    /// From a copy's first byte to the end of its answer; whole answers only.
    public func latency(process: Int, shadow: Int) -> Histogram {
        latencies[process * shape.shadows + shadow]
    }
}

extension MirrorBoard {
    /// Makes a dead worker's counters add up: what its last instant left open is closed as the
    /// identities demand. Only while no worker of that number runs.
    ///
    /// Copies whose first byte may have gone out (`link` knows) are sent and cancelled, all others
    /// dropped.
    public func settle(deadWorker worker: Int, link: MirrorLink) {
        for shadow in 0..<shape.shadows {
            let tally = tally(worker: worker, shadow: shadow)
            var sampled: UInt64 = 0
            for route in 0..<shape.routes {
                let lane = lane(worker: worker, route: route, shadow: shadow)
                let open = lane.value(.eligible) &- lane.value(.sampled) &- lane.value(.notSampled)
                // Counted before it was decided: not sampled is what the client was served.
                lane.add(.notSampled, open)
                sampled += lane.value(.sampled)
            }
            for ticket in 0..<link.depth where Int(link.ticketShadows[ticket]) == shadow {
                if link.ticketStates[ticket].load(ordering: .acquiring) == TicketState.sent {
                    tally.sent.add()
                    link.ticketStates[ticket].store(TicketState.free, ordering: .relaxed)
                }
            }
            tally.results(.cancelled).add(tally.sent.value &- tally.resultsTotal)
            tally.dropped(.workerRestarted).add(sampled &- tally.sent.value &- tally.droppedTotal)
            tally.outstanding.set(0)
        }
        tap(worker: worker)[.blocksOnLoan].set(0)
        tap(worker: worker)[.ticketsUsed].set(0)
    }
}
