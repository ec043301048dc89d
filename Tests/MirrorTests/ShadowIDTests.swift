import CoreLoop
import HTTP
import Mirror
import Testing

@Suite struct ShadowIDTests {
    private func text(_ id: ShadowID) -> String {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { memory.deallocate() }
        var writer = HeadWriter(memory)
        id.append(to: &writer)
        return String(decoding: writer.written, as: UTF8.self)
    }

    /// The example of RFC 9562, appendix A.6.
    @Test func knownAnswer() {
        let id = ShadowID(high: 0x017F_22E2_79B0_7CC3, low: 0x98C4_DC0C_0C07_398F)
        #expect(text(id) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    }

    @Test func versionVariantTimeAndNoRepetition() {
        var random = FastRandom(seed: 5)
        var seen: Set<String> = []
        var ones: (UInt64, UInt64) = (0, 0)
        var zeros: (UInt64, UInt64) = (0, 0)
        for _ in 0..<10_000 {
            let id = ShadowID(wallMs: 0x017F_22E2_79B0, random: &random)
            let text = text(id)
            #expect(text.utf8.count == ShadowID.textBytes)
            #expect(text.hasPrefix("017f22e2-79b0-7"))
            let variant = Array(text)[19]
            #expect("89ab".contains(variant))
            seen.insert(text)
            ones = (ones.0 | id.high, ones.1 | id.low)
            zeros = (zeros.0 | ~id.high, zeros.1 | ~id.low)
        }
        #expect(seen.count == 10_000)
        // Every random bit takes both values.
        #expect(ones.0 & zeros.0 == 0x0FFF && ones.1 & zeros.1 == 0x3FFF_FFFF_FFFF_FFFF)
    }

    @Test func laterOnesSortBehind() {
        var random = FastRandom(seed: 6)
        let ids = (0..<100).map { text(ShadowID(wallMs: 1_700_000_000_000 + $0, random: &random)) }
        #expect(ids == ids.sorted())
    }
}
