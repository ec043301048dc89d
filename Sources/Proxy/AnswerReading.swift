import CLinux
import CoreLoop
import HTTP
import Mirror

extension ProxyWorker {
    /// Reads an upstream's answer and passes it on, as far as both sides allow.
    func readAnswer(_ slot: Int) {
        let upstream = upstreams[slot]
        let generation = upstreams.generation(slot)
        var rounds = 0
        while upstreams.isLive(slot, generation), upstream.pointee.state == .active {
            let client = Int(upstream.pointee.client)
            guard client >= 0 else { return }
            guard clients[client].pointee.out.byteCount < ProxyLimits.queuedBytesMax else {
                // The client is slow, not the upstream.
                timers.pause(clients.capacity + slot)
                return
            }
            if upstream.pointee.inEnd > upstream.pointee.inStart {
                let isTaken =
                    upstream.pointee.flags.contains(.answerBegun)
                    ? passAnswerBuffered(slot, client) : takeAnswerHead(slot, client)
                if isTaken { continue }
                guard upstreams.isLive(slot, generation), upstream.pointee.state == .active else {
                    return
                }
            }
            guard upstream.pointee.flags.contains(.readReady) else { return }
            guard rounds < ProxyLimits.relayRoundsPerTurnMax else {
                goOn(upstream: slot)
                return
            }
            rounds += 1
            let isDirect =
                upstream.pointee.flags.contains(.answerBegun)
                && upstream.pointee.framing != .chunked
                && upstream.pointee.inEnd == upstream.pointee.inStart
            guard isDirect ? passAnswerDirectly(slot, client) : fillAnswer(slot) else { return }
        }
    }

    /// Reads once into the upstream's input. False where the answer has ended over it.
    private func fillAnswer(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        if upstream.pointee.inSlot == BlockPool.none {
            let block = blocks.take()
            guard block != BlockPool.none else {
                counters.add(.blocksExhausted)
                goOn(upstream: slot)
                return false
            }
            upstream.pointee.inSlot = block
        } else if Int(upstream.pointee.inEnd) == blockBytes {
            // A head that fills a block is larger than `answerHead` takes: refused there. What
            // stands here is a part of one behind interim answers: it moves to the front.
            let count = Int(upstream.pointee.inEnd - upstream.pointee.inStart)
            let base = blocks.pointer(upstream.pointee.inSlot)
            memmove(base, base + Int(upstream.pointee.inStart), count)
            upstream.pointee.inStart = 0
            upstream.pointee.inEnd = UInt32(count)
        }
        let space = blockBytes - Int(upstream.pointee.inEnd)
        guard space > 0 else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        let memory = blocks.pointer(upstream.pointee.inSlot) + Int(upstream.pointee.inEnd)
        switch Socket.receive(upstream.pointee.fd, memory, space) {
        case .bytes(let count):
            upstream.pointee.inEnd += UInt32(count)
            upstream.pointee.flags.insert(.answered)
            if count < space, !upstream.pointee.flags.contains(.peerClosed) {
                upstream.pointee.flags.remove(.readReady)
            }
            schedule(upstream: slot, ms: settings.limits.answerTimeoutMs)
            return true
        case .wouldBlock:
            upstream.pointee.flags.remove(.readReady)
            if upstream.pointee.inStart == upstream.pointee.inEnd { releaseUpstreamInput(slot) }
            return false
        case .endOfStream:
            upstreamEnded(slot, isClean: true)
            return false
        case .failed:
            upstreamEnded(slot, isClean: false)
            return false
        }
    }

    /// The upstream has sent its last byte.
    private func upstreamEnded(_ slot: Int, isClean: Bool) {
        let upstream = upstreams[slot]
        upstream.pointee.flags.remove(.readReady)
        if isClean, upstream.pointee.flags.contains(.answerBegun),
            upstream.pointee.framing == .untilClose
        {
            finishAnswer(slot)
            return
        }
        upstreamFailed(slot, .upstreamReset)
    }

    // MARK: Heads

    /// Parses the answer's head. True where the loop goes on with what lies behind it.
    private func takeAnswerHead(_ slot: Int, _ client: Int) -> Bool {
        let upstream = upstreams[slot]
        let base = blocks.pointer(upstream.pointee.inSlot) + Int(upstream.pointee.inStart)
        let count = Int(upstream.pointee.inEnd - upstream.pointee.inStart)
        let bytes = UnsafeRawBufferPointer(start: base, count: count)
        let isToHead = clients[client].pointee.method == .head
        let seen = Int(upstream.pointee.seen)
        let outcome =
            seen == 0
            ? answerHead.parse(bytes, toHead: isToHead)
            : answerHead.parse(bytes, toHead: isToHead, seen: seen)
        switch outcome {
        case .incomplete:
            upstream.pointee.seen = UInt32(count)
            return false
        case .invalid:
            upstreamFailed(slot, .upstreamMalformed)
            return false
        case .complete(let headBytes):
            upstream.pointee.seen = 0
            if answerHead.isInterim { return passInterim(slot, client, base, headBytes) }
            if answerHead.status == 101 { return beginTunnel(slot, client, base, headBytes) }
            return beginAnswer(slot, client, base, headBytes)
        }
    }

    /// Passes a 1xx on to a client that knows them (RFC 9110 §15.2).
    private func passInterim(
        _ slot: Int, _ client: Int, _ base: UnsafeMutableRawPointer, _ headBytes: Int
    ) -> Bool {
        let upstream = upstreams[slot]
        upstream.pointee.interimAnswers += 1
        guard upstream.pointee.interimAnswers <= ProxyLimits.interimAnswersMax else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        counters.add(.interimAnswers)
        if !clients[client].pointee.flags.contains(.http10) {
            let form = Forwarding.AnswerForm(isInterim: true)
            guard let head = writeAnswerHead(base, headBytes, form) else {
                upstreamFailed(slot, .upstreamMalformed)
                return false
            }
            batch.add(head, blocks)
            let isSent = sendToClient(client)
            blocks.release(head.slot)
            guard isSent else { return false }
        }
        consumeAnswer(slot, headBytes)
        return true
    }

    private func consumeAnswer(_ slot: Int, _ count: Int) {
        let upstream = upstreams[slot]
        upstream.pointee.inStart += UInt32(count)
        if upstream.pointee.inStart == upstream.pointee.inEnd { releaseUpstreamInput(slot) }
    }

    /// Writes an answer's head into a block of its own; nil where it does not fit or no block is
    /// left.
    private func writeAnswerHead(
        _ base: UnsafeMutableRawPointer, _ headBytes: Int, _ form: Forwarding.AnswerForm
    ) -> Slice? {
        let block = blocks.take()
        guard block != BlockPool.none else { return nil }
        var writer = HeadWriter(
            UnsafeMutableRawBufferPointer(start: blocks.pointer(block), count: blockBytes))
        forwarding.writeAnswer(
            answerHead, UnsafeRawPointer(base), headBytes: headBytes, form, into: &writer)
        if writer.overflowed {
            blocks.release(block)
            return nil
        }
        return Slice(slot: block, offset: 0, count: writer.count)
    }

    /// Passes a final answer's head on, together with what is there of its body.
    private func beginAnswer(
        _ slot: Int, _ client: Int, _ base: UnsafeMutableRawPointer, _ headBytes: Int
    ) -> Bool {
        let upstream = upstreams[slot]
        let flags = clients[client].pointee.flags
        var form = Forwarding.AnswerForm()
        form.wallMs = wallMs
        upstream.pointee.bodyLeft = 0
        switch answerHead.framing {
        case .none: upstream.pointee.framing = .none
        case .length(let length):
            upstream.pointee.framing = .length
            upstream.pointee.bodyLeft = length
        case .chunked:
            upstream.pointee.framing = .chunked
            form.isChunked = !flags.contains(.http10)
            // HTTP/1.0 has no chunked coding: the body goes out bare, and the close ends it.
            if flags.contains(.http10) {
                clients[client].pointee.flags.formUnion([.unchunked, .closeAfter])
            }
        case .untilClose:
            upstream.pointee.framing = .untilClose
            clients[client].pointee.flags.insert(.closeAfter)
        }
        // An answer before the request's end: what is left of the request is not waited for.
        if !flags.contains(.requestRead) { clients[client].pointee.flags.insert(.closeAfter) }
        form.closes = clients[client].pointee.flags.contains(.closeAfter)
        form.keepsHTTP10 = flags.contains(.http10) && !form.closes
        if answerHead.keepAlive { upstream.pointee.flags.insert(.keepAlive) }
        guard let head = writeAnswerHead(base, headBytes, form) else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        upstream.pointee.flags.insert(.answerBegun)
        slices.clear(&upstream.pointee.replay, blocks)
        clients[client].pointee.flags.insert(.answerBegun)
        clients[client].pointee.status = UInt16(answerHead.status)
        upstream.pointee.inStart += UInt32(headBytes)
        let isLive = passAnswerBuffered(slot, client, head: head)
        blocks.release(head.slot)
        return isLive
    }

    // MARK: Bodies

    /// Passes on what the input holds of the body, behind `head` where there is one. Ends the
    /// answer where it is whole. True where the loop goes on.
    private func passAnswerBuffered(_ slot: Int, _ client: Int, head: Slice? = nil) -> Bool {
        let upstream = upstreams[slot]
        let headBytes = Int(head?.count ?? 0)
        var relay = ChunkRelay()
        var isWhole = false
        if let head { batch.add(head, blocks) }
        let there = Int(upstream.pointee.inEnd - upstream.pointee.inStart)
        switch upstream.pointee.framing {
        case .none: isWhole = true
        case .length, .untilClose:
            let isLength = upstream.pointee.framing == .length
            let count = isLength ? Int(min(UInt64(there), upstream.pointee.bodyLeft)) : there
            if count > 0 { addAnswerBytes(slot, head, count) }
            if isLength {
                upstream.pointee.bodyLeft -= UInt64(count)
                isWhole = upstream.pointee.bodyLeft == 0
            }
            upstream.pointee.inStart += UInt32(count)
        case .chunked:
            if there > 0 {
                var noCapture = MirrorTap.none
                relay = relayChunks(
                    &upstream.pointee.chunks, &upstream.pointee.trailers,
                    &upstream.pointee.trailerBytes,
                    input: Slice(
                        slot: upstream.pointee.inSlot, offset: Int(upstream.pointee.inStart),
                        count: there),
                    payloadOnly: clients[client].pointee.flags.contains(.unchunked),
                    capture: &noCapture)
                upstream.pointee.inStart += UInt32(relay.consumed)
            }
            switch relay.outcome {
            case .more: break
            case .end: isWhole = true
            case .invalid, .noMemory:
                // What was valid goes out, then the cut shows that the rest is missing.
                if sendToClient(client) { upstreamFailed(slot, .upstreamMalformed) }
                releaseMade(relay)
                return false
            }
        }
        clients[client].pointee.answerBytes += UInt64(max(0, batch.byteCount - headBytes))
        if isWhole { upstream.pointee.flags.insert(.answerEnded) }
        let isSent = sendToClient(client)
        releaseMade(relay)
        guard isSent else { return false }
        if upstream.pointee.inStart == upstream.pointee.inEnd { releaseUpstreamInput(slot) }
        if isWhole {
            finishAnswer(slot)
            return false
        }
        return true
    }

    /// Adds body bytes of the input to the batch. Few of them are copied behind the head: one plain
    /// send is cheaper than a gathering one.
    private func addAnswerBytes(_ slot: Int, _ head: Slice?, _ count: Int) {
        let upstream = upstreams[slot]
        let start = Int(upstream.pointee.inStart)
        if let head, count <= ProxyLimits.copiedBodyMax, Int(head.count) + count <= blockBytes {
            let source = blocks.pointer(upstream.pointee.inSlot) + start
            (blocks.pointer(head.slot) + Int(head.count)).copyMemory(from: source, byteCount: count)
            batch.removeAll()
            batch.add(Slice(slot: head.slot, offset: 0, count: Int(head.count) + count), blocks)
            return
        }
        batch.add(Slice(slot: upstream.pointee.inSlot, offset: start, count: count), blocks)
    }

    /// Passes a run of a body straight from socket to socket. True where the loop goes on.
    private func passAnswerDirectly(_ slot: Int, _ client: Int) -> Bool {
        let upstream = upstreams[slot]
        let isLength = upstream.pointee.framing == .length
        let read = receiveBlocks(
            upstream.pointee.fd, limit: isLength ? upstream.pointee.bodyLeft : .max)
        switch read {
        case .bytes(let count, let isFull):
            if isLength { upstream.pointee.bodyLeft -= UInt64(count) }
            if !isFull, !upstream.pointee.flags.contains(.peerClosed) {
                upstream.pointee.flags.remove(.readReady)
            }
            schedule(upstream: slot, ms: settings.limits.answerTimeoutMs)
            clients[client].pointee.answerBytes += UInt64(count)
            let isWhole = isLength && upstream.pointee.bodyLeft == 0
            if isWhole { upstream.pointee.flags.insert(.answerEnded) }
            let parts = batch.count
            for place in 0..<parts { headParts[place] = batch[place] }
            let isSent = sendToClient(client)
            for place in 0..<parts { blocks.release(headParts[place].slot) }
            guard isSent else { return false }
            if isWhole {
                finishAnswer(slot)
                return false
            }
            return true
        case .wouldBlock:
            upstream.pointee.flags.remove(.readReady)
            return false
        case .endOfStream:
            upstreamEnded(slot, isClean: true)
            return false
        case .failed:
            upstreamEnded(slot, isClean: false)
            return false
        case .noMemory:
            counters.add(.blocksExhausted)
            goOn(upstream: slot)
            return false
        }
    }

    // MARK: Upgrade

    /// The upstream switches protocols: from here on bytes pass both ways (RFC 9110 §7.8).
    private func beginTunnel(
        _ slot: Int, _ client: Int, _ base: UnsafeMutableRawPointer, _ headBytes: Int
    ) -> Bool {
        let upstream = upstreams[slot]
        guard answerHead.isUpgrade,
            clients[client].pointee.flags.isSuperset(of: [.wantsUpgrade, .requestRead])
        else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        guard let head = writeAnswerHead(base, headBytes, Forwarding.AnswerForm(isUpgrade: true))
        else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        counters.add(.tunnelsOpened)
        counters[.tunnelsOpen].add()
        clients[client].pointee.status = 101
        clients[client].pointee.flags.formUnion([.answerBegun, .closeAfter])
        upstream.pointee.flags.insert(.answerBegun)
        clients[client].pointee.state = .tunnel
        upstream.pointee.state = .tunnel
        upstream.pointee.inStart += UInt32(headBytes)
        batch.add(head, blocks)
        let rest = upstream.pointee.inEnd - upstream.pointee.inStart
        if rest > 0 {
            batch.add(
                Slice(
                    slot: upstream.pointee.inSlot, offset: Int(upstream.pointee.inStart),
                    count: Int(rest)), blocks)
        }
        let isSent = sendToClient(client)
        blocks.release(head.slot)
        guard isSent else { return false }
        releaseUpstreamInput(slot)
        clients[client].pointee.flags.insert(.readReady)
        pumpTunnel(client)
        return false
    }
}
