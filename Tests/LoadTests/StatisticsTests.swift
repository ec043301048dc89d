import CoreLoop
import Testing

@testable import Load

@Suite struct StatisticsTests {
    @Test(
        arguments: [
            ([], nil), ([3], 3), ([1, 2], 1.5), ([9, 1, 5], 5), ([4, 1, 3, 2], 2.5),
            ([2, 2, 2, 100], 2),
        ] as [([Double], Double?)])
    func median(values: [Double], expected: Double?) {
        #expect(Statistics.median(values) == expected)
    }

    /// Of /proc/stat, in hundredths of a second: of two CPUs the one that lost more counts.
    @Test func stolenTimeIsThatOfTheCPUThatLostMost() {
        func stolen(_ first: Int, _ second: Int, atSeconds seconds: UInt64) -> StolenTime {
            StolenTime(
                "cpu  9 9 9 9 9 9 9 900 9 9\ncpu0 1 2 3 4 5 6 7 \(first) 8 9\n"
                    + "cpu1 1 2 3 4 5 6 7 \(second) 8 9\nintr 1 2 3 4 5 6 7 800 9\n",
                at: Instant(nanoseconds: seconds * 1_000_000_000))
        }
        let before = stolen(50, 70, atSeconds: 10)
        #expect(stolen(51, 90, atSeconds: 12).share(since: before) == 0.1)
        #expect(stolen(51, 90, atSeconds: 12).share(since: before, of: [0]) == 0.005)
        #expect(stolen(50, 70, atSeconds: 12).share(since: before) == 0)
        let nothing = StolenTime("", at: Instant(nanoseconds: 12_000_000_000))
        #expect(nothing.share(since: before) == 0)
    }

    @Test func intervalOfEqualValuesIsThatValue() {
        let interval = Statistics.medianInterval([1.02, 1.02, 1.02], seed: 7)
        #expect(interval?.low == 1.02 && interval?.high == 1.02)
    }

    @Test func intervalNeedsTwoValues() {
        #expect(Statistics.medianInterval([1.0]) == nil)
        #expect(Statistics.medianInterval([]) == nil)
    }

    @Test func intervalRepeatsByItsSeedAndHoldsTheMedian() throws {
        var random = FastRandom(seed: 3)
        let values = (0..<25).map { _ in Double.random(in: 0.9...1.1, using: &random) }
        let first = try #require(Statistics.medianInterval(values, seed: 11))
        let again = try #require(Statistics.medianInterval(values, seed: 11))
        #expect(first == again)
        let median = try #require(Statistics.median(values))
        #expect(first.low <= median && median <= first.high && first.low < first.high)
    }

    /// 95 % intervals must hold the true median about 95 times in 100; the percentile bootstrap of
    /// a median is known to be near that for 15 values.
    @Test func intervalCoversTheTrueMedian() throws {
        var random = FastRandom(seed: 5)
        var held = 0
        let trials = 300
        for trial in 0..<trials {
            let values = (0..<15).map { _ in Double.random(in: 0...2, using: &random) }
            let interval = try #require(
                Statistics.medianInterval(values, resamples: 400, seed: UInt64(trial)))
            if interval.low <= 1, 1 <= interval.high { held += 1 }
        }
        #expect(held >= trials * 88 / 100 && held <= trials * 99 / 100, "held \(held) of \(trials)")
    }

    @Test(
        arguments: [
            ([], 0), ([5], 1), ([0, 10], 1), ([0, 9], 2), ([0, 9, 10, 18, 19], 3),
            ([19, 0, 10, 9, 18], 3),
            ([0, 0, 0, 10, 10], 3), ([0, 5, 10, 15, 20], 2),
        ] as [([UInt64], Int)])
    func mostInHalfOpenWindowOfTen(times: [UInt64], most: Int) {
        #expect(Statistics.mostInWindow(times, windowNs: 10) == most)
    }

    @Test func mostInWindowEqualsCountingByHand() {
        var random = FastRandom(seed: 9)
        for _ in 0..<50 {
            let times = (0..<40).map { _ in UInt64.random(in: 0..<200, using: &random) }
            let byHand = times.map { start in times.count { $0 >= start && $0 < start + 25 } }.max()
            #expect(Statistics.mostInWindow(times, windowNs: 25) == byHand)
        }
    }

    /// Critical values from tables of the distribution (NIST handbook 1.3.6.7.4).
    @Test(
        arguments: [
            (1, 3.841, 0.05), (1, 6.635, 0.01), (4, 9.488, 0.05), (9, 16.919, 0.05),
            (9, 27.877, 0.001),
            (63, 82.529, 0.05), (100, 149.449, 0.001),
        ] as [(Int, Double, Double)])
    func chiSquaredTail(freedom: Int, value: Double, p: Double) {
        let found = Statistics.upperGamma(shape: Double(freedom) / 2, from: value / 2)
        #expect(abs(found - p) < p * 0.01)
    }

    @Test func chiSquaredOfCounts() throws {
        let die = try #require(
            Statistics.chiSquared(
                observed: [5, 8, 9, 8, 10, 20], expected: [10, 10, 10, 10, 10, 10]))
        #expect(abs(die.value - 13.4) < 1e-9 && die.p > 0.019 && die.p < 0.021)
        #expect(Statistics.chiSquared(observed: [1], expected: [1]) == nil)
        #expect(Statistics.chiSquared(observed: [4, 4], expected: [4, 4])?.p == 1)
    }
}
