import CoreLoop
import Testing

@testable import Upstream

/// Who gets the next request.
@Suite struct BalancerTests {
    /// States of some endpoints, and the balancer that chooses among them.
    private final class Bench {
        let states: UnsafeMutableBufferPointer<EndpointState>
        let balancer: Balancer
        var random = FastRandom(seed: 5)
        var nowMs: UInt64 = 1_000

        init(
            _ policy: BalancePolicy, weights: [Int], panic: Double = 0, slowStartMs: Int = 0,
            connectionsMax: Int = 0
        ) {
            states = .allocate(capacity: weights.count)
            for (place, weight) in weights.enumerated() {
                states.initializeElement(
                    at: place,
                    to: EndpointState(
                        weight: weight, connectionsMax: connectionsMax,
                        identity: KeyHash.of("10.0.0.\(place):80")))
            }
            balancer = Balancer(policy, panicThreshold: panic, slowStartMs: slowStartMs)
        }

        deinit { states.deallocate() }

        func choose(key: UInt64? = nil, excluded: UInt64 = 0) -> Balancer.Choice {
            balancer.choose(
                states, Balancer.Wish(key: key, excluded: excluded, nowMs: nowMs), &random)
        }

        /// How often each is chosen in `count` requests.
        func counts(_ count: Int, key: (Int) -> UInt64? = { _ in nil }) -> [Int] {
            var counts = [Int](repeating: 0, count: states.count)
            for index in 0..<count {
                if case .endpoint(let place) = choose(key: key(index)) { counts[place] += 1 }
            }
            return counts
        }
    }

    @Test(
        "Round robin is exact over each round of the weights' sum, and smooth",
        arguments: [[1], [1, 1], [5, 1, 1], [1, 2, 3, 4], [256, 1], [7, 7, 7, 3]])
    func roundRobinIsExact(weights: [Int]) {
        let bench = Bench(.roundRobin, weights: weights)
        let sum = weights.reduce(0, +)
        for _ in 0..<3 { #expect(bench.counts(sum) == weights) }
    }

    @Test func roundRobinSpreadsTheHeavyOne() {
        let bench = Bench(.roundRobin, weights: [5, 1, 1])
        let order = (0..<7).map { _ in bench.choose() }
        #expect(order != Array(repeating: .endpoint(0), count: 5) + [.endpoint(1), .endpoint(2)])
        #expect(order.filter { $0 == .endpoint(0) }.count == 5)
    }

    @Test("Of two drawn ones the less busy gets the request")
    func leastRequestsAvoidsTheBusy() {
        let bench = Bench(.leastRequests, weights: [1, 1])
        bench.states[0].open = 50
        #expect(bench.counts(1_000) == [0, 1_000])
        bench.states[1].open = 200
        #expect(bench.counts(1_000) == [1_000, 0])
    }

    @Test("A slow endpoint of several gets less, and never nothing for ever")
    func leastRequestsEvensOut() {
        let bench = Bench(.leastRequests, weights: [1, 1, 1, 1])
        bench.states[2].open = 10
        let counts = bench.counts(10_000)
        #expect(counts[2] == 0)
        #expect(counts[0] > 2_000 && counts[1] > 2_000 && counts[3] > 2_000)
        bench.states[2].open = 0
        #expect(bench.counts(10_000)[2] > 2_000)
    }

    @Test("The same key goes to the same endpoint, and keys spread by weight")
    func hashIsStickyAndWeighted() {
        let bench = Bench(.hash(header: "x"), weights: [1, 1, 2])
        let counts = bench.counts(40_000) { KeyHash.of("user-\($0)") }
        // Five standard deviations of a binomial.
        #expect(abs(counts[0] - 10_000) < 435 && abs(counts[2] - 20_000) < 500, "\(counts)")
        let other = Bench(.hash(header: "x"), weights: [1, 1, 2])
        other.random = FastRandom(seed: 99)
        for index in 0..<1_000 {
            let key = KeyHash.of("user-\(index)")
            #expect(bench.choose(key: key) == other.choose(key: key))
        }
    }

    @Test("Where one leaves, only its keys move; where it comes back, they come back")
    func hashMovesOnlyWhatItMust() {
        let bench = Bench(.hash(header: "x"), weights: [1, 1, 1, 1])
        let keys = (0..<4_000).map { KeyHash.of("user-\($0)") }
        let before = keys.map { bench.choose(key: $0) }
        bench.states[1].isHealthy = false
        for (key, choice) in zip(keys, before) {
            let now = bench.choose(key: key)
            if choice == .endpoint(1) { #expect(now != choice) } else { #expect(now == choice) }
        }
        bench.states[1].isHealthy = true
        #expect(keys.map { bench.choose(key: $0) } == before)
    }

    @Test("Unusable, excluded and full ones are passed over")
    func eligibility() {
        let bench = Bench(.roundRobin, weights: [1, 1, 1], connectionsMax: 2)
        bench.states[0].isHealthy = false
        bench.states[1].ejectedUntilMs = 5_000
        #expect(bench.counts(10) == [0, 0, 10])
        bench.states[2].open = 2
        #expect(bench.choose() == .saturated)
        bench.states[2].idle = 1
        #expect(bench.choose() == .endpoint(2))
        #expect(bench.choose(excluded: 0b100) == .none)
    }

    @Test("Below the panic threshold the verdicts are not followed")
    func panicUsesAll() {
        let bench = Bench(.roundRobin, weights: [1, 1, 1, 1], panic: 0.5)
        bench.states[0].isHealthy = false
        bench.states[1].isHealthy = false
        #expect(bench.counts(100)[0] == 0)
        bench.states[2].isHealthy = false
        #expect(bench.counts(100) == [25, 25, 25, 25])
    }

    @Test("An endpoint that comes back gets its weight little by little")
    func slowStart() {
        let bench = Bench(.roundRobin, weights: [1, 1], slowStartMs: 10_000)
        bench.states[0].setHealthy(false, nowMs: 1_000)
        bench.states[0].setHealthy(true, nowMs: 1_000)
        let early = bench.counts(1_000)[0]
        bench.nowMs = 6_000
        let middle = bench.counts(1_000)[0]
        bench.nowMs = 11_000
        let late = bench.counts(1_000)[0]
        #expect(early > 50 && early < 150, "\(early)")
        #expect(middle > 300 && middle < 360, "\(middle)")
        #expect(late == 500)
    }
}
