/// What an operator says of one route's mirroring while the gateway runs, laid over what the
/// configuration says. It begins nothing that the configuration leaves out.
public enum MirrorOverride: Equatable, Sendable {
    case configured
    case off
    /// At the configured rates.
    case on
    /// At this rate, in `Sampler.steps`-ths.
    case rate(UInt32)

    /// As it stands on the board.
    public var word: UInt64 {
        switch self {
        case .configured: 0
        case .off: 1 << 32
        case .on: 2 << 32
        case .rate(let rate): 3 << 32 | UInt64(rate)
        }
    }

    /// Reads the board's word; what no supervisor writes is no override.
    public init(word: UInt64) {
        let rate = UInt32(truncatingIfNeeded: word)
        switch word >> 32 {
        case 1: self = .off
        case 2: self = .on
        case 3 where rate <= Sampler.steps: self = .rate(rate)
        default: self = .configured
        }
    }

    /// Its rate, 0 to 1; nil where the configured ones hold.
    public var rate: Double? {
        switch self {
        case .rate(let rate): Double(rate) / Double(Sampler.steps)
        case .configured, .off, .on: nil
        }
    }
}

/// One route's override on the board. Written by the supervisor.
public enum OverrideCell: Int, CaseIterable, Sendable {
    /// `MirrorOverride.word`.
    case word
    /// When it ends, monotonic milliseconds; 0 for never.
    case untilMs
}

extension MirrorTap.Lane {
    /// Has the lane follow `override`. Its sampler begins anew where the rate changes, so that what
    /// follows is exact from the first request on.
    mutating func follow(_ override: MirrorOverride) {
        isEnabled = isEnabledConfigured && override != .off
        let wanted = override.rate ?? rateConfigured
        guard wanted != rate else { return }
        rate = wanted
        sampler = Sampler(rate: wanted)
    }
}
