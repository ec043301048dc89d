/// What one check came to.
public enum CheckResult: Int, CaseIterable, Sendable {
    case passed
    /// An answer whose status is none of those that pass.
    case status
    /// No connection could be made.
    case connect
    /// Nothing, or not all of a head, within the time.
    case timeout
    /// The handshake failed, or the certificate does not hold.
    case tls
    /// The connection ended before the head, or what came is no answer.
    case malformed
    /// There is no address to connect to.
    case address

    /// Its name in metrics and pages.
    public var label: String {
        switch self {
        case .passed: "passed"
        case .status: "status"
        case .connect: "connect"
        case .timeout: "timeout"
        case .tls: "tls"
        case .malformed: "malformed"
        case .address: "no_address"
        }
    }
}

/// Turns the checks of one endpoint into a verdict. Pure.
///
/// The first check decides at once: before it, nobody knows anything, and a dead endpoint would get
/// users' requests until enough checks have failed. Afterwards it takes `healthy` or `unhealthy`
/// results in a row, so that an endpoint that flaps keeps what it had.
public struct HealthJudge: Sendable {
    /// What is said of it now.
    public private(set) var state: HealthState
    /// Results in a row that speak against it.
    private var against = 0
    private let healthy: Int
    private let unhealthy: Int

    /// A judge that goes on from `state`: what a health process before this one has found.
    public init(_ settings: HealthSettings, state: HealthState = .unknown) {
        healthy = settings.healthy
        unhealthy = settings.unhealthy
        self.state = state
    }

    /// Takes one result; true where the verdict has changed.
    public mutating func note(passed: Bool) -> Bool {
        let wanted: HealthState = passed ? .healthy : .unhealthy
        guard wanted != state else {
            against = 0
            return false
        }
        against += 1
        let needed = state == .unknown ? 1 : passed ? healthy : unhealthy
        guard against >= needed else { return false }
        state = wanted
        against = 0
        return true
    }
}

/// When checks are sent.
public enum CheckPace {
    /// From one check's beginning to the next: the interval, a tenth more or less, so that neither
    /// endpoints nor gateways fall into step.
    public static func nextMs(intervalMs: Int, random: UInt64) -> Int {
        let spread = UInt64(max(1, intervalMs / UpstreamLimits.checkJitterPart))
        let offset = Int(random.multipliedFullWidth(by: 2 * spread + 1).high) - Int(spread)
        return max(1, intervalMs + offset)
    }
}

extension HealthSettings {
    /// Whether an answer with this status passes.
    public func passes(_ status: Int) -> Bool { self.status.contains { $0.contains(status) } }

    /// The request that a check sends to `endpoint` of a target with this path prefix and scheme.
    public func request(_ endpoint: EndpointSettings, pathPrefix: String, isSecure: Bool) -> [UInt8]
    {
        var authority = endpoint.authority
        let standard = isSecure ? ":443" : ":80"
        if authority.hasSuffix(standard) { authority.removeLast(standard.utf8.count) }
        let text =
            "\(method.rawValue) \(pathPrefix)\(path) HTTP/1.1\r\nHost: \(host ?? authority)\r\n"
            + "User-Agent: umbra-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        return Array(text.utf8)
    }
}
