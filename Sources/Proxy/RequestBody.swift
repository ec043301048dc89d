import CoreLoop
import HTTP
import Mirror

extension ProxyWorker {
    /// Takes what is there of a body with Content-Length off the input; an empty slice where there
    /// is none. The slice's block stays the input's until `afterRequestBytes`.
    func takeBufferedLength(_ slot: Int) -> Slice {
        let client = clients[slot]
        let there = UInt64(client.pointee.inEnd - client.pointee.inStart)
        guard there > 0, !client.pointee.flags.contains(.requestChunked) else {
            return Slice(slot: 0, offset: 0, count: 0)
        }
        let count = Int(min(there, client.pointee.bodyLeft))
        let slice = Slice(
            slot: client.pointee.inSlot, offset: Int(client.pointee.inStart), count: count)
        client.pointee.inStart += UInt32(count)
        client.pointee.bodyLeft -= UInt64(count)
        client.pointee.bodyRead += UInt64(count)
        client.pointee.progress &+= UInt32(count)
        if client.pointee.bodyLeft == 0 { client.pointee.flags.insert(.requestRead) }
        keepRequest(slot, slice)
        return slice
    }

    /// After bytes of the request were handed on: lets go of an empty input, and ends the request
    /// where it is whole.
    func afterRequestBytes(_ slot: Int) {
        let client = clients[slot]
        guard client.pointee.state == .exchange else { return }
        if client.pointee.inStart == client.pointee.inEnd { releaseInput(slot) }
        guard client.pointee.flags.contains(.requestRead) else { return }
        pause(client: slot)
        let id = client.pointee.capture
        if id != MirrorTap.none, let copies = tap?.finish(id, now: now, blocks, slices) {
            client.pointee.capture = MirrorTap.none
            if copies > 0, tap?.cancelsWithClient == true {
                client.pointee.copiesOut = tap?.copiesOut(id) ?? .none
            }
            if client.pointee.log != AccessLog.none {
                log?.awaitShadows(client.pointee.log, copies)
            }
        }
        let upstream = Int(client.pointee.upstream)
        // While it connects, the connect's own deadline stands: a host that drops every packet
        // would otherwise hold the client for as long as an answer may take.
        if upstream >= 0, upstreams[upstream].pointee.state != .connecting { awaitAnswer(upstream) }
    }

    /// Moves the request's body on: from the socket through blocks to the upstream, as far as both
    /// allow. `reads` have been done in this turn.
    func pumpRequest(_ slot: Int, reads: Int = 0) {
        let client = clients[slot]
        var reads = reads
        while client.pointee.state == .exchange, !client.pointee.flags.contains(.requestRead) {
            let upstream = Int(client.pointee.upstream)
            guard upstream >= 0, !upstreams[upstream].pointee.flags.contains(.writeFailed) else {
                if upstream < 0, client.pointee.flags.contains(.held) { holdMore(slot) }
                return
            }
            guard hasQueueRoom(upstreams[upstream].pointee.out) else {
                // The upstream is slow, not the client: its own time runs now.
                pause(client: slot)
                if upstreams[upstream].pointee.state == .active {
                    timers.scheduleIfUnset(
                        clients.capacity + upstream, at: now.adding(ms: bodyTimeoutMs))
                }
                return
            }
            if client.pointee.inEnd > client.pointee.inStart {
                guard passBuffered(slot, upstream) else { return }
                continue
            }
            guard mayRead(slot, &reads, max: ProxyLimits.relayRoundsPerTurnMax) else { return }
            if client.pointee.flags.contains(.requestChunked) {
                guard fillInput(slot) else {
                    if client.pointee.flags.contains(.ended) { continue }
                    return
                }
            } else {
                guard passDirectly(slot, upstream) else { return }
            }
            noteProgress(slot)
        }
    }

    /// Whether more of a request is read now: something is there, and the turn has not had its
    /// reads, `max` in number. A client that left before the request's end is closed.
    @inline(__always)
    func mayRead(_ slot: Int, _ reads: inout Int, max: Int) -> Bool {
        let client = clients[slot]
        guard client.pointee.flags.contains(.readReady) else {
            if client.pointee.flags.contains(.ended) { closeClient(slot) }
            return false
        }
        guard reads < max else {
            goOn(client: slot)
            return false
        }
        reads += 1
        return true
    }

    /// Moves the deadline of a body that makes progress.
    func noteProgress(_ slot: Int) {
        let client = clients[slot]
        guard client.pointee.state == .exchange,
            client.pointee.progress >= ProxyLimits.progressBytesMin,
            !client.pointee.flags.contains(.requestRead)
        else { return }
        client.pointee.progress = 0
        schedule(client: slot, ms: bodyTimeoutMs)
    }

    /// Passes on what the input holds. False where the exchange is over or changed hands.
    private func passBuffered(_ slot: Int, _ upstream: Int) -> Bool {
        let client = clients[slot]
        if client.pointee.flags.contains(.requestChunked) {
            let before = client.pointee.inStart
            let step = relayChunks(
                &client.pointee.chunks, &client.pointee.trailers, &client.pointee.trailerBytes,
                input: Slice(
                    slot: client.pointee.inSlot, offset: Int(client.pointee.inStart),
                    count: Int(client.pointee.inEnd - client.pointee.inStart)),
                payloadOnly: false, capture: &client.pointee.capture, keeping: .request(slot))
            client.pointee.inStart += UInt32(step.consumed)
            client.pointee.bodyRead += UInt64(step.payload)
            client.pointee.progress &+= client.pointee.inStart - before
            switch step.outcome {
            case .more: break
            case .end: client.pointee.flags.insert(.requestRead)
            case .invalid(let fault):
                batch.removeAll()
                releaseMade(step)
                counters.add(.refusals)
                gatewayAnswer(slot, .refused(fault))
                return false
            case .noMemory:
                batch.removeAll()
                releaseMade(step)
                gatewayAnswer(slot, .noMemory)
                return false
            }
            let limit = settings.limits.bodyBytes
            if limit > 0, client.pointee.bodyRead > UInt64(limit) {
                batch.removeAll()
                releaseMade(step)
                gatewayAnswer(slot, .bodyTooLarge)
                return false
            }
            let isSent = sendToUpstream(upstream)
            releaseMade(step)
            guard isSent, client.pointee.state == .exchange else { return false }
        } else {
            let body = takeBufferedLength(slot)
            batch.add(body, blocks)
            guard sendToUpstream(upstream), client.pointee.state == .exchange else { return false }
            capture(slot, body)
        }
        afterRequestBytes(slot)
        return true
    }

    private func capture(_ slot: Int, _ body: Slice) {
        let client = clients[slot]
        guard client.pointee.capture != MirrorTap.none, let tap else { return }
        if !tap.append(body, .body, to: client.pointee.capture, blocks, slices) {
            client.pointee.capture = MirrorTap.none
        }
    }

    /// Passes a run of a body with Content-Length straight from socket to socket, several blocks at
    /// a time.
    private func passDirectly(_ slot: Int, _ upstream: Int) -> Bool {
        switch receiveBody(slot, atMost: queueRoom(upstreams[upstream].pointee.out)) {
        case .bytes:
            let parts = listBody(from: 0, at: 0)
            let isSent = sendToUpstream(upstream)
            guard showBody(slot, parts, at: 0, isSent: isSent) else { return false }
            afterRequestBytes(slot)
            return true
        case .wouldBlock, .endOfStream: return true
        case .failed:
            closeClient(slot)
            return false
        case .noMemory:
            counters.add(.blocksExhausted)
            goOn(client: slot)
            return false
        }
    }

    /// Reads a run of a body with Content-Length into `batch`, behind what is there.
    private func receiveBody(_ slot: Int, atMost room: UInt64) -> BlockRead {
        let client = clients[slot]
        let step = receiveBlocks(
            client.pointee.channel, limit: min(client.pointee.bodyLeft, room))
        switch step {
        case .bytes(let count, let isFull):
            counters.add(.bytesIn, UInt64(count))
            client.pointee.bodyLeft -= UInt64(count)
            client.pointee.bodyRead += UInt64(count)
            client.pointee.progress &+= UInt32(count)
            if !isFull, !client.pointee.flags.contains(.peerClosed) {
                client.pointee.flags.remove(.readReady)
            }
            if client.pointee.bodyLeft == 0 { client.pointee.flags.insert(.requestRead) }
        case .wouldBlock: client.pointee.flags.remove(.readReady)
        case .endOfStream:
            client.pointee.flags.remove(.readReady)
            client.pointee.flags.insert(.ended)
        case .failed, .noMemory: break
        }
        return step
    }

    /// Lists what lies in `batch` from `first` on in `headParts` from `start` on, as sending
    /// empties the batch. Returns how many.
    private func listBody(from first: Int, at start: Int) -> Int {
        let parts = batch.count - first
        for place in 0..<parts { headParts[start + place] = batch[first + place] }
        return parts
    }

    /// Shows `parts` of `headParts` to the mirror and to the events where they were sent, and lets
    /// go of them. False where the exchange is over.
    @inline(never)
    func showBody(_ slot: Int, _ parts: Int, at start: Int, isSent: Bool) -> Bool {
        let isShown = isSent && clients[slot].pointee.state == .exchange
        for place in start..<start + parts {
            if isShown {
                capture(slot, headParts[place])
                keepRequest(slot, headParts[place])
            }
            blocks.release(headParts[place].slot)
        }
        return isShown
    }

    /// Reads what else has come of a body, into `batch` behind the head and the body's first bytes,
    /// and lists it in `headParts` from `start` on. Returns how many slices. A client that is gone
    /// has ended: `pumpRequest`, which comes next, closes it.
    @inline(never)
    func receiveMore(_ slot: Int, _ upstream: Int, at start: Int) -> Int {
        let first = batch.count
        let room = queueRoom(upstreams[upstream].pointee.out)
        // The batch may have to wait for the upstream, too.
        guard room > UInt64(batch.byteCount) else { return 0 }
        if case .failed = receiveBody(slot, atMost: room - UInt64(batch.byteCount)) {
            clients[slot].pointee.flags.remove(.readReady)
            clients[slot].pointee.flags.insert(.ended)
        }
        return listBody(from: first, at: start)
    }
}
