import CLinux
public import CoreLoop

/// Looks a host's name up: blocks as long as the servers do, so only the supervisor at start and
/// reload and the thread of `SystemLookup` call it.
public enum NameLookup {
    /// What came of it.
    public enum Outcome: Equatable, Sendable {
        /// Addresses in the order in which they are to be tried.
        case found([SocketAddress], isTruncated: Bool)
        case failed(Failure)
    }

    /// Why there is no address.
    public enum Failure: Error, Equatable {
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

    /// The addresses of `host` as the system finds them (nsswitch.conf, /etc/hosts and its order of
    /// preference, RFC 6724).
    public static func run(_ host: String, port: UInt16) -> Outcome {
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
        return .found(addresses, isTruncated: isTruncated)
    }

    /// The addresses of each of `hosts`, from these name servers alone; several names at a time.
    public static func run(
        _ hosts: [String], nameservers: [SocketAddress]
    ) throws(SystemError) -> [String: NameAnswer] {
        let epoll = try Epoll()
        let client = DNSClient(kind: 0)
        let file = ResolverFile(nameservers: nameservers)
        for (tag, host) in hosts.enumerated() {
            client.start(tag: tag, host: host, file: file, epoll, now: .now())
        }
        // It ends: each name has so many tries, and each of these its time.
        while !client.isIdle {
            let count = epoll.wait(timeoutMs: 20)
            for place in 0..<count {
                let (token, readiness) = epoll.event(place)
                client.handle(token, readiness, epoll, now: .now())
            }
            client.expire(epoll, now: .now())
        }
        var answers: [String: NameAnswer] = [:]
        for (tag, answer) in client.takeFinished() { answers[hosts[tag]] = answer }
        return answers
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
