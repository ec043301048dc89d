import CoreLoop
import Load

/// Whether the pick's place in its stratum can be foreseen.
enum PositionPart {
    static let rate = 0.1
    static let stratum = 10
    /// One connection is slow; so many requests are enough to see a bias of a tenth in one place.
    static let requestsMax = 40_000

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.position)
        let requests = min(settings.requests, requestsMax)
        var runs: [[Int]] = []
        for start in 1...2 {
            // A gateway of its own each time: its first request opens its first stratum.
            var shape = Stand.Shape()
            shape.workers = 1
            shape.sampleRate = rate
            shape.arrivalsMax = requests + 1_000
            let stand = try Stand(settings, directory, shape)
            let result = try stand.load("position, start \(start)") {
                $0.connections = 1
                $0.rate = settings.rate / 2
                $0.requestsMax = UInt64(requests / stratum * stratum)
            }
            let metrics = try stand.settledMetrics(requests: result.total[.answered])
            report.expectNoDrops(metrics, "start \(start): no copy dropped")
            let strata = Int(result.total[.answered]) / stratum
            var places = [Int](repeating: -1, count: strata)
            var onePerStratum = true
            for arrival in stand.shadow.arrivals() {
                let index = Int(arrival.serial) / stratum
                guard index < strata, places[index] < 0 else {
                    onePerStratum = false
                    continue
                }
                places[index] = Int(arrival.serial) % stratum
            }
            onePerStratum = onePerStratum && !places.contains(-1)
            report.expect(
                onePerStratum, "start \(start): exactly one pick in each stratum",
                "\(strata) strata")
            runs.append(places)
        }
        var histogram = [Double](repeating: 0, count: stratum)
        var pairs = [Double](repeating: 0, count: stratum * stratum)
        for places in runs {
            for place in places where place >= 0 { histogram[place] += 1 }
            for (first, second) in zip(places, places.dropFirst()) where first >= 0 && second >= 0 {
                pairs[first * stratum + second] += 1
            }
        }
        func uniform(_ counts: [Double]) -> [Double] {
            [Double](repeating: counts.reduce(0, +) / Double(counts.count), count: counts.count)
        }
        report.expectChance(
            Statistics.chiSquared(observed: histogram, expected: uniform(histogram)),
            "the place is uniform")
        report.expectChance(
            Statistics.chiSquared(observed: pairs, expected: uniform(pairs)),
            "the place does not follow from the one before")
        let same = zip(runs[0], runs[1]).count { $0 == $1 }
        let share = Double(same) / Double(max(1, runs[0].count))
        // A tenth by chance; far above it the same random numbers came again.
        report.expect(
            share < 0.2, "another start picks other places", "\(fixed(share * 100, 1)) % the same")
        var table = TextTable(["place", "picks"])
        for place in 0..<stratum { table.add(["\(place)", fixed(histogram[place], 0)]) }
        report.tables = [table.text]
        report.figures = [("places", .list(histogram.map { .number($0) }))]
        return report
    }
}
