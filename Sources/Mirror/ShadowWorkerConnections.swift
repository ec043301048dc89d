import CLinux
import CoreLoop
import TLS
import Upstream

/// Connections: opened, kept idle, reused, closed.
extension ShadowWorker {
    /// A new connection for the copy whose slices lie in scratch.
    func open(_ copy: ShadowCopy, _ exchange: InferenceExchange?, _ shadow: Int) {
        let fresh = ShadowConnection(fd: ShadowConnection.none, shadow: shadow, copy: copy)
        // A connection is opened only where none is idle and the in-flight limit has room, so that
        // there are never more than the limits allow.
        guard let slot = pool.connections.insert(fresh) else {
            preconditionFailure("more connections than in_flight allows")
        }
        carry(copy, exchange, slot)
        shadows[shadow].countOpen(1)
        timers.schedule(slot, at: now.adding(ms: shadows[shadow].connectTimeoutMs))
        connectNext(slot)
    }

    /// Tries the target's next address; the copy is dropped where none is left.
    private func connectNext(_ slot: Int) {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        while connection.pointee.addressesTried < state.pointee.addressCount {
            let tried = connection.pointee.addressesTried
            let address = (state.pointee.preferredAddress + tried) % state.pointee.addressCount
            connection.pointee.addressesTried = tried + 1
            connection.pointee.address = address
            connection.pointee.addressList = state.pointee.addressList
            let fd: Int32
            let isConnected: Bool
            switch Socket.connect(to: state.pointee.addresses[address]) {
            case .connected(let new): (fd, isConnected) = (new, true)
            case .inProgress(let new): (fd, isConnected) = (new, false)
            case .failed: continue
            }
            connection.pointee.fd = fd
            var bytes = ShadowLimits.sendBufferBytes
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
            do throws(SystemError) {
                let generation = pool.connections.generation(slot)
                try epoll.add(
                    fd,
                    Token(
                        kind: TokenKind.connection.rawValue, slot: slot, generation: generation))
            } catch {
                closeDescriptor(slot)
                continue
            }
            // With TLS the handshake begins with the connection's first event.
            if isConnected, state.pointee.security == nil { connected(slot) }
            return
        }
        connectFailed(slot, .connectFailed)
    }

    private func connectFailed(_ slot: Int, _ reason: DropReason) {
        let state = shadows + pool.connections[slot].pointee.shadow
        state.pointee.gauges.add(reason == .tlsFailed ? .tlsFailures : .connectFailures)
        endUnsent(slot, reason, .bad)
        close(slot, reset: true)
    }

    /// Goes on with the handshake of an https shadow. A certificate that does not hold, or a
    /// handshake that fails, is a dropped copy and nothing else.
    private func secure(_ slot: Int) {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        if !connection.pointee.isSecuring {
            guard
                let session = state.pointee.security?.connect(
                    connection.pointee.fd, address: connection.pointee.address)
            else { return connectFailed(slot, .tlsFailed) }
            connection.pointee.tls = session
            connection.pointee.isSecuring = true
        }
        switch connection.pointee.tls.handshake() {
        case .wouldBlock: break
        case .plainHTTP, .failed: connectFailed(slot, .tlsFailed)
        case .done:
            connection.pointee.isSecuring = false
            state.pointee.gauges.add(.tlsHandshakes)
            if connection.pointee.tls.isResumed { state.pointee.gauges.add(.tlsResumed) }
            connected(slot)
        }
    }

    private func connected(_ slot: Int) {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        state.pointee.preferredAddress = connection.pointee.address
        state.pointee.gauges.add(.connects)
        begin(slot, isRendered: false)
    }

    /// One event of a connection.
    func handle(_ readiness: Readiness, _ slot: Int) {
        switch pool.connections[slot].pointee.phase {
        case .idle:
            // Bytes that nobody asked for, or the peer's end.
            let ends: Readiness = [.readable, .peerClosed, .hangUp, .error]
            guard !readiness.isDisjoint(with: ends) else { return }
            // A session ticket that comes late is neither.
            let connection = pool.connections[slot]
            if !connection.pointee.tls.isOn || connection.pointee.channel.isStale {
                removeIdle(slot)
                close(slot, reset: false)
            }
        case .connecting:
            let connection = pool.connections[slot]
            if connection.pointee.isSecuring {
                secure(slot)
            } else if Socket.pendingError(connection.pointee.fd) != 0
                || !readiness.isDisjoint(with: [.error, .hangUp])
            {
                closeDescriptor(slot)
                connectNext(slot)
            } else if readiness.contains(.writable) {
                let isSecure = shadows[connection.pointee.shadow].security != nil
                if isSecure { secure(slot) } else { connected(slot) }
            }
        case .sending, .awaiting:
            // Read before write: a shadow that answers early closes its side, and a failed write
            // would hide the answer that is there already.
            let generation = pool.connections.generation(slot)
            if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error]) {
                read(slot, isOver: !readiness.isDisjoint(with: [.peerClosed, .hangUp, .error]))
            }
            if readiness.contains(.writable), pool.connections.isLive(slot, generation),
                pool.connections[slot].pointee.phase == .sending
            {
                send(slot, isRendered: false)
            }
        }
    }

    /// A deadline is over.
    func expire(_ slot: Int) {
        guard pool.connections.isUsed(slot) else { return }
        let connection = pool.connections[slot]
        switch connection.pointee.phase {
        case .idle:
            removeIdle(slot)
            close(slot, reset: false)
        case .connecting:
            // The next copy tries another address first.
            let state = shadows + connection.pointee.shadow
            state.pointee.preferredAddress =
                (connection.pointee.address + 1) % max(1, state.pointee.addressCount)
            connectFailed(slot, connection.pointee.isSecuring ? .tlsFailed : .connectFailed)
        case .sending, .awaiting:
            endSent(slot, .timeout, .bad)
            close(slot, reset: true)
        }
    }

    /// An idle connection that is still open, the one used last; nil where there is none.
    func takeIdle(_ shadow: Int) -> Int? {
        while true {
            let first = shadows[shadow].firstIdle
            guard first != ShadowConnection.none else { return nil }
            let slot = Int(first)
            removeIdle(slot)
            // The turn's events came first: only one that went idle long ago is asked whether it
            // lives.
            let connection = pool.connections[slot]
            let idleNs = now.nanoseconds(
                since: Instant(nanoseconds: connection.pointee.idleSinceNs))
            if idleNs < ShadowLimits.idleTrustedNs || !connection.pointee.channel.isStale {
                pool.connections[slot].pointee.isReused = true
                return slot
            }
            close(slot, reset: false)
        }
    }

    /// Keeps a connection without a copy for the next one, or closes it where enough are kept.
    func keep(_ slot: Int) {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        // As many as can be busy at one time: copies come in bursts, and a connection for each of a
        // burst is dearer than an idle one.
        let kept = max(ShadowLimits.idleConnectionsMax, state.pointee.inFlightMax)
        guard state.pointee.idleCount + state.pointee.inFlight < kept,
            state.pointee.breaker.state == .closed, !isCancelled,
            connection.pointee.addressList == state.pointee.addressList
        else { return close(slot, reset: false) }
        let first = state.pointee.firstIdle
        connection.pointee.phase = .idle
        connection.pointee.idleSinceNs = now.nanoseconds
        connection.pointee.previousIdle = ShadowConnection.none
        connection.pointee.nextIdle = first
        if first != ShadowConnection.none {
            pool.connections[Int(first)].pointee.previousIdle = Int32(slot)
        }
        state.pointee.firstIdle = Int32(slot)
        state.pointee.idleCount += 1
        state.pointee.gauges[.connectionsIdle].set(UInt64(state.pointee.idleCount))
        timers.schedule(slot, at: now.adding(ms: ShadowLimits.idleTimeoutMs))
    }

    func removeIdle(_ slot: Int) {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        let (previous, next) = (connection.pointee.previousIdle, connection.pointee.nextIdle)
        if previous == ShadowConnection.none {
            state.pointee.firstIdle = next
        } else {
            pool.connections[Int(previous)].pointee.nextIdle = next
        }
        if next != ShadowConnection.none {
            pool.connections[Int(next)].pointee.previousIdle = previous
        }
        connection.pointee.previousIdle = ShadowConnection.none
        connection.pointee.nextIdle = ShadowConnection.none
        state.pointee.idleCount -= 1
        state.pointee.gauges[.connectionsIdle].set(UInt64(state.pointee.idleCount))
    }

    /// Takes the addresses that the health process has found: copies go there from now on.
    func takeNewAddresses() {
        guard let upstreams, upstreams.addressVersion.value != addressesSeen else { return }
        addressesSeen = upstreams.addressVersion.acquired
        for shadow in 0..<shadowCount {
            // The first endpoint's, as at the start.
            let endpoint = upstreams.firstEndpoints[shadows[shadow].target]
            guard let list = upstreams.addresses(endpoint).read(), !list.isEmpty,
                shadows[shadow].takeAddresses(list)
            else { continue }
            closeIdle(shadow)
        }
    }

    /// Closes all idle connections to a shadow.
    func closeIdle(_ shadow: Int) {
        while shadows[shadow].firstIdle != ShadowConnection.none {
            let slot = Int(shadows[shadow].firstIdle)
            removeIdle(slot)
            close(slot, reset: false)
        }
    }

    /// Closes a connection that carries no copy any more and is in no list of idle ones. With
    /// `reset` the kernel forgets unsent bytes at once: those for a hung shadow would pile up
    /// there.
    func close(_ slot: Int, reset: Bool) {
        let connection = pool.connections[slot]
        if reset, connection.pointee.fd >= 0 { Socket.setResetOnClose(connection.pointee.fd) }
        closeDescriptor(slot, saysGoodbye: !reset)
        giveBackResidue(slot)
        timers.cancel(slot)
        shadows[connection.pointee.shadow].countOpen(-1)
        pool.connections.remove(slot)
    }

    private func closeDescriptor(_ slot: Int, saysGoodbye: Bool = false) {
        let connection = pool.connections[slot]
        guard connection.pointee.fd >= 0 else { return }
        connection.pointee.tls.close(saysGoodbye: saysGoodbye)
        connection.pointee.tls = TLSSession()
        connection.pointee.isSecuring = false
        CLinux.close(connection.pointee.fd)
        connection.pointee.fd = ShadowConnection.none
    }

    func giveBackResidue(_ slot: Int) {
        let connection = pool.connections[slot]
        guard connection.pointee.answer.residue != ShadowConnection.none else { return }
        pool.giveBackResidue(
            connection.pointee.answer.residue, usedBytes: connection.pointee.answer.residueBytes)
        connection.pointee.answer.residue = ShadowConnection.none
        connection.pointee.answer.residueBytes = 0
    }
}
