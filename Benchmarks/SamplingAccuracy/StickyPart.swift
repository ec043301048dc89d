import CoreLoop
import Load

/// Whether a user's requests are mirrored all or not at all, on every worker and after a restart.
enum StickyPart {
    static let rate = 0.3
    static let users = 2_000
    static let requestsEach = 10

    static func run(_ settings: Settings, _ directory: String) throws -> PartReport {
        var report = PartReport(.sticky)
        var shape = Stand.Shape()
        shape.sampleRate = rate
        shape.sampleBy = "header:x-user-id"
        shape.arrivalsMax = users * requestsEach * 3
        let stand = try Stand(settings, directory, shape)
        var chosen: [Set<Int>] = []
        var seenBefore = 0
        // The second start has one worker only: the choice must not depend on how many there are.
        for (start, workers) in [(1, 2), (2, 1)] {
            if start == 2 { try stand.restartGateway(workers: workers) }
            let result = try stand.load("sticky, \(workers) workers") {
                $0.numbered.append(
                    NumberedField(name: "X-User-Id", source: .serialModulo(UInt64(users))))
                $0.rate = settings.rate
                $0.requestsMax = UInt64(users * requestsEach)
            }
            let metrics = try stand.settledMetrics(requests: result.total[.answered])
            report.expectNoDrops(metrics, "start \(start): no copy dropped")
            let active = Set(
                metrics.select("umbra_mirror_eligible_total").filter { $0.value > 0 }.compactMap {
                    $0.labels["worker"]
                })
            report.expect(
                active.count == workers, "start \(start): all workers served",
                "\(active.count) of \(workers)")
            let arrivals = stand.shadow.arrivals().dropFirst(seenBefore)
            seenBefore += arrivals.count
            var copies = [Int](repeating: 0, count: users)
            for arrival in arrivals { copies[Int(arrival.serial) % users] += 1 }
            let split = copies.count { $0 != 0 && $0 != requestsEach }
            report.expect(
                split == 0, "start \(start): all or none of a user's requests",
                "\(split) of \(users) users split")
            chosen.append(Set(copies.indices.filter { copies[$0] > 0 }))
        }
        let share = Double(chosen[0].count) / Double(users)
        // Users are chosen by a hash, so their number is binomial: five standard deviations.
        let deviation = 5 * (rate * (1 - rate) / Double(users)).squareRoot()
        report.expect(
            abs(share - rate) <= deviation, "the share of users is the rate",
            "\(fixed(share * 100, 2)) % of \(users) at \(fixed(rate * 100, 0)) %")
        report.expect(
            chosen[0] == chosen[1], "the same users after a restart with one worker",
            "\(chosen[0].symmetricDifference(chosen[1]).count) differ of \(chosen[0].count)")
        report.figures = [("users", .integer(users)), ("chosen", .integer(chosen[0].count))]
        return report
    }
}
