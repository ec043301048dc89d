import CLinux
import CoreLoop
import HTTP
import Mirror
import TLS
import Upstream

extension ProxyWorker {
    /// A connection to an endpoint: the one used last of those that are idle, else a new one being
    /// made.
    func acquire(endpoint: Int, of target: Int, checkFirst: Bool) -> Int {
        while table.pools[endpoint].first >= 0 {
            let slot = Int(table.pools[endpoint].first)
            unpool(slot)
            let upstream = upstreams[slot]
            if checkFirst, upstream.pointee.channel.isStale {
                closeUpstream(slot)
                continue
            }
            timers.pause(clients.capacity + slot)
            upstream.pointee.state = .active
            upstream.pointee.flags.formIntersection([.queuedAgain])
            upstream.pointee.flags.insert(.reused)
            upstream.pointee.interimAnswers = 0
            upstream.pointee.chunks = ChunkedReader()
            counters.add(.upstreamReused)
            return slot
        }
        return connectUpstream(endpoint, of: target, attempts: 0)
    }

    /// A new connection to the endpoint's next address that does not refuse at once; `attempts` of
    /// them have failed.
    func connectUpstream(_ endpoint: Int, of target: Int, attempts failed: Int) -> Int {
        var answer = Self.noUpstreamToTry
        var attempts = failed
        while attempts < table.lists[endpoint].count {
            let slot = connect(
                endpoint, of: target, address: table.lists[endpoint].first, attempts: attempts)
            guard slot == Self.upstreamRefusedAtOnce else {
                if slot >= 0 { scheduleConnect(slot) }
                return slot
            }
            answer = slot
            attempts += 1
        }
        return answer
    }

    /// A new connection to one address; the address is tried last from now on where it refuses.
    func connect(
        _ endpoint: Int, of target: Int, address index: Int, attempts: Int
    ) -> Int {
        let fd: Int32
        var isConnected = false
        switch Socket.connect(to: table.lists[endpoint][index]) {
        case .connected(let descriptor):
            fd = descriptor
            isConnected = true
        case .inProgress(let descriptor): fd = descriptor
        // Our own want of descriptors or memory: no fault of the endpoint's.
        case .failed(EMFILE), .failed(ENFILE), .failed(ENOBUFS), .failed(ENOMEM):
            return Self.noUpstreamToTry
        case .failed:
            noteConnectFailure(endpoint, index)
            return Self.upstreamRefusedAtOnce
        }
        counters.add(.upstreamConnects)
        table.cells[endpoint].add(.connects)
        guard let slot = upstreams.insert(UpstreamConnection(fd: fd)) else {
            close(fd)
            return Self.noUpstreamToTry
        }
        let upstream = upstreams[slot]
        upstream.pointee.target = UInt16(target)
        upstream.pointee.endpoint = UInt32(endpoint)
        upstream.pointee.addressIndex = UInt8(truncatingIfNeeded: index)
        upstream.pointee.attempts = UInt8(truncatingIfNeeded: attempts)
        do throws(SystemError) {
            try epoll.add(
                fd, Token(kind: Kind.upstream, slot: slot, generation: upstreams.generation(slot)))
        } catch {
            close(fd)
            upstreams.remove(slot)
            return Self.noUpstreamToTry
        }
        table.states[endpoint].open += 1
        table.cells[endpoint][.open].add()
        // With TLS the handshake is still to come; the first event says that it may.
        if isConnected, !security.speaksTLS(target: target) { upstream.pointee.state = .active }
        return slot
    }

    func noteConnectFailure(_ endpoint: Int, _ address: Int) {
        counters.add(.upstreamConnectFailures)
        table.cells[endpoint].add(.connectFailures)
        table.lists[endpoint].demote(address)
    }

    /// Sets a connect's deadline; before it, where both families answer to the name, the time after
    /// which the other one is tried beside it.
    private func scheduleConnect(_ slot: Int) {
        let upstream = upstreams[slot]
        guard upstream.pointee.state == .connecting else { return }
        let limit = settings.limits.connectTimeoutMs
        let races =
            table.lists[Int(upstream.pointee.endpoint)].hasBothFamilies
            && limit > UpstreamLimits.raceDelayMs
        if races { upstream.pointee.flags.insert(.mayRace) }
        schedule(upstream: slot, ms: races ? UpstreamLimits.raceDelayMs : limit)
    }

    /// Puts a connection whose exchange is over among the idle ones.
    func pool(_ slot: Int) {
        let upstream = upstreams[slot]
        let endpoint = Int(upstream.pointee.endpoint)
        releaseUpstreamInput(slot)
        slices.clear(&upstream.pointee.replay, blocks)
        guard table.states[endpoint].idle < ProxyLimits.poolIdleMax, !isDraining,
            !upstream.pointee.flags.contains(.retiring)
        else {
            closeUpstream(slot)
            return
        }
        upstream.pointee.state = .idle
        upstream.pointee.client = -1
        upstream.pointee.poolPrevious = -1
        let first = table.pools[endpoint].first
        upstream.pointee.poolNext = first
        if first >= 0 { upstreams[Int(first)].pointee.poolPrevious = Int32(slot) }
        table.pools[endpoint].first = Int32(slot)
        noteIdle(endpoint, 1)
        schedule(upstream: slot, ms: ProxyLimits.poolIdleMs)
    }

    private func noteIdle(_ endpoint: Int, _ change: Int32) {
        table.states[endpoint].idle += change
        table.cells[endpoint][.idle].set(UInt64(table.states[endpoint].idle))
        idleUpstreams += Int(change)
    }

    private func unpool(_ slot: Int) {
        let upstream = upstreams[slot]
        let endpoint = Int(upstream.pointee.endpoint)
        if upstream.pointee.poolPrevious >= 0 {
            upstreams[Int(upstream.pointee.poolPrevious)].pointee.poolNext =
                upstream.pointee.poolNext
        } else {
            table.pools[endpoint].first = upstream.pointee.poolNext
        }
        if upstream.pointee.poolNext >= 0 {
            upstreams[Int(upstream.pointee.poolNext)].pointee.poolPrevious =
                upstream.pointee.poolPrevious
        }
        noteIdle(endpoint, -1)
    }

    func releaseUpstreamInput(_ slot: Int) {
        let upstream = upstreams[slot]
        if upstream.pointee.inSlot != BlockPool.none {
            blocks.release(upstream.pointee.inSlot)
            upstream.pointee.inSlot = BlockPool.none
        }
        if upstream.pointee.largeHead >= 0 {
            largeHeads.giveBack(upstream.pointee.largeHead)
            upstream.pointee.largeHead = -1
        }
        upstream.pointee.inStart = 0
        upstream.pointee.inEnd = 0
        upstream.pointee.seen = 0
    }

    /// Closes a connection, idle or not. Its client, where it has one, is detached before.
    func closeUpstream(_ slot: Int) {
        let upstream = upstreams[slot]
        if upstream.pointee.state == .idle { unpool(slot) }
        if upstream.pointee.rival >= 0 {
            // Neither of the two is wanted any more.
            let rival = endRace(slot)
            closeUpstream(rival)
        }
        if upstream.pointee.client >= 0 {
            clients[Int(upstream.pointee.client)].pointee.upstream = -1
        }
        releaseUpstreamInput(slot)
        slices.clear(&upstream.pointee.out, blocks)
        slices.clear(&upstream.pointee.replay, blocks)
        if upstream.pointee.trailers >= 0 { largeHeads.giveBack(upstream.pointee.trailers) }
        timers.cancel(clients.capacity + slot)
        if upstream.pointee.tls.isOn {
            upstream.pointee.tls.close(saysGoodbye: upstream.pointee.out.isEmpty)
        }
        close(upstream.pointee.fd)
        upstream.pointee.client = -1
        upstream.pointee.state = .idle
        let endpoint = Int(upstream.pointee.endpoint)
        table.states[endpoint].open -= 1
        table.cells[endpoint][.open].subtract()
        upstreams.remove(slot)
    }

    // MARK: Sending

    /// Keeps what `batch` holds for another try: a connection that served before may turn out dead,
    /// and some targets are tried again whatever failed. Only a whole request that may be sent
    /// twice is sent again.
    func keepForReplay(_ slot: Int, _ upstream: Int) {
        let wanted: ClientFlags = [.idempotent, .requestRead]
        let target = Int(upstreams[upstream].pointee.target)
        guard
            upstreams[upstream].pointee.flags.contains(.reused)
                || table.targets[target].retryAttempts > 0,
            clients[slot].pointee.flags.isSuperset(of: wanted),
            blocks.freeCount > blocks.count / ProxyLimits.retryReserveShare
        else { return }
        for place in 0..<batch.count
        where !slices.append(batch[place], to: &upstreams[upstream].pointee.replay, blocks) {
            slices.clear(&upstreams[upstream].pointee.replay, blocks)
            return
        }
    }

    /// Sends what `batch` holds. False where the exchange has ended over it.
    func sendToUpstream(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        if upstream.pointee.flags.contains(.writeFailed) {
            batch.removeAll()
            return true
        }
        let canSend = upstream.pointee.state != .connecting
        let outcome = batch.send(
            to: upstream.pointee.channel, canSend: canSend, queue: &upstream.pointee.out, blocks,
            slices)
        return outcome != .failed || upstreamWriteFailed(slot)
    }

    /// A write failed: the upstream has closed, perhaps after an early answer that is still to be
    /// read.
    private func upstreamWriteFailed(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        upstream.pointee.flags.formUnion([.writeFailed, .readReady])
        slices.clear(&upstream.pointee.out, blocks)
        // What is left of the request will not be read, so that no next one can follow it.
        if client >= 0, !clients[client].pointee.flags.contains(.requestRead) {
            clients[client].pointee.flags.insert(.closeAfter)
        }
        // Read before anything else: the answer may explain why the upstream takes no more.
        goOn(upstream: slot)
        return true
    }

    /// Sends what waits for an upstream that can take more.
    func flushUpstream(_ slot: Int) {
        let upstream = upstreams[slot]
        let before = upstream.pointee.out.byteCount
        let outcome = batch.flush(
            &upstream.pointee.out, to: upstream.pointee.channel, blocks, slices)
        if outcome == .failed {
            _ = upstreamWriteFailed(slot)
        } else if upstream.pointee.out.byteCount < before, upstream.pointee.state == .active {
            awaitAnswer(slot)
        }
    }

    /// Sets the time that an upstream has: for its answer once the request is whole, for taking
    /// more of the request where that waits for it, none otherwise.
    func awaitAnswer(_ slot: Int) {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        guard client >= 0 else { return }
        if clients[client].pointee.flags.contains(.requestRead) {
            schedule(upstream: slot, ms: settings.limits.answerTimeoutMs)
        } else if hasQueueRoom(upstream.pointee.out) {
            timers.pause(clients.capacity + slot)
        } else {
            schedule(upstream: slot, ms: bodyTimeoutMs)
        }
    }

    // MARK: Events

    func upstreamEvent(_ slot: Int, _ readiness: Readiness) {
        let upstream = upstreams[slot]
        let news: Readiness = [.readable, .peerClosed, .hangUp, .error]
        switch upstream.pointee.state {
        case .idle:
            // Nobody asked: the peer has closed, or sends what would be taken for the next answer.
            // A session ticket that comes late is neither.
            guard !readiness.isDisjoint(with: news) else { return }
            if !upstream.pointee.tls.isOn || upstream.pointee.channel.isStale {
                closeUpstream(slot)
            }
            return
        case .connecting:
            if upstream.pointee.flags.contains(.securing) {
                guard secureUpstream(slot) else { return }
                break
            }
            guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
            if Socket.pendingError(upstream.pointee.fd) != 0 {
                connectFailed(slot, .upstreamRefused)
                return
            }
            guard upstreamConnected(slot) else { return }
        case .active, .tunnel:
            if !readiness.isDisjoint(with: news) {
                upstream.pointee.flags.insert(.readReady)
                if !readiness.isDisjoint(with: [.peerClosed, .hangUp, .error]) {
                    upstream.pointee.flags.insert(.peerClosed)
                }
            }
            if readiness.contains(.writable), !upstream.pointee.out.isEmpty { flushUpstream(slot) }
        }
        driveUpstream(slot)
    }

    /// A connection is made, and secured where it is to be: the request may leave.
    func upstreamIsReady(_ slot: Int) {
        let upstream = upstreams[slot]
        upstream.pointee.state = .active
        awaitAnswer(slot)
        upstream.pointee.flags.insert(.readReady)
        flushUpstream(slot)
    }

    /// Does what an upstream's connection can do now: its answer first, then more of the request.
    func driveUpstream(_ slot: Int) {
        let upstream = upstreams[slot]
        let generation = upstreams.generation(slot)
        switch upstream.pointee.state {
        case .active:
            readAnswer(slot)
            guard upstreams.isLive(slot, generation), upstream.pointee.state == .active,
                upstream.pointee.client >= 0
            else { return }
            let client = Int(upstream.pointee.client)
            if !clients[client].pointee.flags.contains(.requestRead) {
                if !clients[client].pointee.flags.contains(.writeTimer) {
                    schedule(client: client, ms: bodyTimeoutMs)
                }
                pumpRequest(client)
            }
        case .tunnel:
            if upstream.pointee.client >= 0 { pumpTunnel(Int(upstream.pointee.client)) }
        case .idle, .connecting: break
        }
    }

    /// The connection stands: the exchange goes on on it, once it is secured where it is to be.
    /// False where that is not yet so.
    @discardableResult
    func upstreamConnected(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        if upstream.pointee.rival >= 0 {
            let loser = endRace(slot)
            let client = Int(upstreams[loser].pointee.client)
            if client >= 0 { moveExchange(client, from: loser, to: slot) }
            closeUpstream(loser)
        }
        if security.speaksTLS(target: Int(upstream.pointee.target)) {
            return beginSecuring(slot) && secureUpstream(slot)
        }
        upstreamIsReady(slot)
        return true
    }

    // MARK: Failures

    /// The connect failed: the one that races with it, the next address, another endpoint, else the
    /// answer `fault`. Nothing was sent, so any request may go on.
    func connectFailed(_ slot: Int, _ fault: GatewayFault) {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        let target = Int(upstream.pointee.target)
        let endpoint = Int(upstream.pointee.endpoint)
        noteConnectFailure(endpoint, Int(upstream.pointee.addressIndex))
        if upstream.pointee.rival >= 0 {
            let other = endRace(slot)
            upstreams[other].pointee.attempts = max(
                upstreams[other].pointee.attempts, upstream.pointee.attempts + 1)
            if client >= 0 { moveExchange(client, from: slot, to: other) }
            closeUpstream(slot)
            return
        }
        guard client >= 0 else {
            closeUpstream(slot)
            return
        }
        let attempts = Int(upstream.pointee.attempts) + 1
        var next = connectUpstream(endpoint, of: target, attempts: attempts)
        if next < 0 {
            noteFailure(endpoint, of: target, .connect)
            if table.targets[target].count > 1, mayMoveOn(target) {
                next = acquireUpstream(target, for: client, checkFirst: true)
                if next >= 0 { noteRetry(target, client, .connect) }
            }
        }
        guard next >= 0 else {
            gatewayAnswer(client, fault)
            return
        }
        moveExchange(client, from: slot, to: next)
        closeUpstream(slot)
    }

    /// Moves an exchange of which nothing was sent yet.
    private func moveExchange(_ client: Int, from old: Int, to new: Int) {
        let queue = upstreams[old].pointee.out
        upstreams[old].pointee.out = SliceQueue()
        moveExchange(client, from: old, to: new, queue: queue)
    }

    func moveExchange(_ client: Int, from old: Int, to new: Int, queue: SliceQueue) {
        upstreams[old].pointee.client = -1
        upstreams[new].pointee.client = Int32(client)
        clients[client].pointee.upstream = Int32(new)
        upstreams[new].pointee.out = queue
        swap(&upstreams[new].pointee.replay, &upstreams[old].pointee.replay)
        if upstreams[new].pointee.state == .active {
            awaitAnswer(new)
            flushUpstream(new)
        }
    }

    func upstreamTimedOut(_ slot: Int) {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        switch upstream.pointee.state {
        case .idle: closeUpstream(slot)
        case .connecting where upstream.pointee.flags.contains(.mayRace): beginRace(slot)
        case .connecting:
            counters.add(.timeoutsConnect)
            if upstream.pointee.flags.contains(.securing) { counters.add(.tlsUpstreamTimeout) }
            connectFailed(slot, .upstreamConnectTimeout)
        case .active, .tunnel:
            guard client >= 0 else {
                closeUpstream(slot)
                return
            }
            let isTranslated =
                upstream.pointee.framing == .translated
                && upstream.pointee.flags.contains(.answerBegun)
            if isTranslated, translatedTimedOut(slot, client) { return }
            if upstream.pointee.state == .active,
                !clients[client].pointee.flags.contains(.requestRead)
            {
                // The answer's time counts from the request's end; what ran out is the time in
                // which the upstream took nothing more of the request.
                guard !upstream.pointee.out.isEmpty else { return }
            }
            counters.add(.timeoutsAnswer)
            noteFailure(
                Int(upstream.pointee.endpoint), of: Int(upstream.pointee.target), .timeout)
            if isTranslated {
                failTranslated(slot, client, .upstreamTimeout)
            } else if upstream.pointee.flags.contains(.answerBegun)
                || upstream.pointee.state == .tunnel
            {
                cutOff(client)
            } else if !tryElsewhere(slot, .timeout) {
                gatewayAnswer(client, .upstreamTimeout)
            }
        }
    }

    /// The upstream failed before its answer was whole. Sends the request again where that is safe,
    /// else answers 502, or cuts the answer off where it has begun.
    func upstreamFailed(_ slot: Int, _ fault: GatewayFault) {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        guard client >= 0 else {
            closeUpstream(slot)
            return
        }
        let target = Int(upstream.pointee.target)
        let endpoint = Int(upstream.pointee.endpoint)
        let isTheirs = fault != .noMemory
        if upstream.pointee.flags.contains(.answerBegun) {
            counters.add(.upstreamFaults)
            if isTheirs { noteFailure(endpoint, of: target, .reset) }
            if upstream.pointee.framing == .translated {
                failTranslated(slot, client, fault)
            } else {
                cutOff(client)
            }
            return
        }
        // A connection that lay idle and turned out dead says nothing of the endpoint, and costs no
        // retry: the request goes out on a fresh one.
        let wasStale =
            upstream.pointee.flags.isSuperset(of: [.reused])
            && upstream.pointee.flags.isDisjoint(with: [.answered])
        if wasStale, !upstream.pointee.replay.isEmpty {
            let next = connectUpstream(endpoint, of: target, attempts: 0)
            if next >= 0 {
                counters.add(.upstreamRetries)
                if sendAgain(client, from: slot, to: next) { return }
                closeUpstream(next)
            }
        }
        if isTheirs {
            if !wasStale { noteFailure(endpoint, of: target, .reset) }
            if tryElsewhere(slot, .reset) { return }
        }
        counters.add(.upstreamFaults)
        gatewayAnswer(client, fault)
    }
}
