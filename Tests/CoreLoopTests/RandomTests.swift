import CoreLoop
import Testing

@Suite struct RandomTests {
    /// SplitMix64 as its authors wrote it.
    struct SplitMix64 {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }

    /// xoshiro256** as its authors wrote it.
    struct Xoshiro256StarStar {
        var s: [UInt64]

        private func rotl(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }

        mutating func next() -> UInt64 {
            let result = rotl(s[1] &* 5, 7) &* 9
            let t = s[1] << 17
            s[2] ^= s[0]
            s[3] ^= s[1]
            s[1] ^= s[2]
            s[0] ^= s[3]
            s[2] ^= t
            s[3] = rotl(s[3], 45)
            return result
        }
    }

    @Test func theReferencesGiveThePublishedValues() {
        var split = SplitMix64(state: 1_234_567)
        #expect(
            (0..<5).map { _ in split.next() } == [
                6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
                4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
            ])
        var xoshiro = Xoshiro256StarStar(s: [1, 2, 3, 4])
        #expect(
            (0..<10).map { _ in xoshiro.next() } == [
                11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360,
                607_988_272_756_665_600, 16_172_922_978_634_559_625, 8_476_171_486_693_032_832,
                10_595_114_339_597_558_777, 2_904_607_092_377_533_576,
            ])
    }

    @Test(arguments: [0, 1, 42, 0xDEAD_BEEF, UInt64.max])
    func fastRandomIsXoshiroSeededBySplitMix(seed: UInt64) {
        var split = SplitMix64(state: seed)
        var reference = Xoshiro256StarStar(s: (0..<4).map { _ in split.next() })
        var random = FastRandom(seed: seed)
        for _ in 0..<10_000 {
            let (drawn, expected) = (random.next(), reference.next())
            #expect(drawn == expected)
        }
    }

    @Test func simulatedRandomRepeatsItsSeed() {
        func draws(_ seed: UInt64) -> [UInt64] {
            let random = SecureRandom(simulatedFrom: seed)
            return (0..<100).map { _ in random.next() }
        }
        #expect(draws(7) == draws(7))
        #expect(draws(7) != draws(8))
    }

    @Test func secureRandomFillsEveryWordAnew() {
        let random = SecureRandom()
        let draws = 20_000
        var ones = [Int](repeating: 0, count: 64)
        var seen = Set<UInt64>()
        for _ in 0..<draws {
            let value = random.next()
            #expect(seen.insert(value).inserted)
            for bit in 0..<64 where value >> UInt64(bit) & 1 == 1 { ones[bit] += 1 }
        }
        // Eight standard deviations: chance alone fails this once in 10^13 runs.
        let spread = 8 * Double(draws).squareRoot() / 2
        for count in ones { #expect(abs(Double(count) - Double(draws) / 2) < spread) }
    }
}
