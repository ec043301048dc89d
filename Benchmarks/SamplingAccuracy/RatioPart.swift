import CoreLoop
import Load

/// Whether each worker and route takes its share to ±1.
enum RatioPart {
    static let rates = [0.001, 0.01, 0.1, 0.333, 0.5]
    /// Fewer eligible requests than this make no window.
    static let windowRequestsMin = 100.0

    /// What was measured at one rate.
    private struct Trial {
        let rate: Double
        let result: LoadResult
        let metrics: Metrics
        let lanes: [LaneCounts]
        /// Sampled of eligible between two looks.
        let windows: [Double]
        /// Requests that the shadow itself counted, and those with the mark.
        let atShadow: UInt64
        let marked: UInt64

        var percent: String { fixed(rate * 100, 1) + " %" }

        func sum(_ name: String) -> Double { metrics.sum("umbra_mirror_\(name)_total") }
    }

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.ratio)
        var table = TextTable([
            "rate", "worker/route", "eligible", "sampled", "rate · eligible", "off by",
        ])
        var windows = TextTable([
            "rate", "windows", "least", "greatest", "requests", "at the shadow", "dropped",
        ])
        for rate in rates {
            let trial = try measure(rate, settings, directory)
            judge(trial, &report)
            show(trial, &table, &windows)
            report.figures.append(
                (
                    "rate_\(fixed(rate * 100, 1))",
                    .object([
                        ("windows", .list(trial.windows.map { .number($0) })),
                        ("lanes", .list(trial.lanes.map(\.json))),
                    ])
                ))
        }
        report.tables = [table.text, "ratio in windows of 250 ms\n" + windows.text]
        return report
    }

    private static func measure(
        _ rate: Double, _ settings: Settings, _ directory: String
    ) throws -> Trial {
        var shape = Stand.Shape()
        shape.sampleRate = rate
        shape.withRoutes = true
        let stand = try Stand(settings, directory, shape)
        var looks: [(eligible: Double, sampled: Double)] = []
        let result = try stand.load("ratio \(fixed(rate * 100, 1)) %") {
            $0.requests = Stand.routes.map { LoadRequest(path: "/\($0)/item") }
            $0.requestsMax = UInt64(settings.requests)
        } during: {
            guard let metrics = try? stand.gateway.metrics() else { return }
            let eligible = metrics.sum("umbra_mirror_eligible_total")
            looks.append((eligible, metrics.sum("umbra_mirror_sampled_total")))
        }
        let windows = zip(looks, looks.dropFirst()).compactMap { before, after -> Double? in
            let eligible = after.eligible - before.eligible
            guard eligible >= windowRequestsMin else { return nil }
            return (after.sampled - before.sampled) / eligible
        }
        let metrics = try stand.settledMetrics(requests: result.total[.answered])
        return Trial(
            rate: rate, result: result, metrics: metrics, lanes: LaneCounts.all(metrics),
            windows: windows, atShadow: stand.shadow.value(.requests),
            marked: stand.shadow.value(.shadowMarked))
    }

    private static func judge(_ trial: Trial, _ report: inout PartReport) {
        let percent = trial.percent
        let total = trial.result.total
        report.expect(
            total[.status2xx] == total[.offered], "\(percent): all requests answered",
            "\(total[.status2xx]) of \(total[.offered])")
        let counted = trial.metrics.sum("umbra_requests_total")
        report.expect(
            counted == Double(total[.answered]), "\(percent): the gateway's own count",
            "\(Int(counted)) counted, \(total[.answered]) answered")
        let worst =
            trial.lanes.map { abs($0.sampled - trial.rate * $0.eligible) }.max() ?? .infinity
        report.expect(
            worst <= 1, "\(percent): exact to ±1 for each worker and route",
            "worst \(fixed(worst, 3)) over \(trial.lanes.count)")
        let adds = trial.lanes.allSatisfy { $0.eligible == $0.sampled + $0.notSampled }
        report.expect(
            adds, "\(percent): eligible = sampled + not sampled", adds ? "for each" : "not for each"
        )
        report.expect(
            trial.sum("eligible") == Double(total[.answered]),
            "\(percent): every request was eligible", "\(Int(trial.sum("eligible")))")
        let workers = Set(trial.lanes.map(\.worker)).count
        report.expect(
            workers == 2 && trial.lanes.count == 2 * Stand.routes.count,
            "\(percent): both workers served every route",
            "\(workers) workers, \(trial.lanes.count) pairs")
        // What the shadow itself got must be what the gateway says it sent.
        let sent = trial.sum("sent")
        let dropped = trial.sum("dropped")
        report.expect(
            Double(trial.atShadow) == sent && trial.sum("sampled") == sent + dropped,
            "\(percent): sampled = sent + dropped, sent = received",
            "sent \(Int(sent)), received \(trial.atShadow), dropped \(Int(dropped))")
        report.expect(
            trial.marked == trial.atShadow, "\(percent): each copy carries X-Umbra-Shadow",
            "\(trial.marked) of \(trial.atShadow)")
    }

    private static func show(_ trial: Trial, _ table: inout TextTable, _ windows: inout TextTable) {
        for lane in trial.lanes {
            let wanted = trial.rate * lane.eligible
            table.add([
                trial.percent, "\(lane.worker)/\(lane.route)", fixed(lane.eligible, 0),
                fixed(lane.sampled, 0), fixed(wanted, 2), fixed(lane.sampled - wanted, 2),
            ])
        }
        windows.add([
            trial.percent, "\(trial.windows.count)",
            trial.windows.min().map { fixed($0 * 100, 3) + " %" } ?? "-",
            trial.windows.max().map { fixed($0 * 100, 3) + " %" } ?? "-",
            "\(trial.result.total[.answered])", "\(trial.atShadow)",
            fixed(trial.sum("dropped"), 0),
        ])
    }
}
