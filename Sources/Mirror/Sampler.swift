public import CoreLoop

/// Chooses which of a route's requests are mirrored: exactly, and so that nobody can foresee which.
///
/// Stratified sampling: the requests are cut into strata of 1/p requests (whole numbers, whose
/// boundaries are ⌊j/p⌋) and one of each is picked, at a random position. After any number n of
/// requests the picks differ from p·n by less than one. Above one half the ones *not* picked are
/// chosen that way. A Bernoulli choice would need 200,000 requests to come within 2 % at p = 10 %.
public struct Sampler: BitwiseCopyable, Sendable {
    /// Rates are kept as whole numbers of this share.
    public static let steps: UInt64 = 1_000_000_000

    /// The rate of what is picked, at most one half; 0 picks nothing.
    private var share: UInt64
    private var invert: Bool
    /// Requests left in this stratum, and how many until the pick (the pick is at 0).
    private var left: UInt64 = 0
    private var untilPick: UInt64 = 0
    /// The numerator of what the strata so far fell short of j/p.
    private var carry: UInt64 = 0

    /// A sampler for `rate` of 0 to 1, rounded to 1e-9.
    public init(rate: Double) {
        let scaled = UInt64((min(max(rate, 0), 1) * Double(Self.steps)).rounded())
        invert = scaled > Self.steps / 2
        share = invert ? Self.steps - scaled : scaled
    }

    /// Whether the next request is mirrored. `random` is asked once a stratum.
    @inlinable
    public mutating func decide(_ random: borrowing SecureRandom) -> Bool {
        decide { random.next() }
    }

    /// Whether the next request is mirrored. `random` is asked once a stratum, for 64 even bits.
    public mutating func decide(random: () -> UInt64) -> Bool {
        if share == 0 { return invert }
        if left == 0 {
            let numerator = Self.steps + carry
            left = numerator / share
            carry = numerator % share
            untilPick = Self.below(left, random)
        }
        left -= 1
        let picked = untilPick == 0
        untilPick = picked ? .max : untilPick &- 1
        return picked != invert
    }

    /// Whether requests with this value of the sampling key are mirrored: the same on every worker,
    /// on every instance, and after a restart. FNV-1a with MurmurHash3's finaliser, compared with
    /// the rate.
    public static func isPicked(key: UnsafeRawBufferPointer, rate: Double) -> Bool {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
        hash ^= hash >> 33
        let scaled = UInt64((min(max(rate, 0), 1) * Double(steps)).rounded())
        return hash % steps < scaled
    }

    /// A number below `bound`, each as likely as the others (Lemire 2019).
    private static func below(_ bound: UInt64, _ random: () -> UInt64) -> UInt64 {
        var product = random().multipliedFullWidth(by: bound)
        if product.low < bound {
            let threshold = (0 &- bound) % bound
            while product.low < threshold { product = random().multipliedFullWidth(by: bound) }
        }
        return product.high
    }
}
