import CLinux
public import CoreLoop

/// Looks a host's name up: blocks as long as the servers do, so only the supervisor at start and
/// the resolver's thread call it.
public enum NameLookup {
    /// What came of it.
    public enum Outcome: Equatable, Sendable {
        /// Addresses in the order in which they are to be tried, and how long they may be used;
        /// nil where nobody says.
        case found([SocketAddress], ttlMs: Int?, isTruncated: Bool)
        case failed(Failure)
    }

    /// Why there is no address.
    public enum Failure: Sendable, Equatable {
        case noName, noAnswer, malformed, unusable

        /// For messages.
        public var text: String {
            switch self {
            case .noName: "the name does not exist, or has no address"
            case .noAnswer: "no server answered"
            case .malformed: "the server's answer is malformed"
            case .unusable: "it resolves to addresses that no server can have"
            }
        }
    }

    /// The addresses of `host`, from `nameserver` alone where one is given, else as the system
    /// finds them (nsswitch.conf, /etc/hosts and its order of preference, RFC 6724).
    public static func run(_ host: String, port: UInt16, nameserver: SocketAddress?) -> Outcome {
        guard let nameserver else { return system(host, port) }
        return dns(host, port, nameserver)
    }

    private static func system(_ host: String, _ port: UInt16) -> Outcome {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, "\(port)", &hints, &found)
        guard status == 0 else {
            return .failed(status == EAI_AGAIN || status == EAI_SYSTEM ? .noAnswer : .noName)
        }
        defer { freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var isTruncated = false
        var wasUnusable = false
        var next = found
        while let info = next {
            next = info.pointee.ai_next
            guard let sockaddr = info.pointee.ai_addr else { continue }
            let address = SocketAddress(copying: sockaddr, length: info.pointee.ai_addrlen)
            guard address.family == AF_INET || address.family == AF_INET6,
                !addresses.contains(address)
            else { continue }
            guard address.isUnicast else {
                wasUnusable = true
                continue
            }
            if addresses.count < UpstreamLimits.addressesMax {
                addresses.append(address)
            } else {
                isTruncated = true
            }
        }
        guard !addresses.isEmpty else { return .failed(wasUnusable ? .unusable : .noName) }
        // The system keeps the time to live to itself: the DNS is asked once more for it. A name
        // of /etc/hosts has none.
        var ttlMs: Int?
        if case .found(_, let ttl, _) = dns(host, port, nil) { ttlMs = ttl }
        return .found(addresses, ttlMs: ttlMs, isTruncated: isTruncated)
    }

    /// Both families; what one lacks or fails to tell does not take from the other.
    private static func dns(_ host: String, _ port: UInt16, _ server: SocketAddress?) -> Outcome {
        var addresses: [SocketAddress] = []
        var ttlMs = Int.max
        var isTruncated = false
        var failure: Failure?
        for type in [DNSAnswer.typeAAAA, DNSAnswer.typeA] {
            switch ask(host, port, type, server) {
            case .found(let answer):
                addresses += answer.addresses
                ttlMs = min(ttlMs, answer.ttlMs)
                isTruncated = isTruncated || answer.isTruncated
            case .noName: failure = failure ?? .noName
            case .refused: failure = .noAnswer
            case .malformed: failure = .malformed
            case .unusable: failure = .unusable
            }
        }
        guard !addresses.isEmpty else { return .failed(failure ?? .noName) }
        let ordered = interleaved(addresses)
        let kept = Array(ordered.prefix(UpstreamLimits.addressesMax))
        return .found(
            kept, ttlMs: ttlMs, isTruncated: isTruncated || kept.count < ordered.count)
    }

    private static func ask(
        _ host: String, _ port: UInt16, _ type: UInt16, _ server: SocketAddress?
    ) -> DNSAnswer.Outcome {
        var answer = [UInt8](repeating: 0, count: UpstreamLimits.dnsAnswerBytesMax)
        var code: Int32 = 0
        let count = answer.withUnsafeMutableBufferPointer { memory in
            guard let server else {
                return umbra_dns_query(
                    nil, host, Int32(type), memory.baseAddress, Int32(memory.count), &code)
            }
            return server.withSockaddr { address, _ in
                UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    umbra_dns_query(
                        $0, host, Int32(type), memory.baseAddress, Int32(memory.count), &code)
                }
            }
        }
        if count < 0 {
            return code == HOST_NOT_FOUND || code == NO_DATA ? .noName : .refused
        }
        return DNSAnswer.read(
            Array(answer.prefix(Int(count))), type: type, port: port)
    }

    /// The families in turn, the first one's first, each in its own order (RFC 8305 §4).
    public static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        guard let family = addresses.first?.family else { return [] }
        let first = addresses.filter { $0.family == family }
        let second = addresses.filter { $0.family != family }
        var all: [SocketAddress] = []
        for place in 0..<max(first.count, second.count) {
            if place < first.count { all.append(first[place]) }
            if place < second.count { all.append(second[place]) }
        }
        return all
    }
}
