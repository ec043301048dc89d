public import CoreLoop
public import EventLog
public import Mirror
import Synchronization
public import Upstream

/// Counted by each worker.
public enum WorkerCounter: Int, CaseIterable, Sendable {
    /// Requests that were answered or given up, whatever the status.
    case requests
    case answers1xx, answers2xx, answers3xx, answers4xx, answers5xx
    /// Answers passed on ahead of the final one: not counted above, where only 101 is a 1xx.
    case interimAnswers
    /// Requests that ended without a whole answer: the client or the upstream went away.
    case unanswered
    /// Answers made here instead of by an upstream, and of these the refusals of a malformed
    /// request.
    case gatewayAnswers, refusals
    /// Requests without a key that is known; requests that policies passed with data replaced,
    /// passed with a flag, and blocked.
    case unauthorized, policyRedacted, policyFlagged, policyBlocked
    case connectionsAccepted, connectionsRefused, connectionsOpen, acceptsPaused
    case upstreamConnects, upstreamConnectFailures, upstreamReused, upstreamRetries
    case upstreamOpen, upstreamIdle, upstreamFaults, upstreamRaces
    case timeoutsHead, timeoutsBody, timeoutsWrite, timeoutsIdle, timeoutsConnect, timeoutsAnswer
    case tunnelsOpened, tunnelsOpen
    /// Handshakes with clients: by their end, and of those that succeeded the resumed ones and
    /// those of TLS 1.3; then the same with upstreams.
    case tlsClientDone, tlsClientFailed, tlsClientTimeout, tlsClientPlain
    case tlsClientResumed, tlsClient13
    case tlsUpstreamDone, tlsUpstreamFailed, tlsUpstreamTimeout
    case tlsUpstreamResumed, tlsUpstream13
    case bytesIn, bytesOut
    case blocksTaken, blocksTakenHigh, blocksExhausted
    case turns, events
    /// Lines handed to the log's thread, and those that found its ring full; the last is the
    /// thread's own: of the lines handed over, those that the file did not take.
    case logRecords, logDropped, logUnwritten
}

/// What a process is.
public enum Role: Int, CaseIterable, Sendable {
    case supervisor, worker, shadow, admin, health, events

    /// Its name in status pages and metrics.
    public var label: String {
        switch self {
        case .supervisor: "supervisor"
        case .worker: "worker"
        case .shadow: "shadow"
        case .admin: "admin"
        case .health: "health"
        case .events: "events"
        }
    }
}

/// How a child process is.
public enum ProcessState: Int, CaseIterable, Sendable {
    case absent, starting, running, heldBack, stopping

    /// Its name in status pages and metrics.
    public var label: String {
        switch self {
        case .absent: "absent"
        case .starting: "starting"
        case .running: "running"
        case .heldBack: "held_back"
        case .stopping: "stopping"
        }
    }
}

/// What is known of one process. Written by the supervisor, but for `state` running,
/// `heartbeatMs`, and the log's cells.
public enum ProcessCell: Int, CaseIterable, Sendable {
    case pid, restarts, state
    /// Monotonic milliseconds.
    case startedMs, heartbeatMs
    /// Wait status of the last death, and the worker that serves this worker's socket (itself, plus
    /// 1; 0 nobody).
    case lastStatus, servedBy
    /// Written by the process itself: events that its log counted instead of saying them, and lines
    /// that nobody took.
    case logRepeated, logUnwritten
    /// The supervisor's row only: times that access logs were to be opened anew.
    case logRotations
}

/// How the gateway came to its configuration. Written by the supervisor.
public enum ReloadCell: Int, CaseIterable, Sendable {
    /// The number of the configuration that serves, from 1, and how many before it still finish
    /// requests.
    case generation, draining
    /// Reloads by their end: the new one serves; its file was refused; its processes did not start.
    case done, refused, failed
}

/// Everything that the processes share besides blocks and rings: each cell has one writer.
public struct Board: Sendable {
    /// How many of each there are; the same text gives every process the same layout.
    public struct Shape: Sendable, Equatable {
        /// The mirror's part, which counts all there is.
        public var mirror: MirrorBoard.Shape
        /// The upstreams' part.
        public var upstreams: UpstreamBoard.Shape
        /// Whether there is a health process.
        public var hasHealthProcess: Bool
        /// Whether there is an event log, and a process that writes it.
        public var hasEventLog: Bool

        /// The shape for `workers` worker processes under these settings.
        public init(settings: GatewaySettings, workers: Int) {
            mirror = MirrorBoard.Shape(
                workers: workers, routes: settings.routes.count,
                shadowProcesses: settings.shadows.isEmpty ? 0 : settings.runtime.shadows,
                shadows: settings.shadows.count)
            upstreams = UpstreamBoard.Shape(
                workers: workers, endpoints: settings.targets.map(\.endpoints.count))
            hasHealthProcess = settings.needsHealthProcess
            hasEventLog = settings.eventLog != nil
        }
    }

    /// The mirror's part.
    public let mirror: MirrorBoard
    /// The upstreams' part.
    public let upstreams: UpstreamBoard
    /// One for each worker process.
    public let workers: [WorkerBoard]
    /// What is known of each process: the supervisor, the workers, the shadow processes, and the
    /// one that serves the admin endpoint.
    public let supervisor: CounterRow<ProcessCell>
    public let workerProcesses: [CounterRow<ProcessCell>]
    public let shadowProcesses: [CounterRow<ProcessCell>]
    public let admin: CounterRow<ProcessCell>
    public let reloads: CounterRow<ReloadCell>
    /// Nil where there is nothing to check or to look up.
    public let health: CounterRow<ProcessCell>?
    /// Nil where no events are logged: the process that writes them, and what it counts.
    public let events: CounterRow<ProcessCell>?
    public let eventLog: CounterRow<LogCounter>?

    /// Takes the board's room of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan, shape: Shape) {
        let mirror = MirrorBoard(plan: &plan, shape: shape.mirror)
        let workers = (0..<shape.mirror.workers).map { _ in WorkerBoard(plan: &plan) }
        let rows = (0..<2 + shape.mirror.workers + shape.mirror.shadowProcesses).map { _ in
            CounterRow<ProcessCell>(plan: &plan)
        }
        let health =
            shape.hasHealthProcess ? CounterRow<ProcessCell>(plan: &plan) : nil
        let events = shape.hasEventLog ? CounterRow<ProcessCell>(plan: &plan) : nil
        let eventLog = shape.hasEventLog ? CounterRow<LogCounter>(plan: &plan) : nil
        let upstreams = UpstreamBoard(plan: &plan, shape: shape.upstreams)
        let reloads = CounterRow<ReloadCell>(plan: &plan)
        guard let mirror, let upstreams, let reloads else { return nil }
        self.reloads = reloads
        self.mirror = mirror
        self.upstreams = upstreams
        self.health = health
        self.events = events
        self.eventLog = eventLog
        self.workers = workers.map { $0! }
        supervisor = rows[0]!
        admin = rows[1]!
        workerProcesses = rows[2..<2 + shape.mirror.workers].map { $0! }
        shadowProcesses = rows[(2 + shape.mirror.workers)...].map { $0! }
    }

    /// Bytes of a board of this shape, whole pages.
    public static func byteCount(_ shape: Shape) -> Int {
        var plan = MemoryPlan()
        _ = Board(plan: &plan, shape: shape)
        plan.alignToPage()
        return plan.byteCount
    }

    /// The board at `base`, whose memory is zero or was filled by another process of the same
    /// shape.
    public static func map(_ base: UnsafeMutableRawPointer, _ shape: Shape) -> Board {
        var plan = MemoryPlan(base: base)
        return Board(plan: &plan, shape: shape)!
    }
}

/// One worker's part of the board.
public struct WorkerBoard: Sendable {
    /// Counted by the worker; one that takes a dead one's place goes on with its figures, but for
    /// what is open, which starts at 0.
    public let counters: CounterRow<WorkerCounter>
    /// Requests that the mirror could have wanted, by whether it did: a random assignment, so that
    /// the two side by side show what mirroring costs.
    public let mirrored: Histogram
    public let unmirrored: Histogram
    /// All other requests.
    public let ineligible: Histogram
    /// How long one turn kept the loop from its next wait.
    public let turnTime: Histogram

    init?(plan: inout MemoryPlan) {
        let counters = CounterRow<WorkerCounter>(plan: &plan)
        let mirrored = Histogram(plan: &plan)
        let unmirrored = Histogram(plan: &plan)
        let ineligible = Histogram(plan: &plan)
        let turnTime = Histogram(plan: &plan)
        guard let counters, let mirrored, let unmirrored, let ineligible, let turnTime else {
            return nil
        }
        self.counters = counters
        self.mirrored = mirrored
        self.unmirrored = unmirrored
        self.ineligible = ineligible
        self.turnTime = turnTime
    }
}
