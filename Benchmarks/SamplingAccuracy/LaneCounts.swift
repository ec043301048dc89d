import Load

/// One worker's counters of one route and shadow.
struct LaneCounts {
    let worker: String
    let route: String
    let shadow: String
    var eligible = 0.0
    var sampled = 0.0
    var notSampled = 0.0

    /// All that had an eligible request, by worker, then route.
    static func all(_ metrics: Metrics) -> [LaneCounts] {
        var lanes: [[String]: LaneCounts] = [:]
        func add(_ name: String, _ field: WritableKeyPath<LaneCounts, Double>) {
            for sample in metrics.select("umbra_mirror_\(name)_total") where sample.value > 0 {
                let key = ["worker", "route", "shadow"].map { sample.labels[$0] ?? "?" }
                let empty = LaneCounts(worker: key[0], route: key[1], shadow: key[2])
                lanes[key, default: empty][keyPath: field] += sample.value
            }
        }
        add("eligible", \.eligible)
        add("sampled", \.sampled)
        add("not_sampled", \.notSampled)
        return lanes.values.sorted {
            ($0.worker, $0.route, $0.shadow) < ($1.worker, $1.route, $1.shadow)
        }
    }

    var json: JSONText {
        .object([
            ("worker", .text(worker)), ("route", .text(route)), ("shadow", .text(shadow)),
            ("eligible", .number(eligible)), ("sampled", .number(sampled)),
        ])
    }
}
