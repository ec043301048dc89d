/// The searches that a head's parser spends its time in, 16 bytes a step.
///
/// A comparison's mask is narrowed to four bits a byte, so that the first hit is a count of
/// trailing zeros: Swift 6.3 emits no `pmovmskb`, and `any(mask)` is an outlined call. Constants
/// are written `SIMD16(repeating:)`; a bare literal compiles to a loop over the lanes.
extension Bytes {
    /// The class of bytes that a scan stops at.
    @usableFromInline
    enum Stop {
        /// Below 0x20, or 0x7F: what may not stand in a field value, HTAB included.
        case control
        /// Anything but a letter or a hyphen: fast for field names; the caller judges the stop.
        case notName
        /// Anything but a letter, a digit, a hyphen or a dot: fast for hosts.
        case notHost
        /// SP and below, `#`, 0x7F and above: what may not stand in a request target.
        case notTarget
    }

    /// The first index in `start..<count` whose byte is a `stop`, else `count`.
    @inline(__always)
    func first(_ stop: Stop, from start: Int) -> Int {
        var index = start
        while index &+ 16 <= count {
            let hits = Self.hits(stop, vector(at: index))
            if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 2 }
            index &+= 16
        }
        return firstInTail(stop, from: index)
    }

    // Fewer than 16 bytes are left: look again at the last 16 and shift out those already seen, as
    // a read beyond the end is none that may happen.
    @inline(__always)
    func firstInTail(_ stop: Stop, from start: Int) -> Int {
        guard start < count else { return count }
        guard count >= 16 else { return firstInShort(stop, from: start) }
        let last = count &- 16
        let hits = Self.hits(stop, vector(at: last)) &>> UInt64(4 &* (start &- last))
        return hits == 0 ? count : start &+ hits.trailingZeroBitCount &>> 2
    }

    @inline(never)
    func firstInShort(_ stop: Stop, from start: Int) -> Int {
        for index in start..<count where Self.hits(stop, SIMD16(repeating: self[index])) != 0 {
            return index
        }
        return count
    }

    @inline(__always)
    static func hits(_ stop: Stop, _ v: SIMD16<UInt8>) -> UInt64 {
        switch stop {
        case .control:
            return nibbles(
                (v .< SIMD16<UInt8>(repeating: 0x20)) .| (v .== SIMD16<UInt8>(repeating: 0x7F)))
        case .notName:
            let letter = (v | SIMD16<UInt8>(repeating: 0x20)) &- SIMD16<UInt8>(repeating: 0x61)
            return nibbles(
                (letter .>= SIMD16<UInt8>(repeating: 26))
                    .& (v .!= SIMD16<UInt8>(repeating: 0x2D)))
        case .notHost:
            let letter = (v | SIMD16<UInt8>(repeating: 0x20)) &- SIMD16<UInt8>(repeating: 0x61)
            let digit = v &- SIMD16<UInt8>(repeating: 0x30)
            let mark = v &- SIMD16<UInt8>(repeating: 0x2D)
            return nibbles(
                (letter .>= SIMD16<UInt8>(repeating: 26))
                    .& (digit .>= SIMD16<UInt8>(repeating: 10))
                    .& (mark .>= SIMD16<UInt8>(repeating: 2)))
        case .notTarget:
            // 0x21...0x7E are the 94 bytes that may stand here.
            let graphic = v &- SIMD16<UInt8>(repeating: 0x21)
            return nibbles(
                (graphic .>= SIMD16<UInt8>(repeating: 94))
                    .| (v .== SIMD16<UInt8>(repeating: 0x23)))
        }
    }

    /// Four bits for each lane, the first lane lowest.
    @inline(__always)
    static func nibbles(_ mask: SIMDMask<SIMD16<Int8>>) -> UInt64 {
        let pairs = unsafeBitCast(mask, to: SIMD8<UInt16>.self) &>> SIMD8<UInt16>(repeating: 4)
        return unsafeBitCast(SIMD8<UInt8>(truncatingIfNeeded: pairs), to: UInt64.self)
    }
}
