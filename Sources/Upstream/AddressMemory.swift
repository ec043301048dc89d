import CLinux
public import CoreLoop

/// What a look-up found of one family.
public enum FamilyAnswer: Equatable, Sendable {
    /// Addresses with port 0, and how long they may be used, milliseconds; nil where nobody says.
    case found([SocketAddress], ttlMs: Int?)
    /// It is known that there are none.
    case noName
    /// Nobody knows.
    case failed(NameLookup.Failure)
}

/// What a look-up found of one name.
public struct NameAnswer: Equatable, Sendable {
    /// What there is of each family.
    public var v6: FamilyAnswer
    public var v4: FamilyAnswer
    /// Whether there were more addresses than are kept.
    public var isTruncated = false
    /// Answers that belonged to no question.
    public var strays = 0

    /// An answer by family.
    public init(v6: FamilyAnswer, v4: FamilyAnswer) {
        self.v6 = v6
        self.v4 = v4
    }

    /// Addresses of both families from one list, as the system's resolver gives it.
    public init(_ addresses: [SocketAddress], ttlMs: Int? = nil) {
        func part(_ family: Int32) -> FamilyAnswer {
            let own = addresses.filter { $0.family == family }
            return own.isEmpty ? .noName : .found(own, ttlMs: ttlMs)
        }
        v6 = part(AF_INET6)
        v4 = part(AF_INET)
    }

    /// The same failure for both.
    public init(_ failure: NameLookup.Failure) {
        v6 = failure == .noName ? .noName : .failed(failure)
        v4 = v6
    }

    /// Why there is no address; nil where there is one.
    public var failure: NameLookup.Failure? {
        switch (v6, v4) {
        case (.found, _), (_, .found): nil
        case (_, .failed(let failure)), (.failed(let failure), _): failure
        case (.noName, .noName): .noName
        }
    }

    /// The shorter time to live.
    public var ttlMs: Int? {
        var least: Int?
        for case .found(_, let ttl?) in [v6, v4] { least = min(least ?? ttl, ttl) }
        return least
    }
}

/// The last good addresses of one name. Pure.
///
/// What nobody answers to, and a name that is gone, take nothing away: an address that served until
/// now is more likely to serve than none. One family's failure does not touch the other.
public struct AddressMemory: Equatable, Sendable {
    /// Of each family, port 0.
    public private(set) var v6: [SocketAddress] = []
    public private(set) var v4: [SocketAddress] = []

    /// A memory that begins with these, whatever their ports.
    public init(_ addresses: [SocketAddress]) {
        v6 = addresses.filter { $0.family == AF_INET6 }.map { $0.with(port: 0) }
        v4 = addresses.filter { $0.family == AF_INET }.map { $0.with(port: 0) }
    }

    /// Whether there is any.
    public var isEmpty: Bool { v6.isEmpty && v4.isEmpty }

    /// Takes an answer; true where the addresses have changed. Another order of the same ones is
    /// no change: servers rotate theirs with each answer.
    public mutating func take(_ answer: NameAnswer) -> Bool {
        guard answer.failure == nil else { return false }
        let before = self
        Self.take(answer.v6, &v6)
        Self.take(answer.v4, &v4)
        let isSame = Self.isSame(v6, before.v6) && Self.isSame(v4, before.v4)
        if isSame { self = before }
        return !isSame
    }

    private static func take(_ answer: FamilyAnswer, _ list: inout [SocketAddress]) {
        switch answer {
        case .found(let new, _): list = new.map { $0.with(port: 0) }
        case .noName: list = []
        case .failed: break
        }
    }

    private static func isSame(_ a: [SocketAddress], _ b: [SocketAddress]) -> Bool {
        a.count == b.count && a.allSatisfy { b.contains($0) }
    }

    /// All of them in the order in which they are to be tried: the families in turn, IPv6 first
    /// (RFC 8305 §4), but those that this machine has no way to last (RFC 6724 §6, rule 1).
    public func ordered(isReachable: (SocketAddress) -> Bool) -> [SocketAddress] {
        let all = NameLookup.interleaved(v6 + v4)
        let near = all.filter(isReachable)
        let far = all.filter { !near.contains($0) }
        return Array((NameLookup.interleaved(near) + far).prefix(UpstreamLimits.addressesMax))
    }
}

/// When a name is looked up again. Pure.
public enum LookupPace {
    /// After an answer: its time to live within the bounds, or `intervalMs` where it has none.
    public static func nextMs(ttlMs: Int?, intervalMs: Int) -> Int {
        guard let ttlMs else { return intervalMs }
        return min(max(ttlMs, UpstreamLimits.dnsTTLMsMin), UpstreamLimits.dnsTTLMsMax)
    }

    /// After so many failures in a row, 1 at least.
    public static func retryMs(failures: Int) -> Int {
        let doubled = UpstreamLimits.dnsRetryMs << min(max(0, failures - 1), 10)
        return min(doubled, UpstreamLimits.dnsRetryMsMax)
    }
}

extension SocketAddress {
    /// The same IPv4 or IPv6 address with another port; a Unix address as it is.
    public func with(port: UInt16) -> SocketAddress {
        let (head, high, low) = words
        return SocketAddress(words: (head & ~0xFFFF | UInt64(port), high, low)) ?? self
    }

    /// Whether this machine has a way to it, by its routes. Nothing is sent.
    public var hasRoute: Bool {
        let fd = socket(family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return false }
        defer { close(fd) }
        return with(port: 53).withSockaddr { connect(fd, $0, $1) } == 0
    }
}
