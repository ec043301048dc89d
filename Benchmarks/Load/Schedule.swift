import Glibc
public import CoreLoop

/// How the intended send times of an open loop lie.
public enum Arrivals: String, Sendable, CaseIterable {
    /// One each 1/rate seconds.
    case even
    /// Independent users: exponential gaps (a Poisson process), seeded.
    case exponential
}

/// The intended send times of an open loop. Two copies give the same times.
public struct Schedule: Sendable {
    /// The next intended time, nanoseconds of the monotonic clock.
    public private(set) var next: UInt64
    /// How many times were taken so far.
    public private(set) var taken: UInt64 = 0

    private let start: UInt64
    private let gapNs: Double
    private let arrivals: Arrivals
    private var random: FastRandom
    private var offsetNs = 0.0

    /// Times from `start` on, `rate` a second.
    public init(start: Instant, rate: Double, arrivals: Arrivals, seed: UInt64) {
        precondition(rate > 0)
        self.start = start.nanoseconds
        self.arrivals = arrivals
        gapNs = 1e9 / rate
        random = FastRandom(seed: seed)
        next = start.nanoseconds
        if arrivals == .exponential { advanceRandomly() }
    }

    /// Goes on to the following time.
    public mutating func advance() {
        taken &+= 1
        switch arrivals {
        // From the count, not by adding up: rounding must not change the rate.
        case .even: next = start &+ UInt64(Double(taken) * gapNs)
        case .exponential: advanceRandomly()
        }
    }

    private mutating func advanceRandomly() {
        // 53 random bits, never 0, so that the logarithm is finite.
        let unit = (Double(random.next() >> 11) + 1) / 9_007_199_254_740_992
        offsetNs += -log(unit) * gapNs
        next = start &+ UInt64(offsetNs)
    }
}
