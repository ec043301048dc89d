import CoreLoop
import Mirror
import Proxy
import Upstream

/// `/targets`: every target with its endpoints, what the workers count of them, and what the checks
/// and the look-ups found. Sums over the workers.
struct TargetsPage {
    let settings: GatewaySettings
    let board: Board
    let now: Instant
    private let readings: [[EndpointReading]]

    init(settings: GatewaySettings, board: Board, now: Instant) {
        self.settings = settings
        self.board = board
        self.now = now
        readings = EndpointReading.all(
            settings, board.upstreams, workers: board.workers.count, now: now)
    }

    var json: JSONText {
        .object([
            (
                "targets",
                .list(
                    settings.targets.indices.map { index in
                        .object([
                            ("id", .text(settings.targets[index].id)),
                            ("tls", .flag(settings.targets[index].tls != nil)),
                            ("path_prefix", .text(settings.targets[index].pathPrefix)),
                            ("used_as", .list(uses(of: index).map { .text($0) })),
                            ("retries", retries(index)),
                            ("endpoints", .list(endpoints(index))),
                        ])
                    })
            )
        ])
    }

    private func uses(of target: Int) -> [String] {
        (settings.routes.contains { $0.target == target } ? ["primary"] : [])
            + (settings.shadows.contains { $0.target == target } ? ["shadow"] : [])
    }

    private func retries(_ target: Int) -> JSONText {
        func sum(_ counters: [TargetCounter]) -> JSONText {
            let workers = board.workers.indices
            return .integer(
                workers.reduce(0) { sum, worker in
                    let row = board.upstreams.target(worker: worker, target)
                    return counters.reduce(sum) { $0 &+ row.value($1) }
                })
        }
        return .object([
            ("sent", sum([.retriesConnect, .retriesReset, .retriesTimeout, .retriesStatus])),
            ("recovered", sum([.recovered])), ("failed", sum([.failed])),
            ("over_budget", sum([.overBudget])),
        ])
    }

    private func endpoints(_ target: Int) -> [JSONText] {
        settings.targets[target].endpoints.enumerated().map { place, endpoint in
            let number = board.upstreams.firstEndpoints[target] + place
            let rows = board.workers.indices.map {
                board.upstreams.endpoint(worker: $0, number)
            }
            func sum(_ counter: EndpointCounter) -> JSONText {
                .integer(rows.reduce(0) { $0 &+ $1.value(counter) })
            }
            let ejectedUntil = rows.map { $0.value(.ejectedUntilMs) }.max() ?? 0
            let ejectedMs =
                ejectedUntil > now.milliseconds ? ejectedUntil - now.milliseconds : nil
            let limit = UInt64(endpoint.connectionsMax)
            return .object(
                readings[target][place].members(now) + [
                    ("weight", .integer(UInt64(endpoint.weight))),
                    ("connections_max", .optional(limit == 0 ? nil : limit)),
                    ("ejected_seconds_left", .optional(ejectedMs.map { ($0 + 999) / 1_000 })),
                    ("connects", sum(.connects)), ("connect_failures", sum(.connectFailures)),
                    ("resets", sum(.resets)), ("timeouts", sum(.timeouts)),
                    ("error_answers", sum(.errorAnswers)), ("ejections", sum(.ejections)),
                ])
        }
    }
}

/// `/drain`: whether the gateway is ending, and what is still under way.
struct DrainPage {
    let settings: GatewaySettings
    let board: Board

    var json: JSONText {
        let open = board.workers.reduce(UInt64(0)) {
            $0 &+ $1.counters.value(.connectionsOpen)
        }
        let running = board.workerProcesses.count {
            ProcessState(rawValue: Int(clamping: $0.value(.state))) != .absent
        }
        return .object([
            ("draining", .flag(board.supervisor.value(.state) == stopping)),
            ("pid", .integer(board.supervisor.value(.pid))),
            ("connections_open", .integer(open)),
            ("workers_running", .integer(UInt64(running))),
            ("drain_timeout_ms", .integer(UInt64(settings.runtime.drainTimeoutMs))),
        ])
    }

    private var stopping: UInt64 { UInt64(ProcessState.stopping.rawValue) }
}
