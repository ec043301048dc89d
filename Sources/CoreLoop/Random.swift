import CLinux

/// Bytes that nobody can foresee: `getrandom`, 30 to 40 ns a draw.
public struct SecureRandom: ~Copyable {
    // 256 bytes a fetch. The kernel's price is by the byte: 4 KiB cost no less a draw, but
    // stalled every 512th request for 14 µs.
    private static let words = 32

    private let buffer: UnsafeMutablePointer<UInt64>
    private let left: UnsafeMutablePointer<Int>
    /// Where the bytes come from instead of the kernel; nil but in simulations.
    private let foreseen: UnsafeMutablePointer<FastRandom>?

    /// From the kernel.
    public init() { self.init(foreseen: nil) }

    /// For simulations, which have to be repeatable from their seed: everybody can foresee these.
    public init(simulatedFrom seed: UInt64) {
        let generator = UnsafeMutablePointer<FastRandom>.allocate(capacity: 1)
        generator.initialize(to: FastRandom(seed: seed))
        self.init(foreseen: generator)
    }

    private init(foreseen: UnsafeMutablePointer<FastRandom>?) {
        self.foreseen = foreseen
        buffer = .allocate(capacity: Self.words)
        left = .allocate(capacity: 1)
        left.initialize(to: 0)
    }

    deinit {
        foreseen?.deallocate()
        buffer.deallocate()
        left.deallocate()
    }

    /// 64 bits. Traps where the kernel has none, which Linux rules out.
    public func next() -> UInt64 {
        if left.pointee == 0 {
            if let foreseen { return foreseen.pointee.next() }
            let bytes = Self.words * 8
            var filled = 0
            while filled < bytes {
                let n = getrandom(UnsafeMutableRawPointer(buffer) + filled, bytes - filled, 0)
                precondition(n > 0 || lastErrno == EINTR, "getrandom failed")
                filled += max(0, n)
            }
            left.pointee = Self.words
        }
        left.pointee -= 1
        return buffer[left.pointee]
    }
}

/// xoshiro256** (Blackman, Vigna 2018): fast, repeatable from its seed, not for secrets.
public struct FastRandom: RandomNumberGenerator, Sendable {
    @usableFromInline var s0: UInt64, s1: UInt64, s2: UInt64, s3: UInt64

    /// The state is spread from `seed` by SplitMix64.
    public init(seed: UInt64) {
        var z = seed
        func step() -> UInt64 {
            z &+= 0x9E37_79B9_7F4A_7C15
            var x = z
            x = (x ^ (x >> 30)) &* 0xBF58_476D_1CE4_E5B9
            x = (x ^ (x >> 27)) &* 0x94D0_49BB_1331_11EB
            return x ^ (x >> 31)
        }
        (s0, s1, s2, s3) = (step(), step(), step(), step())
    }

    /// The next 64 bits of the sequence.
    @inlinable
    public mutating func next() -> UInt64 {
        let x = s1 &* 5
        let result = (x << 7 | x >> 57) &* 9
        let t = s1 << 17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= t
        s3 = s3 << 45 | s3 >> 19
        return result
    }
}
