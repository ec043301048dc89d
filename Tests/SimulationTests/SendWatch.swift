import CLinux
import CoreLoop
import Mirror
import Synchronization
import Upstream

/// Sees each copy's send by its ticket's state, and holds the sends against the caps.
struct SendWatch {
    private let qps: [Double]
    private var wasSent: [Bool]
    private var times: [[UInt64]]

    init(depth: Int, qps: [Double]) {
        self.qps = qps
        wasSent = Array(repeating: false, count: depth)
        times = qps.map { _ in [] }
    }

    /// Looks at all tickets; after each turn of either side, so that no send goes unseen.
    /// Returns what is wrong.
    mutating func look(_ link: MirrorLink, _ now: Instant) -> String? {
        for ticket in wasSent.indices {
            let isSent = link.ticketStates[ticket].load(ordering: .relaxed) == TicketState.sent
            if isSent, !wasSent[ticket] {
                let shadow = Int(link.ticketShadows[ticket])
                times[shadow].append(now.nanoseconds)
                if let fault = check(shadow) { return fault }
            }
            wasSent[ticket] = isSent
        }
        return nil
    }

    /// Whether the last send fits: a window of a second that ends with it holds at most `qps`.
    private func check(_ shadow: Int) -> String? {
        let cap = qps[shadow]
        if cap == 0 { return "a send at qps 0" }
        let count = cap < 1 ? 1 : Int(cap)
        let windowNs = cap < 1 ? UInt64(1e9 / cap) : 1_000_000_000
        let all = times[shadow]
        guard all.count > count else { return nil }
        let age = all[all.count - 1] - all[all.count - 1 - count]
        return age > windowNs ? nil : "\(count + 1) sends to shadow \(shadow) within \(age) ns"
    }
}

/// A listening socket, before anybody is there to serve it.
struct Listening {
    let fd: Int32
    let address: SocketAddress

    init(_ wanted: SocketAddress) throws {
        fd = try Socket.listen(on: wanted, sharesPort: false)
        address = try Socket.localAddress(fd)
    }

    func target(_ id: String) -> TargetSettings {
        TargetSettings(
            id: id, authority: "origin.test", host: "127.0.0.1", port: address.port ?? 80,
            addresses: [address])
    }
}

/// Buffers that a body of some size fills.
enum SmallBuffers {
    /// Before the connect, or on a listener.
    static func set(_ fd: Int32) {
        var bytes: Int32 = 16_384
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, 4)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, 4)
        // Loopback's segments of 64 KiB do not fit into such a window: the kernel would then send
        // by its probe timer alone.
        var segment: Int32 = 1_400
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, 4)
    }
}
