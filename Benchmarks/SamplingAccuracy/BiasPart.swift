import CoreLoop
import Load

/// Whether what the shadow got is a fair sample of what the primary got.
enum BiasPart {
    static let rate = 0.1
    /// Body sizes, in turn by serial number.
    static let sizes = [0, 1_024, 16_384, 65_536]
    static let tenths = 10

    /// The requests of both sides, put into classes.
    private struct Comparison {
        let primary: [Arrival]
        let shadow: [Arrival]
        var table = TextTable(["class", "at the primary", "at the shadow", "share"])
        var figures: [JSONText] = []

        mutating func compare(
            _ name: String, _ classes: Int, _ report: inout PartReport, shown: Bool = true,
            _ classOf: (UInt64) -> Int
        ) {
            var offered = [Double](repeating: 0, count: classes)
            var taken = offered
            for arrival in primary { offered[classOf(arrival.serial)] += 1 }
            for arrival in shadow { taken[classOf(arrival.serial)] += 1 }
            let share = Double(shadow.count) / Double(max(1, primary.count))
            report.expectChance(
                Statistics.chiSquared(observed: taken, expected: offered.map { $0 * share }),
                "no bias by \(name)")
            for index in 0..<classes where shown {
                table.add([
                    "\(name) \(index)", fixed(offered[index], 0), fixed(taken[index], 0),
                    fixed(taken[index] / max(1, offered[index]) * 100, 2) + " %",
                ])
            }
            figures.append(
                .object([
                    ("by", .text(name)), ("primary", .list(offered.map { .number($0) })),
                    ("shadow", .list(taken.map { .number($0) })),
                ]))
        }
    }

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.bias)
        var shape = Stand.Shape()
        shape.sampleRate = rate
        shape.arrivalsMax = settings.requests + 1_000
        let stand = try Stand(settings, directory, shape)
        let result = try stand.load("bias") {
            $0.requests = sizes.map { size in
                var request = LoadRequest(method: size == 0 ? "GET" : "POST", path: "/size/\(size)")
                request.bodyBytes = size
                return request
            }
            $0.rate = settings.rate
            $0.requestsMax = UInt64(settings.requests)
        }
        let metrics = try stand.settledMetrics(requests: result.total[.answered])
        var both = Comparison(primary: stand.primary.arrivals(), shadow: stand.shadow.arrivals())
        sound(both, result, metrics, &report)
        let connectionOf = Dictionary(
            both.primary.map { ($0.serial, Int($0.connection)) },
            uniquingKeysWith: { first, _ in first })
        both.compare("connection", settings.connections, &report, shown: false) {
            connectionOf[$0] ?? 0
        }
        both.compare("size class", sizes.count, &report) { Int($0 % UInt64(sizes.count)) }
        let count = max(1, both.primary.count)
        both.compare("tenth of the run", tenths, &report) {
            min(tenths - 1, Int($0) * tenths / count)
        }
        report.tables = [both.table.text]
        report.figures = [("classes", .list(both.figures))]
        return report
    }

    /// What must hold before a comparison says anything.
    private static func sound(
        _ both: Comparison, _ result: LoadResult, _ metrics: Metrics, _ report: inout PartReport
    ) {
        let (answered, offered) = (result.total[.status2xx], result.total[.offered])
        report.expect(
            answered == offered && both.primary.count == Int(offered),
            "all requests answered, each once at the primary",
            "\(answered) of \(offered), \(both.primary.count) at the primary")
        report.expectNoDrops(metrics, "no copy dropped")
        let serials = Set(both.shadow.map(\.serial))
        report.expect(
            serials.count == both.shadow.count, "no request at the shadow twice",
            "\(serials.count) of \(both.shadow.count)")
        report.expect(
            serials.isSubset(of: Set(both.primary.map(\.serial))),
            "nothing at the shadow that the primary did not get",
            "\(serials.count) serial numbers")
    }
}
