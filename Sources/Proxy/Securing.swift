import CoreLoop
import HTTP
public import TLS
import Upstream

/// A worker's TLS: the contexts of its listeners and of its targets, by their places in the
/// settings; nil for plain ones.
public struct Security {
    /// Both empty where nothing speaks TLS.
    public var listeners: [ServerContext?] = []
    public var targets: [ClientContext?] = []

    public init() {}

    func speaksTLS(entry: Int) -> Bool { entry < listeners.count && listeners[entry] != nil }

    func speaksTLS(target: Int) -> Bool { target < targets.count && targets[target] != nil }
}

extension ProxyWorker {
    // MARK: Clients

    /// Goes on with a client's handshake, and with its first request once that is done.
    func secureClient(_ slot: Int) {
        let client = clients[slot]
        guard client.pointee.flags.contains(.readReady) || client.pointee.tls.isOn else { return }
        if !client.pointee.tls.isOn {
            // Made with the first byte, so that a connection that sends nothing costs no session.
            guard let context = security.listeners[Int(client.pointee.entry)],
                let session = context.accept(client.pointee.fd)
            else {
                counters.add(.tlsClientFailed)
                closeClient(slot)
                return
            }
            client.pointee.tls = session
        }
        switch client.pointee.tls.handshake() {
        case .wouldBlock:
            client.pointee.flags.remove(.readReady)
            if client.pointee.flags.contains(.peerClosed) {
                counters.add(.tlsClientFailed)
                closeClient(slot)
            }
        case .done: clientSecured(slot)
        case .plainHTTP:
            counters.add(.tlsClientPlain)
            client.pointee.tls.close(saysGoodbye: false)
            client.pointee.tls = TLSSession()
            client.pointee.state = .head
            gatewayAnswer(slot, .plainOnTLS)
        case .failed:
            counters.add(.tlsClientFailed)
            closeClient(slot)
        }
    }

    private func clientSecured(_ slot: Int) {
        let client = clients[slot]
        if settings.listen[Int(client.pointee.entry)].tls?.clientCertificates != nil,
            client.pointee.tls.noteSubject() == .tooLong
        {
            counters.add(.tlsClientFailed)
            closeClient(slot)
            return
        }
        counters.add(.tlsClientDone)
        if client.pointee.tls.isResumed { counters.add(.tlsClientResumed) }
        if client.pointee.tls.isVersion13 { counters.add(.tlsClient13) }
        client.pointee.state = .head
        if isDraining { client.pointee.flags.insert(.late) }
        schedule(client: slot, ms: settings.limits.headTimeoutMs)
        if client.pointee.tls.hasInput || client.pointee.flags.contains(.peerClosed) {
            // The handshake's last step may have come of an event for writing, and taken the first
            // request in with it: no event tells of that one any more.
            client.pointee.flags.insert(.readReady)
            readHead(slot)
        } else {
            client.pointee.flags.remove(.readReady)
        }
    }

    func handshakeTimedOut(_ slot: Int) {
        counters.add(.tlsClientTimeout)
        closeClient(slot)
    }

    // MARK: Upstreams

    /// A connection to a target that speaks TLS is made. False where it has ended over it.
    func beginSecuring(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        let target = Int(upstream.pointee.target)
        guard
            let session = security.targets[target]?.connect(
                upstream.pointee.fd,
                endpoint: Int(upstream.pointee.endpoint) - table.targets[target].first,
                address: Int(upstream.pointee.addressIndex))
        else {
            counters.add(.tlsUpstreamFailed)
            connectFailed(slot, .noMemory)
            return false
        }
        upstream.pointee.tls = session
        upstream.pointee.flags.insert(.securing)
        // Connected, and so past the race: what is left of the time is the handshake's.
        if upstream.pointee.flags.contains(.mayRace) {
            upstream.pointee.flags.remove(.mayRace)
            schedule(
                upstream: slot,
                ms: settings.limits.connectTimeoutMs - UpstreamLimits.raceDelayMs)
        }
        return true
    }

    /// Goes on with an upstream's handshake. True once the connection is ready; false where it is
    /// not yet, or has ended.
    func secureUpstream(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        switch upstream.pointee.tls.handshake() {
        case .wouldBlock, .plainHTTP: return false
        case .done:
            counters.add(.tlsUpstreamDone)
            if upstream.pointee.tls.isResumed { counters.add(.tlsUpstreamResumed) }
            if upstream.pointee.tls.isVersion13 { counters.add(.tlsUpstream13) }
            upstream.pointee.flags.remove(.securing)
            upstreamIsReady(slot)
            return true
        case .failed(let fault):
            counters.add(.tlsUpstreamFailed)
            sayTLSFault(target: Int(upstream.pointee.target), fault)
            connectFailed(slot, .upstreamTLSFailed)
            return false
        }
    }

    /// One line for people, at most one in `tlsFaultIntervalMs`: a target with a bad certificate
    /// fails each request.
    private func sayTLSFault(target: Int, _ fault: HandshakeFault) {
        guard now.milliseconds >= nextTLSFaultMs else {
            unsaidTLSFaults += 1
            return
        }
        let others = unsaidTLSFaults > 0 ? " (and \(unsaidTLSFaults) more since the last line)" : ""
        unsaidTLSFaults = 0
        nextTLSFaultMs = now.milliseconds + UInt64(ProxyLimits.tlsFaultIntervalMs)
        let id = settings.targets[target].id
        onTLSFault?("TLS to target \(id) failed: \(fault.text)\(others)")
    }
}
