import CoreLoop
import Load

/// Whether what the shadow got is a fair sample of what the primary got.
enum BiasPart {
    static let rate = 0.1
    /// Body sizes, in turn by serial number.
    static let sizes = [0, 1_024, 16_384, 65_536]
    static let tenths = 10

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
            $0.rate = settings.biasRate
            $0.requestsMax = UInt64(settings.requests)
        }
        let metrics = try stand.settledMetrics(requests: result.total[.answered])
        let primary = stand.primary.arrivals()
        let shadow = stand.shadow.arrivals()
        report.expect(
            result.total[.status2xx] == result.total[.offered] && primary.count == Int(result.total[.offered]),
            "all requests answered, each once at the primary", "\(result.total[.status2xx]) of \(result.total[.offered]), \(primary.count) at the primary")
        // Drops are not random: a full queue prefers large bodies. With any, the test says nothing.
        let dropped = metrics.sum("umbra_mirror_dropped_total")
        report.expect(dropped == 0, "no copy dropped", "\(Int(dropped)); lower --bias-rate if not 0")
        let serials = Set(shadow.map(\.serial))
        report.expect(serials.count == shadow.count, "no request at the shadow twice", "\(serials.count) of \(shadow.count)")
        report.expect(
            serials.isSubset(of: Set(primary.map(\.serial))), "nothing at the shadow that the primary did not get",
            "\(serials.count) serial numbers")
        let connectionOf = Dictionary(primary.map { ($0.serial, Int($0.connection)) }, uniquingKeysWith: { first, _ in first })
        var table = TextTable(["class", "at the primary", "at the shadow", "share"])
        var byClass: [JSONText] = []
        func test(_ name: String, _ classes: Int, shown: Bool, _ classOf: (UInt64) -> Int) {
            var offered = [Double](repeating: 0, count: classes)
            var taken = offered
            for arrival in primary { offered[classOf(arrival.serial)] += 1 }
            for arrival in shadow { taken[classOf(arrival.serial)] += 1 }
            let share = Double(shadow.count) / Double(max(1, primary.count))
            report.expectChance(
                Statistics.chiSquared(observed: taken, expected: offered.map { $0 * share }), "no bias by \(name)")
            for index in 0..<classes where shown {
                table.add([
                    "\(name) \(index)", fixed(offered[index], 0), fixed(taken[index], 0),
                    fixed(taken[index] / max(1, offered[index]) * 100, 2) + " %",
                ])
            }
            byClass.append(.object([
                ("by", .text(name)), ("primary", .list(offered.map { .number($0) })),
                ("shadow", .list(taken.map { .number($0) })),
            ]))
        }
        test("connection", settings.connections, shown: false) { connectionOf[$0] ?? 0 }
        test("size class", sizes.count, shown: true) { Int($0 % UInt64(sizes.count)) }
        test("tenth of the run", tenths, shown: true) { min(tenths - 1, Int($0) * tenths / max(1, primary.count)) }
        report.tables = [table.text]
        report.figures = [("classes", .list(byClass))]
        return report
    }
}
