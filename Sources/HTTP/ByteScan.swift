import CLinux

/// The searches that a head's parser spends its time in, 16 bytes a step.
///
/// What Swift 6.3 makes of this was read in the disassembly. Constants are written
/// `SIMD16(repeating:)`, as a bare literal compiles to a loop over the lanes. Signed comparisons
/// are one instruction on x86-64, unsigned ones two. `any(mask)` is an outlined call, and no
/// `pmovmskb` is emitted: it comes from C.
extension Bytes {
    /// The class of bytes that a scan stops at.
    private enum Stop {
        /// Below 0x20, or 0x7F: what may not stand in a field value, HTAB included.
        case control
        /// As `control`, and 0x80 and above, which is rare in values: one comparison instead of
        /// two.
        case controlOrHigh
        /// Anything but a letter or a hyphen: nearly every field name; the caller judges the stop.
        case notName
        /// Anything but a letter, a digit, a hyphen or a dot: nearly every host.
        case notHost
        /// SP and below, `#`, 0x7F and above: what may not stand in a request target.
        case notTarget
    }

    // One function for each class, as a class that is not known when `first` is compiled costs a
    // switch in its loop, and a caller that many of them are inlined into stops being optimised.

    @inline(never)
    func firstControl(from start: Int) -> Int { first(.control, from: start) }

    @inline(never)
    func firstControlOrHigh(from start: Int) -> Int { first(.controlOrHigh, from: start) }

    @inline(never)
    func firstNotName(from start: Int) -> Int { first(.notName, from: start) }

    @inline(never)
    func firstNotHost(from start: Int) -> Int { first(.notHost, from: start) }

    @inline(never)
    func firstNotTarget(from start: Int) -> Int { first(.notTarget, from: start) }

    /// The first index in `start..<count` whose byte is a `stop`, else `count`.
    @inline(__always)
    private func first(_ stop: Stop, from start: Int) -> Int {
        var index = start
        while index &+ 32 <= count {
            let bits = Self.bits(Self.hits(stop, vector(at: index)))
            if bits != 0 { return index &+ Self.firstLane(bits) }
            let next = Self.bits(Self.hits(stop, vector(at: index &+ 16)))
            if next != 0 { return index &+ 16 &+ Self.firstLane(next) }
            index &+= 32
        }
        if index &+ 16 <= count {
            let bits = Self.bits(Self.hits(stop, vector(at: index)))
            if bits != 0 { return index &+ Self.firstLane(bits) }
            index &+= 16
        }
        return firstInTail(stop, from: index)
    }

    // Fewer than 16 bytes are left, and a read beyond the end may not happen: look again at the
    // last 16 and shift out those already seen.
    @inline(__always)
    private func firstInTail(_ stop: Stop, from start: Int) -> Int {
        guard start < count else { return count }
        guard count >= 16 else { return firstInShort(stop, from: start) }
        let last = count &- 16
        let seen = (start &- last) &<< Self.laneShift
        let bits = Self.bits(Self.hits(stop, vector(at: last))) &>> UInt64(seen)
        return bits == 0 ? count : start &+ Self.firstLane(bits)
    }

    @inline(never)
    private func firstInShort(_ stop: Stop, from start: Int) -> Int {
        for index in start..<count
        where Self.bits(Self.hits(stop, SIMD16(repeating: Int8(bitPattern: self[index])))) != 0 {
            return index
        }
        return count
    }

    @inline(__always)
    private static func hits(_ stop: Stop, _ v: SIMD16<Int8>) -> SIMDMask<SIMD16<Int8>> {
        switch stop {
        case .control:
            // Bytes of 0x80 and above are negative.
            (v .< SIMD16<Int8>(repeating: 0x20)) .& (v .>= SIMD16<Int8>(repeating: 0))
                .| (v .== SIMD16<Int8>(repeating: 0x7F))
        case .controlOrHigh:
            // 0x7F + 1 is negative like all that is above it.
            v &+ SIMD16<Int8>(repeating: 1) .< SIMD16<Int8>(repeating: 0x21)
        case .notName:
            notLetter(v) .& (v .!= SIMD16<Int8>(repeating: 0x2D))
        case .notHost:
            // 0x2D...0x39 are hyphen, dot, slash and the digits.
            notLetter(v)
                .& (v &+ SIMD16<Int8>(repeating: 0x46) .< SIMD16<Int8>(repeating: 0x73)
                    .| (v .== SIMD16<Int8>(repeating: 0x2F)))
        case .notTarget:
            (v &+ SIMD16<Int8>(repeating: 1) .< SIMD16<Int8>(repeating: 0x22))
                .| (v .== SIMD16<Int8>(repeating: 0x23))
        }
    }

    // 0x20 makes small letters of capitals, 5 moves them to the top of the signed range.
    @inline(__always)
    private static func notLetter(_ v: SIMD16<Int8>) -> SIMDMask<SIMD16<Int8>> {
        (v | SIMD16<Int8>(repeating: 0x20)) &+ SIMD16<Int8>(repeating: 5)
            .< SIMD16<Int8>(repeating: 0x66)
    }

    #if arch(x86_64)
        /// One bit for each lane, the first lane lowest.
        @inline(__always)
        private static func bits(_ mask: SIMDMask<SIMD16<Int8>>) -> UInt64 {
            UInt64(umbra_signs(unsafeBitCast(mask, to: SIMD16<Int8>.self)))
        }

        @inline(__always)
        private static var laneShift: Int { 0 }
    #else
        /// Four bits for each lane, the first lane lowest.
        @inline(__always)
        private static func bits(_ mask: SIMDMask<SIMD16<Int8>>) -> UInt64 {
            let pairs = unsafeBitCast(mask, to: SIMD8<UInt16>.self)
            let nibbles = pairs &>> SIMD8<UInt16>(repeating: 4)
            return unsafeBitCast(SIMD8<UInt8>(truncatingIfNeeded: nibbles), to: UInt64.self)
        }

        @inline(__always)
        private static var laneShift: Int { 2 }
    #endif

    @inline(__always)
    private static func firstLane(_ bits: UInt64) -> Int {
        bits.trailingZeroBitCount &>> laneShift
    }
}
