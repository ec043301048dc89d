import CoreLoop
import Synchronization
import Testing

@Suite struct HistogramTests {
    /// A histogram on plain memory, and what keeps that alive.
    struct Bench: ~Copyable {
        let memory: SharedMemory
        let histogram: Histogram

        init() throws {
            var size = MemoryPlan()
            _ = Histogram(plan: &size)
            let memory = try SharedMemory.plain(byteCount: size.byteCount)
            var plan = MemoryPlan(base: memory.base)
            histogram = try #require(Histogram(plan: &plan))
            self.memory = memory
        }
    }

    @Test func lowerBoundIsTheInverseOfBucket() {
        for bucket in 0..<Histogram.bucketCount {
            let low = Histogram.lowerBound(of: bucket)
            let high = Histogram.lowerBound(of: bucket + 1)
            #expect(low < high)
            #expect(Histogram.bucket(of: low) == bucket)
            #expect(Histogram.bucket(of: high - 1) == bucket)
            #expect((high - low) << UInt64(Histogram.bits) <= max(low, 64), "wider than 1/64")
        }
        #expect(Histogram.lowerBound(of: Histogram.bucketCount) == 1 << UInt64(Histogram.octaves))
    }

    @Test func bucketsRiseWithTheValue() {
        var random = FastRandom(seed: 1)
        for _ in 0..<100_000 {
            let a = random.next() >> (random.next() % 64)
            let b = random.next() >> (random.next() % 64)
            let (low, high) = (min(a, b), max(a, b))
            #expect(Histogram.bucket(of: low) <= Histogram.bucket(of: high))
            #expect(Histogram.bucket(of: high) < Histogram.bucketCount)
        }
        for value in [UInt64.max, 1 << 36, 1 << 63] {
            #expect(Histogram.bucket(of: value) == Histogram.bucketCount - 1)
        }
    }

    @Test(arguments: UInt64(1)...6)
    func quantilesLieInTheirBucket(seed: UInt64) throws {
        let bench = try Bench()
        var random = FastRandom(seed: seed)
        let number = [1, 2, 3, 100, 1_000, 50_000][Int(seed - 1)]
        var values = (0..<number).map { _ in
            random.next() >> UInt64.random(in: 30...63, using: &random)
        }
        for value in values { bench.histogram.record(value) }
        values.sort()
        let snapshot = bench.histogram.snapshot()
        #expect(snapshot.count == UInt64(number))
        #expect(snapshot.sumNs == values.reduce(0, +))
        for quantile in [0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1] {
            let rank = max(1, Int((quantile * Double(number)).rounded(.up)))
            let bucket = Histogram.bucket(of: values[rank - 1])
            let estimate = try #require(snapshot.value(at: quantile))
            #expect(estimate >= Double(Histogram.lowerBound(of: bucket)))
            #expect(estimate <= Double(Histogram.lowerBound(of: bucket + 1)))
        }
        for value in values.prefix(100) {
            let bucket = Histogram.bucket(of: value)
            let expected = values.count { Histogram.bucket(of: $0) <= bucket }
            #expect(snapshot.count(atMost: value) == UInt64(expected))
        }
    }

    @Test func snapshotsAddUpAndSubtract() throws {
        let bench = try Bench()
        for value in UInt64(0)..<1_000 { bench.histogram.record(value * 7) }
        let early = bench.histogram.snapshot()
        for value in UInt64(0)..<500 { bench.histogram.record(value * 1_001) }
        let late = bench.histogram.snapshot()
        let between = late.since(early)
        #expect(between.count == 500)
        #expect(between.sumNs == (0..<500).reduce(0) { $0 + $1 * 1_001 })
        var sum = early
        sum.add(between)
        #expect(sum == late)
        #expect(late.since(late) == HistogramSnapshot())
        #expect(HistogramSnapshot().value(at: 0.5) == nil)
    }

    @Test func aPlanThatCountsNeedsAllCells() {
        var plan = MemoryPlan()
        #expect(Histogram(plan: &plan) == nil)
        #expect(plan.byteCount == Histogram.cellCount * 8)
    }
}

@Suite struct CounterTests {
    enum Name: Int, CaseIterable, Sendable { case first, second, third }

    @Test func cellsAddSubtractAndRaise() throws {
        let memory = try SharedMemory.plain(byteCount: 64)
        let cell = Cell(memory.base.assumingMemoryBound(to: Atomic<UInt64>.self))
        cell.add()
        cell.add(41)
        #expect(cell.value == 42)
        cell.subtract()
        cell.subtract(40)
        #expect(cell.value == 1)
        cell.raise(to: 7)
        cell.raise(to: 5)
        #expect(cell.value == 7)
        cell.set(3)
        #expect(cell.value == 3)
        cell.publish(9)
        #expect(cell.acquired == 9)
    }

    @Test func aRowCountsEachNameForItself() throws {
        var size = MemoryPlan()
        #expect(CounterRow<Name>(plan: &size) == nil)
        #expect(size.byteCount == 24)
        let memory = try SharedMemory.plain(byteCount: size.byteCount)
        var plan = MemoryPlan(base: memory.base)
        let row = try #require(CounterRow<Name>(plan: &plan))
        row.add(.second)
        row.add(.third, 5)
        row[.third].add(2)
        #expect(Name.allCases.map { row.value($0) } == [0, 1, 7])
    }
}
