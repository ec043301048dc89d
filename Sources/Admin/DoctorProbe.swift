import CLinux
import CoreLoop
import TLS

/// A connection to one endpoint, made to see whether it can be: TCP or Unix, then TLS where the
/// target speaks it. Nothing is sent but the handshake.
final class DoctorProbe {
    /// What came of it. Addresses are as text.
    enum Outcome: Equatable {
        case reached(address: String, connectNs: UInt64, tls: Handshake?)
        case refused(address: String, why: String)
        case insecure(address: String, why: String)
        case unresolved(why: String)
    }

    struct Handshake: Equatable {
        var version: String
        var ns: UInt64
        /// Of the certificate that was shown; nil where none was, or its date cannot be read.
        var daysLeft: Int?
    }

    private(set) var outcome: Outcome?
    private let addresses: [SocketAddress]
    private let context: ClientContext?
    private let endpoint: Int
    private var place = 0
    private(set) var fd: Int32 = -1
    private var session = TLSSession()
    private var begun = Instant(nanoseconds: 0)
    private var connectedAt: Instant?

    /// A probe of endpoint number `endpoint` of the target that `context` is for. Addresses are
    /// tried one after the other.
    init(_ addresses: [SocketAddress], _ context: ClientContext?, endpoint: Int) {
        self.addresses = addresses
        self.context = context
        self.endpoint = endpoint
    }

    deinit { drop() }

    private func drop() {
        session.close(saysGoodbye: false)
        session = TLSSession()
        if fd >= 0 { close(fd) }
        fd = -1
    }

    private var address: String { addresses[place].text }

    /// Begins; to be called once.
    func start(now: Instant) {
        begun = now
        switch Socket.connect(to: addresses[place]) {
        case .connected(let descriptor):
            fd = descriptor
            connected(now: now)
        case .inProgress(let descriptor): fd = descriptor
        case .failed(let code): fail(.refused(address: address, why: SystemError.text(code)), now)
        }
    }

    /// Goes on after an event on `fd`.
    func step(now: Instant) {
        guard outcome == nil else { return }
        guard connectedAt == nil else { return handshake(now) }
        let code = Socket.pendingError(fd)
        if code == 0 {
            connected(now: now)
        } else {
            fail(.refused(address: address, why: SystemError.text(code)), now)
        }
    }

    /// Ends what takes longer than `timeoutMs`.
    func expire(now: Instant, timeoutMs: Int) {
        guard outcome == nil, now > begun.adding(ms: timeoutMs) else { return }
        let why = "no answer within \(timeoutMs) ms"
        fail(
            connectedAt == nil
                ? .refused(address: address, why: why) : .insecure(address: address, why: why), now)
    }

    private func fail(_ outcome: Outcome, _ now: Instant) {
        drop()
        connectedAt = nil
        guard place + 1 < addresses.count else {
            self.outcome = outcome
            return
        }
        place += 1
        start(now: now)
    }

    private func connected(now: Instant) {
        connectedAt = now
        guard let context else { return reach(now, nil) }
        guard let session = context.connect(fd, endpoint: endpoint, address: place) else {
            return fail(.insecure(address: address, why: "no memory"), now)
        }
        self.session = session
        handshake(now)
    }

    private func handshake(_ now: Instant) {
        switch session.handshake() {
        case .wouldBlock: break
        case .plainHTTP: fail(.insecure(address: address, why: "it speaks no TLS"), now)
        case .failed(let fault): fail(.insecure(address: address, why: fault.text), now)
        case .done:
            let handshake = Handshake(
                version: session.isVersion13 ? "TLS 1.3" : "TLS 1.2",
                ns: now.nanoseconds(since: connectedAt ?? now), daysLeft: session.peerDaysLeft)
            reach(now, handshake)
        }
    }

    private func reach(_ now: Instant, _ tls: Handshake?) {
        outcome = .reached(
            address: address, connectNs: (connectedAt ?? now).nanoseconds(since: begun), tls: tls)
        drop()
    }

    /// Runs all probes, `AdminLimits.probesMax` at one time, each address for at most `timeoutMs`.
    static func run(_ probes: [DoctorProbe], timeoutMs: Int) {
        var waiting = probes[...]
        var running: [DoctorProbe] = []
        while !waiting.isEmpty || !running.isEmpty {
            while running.count < AdminLimits.probesMax, let next = waiting.popFirst() {
                next.start(now: .now())
                running.append(next)
            }
            running.removeAll { $0.outcome != nil }
            if running.isEmpty { continue }
            var entries = running.map {
                let isConnected = $0.connectedAt != nil
                return pollfd(
                    fd: $0.fd, events: Int16(isConnected ? POLLIN : POLLOUT), revents: 0)
            }
            _ = poll(&entries, nfds_t(entries.count), 100)
            let now = Instant.now()
            for (probe, entry) in zip(running, entries) {
                if entry.revents != 0 { probe.step(now: now) }
                probe.expire(now: now, timeoutMs: timeoutMs)
            }
        }
    }
}
