public import CoreLoop

/// What a worker keeps of one endpoint for choosing: plain bytes, in one array for each target.
public struct EndpointState: BitwiseCopyable, Sendable {
    /// The setting's weight, 1 to 256.
    public var weight: Int32
    /// This worker's share of the connection limit; 0 is no limit.
    public var connectionsMax: Int32
    /// Told from the others by its name, so that every worker and instance sees the same.
    public var identity: UInt64
    /// Connections that are open or being made, and those of them that are idle.
    public var open: Int32 = 0
    public var idle: Int32 = 0
    /// The smooth round robin's running weight.
    var current: Int64 = 0
    /// False while the checks say so.
    public var isHealthy = true
    /// Failures in a row, and ejections without a good while between.
    var failures: UInt32 = 0
    var ejections: UInt32 = 0
    /// Exchanges that went well since the last ejection, as far as anybody counts them.
    var successes: UInt32 = 0
    /// Left out until then, monotonic milliseconds; 0 while it is not.
    public var ejectedUntilMs: UInt64 = 0
    /// Since when its weight grows; 0 where it has its full weight.
    var rampStartMs: UInt64 = 0

    /// An endpoint that nobody has used yet.
    public init(weight: Int, connectionsMax: Int, identity: UInt64) {
        self.weight = Int32(weight)
        self.connectionsMax = Int32(connectionsMax)
        self.identity = identity
    }

    /// Requests that it has at this moment.
    @inlinable public var active: Int32 { open &- idle }

    /// Whether a request finds a connection: an idle one, or one more within the limit.
    @inlinable public var hasRoom: Bool { connectionsMax == 0 || idle > 0 || open < connectionsMax }

    /// Neither unhealthy nor ejected.
    @inlinable public var isUsable: Bool { isHealthy && ejectedUntilMs == 0 }
}

/// Who gets the next request. Pure: states, time and randomness are arguments; nothing is
/// allocated; one choice looks at each endpoint at most three times.
public struct Balancer: Sendable {
    /// What came of a choice.
    public enum Choice: Equatable, Sendable {
        case endpoint(Int)
        /// Those that could be used have as many connections as they may.
        case saturated
        /// None may be used.
        case none
    }

    /// What the next request is like.
    public struct Wish: Sendable {
        /// The hash of the field that `balance: {hash: …}` names; nil where the request has none.
        public var key: UInt64?
        /// Endpoints that are left out, one bit each: this request has tried them.
        public var excluded: UInt64
        /// Monotonic milliseconds.
        public var nowMs: UInt64

        /// A wish for any endpoint but the excluded ones.
        public init(key: UInt64? = nil, excluded: UInt64 = 0, nowMs: UInt64) {
            self.key = key
            self.excluded = excluded
            self.nowMs = nowMs
        }
    }

    private enum Policy { case roundRobin, leastRequests, hash }

    private let policy: Policy
    private let panicShare: Double
    private let slowStartMs: UInt64

    /// A balancer for a target's settings.
    public init(_ policy: BalancePolicy, panicThreshold: Double, slowStartMs: Int) {
        self.policy =
            switch policy {
            case .roundRobin: .roundRobin
            case .leastRequests: .leastRequests
            case .hash: .hash
            }
        panicShare = panicThreshold
        self.slowStartMs = UInt64(slowStartMs)
    }

    /// Whether so few endpoints are usable that the verdicts are not followed.
    public func isPanic(_ states: UnsafeMutableBufferPointer<EndpointState>) -> Bool {
        var usable = 0
        for place in states.indices where states[place].isUsable { usable += 1 }
        return Double(usable) < panicShare * Double(states.count)
    }

    /// Chooses, and notes the choice where the policy has a memory. Traps with more endpoints than
    /// `UpstreamLimits.endpointsMax`.
    public func choose(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ wish: Wish,
        _ random: inout FastRandom
    ) -> Choice {
        precondition(states.count <= UpstreamLimits.endpointsMax)
        let ignoresVerdicts = isPanic(states)
        // One bit for each that may be chosen.
        var eligible: UInt64 = 0
        var isSaturated = false
        for place in states.indices {
            guard wish.excluded & 1 << UInt64(place) == 0,
                ignoresVerdicts || states[place].isUsable
            else { continue }
            if states[place].hasRoom { eligible |= 1 << UInt64(place) } else { isSaturated = true }
        }
        guard eligible != 0 else { return isSaturated ? .saturated : .none }
        switch policy {
        case .hash where wish.key != nil: return .endpoint(byHash(states, eligible, wish))
        case .leastRequests: return .endpoint(leastBusy(states, eligible, wish, &random))
        case .roundRobin, .hash: return .endpoint(inTurn(states, eligible, wish))
        }
    }

    /// The weight at this moment, in 256ths of the setting's unit.
    func weight(_ state: EndpointState, _ nowMs: UInt64) -> Int64 {
        let full = Int64(state.weight) << 8
        guard state.rampStartMs != 0, slowStartMs > 0 else { return full }
        let passed = nowMs > state.rampStartMs ? nowMs - state.rampStartMs : 0
        guard passed < slowStartMs else { return full }
        let share = max(Int64(UpstreamLimits.slowStartShareMin), Int64(passed << 8 / slowStartMs))
        return max(1, Int64(state.weight) * share)
    }

    // MARK: The policies

    /// Smooth weighted round robin, as nginx has it: each gains its weight, the one furthest ahead
    /// is taken and falls back by the sum. Over each round of the weights' sum it is exact, and
    /// never sends several in a row where others wait.
    private func inTurn(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ eligible: UInt64, _ wish: Wish
    ) -> Int {
        var best = -1
        var total: Int64 = 0
        for place in states.indices where eligible & 1 << UInt64(place) != 0 {
            let weight = weight(states[place], wish.nowMs)
            total += weight
            states[place].current += weight
            if best < 0 || states[place].current > states[best].current { best = place }
        }
        states[best].current -= total
        return best
    }

    /// The power of two choices (Mitzenmacher 2001): two different ones, drawn by weight, and of
    /// these the one with fewer requests for its weight. The least busy of all would get every
    /// request that arrives before its count is seen to rise.
    private func leastBusy(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ eligible: UInt64, _ wish: Wish,
        _ random: inout FastRandom
    ) -> Int {
        let first = draw(states, eligible, wish, &random)
        let rest = eligible & ~(1 << UInt64(first))
        guard rest != 0 else { return first }
        let second = draw(states, rest, wish, &random)
        let left = Int64(states[first].active) * weight(states[second], wish.nowMs)
        let right = Int64(states[second].active) * weight(states[first], wish.nowMs)
        return left <= right ? first : second
    }

    private func draw(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ eligible: UInt64, _ wish: Wish,
        _ random: inout FastRandom
    ) -> Int {
        var total: Int64 = 0
        for place in states.indices where eligible & 1 << UInt64(place) != 0 {
            total += weight(states[place], wish.nowMs)
        }
        var left = Int64(random.next().multipliedFullWidth(by: UInt64(total)).high)
        var last = 0
        for place in states.indices where eligible & 1 << UInt64(place) != 0 {
            last = place
            left -= weight(states[place], wish.nowMs)
            if left < 0 { break }
        }
        return last
    }

    /// Weighted rendezvous (Thaler, Ravishankar 1998; weights as in Schindelhauer, Schomaker
    /// 2005): each endpoint draws an exponential waiting time from the key and its name, divided by
    /// its weight, and the shortest wins. Where one leaves, only its keys move.
    private func byHash(
        _ states: UnsafeMutableBufferPointer<EndpointState>, _ eligible: UInt64, _ wish: Wish
    ) -> Int {
        var best = -1
        var bestTime: UInt64 = 0
        var bestWeight: Int64 = 1
        for place in states.indices where eligible & 1 << UInt64(place) != 0 {
            let time = KeyHash.waitingTime(KeyHash.mix(wish.key!, states[place].identity))
            let weight = weight(states[place], wish.nowMs)
            // time / weight < bestTime / bestWeight, without a division.
            if best < 0 || time * UInt64(bestWeight) < bestTime * UInt64(weight) {
                (best, bestTime, bestWeight) = (place, time, weight)
            }
        }
        return best
    }
}

/// Hashes that are the same on every machine.
public enum KeyHash {
    /// Of a field's value or an endpoint's name: FNV-1a with MurmurHash3's finaliser.
    public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return finish(hash)
    }

    /// Of a text's UTF-8.
    public static func of(_ text: String) -> UInt64 {
        var text = text
        return text.withUTF8 { of(UnsafeRawBufferPointer($0)) }
    }

    private static func finish(_ value: UInt64) -> UInt64 {
        var hash = value
        hash = (hash ^ hash >> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash >> 33) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash >> 33
    }

    static func mix(_ key: UInt64, _ identity: UInt64) -> UInt64 {
        finish(key ^ (identity &* 0x9E37_79B9_7F4A_7C15))
    }

    /// -log2 of `hash` as a fraction of 2^64, with 24 bits behind the point: exponential for an
    /// even hash. In whole numbers, so that no mathematics library can differ.
    static func waitingTime(_ hash: UInt64) -> UInt64 {
        var value = max(1, hash)
        let zeros = UInt64(value.leadingZeroBitCount)
        value <<= zeros
        // The binary logarithm's digits: square, and see whether it passed 2.
        var fraction: UInt64 = 0
        for _ in 0..<24 {
            let square = value.multipliedFullWidth(by: value).high
            fraction <<= 1
            if square >> 63 == 1 {
                fraction |= 1
                value = square
            } else {
                value = square << 1
            }
        }
        return (zeros + 1) << 24 - fraction
    }
}
