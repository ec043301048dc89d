import CLinux
import CoreLoop
import HTTP
import TLS

extension ProxyWorker {
    /// Takes new connections off a listener, at most `acceptsPerTurnMax`: it is level-triggered and
    /// says so again.
    // Not inlined, for the same reason as `wokenUp`.
    @inline(never)
    func acceptClients(_ place: Int) {
        guard listeners[place].fd >= 0, !isDraining, acceptPausedUntil == 0 else { return }
        var storage = sockaddr_storage()
        var length = socklen_t(0)
        for _ in 0..<CoreLoop.Limits.acceptsPerTurnMax {
            switch Socket.accept(listeners[place].fd, &storage, &length) {
            case .connection(let fd):
                open(fd, &storage, entry: listeners[place].entry)
                // The rest of the descriptors is for the upstreams of those that are in: without
                // one, a client gets nothing but 503.
                if fd >= clientDescriptorMax { pauseAccepting() }
                if acceptPausedUntil != 0 { return }
            case .wouldBlock: return
            case .aborted: continue
            case .exhausted:
                pauseAccepting()
                return
            }
        }
    }

    private func open(_ fd: Int32, _ storage: UnsafeMutablePointer<sockaddr_storage>, entry: Int) {
        guard let slot = clients.insert(ClientConnection(fd: fd)) else {
            refuse(fd, entry: entry)
            return
        }
        counters.add(.connectionsAccepted)
        clients[slot].pointee.entry = UInt8(entry)
        if security.speaksTLS(entry: entry) {
            clients[slot].pointee.state = .securing
            clients[slot].pointee.peer.isTLS = true
        }
        clients[slot].pointee.peer.address.set(storage)
        clients[slot].pointee.peer.isTrusted = forwarding.chain.trusts(storage)
        do throws(SystemError) {
            try epoll.add(
                fd, Token(kind: Kind.client, slot: slot, generation: clients.generation(slot)))
        } catch {
            // No memory in the kernel for one more watch: as good as no descriptor.
            close(fd)
            clients.remove(slot)
            pauseAccepting()
            return
        }
        schedule(client: slot, ms: settings.limits.headTimeoutMs)
    }

    /// Answers a connection over the limit: 503, as far as it fits into the socket, and a close.
    /// With TLS the answer would take a handshake: it is left out.
    private func refuse(_ fd: Int32, entry: Int) {
        counters.add(.connectionsRefused)
        guard !security.speaksTLS(entry: entry) else {
            close(fd)
            return
        }
        // What the client has sent is read first: unread bytes would turn the close into a reset,
        // and a reset may overtake the answer.
        withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 16) { scratch in
            _ = Socket.receive(fd, scratch.baseAddress!, scratch.count)
            var writer = HeadWriter(scratch)
            GatewayAnswer.write(
                .tooManyConnections, isHead: false, closes: true, wallMs: wallMs, forwarding,
                &writer)
            _ = Socket.send(fd, scratch.baseAddress!, writer.count)
        }
        Socket.shutdownWrites(fd)
        close(fd)
    }

    private func pauseAccepting() {
        guard acceptPausedUntil == 0 else { return }
        counters.add(.acceptsPaused)
        for listener in listeners where listener.fd >= 0 { epoll.remove(listener.fd) }
        acceptPausedUntil = now.milliseconds + UInt64(ProxyLimits.acceptPauseMs)
        onDescriptors?(true)
    }

    /// Goes on accepting where there are descriptors again; looks again later where not.
    func resumeAccepting() {
        guard hasDescriptors || isDraining else {
            counters.add(.acceptsPaused)
            acceptPausedUntil = now.milliseconds + UInt64(ProxyLimits.acceptPauseMs)
            return
        }
        acceptPausedUntil = 0
        guard !isDraining else { return }
        for (place, listener) in listeners.enumerated() where listener.fd >= 0 {
            try? epoll.add(
                listener.fd, Token(kind: Kind.listener, slot: place, generation: 0), mode: .level)
        }
        onDescriptors?(false)
    }

    /// Whether the next descriptor would be one that a client may have.
    private var hasDescriptors: Bool {
        guard let listener = listeners.first(where: { $0.fd >= 0 }) else { return true }
        let probe = umbra_fcntl(listener.fd, F_DUPFD_CLOEXEC, 0)
        if probe < 0 { return false }
        close(probe)
        return probe < clientDescriptorMax
    }

    /// Takes what the kernel has accepted already, then nothing more, and closes what is idle.
    /// Exchanges under way end, also those whose request has just come, and their connections with
    /// them.
    public func drain() {
        stopAccepting()
        closeIdle()
    }

    /// As `drain`, but idle connections have `ProxyLimits.retireGraceMs` for one more request, and
    /// its answer says that they close: other processes serve who connects anew.
    public func retire() {
        stopAccepting()
        idleUntil = now.milliseconds + UInt64(ProxyLimits.retireGraceMs)
    }

    /// Cuts off what has not ended within the drain's time: counted and logged as not whole.
    /// Returns how many requests and tunnels that were.
    public func cutAll() -> Int {
        var count = 0
        for slot in 0..<clients.walkEnd where clients.isUsed(slot) {
            let state = clients[slot].pointee.state
            if state == .exchange || state == .tunnel { count += 1 }
            cutOff(slot)
        }
        return count
    }

    private func stopAccepting() {
        guard !isDraining else { return }
        // Where descriptors had run out: there may be some by now, and this is the last time.
        acceptPausedUntil = 0
        for place in listeners.indices where listeners[place].fd >= 0 {
            for _ in 0..<CoreLoop.Limits.listenBacklog / CoreLoop.Limits.acceptsPerTurnMax {
                acceptClients(place)
            }
            epoll.remove(listeners[place].fd)
            listeners[place].fd = -1
        }
        isDraining = true
        for slot in 0..<clients.walkEnd where clients.isUsed(slot) {
            // An answer that has begun has promised what it has: the next one says that it is the
            // last.
            if !clients[slot].pointee.flags.contains(.answerBegun) {
                clients[slot].pointee.flags.insert(.closeAfter)
            }
        }
    }

    func closeIdle() {
        guard !closesIdle else { return }
        closesIdle = true
        idleUntil = 0
        for slot in 0..<clients.walkEnd where clients.isUsed(slot) {
            let client = clients[slot]
            guard client.pointee.state == .head, client.pointee.out.isEmpty else { continue }
            // Its next request may be in the socket, its event still to come; if not, it is closed.
            client.pointee.flags.insert(.readReady)
            readHead(slot)
        }
    }
}

extension AddressText {
    /// Takes the text of an IP address; `unknown` for a Unix socket's client (RFC 7239 §6.2 names
    /// it so).
    mutating func set(_ storage: UnsafeMutablePointer<sockaddr_storage>) {
        let family = Int32(storage.pointee.ss_family)
        let raw = UnsafeMutableRawPointer(storage)
        withUnsafeMutableBytes(of: &bytes) { text in
            switch family {
            case AF_INET, AF_INET6:
                let address = raw + (family == AF_INET ? 4 : 8)
                let start = text.baseAddress!.assumingMemoryBound(to: CChar.self)
                inet_ntop(family, address, start, socklen_t(text.count))
                count = UInt8(strlen(start))
            default:
                var place = 0
                for byte in "unknown".utf8 {
                    text[place] = byte
                    place += 1
                }
                count = UInt8(place)
            }
        }
    }
}
