import CoreLoop
import Proxy
import Upstream

/// What the workers counted about targets and their endpoints, summed over the workers.
extension Prometheus {
    func renderUpstreams(_ text: inout MetricText, _ now: Instant) {
        renderEndpoints(&text)
        text.family(
            "umbra_endpoint_ejected", .gauge,
            "Workers that leave the endpoint out for its failures.")
        eachEndpoint { labels, endpoint in
            let workers = board.workers.indices.count { worker in
                let cells = board.upstreams.endpoint(worker: worker, endpoint)
                return cells.value(.ejectedUntilMs) > now.milliseconds
            }
            text.sample(labels, UInt64(workers))
        }
        renderTargets(&text)
    }

    private func eachEndpoint(_ body: (_ labels: String, _ endpoint: Int) -> Void) {
        for (index, target) in settings.targets.enumerated() {
            for (place, endpoint) in target.endpoints.enumerated() {
                let labels = MetricText.labels(("target", target.id), ("endpoint", endpoint.label))
                body(labels, board.upstreams.firstEndpoints[index] + place)
            }
        }
    }

    private func renderEndpoints(_ text: inout MetricText) {
        let rows: [(name: String, kind: MetricText.Kind, counter: EndpointCounter, help: String)] =
            [
                (
                    "requests_total", .counter, .requests,
                    "Times that a request was given to the endpoint, retries included."
                ),
                ("connections_open", .gauge, .open, "Connections to the endpoint."),
                ("connections_idle", .gauge, .idle, "Of these, idle in the pool."),
                ("connects_total", .counter, .connects, "Connections begun."),
                (
                    "connect_failures_total", .counter, .connectFailures,
                    "Connections that could not be made."
                ),
                ("resets_total", .counter, .resets, "Answers that broke off or were malformed."),
                ("timeouts_total", .counter, .timeouts, "Answers that did not come in time."),
                (
                    "error_answers_total", .counter, .errorAnswers,
                    "Answers 500, 502, 503 and 504."
                ),
                (
                    "ejections_total", .counter, .ejections,
                    "Times that a worker left the endpoint out for its failures."
                ),
            ]
        for row in rows {
            text.family("umbra_endpoint_" + row.name, row.kind, row.help)
            eachEndpoint { labels, endpoint in
                let sum = board.workers.indices.reduce(UInt64(0)) {
                    $0 &+ board.upstreams.endpoint(worker: $1, endpoint).value(row.counter)
                }
                text.sample(labels, sum)
            }
        }
    }

    private func renderTargets(_ text: inout MetricText) {
        typealias Row = (label: String, counter: TargetCounter)
        let families: [(name: String, label: String, rows: [Row], help: String)] = [
            (
                "retries_total", "after",
                [
                    ("connect", .retriesConnect), ("reset", .retriesReset),
                    ("timeout", .retriesTimeout), ("status", .retriesStatus),
                ], "Requests sent again, by what the try before ended with."
            ),
            (
                "retried_requests_total", "result",
                [("recovered", .recovered), ("failed", .failed)],
                "Requests that were sent more than once, by what became of them."
            ),
            (
                "retries_refused_total", "reason",
                [("over_budget", .overBudget), ("no_endpoint", .noEndpoint)],
                "Retries that were not made."
            ),
            (
                "unbalanced_total", "reason", [("saturated", .saturated), ("panic", .panics)],
                "Choices with every endpoint at its connection limit, or too few usable ones."
            ),
        ]
        for family in families {
            text.family("umbra_target_" + family.name, .counter, family.help)
            for (index, target) in settings.targets.enumerated() {
                for row in family.rows {
                    let sum = board.workers.indices.reduce(UInt64(0)) {
                        $0 &+ board.upstreams.target(worker: $1, index).value(row.counter)
                    }
                    text.sample(
                        MetricText.labels(("target", target.id), (family.label, row.label)), sum)
                }
            }
        }
    }
}
