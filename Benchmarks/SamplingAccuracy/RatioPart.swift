import CoreLoop
import Load

/// Whether each worker and route takes its share to ±1.
enum RatioPart {
    static let rates = [0.001, 0.01, 0.1, 0.333, 0.5]

    /// One worker's counters of one route.
    private struct Lane: Hashable {
        let worker: String
        let route: String
        let shadow: String
    }

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.ratio)
        var table = TextTable(["rate", "worker/route", "eligible", "sampled", "rate · eligible", "off by"])
        var windows = TextTable(["rate", "windows", "least", "greatest", "requests", "at the shadow", "dropped"])
        for rate in rates {
            try one(rate, settings, directory, &report, &table, &windows)
        }
        report.tables = [table.text, "ratio in windows of 250 ms\n" + windows.text]
        return report
    }

    private static func one(
        _ rate: Double, _ settings: Settings, _ directory: String, _ report: inout PartReport, _ table: inout TextTable,
        _ windows: inout TextTable
    ) throws {
        let percent = fixed(rate * 100, 1) + " %"
        var shape = Stand.Shape()
        shape.sampleRate = rate
        shape.withRoutes = true
        let stand = try Stand(settings, directory, shape)
        var looks: [(eligible: Double, sampled: Double)] = []
        let result = try stand.load("ratio \(percent)") {
            $0.requests = Stand.routes.map { LoadRequest(path: "/\($0)/item") }
            $0.requestsMax = UInt64(settings.requests)
        } during: {
            guard let metrics = try? stand.gateway.metrics() else { return }
            looks.append((metrics.sum("umbra_mirror_eligible_total"), metrics.sum("umbra_mirror_sampled_total")))
        }
        let metrics = try stand.settledMetrics(requests: result.total[.answered])
        report.expect(
            result.total[.status2xx] == result.total[.offered], "\(percent): all requests answered",
            "\(result.total[.status2xx]) of \(result.total[.offered])")
        report.expect(
            metrics.sum("umbra_requests_total") == Double(result.total[.answered]), "\(percent): the gateway's own count",
            "\(Int(metrics.sum("umbra_requests_total"))) counted, \(result.total[.answered]) answered")
        let lanes = lanes(metrics)
        var workers: Set<String> = []
        var worst = 0.0
        var lanesJSON: [JSONText] = []
        var adds = true
        for (lane, counts) in lanes.sorted(by: { ($0.key.worker, $0.key.route) < ($1.key.worker, $1.key.route) }) {
            workers.insert(lane.worker)
            let wanted = rate * counts.eligible
            worst = max(worst, abs(counts.sampled - wanted))
            adds = adds && counts.eligible == counts.sampled + counts.notSampled
            table.add([
                percent, "\(lane.worker)/\(lane.route)", fixed(counts.eligible, 0), fixed(counts.sampled, 0),
                fixed(wanted, 2), fixed(counts.sampled - wanted, 2),
            ])
            lanesJSON.append(.object([
                ("worker", .text(lane.worker)), ("route", .text(lane.route)), ("eligible", .number(counts.eligible)),
                ("sampled", .number(counts.sampled)),
            ]))
        }
        report.expect(
            worst <= 1, "\(percent): exact to ±1 for each worker and route", "worst \(fixed(worst, 3)) over \(lanes.count)")
        report.expect(adds, "\(percent): eligible = sampled + not sampled", adds ? "for each" : "not for each")
        report.expect(
            metrics.sum("umbra_mirror_eligible_total") == Double(result.total[.answered]),
            "\(percent): every request was eligible", "\(Int(metrics.sum("umbra_mirror_eligible_total")))")
        report.expect(
            workers.count == 2 && lanes.count == 2 * Stand.routes.count, "\(percent): both workers served every route",
            "\(workers.count) workers, \(lanes.count) pairs")
        atShadow(stand, metrics, percent, &report)
        let ratios = zip(looks, looks.dropFirst()).compactMap { before, after -> Double? in
            let eligible = after.eligible - before.eligible
            return eligible >= 100 ? (after.sampled - before.sampled) / eligible : nil
        }
        windows.add([
            percent, "\(ratios.count)", ratios.min().map { fixed($0 * 100, 3) + " %" } ?? "-",
            ratios.max().map { fixed($0 * 100, 3) + " %" } ?? "-", "\(result.total[.answered])",
            "\(stand.shadow.value(.requests))", fixed(metrics.sum("umbra_mirror_dropped_total"), 0),
        ])
        report.figures.append((
            "rate_\(fixed(rate * 100, 1))",
            .object([("windows", .list(ratios.map { .number($0) })), ("lanes", .list(lanesJSON))])
        ))
    }

    /// What the shadow itself got must be what the gateway says it sent.
    private static func atShadow(
        _ stand: Stand, _ metrics: Metrics, _ percent: String, _ report: inout PartReport
    ) {
        let sent = metrics.sum("umbra_mirror_sent_total")
        let dropped = metrics.sum("umbra_mirror_dropped_total")
        let came = Double(stand.shadow.value(.requests))
        report.expect(
            came == sent && metrics.sum("umbra_mirror_sampled_total") == sent + dropped,
            "\(percent): sampled = sent + dropped, sent = received", "sent \(Int(sent)), received \(Int(came)), dropped \(Int(dropped))")
        report.expect(
            stand.shadow.value(.shadowMarked) == stand.shadow.value(.requests), "\(percent): each copy carries X-Umbra-Shadow",
            "\(stand.shadow.value(.shadowMarked)) of \(stand.shadow.value(.requests))")
    }

    private static func lanes(
        _ metrics: Metrics
    ) -> [Lane: (eligible: Double, sampled: Double, notSampled: Double)] {
        var lanes: [Lane: (eligible: Double, sampled: Double, notSampled: Double)] = [:]
        func lane(_ sample: Metrics.Sample) -> Lane {
            Lane(
                worker: sample.labels["worker"] ?? "?", route: sample.labels["route"] ?? "?",
                shadow: sample.labels["shadow"] ?? "?")
        }
        for sample in metrics.select("umbra_mirror_eligible_total") where sample.value > 0 {
            lanes[lane(sample), default: (0, 0, 0)].eligible += sample.value
        }
        for sample in metrics.select("umbra_mirror_sampled_total") where sample.value > 0 {
            lanes[lane(sample), default: (0, 0, 0)].sampled += sample.value
        }
        for sample in metrics.select("umbra_mirror_not_sampled_total") where sample.value > 0 {
            lanes[lane(sample), default: (0, 0, 0)].notSampled += sample.value
        }
        return lanes
    }
}
