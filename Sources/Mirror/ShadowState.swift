import CoreLoop
import HTTP
import TLS
import Upstream
import Verdict

/// What a shadow process keeps about one shadow.
struct ShadowState {
    let qps: Double
    let inFlightMax: Int
    let timeoutMs: Int
    let connectTimeoutMs: Int
    let answerBytesMax: Int
    let cancelsWithClient: Bool
    /// Bytes of a request and of an answer that a capture holds.
    let captureBytesMax: Int
    let sanitizer: Sanitizer
    /// What becomes of requests that ask a model; nil for a shadow that is no LLM provider's.
    let edit: InferenceEdit?
    let gauges: CounterRow<ShadowGauge>
    let latency: Histogram
    let addresses: UnsafeMutablePointer<SocketAddress>
    private(set) var addressCount: Int
    /// Without the key that it asks for, it would only say so, again and again: it has no address.
    private let lacksKey: Bool
    /// Moves on with each new list: a connection of an older one carries no further copy.
    private(set) var addressList: UInt32 = 0
    /// The index of its target.
    let target: Int
    /// Nil for a shadow that speaks plain HTTP.
    let security: ClientContext?

    var breaker: Breaker
    var coolDownUntil = Instant(nanoseconds: 0)
    /// Copies that wait for a connection or were sent.
    var inFlight = 0
    var connectionsOpen = 0
    /// The address that answered last; the first to be tried.
    var preferredAddress = 0
    // The list of idle connections: the last one used is first, so that the others grow old.
    var firstIdle = ShadowConnection.none
    var idleCount = 0

    init(
        settings: ShadowSettings, target: TargetSettings, security: ClientContext?,
        shadowProcesses: Int,
        gauges: CounterRow<ShadowGauge>, latency: Histogram
    ) {
        qps = settings.qps
        inFlightMax = Self.inFlightMax(settings, shadowProcesses: shadowProcesses)
        timeoutMs = max(1, settings.timeoutMs)
        connectTimeoutMs = min(ShadowLimits.connectTimeoutMsMax, max(1, settings.timeoutMs))
        answerBytesMax = settings.answerBytesMax
        cancelsWithClient = settings.cancelsWithClient
        captureBytesMax = min(settings.captureBytes, VerdictLimits.captureBodyBytesMax)
        sanitizer = Sanitizer(
            settings: settings, pathPrefix: target.pathPrefix,
            authority: target.provider == nil ? target.authority : target.plainAuthority,
            provider: target.provider)
        edit = target.provider.map { InferenceEdit($0, settings) }
        self.gauges = gauges
        self.latency = latency
        self.security = security
        self.target = settings.target
        lacksKey = target.provider?.lacksKey == true
        addressCount = lacksKey ? 0 : min(target.addresses.count, UpstreamLimits.addressesMax)
        addresses = .allocate(capacity: UpstreamLimits.addressesMax)
        addresses.initialize(from: target.addresses, count: addressCount)
        breaker = Breaker(
            failuresMax: settings.breakerFailures, openMs: settings.breakerOpenMs,
            openMsMax: settings.breakerOpenMsMax)
        // What a process before this one left standing; the sums go on.
        for gauge in [
            ShadowGauge.inFlight, .connectionsOpen, .connectionsIdle, .breakerState, .coolDownUntil,
        ] {
            gauges[gauge].set(0)
        }
    }

    /// Takes another list of addresses; false where it is the one that it has.
    mutating func takeAddresses(_ list: [SocketAddress]) -> Bool {
        let former = UnsafeBufferPointer(start: addresses, count: addressCount)
        guard !lacksKey, !list.elementsEqual(former) else { return false }
        addressCount = min(list.count, UpstreamLimits.addressesMax)
        addresses.initialize(from: list, count: addressCount)
        preferredAddress = 0
        addressList &+= 1
        return true
    }

    /// This process's share of `limits.in_flight`, and so the most connections it opens.
    static func inFlightMax(_ settings: ShadowSettings, shadowProcesses: Int) -> Int {
        max(1, settings.inFlightMax / max(1, shadowProcesses))
    }

    mutating func countInFlight(_ change: Int) {
        inFlight += change
        assert(inFlight >= 0)
        gauges[.inFlight].set(UInt64(inFlight))
        gauges[.inFlightHigh].raise(to: UInt64(inFlight))
    }

    mutating func countOpen(_ change: Int) {
        connectionsOpen += change
        gauges[.connectionsOpen].set(UInt64(connectionsOpen))
    }

    mutating func showBreaker(openedBefore: UInt64) {
        gauges[.breakerState].set(breaker.state.rawValue)
        gauges[.breakerOpened].add(breaker.openedCount - openedBefore)
    }
}
