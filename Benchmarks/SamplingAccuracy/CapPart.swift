import CoreLoop
import Glibc
import Load

/// Whether the cap holds in every sliding window, by the shadow's own clock.
enum CapPart {
    static let offeredPerSecond = 1_000.0

    private struct Case {
        let qps: String
        let shadows: Int
        /// The window in which `most` arrivals are allowed, seconds.
        let windowSeconds: Double
        let most: Int
    }

    private static let cases = [
        Case(qps: "50", shadows: 1, windowSeconds: 1, most: 50),
        Case(qps: "50", shadows: 2, windowSeconds: 1, most: 50),
        Case(qps: "0.5", shadows: 1, windowSeconds: 2, most: 1),
        Case(qps: "0", shadows: 1, windowSeconds: 1, most: 0),
    ]

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.cap)
        var table = TextTable([
            "qps", "shadow processes", "window", "most in it", "allowed", "arrivals", "of possible",
        ])
        for each in cases {
            var shape = Stand.Shape()
            shape.qps = each.qps
            shape.shadows = each.shadows
            shape.arrivalsMax = Int(settings.capSeconds * offeredPerSecond) + 1_000
            let stand = try Stand(settings, directory, shape)
            let name =
                "qps \(each.qps), \(each.shadows) shadow process\(each.shadows == 1 ? "" : "es")"
            let result = try stand.load(name) {
                $0.rate = offeredPerSecond
                $0.seconds = settings.capSeconds
            }
            let metrics = try stand.settledMetrics(requests: result.total[.answered])
            let times = stand.shadow.arrivals().map(\.atNs)
            let most = Statistics.mostInWindow(times, windowNs: UInt64(each.windowSeconds * 1e9))
            report.expect(
                most <= each.most,
                "\(name): most arrivals in any \(fixed(each.windowSeconds, 0)) s",
                "\(most), allowed \(each.most)")
            // A cap that stops everything holds too; this one must let through what it may.
            let possible = Double(each.most) * (settings.capSeconds / each.windowSeconds)
            let used = possible > 0 ? Double(times.count) / possible : 1
            // A window's worth may be missing at the end, and a hundredth to the cap's own margin.
            let least = possible > 0 ? max(0, 0.95 - each.windowSeconds / settings.capSeconds) : 0
            report.expect(
                used >= least, "\(name): the cap is used",
                "\(times.count) arrivals of \(fixed(possible, 0)) possible")
            let capped = metrics.sum("umbra_mirror_dropped_total", ["reason": "qps_cap"])
            let sampled = metrics.sum("umbra_mirror_sampled_total")
            report.expect(
                sampled == capped + Double(times.count),
                "\(name): what was not sent was dropped as qps_cap",
                "sampled \(Int(sampled)), capped \(Int(capped)), arrived \(times.count)")
            report.expect(
                result.total[.status2xx] == result.total[.offered],
                "\(name): all requests answered",
                "\(result.total[.status2xx]) of \(result.total[.offered])")
            table.add([
                each.qps, "\(each.shadows)", fixed(each.windowSeconds, 0) + " s", "\(most)",
                "\(each.most)", "\(times.count)",
                possible > 0 ? fixed(used * 100, 1) + " %" : "-",
            ])
            report.figures.append(
                (
                    "qps_\(each.qps)_shadows_\(each.shadows)",
                    .object([
                        ("most", .integer(most)), ("allowed", .integer(each.most)),
                        ("arrivals", .integer(times.count)),
                    ])
                ))
        }
        report.tables = [table.text]
        return report
    }
}
