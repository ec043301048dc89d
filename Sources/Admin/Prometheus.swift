public import CoreLoop
import Mirror
public import Proxy

/// Renders the board as `/metrics`, in the Prometheus text format 0.0.4.
///
/// Counters go on over restarts of a process and over reloads, for what keeps its name.
/// `umbra_requests_total` summed over workers and codes is the number of whole answers.
public struct Prometheus {
    let settings: GatewaySettings
    let board: Board
    let version: String
    let startedAt: Instant
    let routeNames: [String]

    /// A renderer of `board`, which has the shape that `settings` give it.
    public init(settings: GatewaySettings, board: Board, version: String, startedAt: Instant) {
        self.settings = settings
        self.board = board
        self.version = version
        self.startedAt = startedAt
        // Two series with the same labels would make Prometheus refuse the whole scrape.
        routeNames = settings.distinctRouteNames
    }

    /// The text, UTF-8. Every family that the board can fill is there, counters at 0 too.
    public func render(now: Instant) -> [UInt8] {
        var text = MetricText()
        renderProcesses(&text, now)
        renderRequests(&text)
        renderConnections(&text)
        renderUpstreams(&text, now)
        renderHealth(&text)
        renderTLS(&text)
        renderWorkerResources(&text)
        renderEventLog(&text)
        if !settings.shadows.isEmpty {
            let reading = MirrorReading(board, settings)
            renderLanes(&text, reading)
            renderCopies(&text, reading)
            renderTaps(&text)
            renderShadows(&text, now)
        }
        renderMeter(&text)
        return text.bytes
    }

    /// One family with a sample for each worker.
    func perWorker(
        _ text: inout MetricText, _ name: String, _ kind: MetricText.Kind, _ help: String,
        _ value: (Int) -> UInt64
    ) {
        text.family(name, kind, help)
        for worker in board.workers.indices {
            text.sample(MetricText.labels(("worker", "\(worker)")), value(worker))
        }
    }

    /// The same for one of the workers' own counters.
    func perWorker(
        _ text: inout MetricText, _ name: String, _ kind: MetricText.Kind,
        _ counter: WorkerCounter, _ help: String
    ) {
        perWorker(&text, name, kind, help) { board.workers[$0].counters.value(counter) }
    }
}

// MARK: Processes

extension Prometheus {
    private func renderProcesses(_ text: inout MetricText, _ now: Instant) {
        text.family("umbra_build_info", .gauge, "Always 1; the labels say what runs.")
        text.sample(MetricText.labels(("version", version)), 1)
        text.family("umbra_uptime_seconds", .gauge, "Time since the gateway started.")
        text.sample(nanoseconds: now.nanoseconds(since: startedAt))
        text.family(
            "umbra_generation", .gauge, "The number of the configuration that serves, from 1.")
        text.sample("", board.reloads.value(.generation))
        text.family(
            "umbra_generations_draining", .gauge,
            "Former configurations whose processes still finish requests.")
        text.sample("", board.reloads.value(.draining))
        text.family(
            "umbra_reloads_total", .counter,
            "Reloads: done; refused for the file; failed because its processes did not start.")
        let results: [(String, ReloadCell)] = [
            ("done", .done), ("refused", .refused), ("failed", .failed),
        ]
        for (label, cell) in results {
            text.sample(MetricText.labels(("result", label)), board.reloads.value(cell))
        }
        let processes = ProcessReading.all(board)
        func each(_ value: (ProcessReading) -> UInt64?) {
            for process in processes {
                let labels = MetricText.labels(
                    ("role", process.role.label), ("index", "\(process.index)"))
                if let number = value(process) { text.sample(labels, number) }
            }
        }
        text.family("umbra_process_up", .gauge, "1 where the process runs.")
        each { $0.state == .running ? 1 : 0 }
        text.family(
            "umbra_process_restarts_total", .counter, "Starts of the process after its first.")
        each { $0.restarts }
        text.family(
            "umbra_process_resident_memory_bytes", .gauge,
            "Resident memory, what it shares with other processes included.")
        each { $0.residentBytes }
        text.family(
            "umbra_process_uptime_seconds", .gauge, "Whole seconds since the process started.")
        each { $0.uptimeMs(now).map { $0 / 1_000 } }
        text.family(
            "umbra_process_heartbeat_age_seconds", .gauge,
            "Time since the process last ended a turn of its loop.")
        for process in processes {
            guard let age = process.heartbeatAgeMs(now) else { continue }
            text.sample(
                MetricText.labels(("role", process.role.label), ("index", "\(process.index)")),
                nanoseconds: age * 1_000_000)
        }
        text.family(
            "umbra_log_suppressed_total", .counter,
            "Lines of the gateway's own log that were counted instead of written.")
        for process in processes {
            for (reason, count) in [
                ("repeated", process.logRepeated), ("unwritten", process.logUnwritten),
            ] {
                text.sample(
                    MetricText.labels(
                        ("role", process.role.label), ("index", "\(process.index)"),
                        ("reason", reason)), count)
            }
        }
    }
}
