import CoreLoop
import Proxy
import Upstream

/// What the health process found of endpoints and of their names.
extension Prometheus {
    func renderHealth(_ text: inout MetricText) {
        text.family(
            "umbra_upstream_health", .gauge,
            "0 where checks have found the endpoint unhealthy; 1 otherwise, and before the first.")
        eachChecked { labels, endpoint in
            let isUnhealthy = board.upstreams.health(endpoint) == .unhealthy
            text.sample(MetricText.labels(labels), isUnhealthy ? 0 : 1)
        }
        text.family(
            "umbra_upstream_health_changes_total", .counter,
            "Times that the verdict on the endpoint changed.")
        eachChecked { labels, endpoint in
            let cells = board.upstreams.verdict(endpoint)
            text.sample(MetricText.labels(labels), cells.value(.changes))
        }
        text.family("umbra_upstream_checks_total", .counter, "Checks, by what they came to.")
        eachChecked { labels, endpoint in
            for result in CheckResult.allCases {
                text.sample(
                    MetricText.labels(labels + [("result", result.label)]),
                    board.upstreams.verdict(endpoint).value(HealthCell(result)))
            }
        }
        renderResolver(&text)
    }

    private func eachChecked(_ body: (_ labels: [(String, String)], _ endpoint: Int) -> Void) {
        for (index, target) in settings.targets.enumerated() where target.health != nil {
            for (place, endpoint) in target.endpoints.enumerated() {
                body(
                    [("target", target.id), ("endpoint", endpoint.label)],
                    board.upstreams.firstEndpoints[index] + place)
            }
        }
    }

    private func renderResolver(_ text: inout MetricText) {
        let names = WatchedName.all(settings.targets).map { name in
            let first = name.endpoints[0]
            let endpoint = board.upstreams.firstEndpoints[first.target] + first.place
            return (host: name.host, cells: board.upstreams.resolver(endpoint))
        }
        text.family(
            "umbra_resolver_lookups_total", .counter, "Look-ups of a name, by what they came to.")
        let results: [(label: String, cell: ResolverCell)] = [
            ("found", .answered), ("no_name", .noName), ("no_answer", .noAnswer),
            ("malformed", .malformed), ("unusable", .unusable),
        ]
        for name in names {
            for result in results {
                text.sample(
                    MetricText.labels(("name", name.host), ("result", result.label)),
                    name.cells.value(result.cell))
            }
        }
        let rows: [(name: String, cell: ResolverCell, help: String)] = [
            ("changes_total", .changes, "Times that the addresses of a name changed."),
            (
                "truncated_total", .truncated,
                "Answers with more addresses than are kept."
            ),
            (
                "strays_total", .strays,
                "Answers that belonged to no question: they came too late, or are forged."
            ),
        ]
        for row in rows {
            text.family("umbra_resolver_" + row.name, .counter, row.help)
            for name in names {
                text.sample(MetricText.labels(("name", name.host)), name.cells.value(row.cell))
            }
        }
    }
}
