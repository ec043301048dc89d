import CLinux
import CoreLoop
import HTTP
import Mirror
import Providers
import TLS
import Upstream

extension ProxyWorker {
    /// Reads an upstream's answer and passes it on, as far as both sides allow.
    func readAnswer(_ slot: Int) {
        let upstream = upstreams[slot]
        let generation = upstreams.generation(slot)
        var rounds = 0
        while upstreams.isLive(slot, generation), upstream.pointee.state == .active {
            let client = Int(upstream.pointee.client)
            guard client >= 0 else { return }
            guard hasQueueRoom(clients[client].pointee.out) else {
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
                && upstream.pointee.framing.isPlain
                && upstream.pointee.inEnd == upstream.pointee.inStart
            guard isDirect ? passAnswerDirectly(slot, client) : fillAnswer(slot) else { return }
        }
    }

    /// Reads once into the upstream's input. False where the answer has ended over it.
    private func fillAnswer(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        guard let room = answerSpace(slot) else { return false }
        let memory = room.baseAddress!
        let space = room.count
        let channel = upstream.pointee.channel
        switch channel.receive(memory, space) {
        case .bytes(let count):
            upstream.pointee.inEnd += UInt32(count)
            upstream.pointee.flags.insert(.answered)
            if channel.isDrained(isShort: count < space),
                !upstream.pointee.flags.contains(.peerClosed)
            {
                upstream.pointee.flags.remove(.readReady)
            }
            awaitAnswer(slot)
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

    /// Room to read into; nil where there is none, and what follows is settled.
    private func answerSpace(_ slot: Int) -> UnsafeMutableRawBufferPointer? {
        let upstream = upstreams[slot]
        if upstream.pointee.inSlot == BlockPool.none, upstream.pointee.largeHead < 0 {
            let block = blocks.take()
            guard block != BlockPool.none else {
                counters.add(.blocksExhausted)
                goOn(upstream: slot)
                return nil
            }
            upstream.pointee.inSlot = block
        }
        if upstream.pointee.largeHead < 0, Int(upstream.pointee.inEnd) == blockBytes,
            !makeAnswerRoom(slot)
        {
            return nil
        }
        let end = Int(upstream.pointee.inEnd)
        let isLarge = upstream.pointee.largeHead >= 0
        // Never more than a block at once, so that what lies behind a large head fits into one.
        let space = isLarge ? min(blockBytes, largeHeads.byteCount - end) : blockBytes - end
        return UnsafeMutableRawBufferPointer(start: answerBase(slot) + end, count: space)
    }

    /// Moves an unfinished head to where it can grow: to its block's front, or to a larger buffer.
    private func makeAnswerRoom(_ slot: Int) -> Bool {
        let upstream = upstreams[slot]
        let base = blocks.pointer(upstream.pointee.inSlot)
        let start = Int(upstream.pointee.inStart)
        let count = Int(upstream.pointee.inEnd) - start
        if start > 0 {
            memmove(base, base + start, count)
        } else {
            let buffer = largeHeads.take()
            guard buffer >= 0 else {
                upstreamFailed(slot, .noMemory)
                return false
            }
            largeHeads.pointer(buffer).copyMemory(from: base, byteCount: count)
            blocks.release(upstream.pointee.inSlot)
            upstream.pointee.inSlot = BlockPool.none
            upstream.pointee.largeHead = buffer
        }
        upstream.pointee.inStart = 0
        upstream.pointee.inEnd = UInt32(count)
        return true
    }

    private func answerBase(_ slot: Int) -> UnsafeMutableRawPointer {
        let upstream = upstreams[slot]
        return upstream.pointee.largeHead >= 0
            ? largeHeads.pointer(upstream.pointee.largeHead)
            : blocks.pointer(upstream.pointee.inSlot)
    }

    /// The upstream has sent its last byte.
    private func upstreamEnded(_ slot: Int, isClean: Bool) {
        let upstream = upstreams[slot]
        upstream.pointee.flags.remove(.readReady)
        if isClean, upstream.pointee.flags.contains(.answerBegun),
            upstream.pointee.framing == .untilClose
        {
            if endRechunked(slot) { finishAnswer(slot) }
            return
        }
        if translatedEnded(slot, isClean: isClean) { return }
        upstreamFailed(slot, .upstreamReset)
    }

    // MARK: Heads

    /// Parses the answer's head. True where the loop goes on with what lies behind it.
    private func takeAnswerHead(_ slot: Int, _ client: Int) -> Bool {
        let upstream = upstreams[slot]
        let base = answerBase(slot) + Int(upstream.pointee.inStart)
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
            let flags = clients[client].pointee.flags
            if !flags.isDisjoint(with: [.asksModel, .translated]) {
                if flags.contains(.translated) {
                    return judgeAnswer(slot, client)
                        && beginTranslated(slot, client, base, headBytes)
                }
                if flags.contains(.annotated) {
                    annotationPlace = findAnnotationPlace(
                        slot, client, bytes, headBytes: headBytes)
                    // The head tells the length: it waits until that is known.
                    if annotationPlace == .unknown { return false }
                }
                // A portal or a wrong address answers so; an SDK would take it for an answer.
                if answerHead.status / 100 == 2, hasContentType("text/html", base) {
                    upstreamFailed(slot, .upstreamMalformed)
                    return false
                }
            }
            if !judgeAnswer(slot, client) { return false }
            if answerHead.status == 101 { return beginTunnel(slot, client, base, headBytes) }
            return beginAnswer(slot, client, base, headBytes)
        }
    }

    /// What the answer says of its endpoint. False where the request was sent again instead.
    private func judgeAnswer(_ slot: Int, _ client: Int) -> Bool {
        let upstream = upstreams[slot]
        let target = Int(upstream.pointee.target)
        let endpoint = Int(upstream.pointee.endpoint)
        let failure = EndpointFailure(status: answerHead.status)
        if failure.isEmpty {
            noteSuccess(endpoint, of: target)
        } else {
            noteFailure(endpoint, of: target, failure)
            if tryElsewhere(slot, failure) { return false }
        }
        if clients[client].pointee.flags.contains(.retried) {
            noteRetriedOutcome(client, target, recovered: failure.isEmpty)
        }
        return true
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
        return consumeAnswer(slot, headBytes)
    }

    /// Takes a head off the input. False where what lies behind it has no room.
    func consumeAnswer(_ slot: Int, _ count: Int) -> Bool {
        let upstream = upstreams[slot]
        upstream.pointee.inStart += UInt32(count)
        let rest = Int(upstream.pointee.inEnd - upstream.pointee.inStart)
        if rest == 0 {
            releaseUpstreamInput(slot)
        } else if upstream.pointee.largeHead >= 0 {
            let block = blocks.take()
            guard block != BlockPool.none else {
                upstreamFailed(slot, .noMemory)
                return false
            }
            let source = answerBase(slot) + Int(upstream.pointee.inStart)
            blocks.pointer(block).copyMemory(from: source, byteCount: rest)
            releaseUpstreamInput(slot)
            upstream.pointee.inSlot = block
            upstream.pointee.inEnd = UInt32(rest)
        }
        return true
    }

    /// Writes an answer's head into a block of its own; nil where it does not fit or no block is
    /// left.
    func writeAnswerHead(
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
        form.secureEntry = clients[client].pointee.secureEntry
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
            form.isChunked = !flags.contains(.http10)
            clients[client].pointee.flags.insert(form.isChunked ? .rechunked : .closeAfter)
        }
        if flags.contains(.annotated) { announceAnnotation(slot, client, &form) }
        // An answer before the request's end: what is left of the request is not waited for.
        if !flags.contains(.requestRead) { clients[client].pointee.flags.insert(.closeAfter) }
        form.closes = clients[client].pointee.flags.contains(.closeAfter)
        form.keepsHTTP10 = flags.contains(.http10) && !form.closes
        if answerHead.keepAlive { upstream.pointee.flags.insert(.keepAlive) }
        let isLarge = upstream.pointee.largeHead >= 0
        let head = isLarge ? nil : writeAnswerHead(base, headBytes, form)
        let parts = head == nil ? writeLargeAnswerHead(base, headBytes, form) : nil
        guard head != nil || parts != nil else {
            upstreamFailed(slot, .noMemory)
            return false
        }
        var taken = headBytes
        if flags.contains(.annotated), case .at(let place) = annotationPlace {
            taken = putAnnotation(client, base, headBytes: headBytes, at: place)
        }
        upstream.pointee.flags.insert(.answerBegun)
        slices.clear(&upstream.pointee.replay, blocks)
        clients[client].pointee.flags.insert(.answerBegun)
        clients[client].pointee.status = UInt16(answerHead.status)
        noteAnswer(client, base)
        if let head {
            upstream.pointee.inStart += UInt32(taken)
            let isLive = passAnswerBuffered(slot, client, head: head)
            blocks.release(head.slot)
            return isLive
        }
        for place in 0..<parts! { batch.add(headParts[place], blocks) }
        let isSent = sendToClient(client)
        releaseHead(parts!)
        guard isSent, consumeAnswer(slot, taken) else { return false }
        return passAnswerBuffered(slot, client)
    }

    /// As `writeAnswerHead`, for a head of any size that the limits allow: into several blocks,
    /// listed in `headParts`.
    private func writeLargeAnswerHead(
        _ base: UnsafeMutableRawPointer, _ headBytes: Int, _ form: Forwarding.AnswerForm
    ) -> Int? {
        writeLarge(spread) {
            forwarding.writeAnswer(
                answerHead, UnsafeRawPointer(base), headBytes: headBytes, form, into: &$0)
        }
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
        case .translated: return passTranslated(slot, client)
        case .length, .untilClose:
            let isLength = upstream.pointee.framing == .length
            let count = isLength ? Int(min(UInt64(there), upstream.pointee.bodyLeft)) : there
            let isChunk = count > 0 && clients[client].pointee.flags.contains(.rechunked)
            if isChunk, !addChunkLine(count, &relay) {
                upstreamFailed(slot, .noMemory)
                return false
            }
            keepAnswerInput(slot, client, count)
            if count > 0 { addAnswerBytes(slot, isChunk ? nil : head, count) }
            if isChunk { batch.add(crlf, blocks) }
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
                    capture: &noCapture, keeping: .answer(client))
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
        let room = queueRoom(clients[client].pointee.out)
        let read = receiveBlocks(
            upstream.pointee.channel,
            limit: isLength
                ? min(upstream.pointee.bodyLeft, room) : min(room, ProxyLimits.relayBytesUnknown))
        switch read {
        case .bytes(let count, let isFull):
            if isLength { upstream.pointee.bodyLeft -= UInt64(count) }
            if !isFull, !upstream.pointee.flags.contains(.peerClosed) {
                upstream.pointee.flags.remove(.readReady)
            }
            awaitAnswer(slot)
            clients[client].pointee.answerBytes += UInt64(count)
            let isWhole = isLength && upstream.pointee.bodyLeft == 0
            if isWhole { upstream.pointee.flags.insert(.answerEnded) }
            let parts = batch.count
            for place in 0..<parts { headParts[place] = batch[place] }
            keepAnswerParts(client, parts)
            var relay = ChunkRelay()
            let isFramed = frameDirect(client, count, parts, &relay)
            let isSent = isFramed && sendToClient(client)
            for place in 0..<parts { blocks.release(headParts[place].slot) }
            releaseMade(relay)
            if !isFramed { upstreamFailed(slot, .noMemory) }
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

    // MARK: Chunking

    /// Adds a chunk's size line to the batch, in a block that `relay` lists. False where none is
    /// left.
    private func addChunkLine(_ count: Int, _ relay: inout ChunkRelay) -> Bool {
        relay.made = blocks.take()
        guard relay.made != BlockPool.none else {
            batch.removeAll()
            return false
        }
        var writer = HeadWriter(
            UnsafeMutableRawBufferPointer(start: blocks.pointer(relay.made), count: blockBytes))
        writer.append(hex: UInt64(count))
        writer.append("\r\n")
        batch.add(Slice(slot: relay.made, offset: 0, count: writer.count), blocks)
        return true
    }

    /// Makes a chunk of what was read straight into the batch, where the client gets chunks.
    private func frameDirect(
        _ client: Int, _ count: Int, _ parts: Int, _ relay: inout ChunkRelay
    ) -> Bool {
        guard clients[client].pointee.flags.contains(.rechunked) else { return true }
        batch.removeAll()
        guard addChunkLine(count, &relay) else { return false }
        for place in 0..<parts { batch.add(headParts[place], blocks) }
        batch.add(crlf, blocks)
        return true
    }

    /// Sends the last chunk of an answer that ended with its connection. False where the client is
    /// gone.
    private func endRechunked(_ slot: Int) -> Bool {
        let client = Int(upstreams[slot].pointee.client)
        guard clients[client].pointee.flags.contains(.rechunked) else { return true }
        var relay = ChunkRelay()
        guard addChunkLine(0, &relay) else {
            upstreamFailed(slot, .noMemory)
            return false
        }
        batch.add(crlf, blocks)
        let isSent = sendToClient(client)
        releaseMade(relay)
        return isSent
    }
}
