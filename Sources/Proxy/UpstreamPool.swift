import CLinux
import CoreLoop
import HTTP
import Mirror
import Upstream

extension ProxyWorker {
    /// Instead of a slot: the connect was refused at once; there is no address or no room.
    static let upstreamRefusedAtOnce = -1
    static let noUpstreamToTry = -2

    /// A connection to `target`: the one used last of those that are idle, else a new one being
    /// made. With `checkFirst` a pooled one is asked whether it still lives: what goes out on it
    /// cannot be sent again.
    func acquireUpstream(_ target: Int, checkFirst: Bool) -> Int {
        while pools[target].first >= 0 {
            let slot = Int(pools[target].first)
            unpool(slot)
            let upstream = upstreams[slot]
            if checkFirst, Socket.isStale(upstream.pointee.fd) {
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
        return connectUpstream(target, addressIndex: 0)
    }

    /// A new connection to the target's address number `addressIndex`, or to the next that does not
    /// refuse at once.
    func connectUpstream(_ target: Int, addressIndex first: Int) -> Int {
        var answer = Self.noUpstreamToTry
        var addressIndex = first
        while addressIndex < settings.targets[target].addresses.count {
            let fd: Int32
            var isConnected = false
            switch Socket.connect(to: settings.targets[target].addresses[addressIndex]) {
            case .connected(let descriptor):
                fd = descriptor
                isConnected = true
            case .inProgress(let descriptor): fd = descriptor
            case .failed:
                counters.add(.upstreamConnectFailures)
                answer = Self.upstreamRefusedAtOnce
                addressIndex += 1
                continue
            }
            counters.add(.upstreamConnects)
            guard let slot = upstreams.insert(UpstreamConnection(fd: fd)) else {
                close(fd)
                return Self.noUpstreamToTry
            }
            upstreams[slot].pointee.target = UInt16(target)
            upstreams[slot].pointee.addressIndex = UInt8(truncatingIfNeeded: addressIndex)
            do throws(SystemError) {
                try epoll.add(
                    fd,
                    Token(kind: Kind.upstream, slot: slot, generation: upstreams.generation(slot)))
            } catch {
                close(fd)
                upstreams.remove(slot)
                return Self.noUpstreamToTry
            }
            if isConnected {
                upstreams[slot].pointee.state = .active
            } else {
                schedule(upstream: slot, ms: settings.limits.connectTimeoutMs)
            }
            return slot
        }
        return answer
    }

    /// Puts a connection whose exchange is over among the idle ones.
    func pool(_ slot: Int) {
        let upstream = upstreams[slot]
        let target = Int(upstream.pointee.target)
        releaseUpstreamInput(slot)
        slices.clear(&upstream.pointee.replay, blocks)
        guard pools[target].count < ProxyLimits.poolIdleMax, !isDraining else {
            closeUpstream(slot)
            return
        }
        upstream.pointee.state = .idle
        upstream.pointee.client = -1
        upstream.pointee.poolPrevious = -1
        upstream.pointee.poolNext = pools[target].first
        if pools[target].first >= 0 {
            upstreams[Int(pools[target].first)].pointee.poolPrevious = Int32(slot)
        }
        pools[target].first = Int32(slot)
        pools[target].count += 1
        counters[.upstreamIdle].add()
        schedule(upstream: slot, ms: ProxyLimits.poolIdleMs)
    }

    private func unpool(_ slot: Int) {
        let upstream = upstreams[slot]
        let target = Int(upstream.pointee.target)
        if upstream.pointee.poolPrevious >= 0 {
            upstreams[Int(upstream.pointee.poolPrevious)].pointee.poolNext =
                upstream.pointee.poolNext
        } else {
            pools[target].first = upstream.pointee.poolNext
        }
        if upstream.pointee.poolNext >= 0 {
            upstreams[Int(upstream.pointee.poolNext)].pointee.poolPrevious =
                upstream.pointee.poolPrevious
        }
        pools[target].count -= 1
        counters[.upstreamIdle].subtract()
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
        if upstream.pointee.client >= 0 {
            clients[Int(upstream.pointee.client)].pointee.upstream = -1
        }
        releaseUpstreamInput(slot)
        slices.clear(&upstream.pointee.out, blocks)
        slices.clear(&upstream.pointee.replay, blocks)
        if upstream.pointee.trailers >= 0 { largeHeads.giveBack(upstream.pointee.trailers) }
        timers.cancel(clients.capacity + slot)
        close(upstream.pointee.fd)
        upstream.pointee.client = -1
        upstream.pointee.state = .idle
        upstreams.remove(slot)
    }

    // MARK: Sending

    /// Keeps what `batch` holds for a second try: only a connection that served before may turn out
    /// dead, and only a whole request that may be sent twice is sent again.
    func keepForReplay(_ slot: Int, _ upstream: Int) {
        let wanted: ClientFlags = [.idempotent, .requestRead]
        guard upstreams[upstream].pointee.flags.contains(.reused),
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
            to: upstream.pointee.fd, canSend: canSend, queue: &upstream.pointee.out, blocks, slices)
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
        let outcome = batch.flush(&upstream.pointee.out, to: upstream.pointee.fd, blocks, slices)
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
            if !readiness.isDisjoint(with: news) { closeUpstream(slot) }
            return
        case .connecting:
            guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
            let code = Socket.pendingError(upstream.pointee.fd)
            if code != 0 {
                connectFailed(slot, .upstreamRefused)
                return
            }
            upstream.pointee.state = .active
            awaitAnswer(slot)
            upstream.pointee.flags.insert(.readReady)
            flushUpstream(slot)
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

    /// The connect failed: the next address, else the answer `fault`. Nothing was sent, so any
    /// request may go on.
    private func connectFailed(_ slot: Int, _ fault: GatewayFault) {
        counters.add(.upstreamConnectFailures)
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        let target = Int(upstream.pointee.target)
        let next = connectUpstream(target, addressIndex: Int(upstream.pointee.addressIndex) + 1)
        guard client >= 0 else {
            closeUpstream(slot)
            return
        }
        guard next >= 0 else {
            gatewayAnswer(client, fault)
            return
        }
        moveExchange(client, from: slot, to: next, queue: upstream.pointee.out)
        upstream.pointee.out = SliceQueue()
        closeUpstream(slot)
    }

    private func moveExchange(_ client: Int, from old: Int, to new: Int, queue: SliceQueue) {
        upstreams[old].pointee.client = -1
        upstreams[new].pointee.client = Int32(client)
        clients[client].pointee.upstream = Int32(new)
        upstreams[new].pointee.out = queue
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
        case .connecting:
            counters.add(.timeoutsConnect)
            connectFailed(slot, .upstreamConnectTimeout)
        case .active, .tunnel:
            guard client >= 0 else {
                closeUpstream(slot)
                return
            }
            if upstream.pointee.state == .active,
                !clients[client].pointee.flags.contains(.requestRead)
            {
                // The answer's time counts from the request's end; what ran out is the time in
                // which the upstream took nothing more of the request.
                guard !upstream.pointee.out.isEmpty else { return }
            }
            counters.add(.timeoutsAnswer)
            if upstream.pointee.flags.contains(.answerBegun) || upstream.pointee.state == .tunnel {
                cutOff(client)
            } else {
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
        if upstream.pointee.flags.contains(.answerBegun) {
            counters.add(.upstreamFaults)
            cutOff(client)
            return
        }
        let mayRetry =
            !upstream.pointee.flags.contains(.answered) && !upstream.pointee.replay.isEmpty
        if mayRetry {
            let next = connectUpstream(Int(upstream.pointee.target), addressIndex: 0)
            if next >= 0 {
                counters.add(.upstreamRetries)
                let replay = upstream.pointee.replay
                upstream.pointee.replay = SliceQueue()
                moveExchange(client, from: slot, to: next, queue: replay)
                closeUpstream(slot)
                return
            }
        }
        counters.add(.upstreamFaults)
        gatewayAnswer(client, fault)
    }
}
