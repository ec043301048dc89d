import HTTP
import Testing

@Suite struct UUIDv7Tests {
    private func text(_ halves: (UInt64, UInt64)) -> String {
        let memory = UnsafeMutableRawBufferPointer.allocate(
            byteCount: UUIDv7.textBytes, alignment: 1)
        defer { memory.deallocate() }
        var writer = HeadWriter(memory)
        UUIDv7.append(halves.0, halves.1, to: &writer)
        #expect(!writer.overflowed)
        return String(decoding: writer.written, as: UTF8.self)
    }

    /// The example of RFC 9562, appendix A.6: its moment and its 74 random bits.
    @Test func knownAnswer() {
        let halves = UUIDv7.make(
            milliseconds: 0x017F_22E2_79B0, 0xCC3 << 52, 0x18C4_DC0C_0C07_398F << 2)
        #expect(halves == (0x017F_22E2_79B0_7CC3, 0x98C4_DC0C_0C07_398F))
        #expect(text(halves) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    }

    static let words: [UInt64] = [
        0, 1, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210, 0x9999_9999_AAAA_AAAA,
        0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, .max,
    ]

    /// Every digit at every place, against the standard library's digits.
    @Test(arguments: words, words)
    func textIsThatOfTheHalves(_ high: UInt64, _ low: UInt64) {
        func digits(_ half: UInt64) -> [Character] {
            let text = String(half, radix: 16)
            return Array(String(repeating: "0", count: 16 - text.count) + text)
        }
        var expected = digits(high) + digits(low)
        for place in [8, 13, 18, 23] { expected.insert("-", at: place) }
        #expect(text((high, low)) == String(expected))
    }

    @Test(arguments: words, words)
    func versionAndVariantStand(_ a: UInt64, _ b: UInt64) {
        for milliseconds: UInt64 in [0, 1, 0x017F_22E2_79B0, 0xFFFF_FFFF_FFFF] {
            let (high, low) = UUIDv7.make(milliseconds: milliseconds, a, b)
            #expect(high >> 16 == milliseconds)
            #expect(high >> 12 & 0xF == 7)
            #expect(low >> 62 == 0b10)
            // The rest is random bits, each its own.
            #expect(high & 0xFFF == a >> 52)
            #expect(low & 0x3FFF_FFFF_FFFF_FFFF == b >> 2)
        }
    }

    /// A later moment sorts behind an earlier one whatever their random bits are.
    @Test func laterMomentsSortBehind() {
        let moments: [UInt64] = [
            0, 1, 9, 10, 15, 16, 255, 256, 0xFFFF_FFFF, 0x1_0000_0000, 1_700_000_000_000,
            1_700_000_000_001, 0xFFFF_FFFF_FFFF,
        ]
        for (earlier, later) in zip(moments, moments.dropFirst()) {
            let before = UUIDv7.make(milliseconds: earlier, .max, .max)
            let behind = UUIDv7.make(milliseconds: later, 0, 0)
            #expect(before.0 < behind.0)
            #expect(text(before) < text(behind))
        }
    }

    @Test(arguments: 0..<UUIDv7.textBytes)
    func shortMemoryOverflows(_ byteCount: Int) {
        var memory = [UInt8](repeating: 0xEE, count: UUIDv7.textBytes)
        memory.withUnsafeMutableBytes { raw in
            var writer = HeadWriter(UnsafeMutableRawBufferPointer(rebasing: raw[..<byteCount]))
            UUIDv7.append(1, 2, to: &writer)
            #expect(writer.overflowed)
            #expect(raw[byteCount...].allSatisfy { $0 == 0xEE }, "wrote behind the end")
        }
    }
}
