import CoreLoop
import Synchronization
import Testing

@testable import Mirror

/// When the guard holds mirroring, and when it does not.
@Suite struct LatencyGuardTests {
    /// Two histograms that requests are drawn into, and the guard that looks at them once a second.
    private final class Bench {
        private let memory: SharedMemory
        let mirrored: Histogram
        let unmirrored: Histogram
        var latencies = LatencyGuard(overheadMax: 0.05)
        private var random = FastRandom(seed: 11)
        private(set) var now = Instant(nanoseconds: 1_000_000_000)

        init() throws {
            var plan = MemoryPlan()
            _ = (Histogram(plan: &plan), Histogram(plan: &plan))
            memory = try .plain(byteCount: plan.byteCount)
            plan = MemoryPlan(base: memory.base)
            mirrored = Histogram(plan: &plan)!
            unmirrored = Histogram(plan: &plan)!
        }

        /// A latency of 1 ms and more, its tail exponential; times `factor`.
        private func latency(_ factor: Double) -> UInt64 {
            let even = Double(random.next() >> 11) * 0x1p-53
            let bits = even.exponent
            // −log2 of an even number is exponential; its mantissa is filled in linearly.
            let tail = -Double(bits) - (even.significand - 1)
            return UInt64(1e6 * factor * (1 + 0.3 * tail))
        }

        /// One second of `count` requests on each side.
        func second(_ count: Int, unmirrored others: Int? = nil, factor: Double = 1)
            -> LatencyGuard.Advice
        {
            for _ in 0..<count { mirrored.record(latency(factor)) }
            for _ in 0..<(others ?? count) { unmirrored.record(latency(1)) }
            return look(afterMs: 1_000)
        }

        func look(afterMs ms: Int) -> LatencyGuard.Advice {
            now = now.adding(ms: ms)
            return latencies.look(
                mirrored: mirrored.snapshot(), unmirrored: unmirrored.snapshot(), now: now)
        }
    }

    @Test("Mirroring that costs nothing is never held, over an hour of windows")
    func chanceHoldsNothing() throws {
        let bench = try Bench()
        for _ in 0..<3_600 { #expect(bench.second(1_100) == .nothing) }
    }

    @Test(
        "What costs clearly more than the bound is held in the second window",
        arguments: [1.5, 2, 10, 1_000])
    func costIsHeld(factor: Double) throws {
        let bench = try Bench()
        _ = bench.look(afterMs: 1_000)
        #expect(bench.second(4_000, factor: factor) == .nothing)
        guard case .hold(let ms, let ratio) = bench.second(4_000, factor: factor) else {
            Issue.record("not held")
            return
        }
        #expect(ms == LatencyGuard.holdMsFirst)
        #expect(ratio > 1 + (factor - 1) * 0.7)
    }

    @Test("A cost below the bound is none")
    func smallCostIsAllowed() throws {
        let bench = try Bench()
        for _ in 0..<600 { #expect(bench.second(2_000, factor: 1.03) == .nothing) }
    }

    @Test("A hold ends by itself; the next is longer, and after a clean time a first one again")
    func holdsGrowAndAreForgotten() throws {
        let bench = try Bench()
        func holdMs() -> UInt64 {
            for _ in 0..<5 {
                if case .hold(let ms, _) = bench.second(4_000, factor: 3) { return ms }
            }
            return 0
        }
        _ = bench.look(afterMs: 1_000)
        for wanted in [30_000, 60_000, 120_000, 240_000, 480_000, 900_000, 900_000] as [UInt64] {
            #expect(holdMs() == wanted)
            #expect(bench.look(afterMs: Int(wanted) - 1_000) == .nothing)
            #expect(bench.look(afterMs: 1_000) == .release)
        }
        for _ in 0..<LatencyGuard.cleanWindowsMin { #expect(bench.second(4_000) == .nothing) }
        #expect(holdMs() == LatencyGuard.holdMsFirst)
    }

    @Test("Where everything or nothing is mirrored, there is nothing to compare")
    func oneSideAloneSaysNothing() throws {
        let bench = try Bench()
        for _ in 0..<700 { #expect(bench.second(2_000, unmirrored: 0, factor: 50) == .nothing) }
        for _ in 0..<700 { #expect(bench.second(0, unmirrored: 2_000, factor: 50) == .nothing) }
    }

    @Test("One slow window between good ones is a stall of the machine")
    func oneWindowIsNotEnough() throws {
        let bench = try Bench()
        for _ in 0..<50 {
            #expect(bench.second(2_000, factor: 5) == .nothing)
            #expect(bench.second(2_000) == .nothing)
        }
    }

    /// After a reload the histograms begin anew, and the hold goes on.
    @Test func aHoldOutlivesAReload() throws {
        let bench = try Bench()
        var advice = LatencyGuard.Advice.nothing
        for _ in 0..<10 where advice == .nothing { advice = bench.second(2_000, factor: 2) }
        guard case .hold = advice else {
            Issue.record("no hold")
            return
        }
        let fresh = try Bench()
        fresh.latencies = bench.latencies.continued(overheadMax: 0.05)
        var heldSeconds = 0
        var last = fresh.second(2_000)
        while last == .nothing, heldSeconds < 1_000 {
            heldSeconds += 1
            last = fresh.second(10)
        }
        #expect(last == .release)
        #expect(heldSeconds > Int(LatencyGuard.holdMsFirst / 1_000) - 15)
    }
}
