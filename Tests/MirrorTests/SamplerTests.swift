import CoreLoop
import Mirror
import Testing

@Suite struct SamplerTests {
    static let rates = [
        0, 1e-9, 0.001, 0.01, 0.0123, 0.1, 0.25, 1.0 / 3, 0.333, 0.499, 0.5, 0.501, 0.7, 0.9, 0.95,
        0.999,
        0.999_999_999, 1,
    ]

    /// After any number of requests the picks differ from rate · n by at most one.
    @Test(arguments: rates, [1, 2, 3] as [UInt64])
    func exactAtEveryCount(_ rate: Double, _ seed: UInt64) {
        var sampler = Sampler(rate: rate)
        var random = FastRandom(seed: seed)
        // In whole numbers: the rate in steps of 1e-9.
        let share = Int((rate * 1e9).rounded())
        var picked = 0
        var worst = 0
        for count in 1...100_000 {
            if sampler.decide(random: { random.next() }) { picked += 1 }
            worst = max(worst, abs(picked * 1_000_000_000 - share * count))
        }
        #expect(worst <= 1_000_000_000)
    }

    /// Nobody can foresee which one of a stratum: each position as often as the others (chi²).
    @Test(arguments: [(0.1, 10), (0.01, 100), (0.5, 2), (0.25, 4), (0.9, 10), (0.75, 4)])
    func everyPositionIsAsLikely(_ rate: Double, _ stratum: Int) {
        var sampler = Sampler(rate: rate)
        var random = FastRandom(seed: 7)
        let rounds = 20_000
        var counts = [Int](repeating: 0, count: stratum)
        let odd = rate <= 0.5  // What stands out: the pick, or the one left out.
        for index in 0..<(rounds * stratum)
        where sampler.decide(random: { random.next() }) == odd {
            counts[index % stratum] += 1
        }
        #expect(counts.reduce(0, +) == rounds)
        let expected = Double(rounds) / Double(stratum)
        let chi = counts.reduce(0.0) {
            $0 + (Double($1) - expected) * (Double($1) - expected) / expected
        }
        // Mean k, variance 2k: beyond five deviations no fair choice comes.
        let freedom = Double(stratum - 1)
        #expect(chi < freedom + 5 * (2 * freedom).squareRoot())
    }

    /// One stratum's pick says nothing of the next one's.
    @Test func strataAreIndependent() {
        var sampler = Sampler(rate: 0.25)
        var random = FastRandom(seed: 8)
        var pairs = [Int](repeating: 0, count: 16)
        var previous = 0
        let rounds = 32_000
        for round in 0..<rounds {
            var position = -1
            for index in 0..<4 where sampler.decide(random: { random.next() }) { position = index }
            if round > 0 { pairs[previous * 4 + position] += 1 }
            previous = position
        }
        let expected = Double(rounds - 1) / 16
        let chi = pairs.reduce(0.0) {
            $0 + (Double($1) - expected) * (Double($1) - expected) / expected
        }
        #expect(chi < 15 + 5 * (30.0).squareRoot())
    }

    @Test func secureRandomServes() {
        var sampler = Sampler(rate: 0.1)
        let random = SecureRandom()
        let picked = (0..<10_000).filter { _ in sampler.decide(random) }
        #expect(picked.count == 1_000)
    }

    @Test(arguments: [-1, -.infinity, 2, .infinity] as [Double])
    func ratesOutOfRangeAreCut(_ rate: Double) {
        var sampler = Sampler(rate: rate)
        var random = FastRandom(seed: 9)
        for _ in 0..<100 { #expect(sampler.decide(random: { random.next() }) == (rate > 0)) }
    }

    private func isPicked(_ key: String, _ rate: Double) -> Bool {
        Array(key.utf8).withUnsafeBytes { Sampler.isPicked(key: $0, rate: rate) }
    }

    @Test(arguments: [0.001, 0.01, 0.1, 0.333, 0.5, 0.9])
    func stickyRate(_ rate: Double) {
        let count = 200_000
        let picked = (0..<count).filter { isPicked("user-\($0)", rate) }.count
        let deviation = (Double(count) * rate * (1 - rate)).squareRoot()
        #expect(abs(Double(picked) - Double(count) * rate) < 5 * deviation)
    }

    @Test func stickyEnds() {
        for index in 0..<1_000 {
            #expect(!isPicked("k\(index)", 0))
            #expect(isPicked("k\(index)", 1))
        }
    }

    /// A higher rate keeps those who were picked: raising it moves nobody out.
    @Test func stickyIsMonotonic() {
        for index in 0..<5_000 where isPicked("k\(index)", 0.1) {
            #expect(isPicked("k\(index)", 0.2))
        }
    }

    /// The same on every worker, instance and after a restart. The hashes were computed apart, in
    /// Python from the definitions of FNV-1a and fmix64.
    @Test(
        arguments: [
            ("", 0xefd01f60ba992926), ("a", 0x82a2a958a9bece5b), ("user-42", 0xa39532c7ab051e8d),
            ("2f9c1a60-aaaa", 0xd5166d50ce15e4c2),
        ] as [(String, UInt64)])
    func stickyKnownAnswers(_ key: String, _ hash: UInt64) {
        let share = Double(hash % Sampler.steps)
        #expect(!isPicked(key, share / 1e9))
        #expect(isPicked(key, (share + 1) / 1e9))
    }
}
