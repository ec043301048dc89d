import Load

/// The mirror's counters of one gateway at one moment, or what came between two.
struct MirrorCounts: Equatable {
    var requests = 0.0
    var eligible = 0.0
    var sampled = 0.0
    var notSampled = 0.0
    var sent = 0.0
    var droppedByReason: [String: Double] = [:]
    var results: [String: Double] = [:]

    init() {}

    init(_ metrics: Metrics) {
        requests = metrics.sum("umbra_requests_total")
        eligible = metrics.sum("umbra_mirror_eligible_total")
        sampled = metrics.sum("umbra_mirror_sampled_total")
        notSampled = metrics.sum("umbra_mirror_not_sampled_total")
        sent = metrics.sum("umbra_mirror_sent_total")
        for sample in metrics.select("umbra_mirror_dropped_total") {
            droppedByReason[sample.labels["reason"] ?? "?", default: 0] += sample.value
        }
        for sample in metrics.select("umbra_mirror_results_total") {
            results[sample.labels["result"] ?? "?", default: 0] += sample.value
        }
    }

    var dropped: Double { droppedByReason.values.reduce(0, +) }

    func since(_ earlier: MirrorCounts) -> MirrorCounts {
        var result = self
        result.requests -= earlier.requests
        result.eligible -= earlier.eligible
        result.sampled -= earlier.sampled
        result.notSampled -= earlier.notSampled
        result.sent -= earlier.sent
        for (reason, value) in earlier.droppedByReason {
            result.droppedByReason[reason, default: 0] -= value
        }
        for (name, value) in earlier.results { result.results[name, default: 0] -= value }
        return result
    }

    /// What does not add up once the mirror is idle; nil where all does.
    var fault: String? {
        if eligible != sampled + notSampled {
            return
                "eligible \(Int(eligible)) is not sampled \(Int(sampled)) + not sampled \(Int(notSampled))"
        }
        if sampled != sent + dropped {
            return "sampled \(Int(sampled)) is not sent \(Int(sent)) + dropped \(Int(dropped))"
        }
        let ended = results.values.reduce(0, +)
        if sent != ended { return "sent \(Int(sent)) is not the sum of its results \(Int(ended))" }
        return nil
    }

    var json: JSONText {
        func members(_ values: [String: Double]) -> JSONText {
            .object(
                values.filter { $0.value != 0 }.sorted { $0.key < $1.key }.map {
                    ($0.key, .number($0.value))
                })
        }
        return .object([
            ("requests", .number(requests)), ("eligible", .number(eligible)),
            ("sampled", .number(sampled)),
            ("not_sampled", .number(notSampled)), ("sent", .number(sent)),
            ("dropped", members(droppedByReason)),
            ("results", members(results)),
        ])
    }
}
