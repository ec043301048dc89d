import CLinux
import CoreLoop
import HTTP
import Mirror
import TLS

extension ProxyWorker {
    /// Bytes that may be read for a peer while `queue` waits for it. An empty queue always has room
    /// for a block; a longer one for no more than its share of what is free (dynamic thresholds,
    /// Choudhury and Hahne 1998).
    func queueRoom(_ queue: SliceQueue) -> UInt64 {
        let share = blocks.freeCount * blockBytes / ProxyLimits.queuedFreeShare
        let room = min(ProxyLimits.queuedBytesMax, share) - queue.byteCount
        return UInt64(max(room, queue.isEmpty ? blockBytes : 0))
    }

    func hasQueueRoom(_ queue: SliceQueue) -> Bool { queueRoom(queue) > 0 }

    /// What a read into several blocks brought. With `.bytes` the blocks are in `batch`, and their
    /// references the caller's.
    enum BlockRead {
        /// `isFull`: there may be more behind it.
        case bytes(Int, isFull: Bool)
        case wouldBlock, endOfStream, failed, noMemory
    }

    /// Reads at most `limit` bytes into fresh blocks, as many as one gathering read takes.
    func receiveBlocks(_ channel: Channel, limit: UInt64) -> BlockRead {
        let room = UInt64(ProxyLimits.relayBlocks * blockBytes)
        let wanted = Int(min(limit, room))
        var vectors = InlineArray<32, iovec>(repeating: iovec())
        var taken = InlineArray<32, UInt32>(repeating: BlockPool.none)
        var count = 0
        var space = 0
        while space < wanted, count < ProxyLimits.relayBlocks {
            let block = blocks.take()
            if block == BlockPool.none { break }
            let size = min(blockBytes, wanted - space)
            taken[count] = block
            vectors[count] = iovec(iov_base: blocks.pointer(block), iov_len: size)
            space += size
            count += 1
        }
        if count == 0 { return .noMemory }
        let outcome = withUnsafeMutablePointer(to: &vectors) {
            $0.withMemoryRebound(to: iovec.self, capacity: 32) {
                channel.receive(into: $0, count)
            }
        }
        var left = 0
        if case .bytes(let n) = outcome { left = n }
        for place in 0..<count {
            let size = min(left, blockBytes)
            if size > 0 {
                batch.add(Slice(slot: taken[place], offset: 0, count: size), blocks)
            } else {
                blocks.release(taken[place])
            }
            left -= size
        }
        switch outcome {
        case .bytes(let n):
            return .bytes(n, isFull: !channel.isDrained(isShort: n < space))
        case .wouldBlock: return .wouldBlock
        case .endOfStream: return .endOfStream
        case .failed: return .failed
        }
    }

    /// What became of a buffer of chunked bytes.
    struct ChunkRelay {
        enum Outcome {
            case more, end
            case invalid(HeadFault)
            case noMemory
        }
        var outcome = Outcome.more
        var consumed = 0
        var payload = 0
        /// A block made for the trailer section, the caller's to release; `BlockPool.none` for
        /// none.
        var made = BlockPool.none
    }

    func releaseMade(_ relay: ChunkRelay) {
        if relay.made != BlockPool.none { blocks.release(relay.made) }
    }

    /// Whose payload chunked bytes are, where it is kept for events: a client's slot.
    enum Keeping {
        case request(Int), answer(Int)
    }

    /// Goes over chunked bytes and collects in `batch` what is passed on: the bytes as they came
    /// but for extensions and refused trailer fields, or with `payloadOnly` the payload alone.
    /// Payload goes to `capture` too, where there is one, and is kept as `keeping` says.
    func relayChunks(
        _ chunks: inout ChunkedReader, _ trailers: inout Int32, _ trailerBytes: inout UInt32,
        input: Slice,
        payloadOnly: Bool, capture: inout UInt32, keeping: Keeping
    ) -> ChunkRelay {
        var relay = ChunkRelay()
        let base = blocks.pointer(input.slot) + Int(input.offset)
        let bytes = UnsafeRawBufferPointer(start: base, count: Int(input.count))
        var position = 0
        var runStart = 0
        var runEnd = 0
        func flush() {
            if runEnd > runStart {
                batch.add(
                    Slice(
                        slot: input.slot, offset: Int(input.offset) + runStart,
                        count: runEnd - runStart), blocks)
            }
        }
        func pass(_ start: Int, _ end: Int) {
            if start != runEnd {
                flush()
                runStart = start
            }
            runEnd = end
        }
        while position < bytes.count, !batch.isFull {
            let start = position
            switch chunks.next(bytes, &position) {
            case .framing:
                if !payloadOnly { pass(start, position) }
            case .data:
                relay.payload += position - start
                pass(start, position)
                lend(input, start, position, &capture)
                keep(input, start, position, keeping)
            case .cut, .needMore: break
            case .trailer:
                // Without framing there is no place for trailers; kept, they would stay with the
                // connection and end up behind the next client's answer.
                if payloadOnly { break }
                let part = UnsafeRawBufferPointer(rebasing: bytes[start..<position])
                guard keepTrailers(part, &trailers, &trailerBytes) else {
                    relay.outcome = .noMemory
                    return relay
                }
            case .end:
                relay.consumed = position
                relay.outcome = .end
                if payloadOnly {
                    flush()
                } else if trailers < 0, position - start == 2 {
                    pass(start, position)
                    flush()
                } else {
                    flush()
                    writeTrailers(&trailers, &trailerBytes, &relay, &capture)
                }
                return relay
            case .invalid(let fault):
                relay.outcome = .invalid(fault)
                return relay
            }
        }
        flush()
        relay.consumed = position
        return relay
    }

    /// Puts a part of a trailer section behind what came before it; false where no buffer is free.
    private func keepTrailers(
        _ part: UnsafeRawBufferPointer, _ trailers: inout Int32, _ trailerBytes: inout UInt32
    ) -> Bool {
        if trailers < 0 { trailers = largeHeads.take() }
        guard trailers >= 0 else { return false }
        // `ChunkedReader` bounds the section; a buffer holds more than that.
        let buffer = UnsafeMutableRawBufferPointer(
            start: largeHeads.pointer(trailers) + Int(trailerBytes), count: part.count)
        buffer.copyMemory(from: part)
        trailerBytes += UInt32(part.count)
        return true
    }

    private func lend(_ input: Slice, _ start: Int, _ end: Int, _ capture: inout UInt32) {
        guard capture != MirrorTap.none, let tap else { return }
        let slice = Slice(slot: input.slot, offset: Int(input.offset) + start, count: end - start)
        if !tap.append(slice, .body, to: capture, blocks, slices) { capture = MirrorTap.none }
    }

    private func keep(_ input: Slice, _ start: Int, _ end: Int, _ keeping: Keeping) {
        let slice = Slice(slot: input.slot, offset: Int(input.offset) + start, count: end - start)
        switch keeping {
        case .request(let client): keepRequest(client, slice)
        case .answer(let client): keepAnswer(client, slice)
        }
    }

    /// Ends a chunked body: the trailer fields that may pass, and the empty line.
    private func writeTrailers(
        _ trailers: inout Int32, _ trailerBytes: inout UInt32, _ relay: inout ChunkRelay,
        _ capture: inout UInt32
    ) {
        guard trailers >= 0 else {
            batch.add(crlf, blocks)
            return
        }
        defer {
            largeHeads.giveBack(trailers)
            trailers = -1
            trailerBytes = 0
        }
        let section = UnsafeRawBufferPointer(
            start: largeHeads.pointer(trailers), count: Int(trailerBytes))
        switch TrailerParser.parse(section, into: trailerFields, limits: trailerLimits) {
        case .complete: break
        case .incomplete: relay.outcome = .invalid(.badTrailer)
        case .invalid(let fault): relay.outcome = .invalid(fault)
        }
        guard case .end = relay.outcome else { return }
        relay.made = blocks.take()
        guard relay.made != BlockPool.none else {
            relay.outcome = .noMemory
            return
        }
        var writer = HeadWriter(
            UnsafeMutableRawBufferPointer(start: blocks.pointer(relay.made), count: blockBytes))
        forwarding.writeTrailers(trailerFields, section.baseAddress!, into: &writer)
        let fieldBytes = writer.count
        writer.append("\r\n")
        guard !writer.overflowed else {
            relay.outcome = .invalid(.trailersTooLarge)
            return
        }
        batch.add(Slice(slot: relay.made, offset: 0, count: writer.count), blocks)
        if fieldBytes > 0, capture != MirrorTap.none, let tap {
            let slice = Slice(slot: relay.made, offset: 0, count: fieldBytes)
            if !tap.append(slice, .trailer, to: capture, blocks, slices) {
                capture = MirrorTap.none
            }
        }
    }

    // MARK: Tunnels

    /// The upstream switches protocols: from here on bytes pass both ways (RFC 9110 §7.8).
    func beginTunnel(
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

    /// Moves bytes both ways between a client and an upstream after 101.
    func pumpTunnel(_ slot: Int) {
        let client = clients[slot]
        let upstream = Int(client.pointee.upstream)
        guard upstream >= 0 else { return }
        schedule(upstream: upstream, ms: settings.limits.answerTimeoutMs)
        guard tunnelToUpstream(slot, upstream), tunnelToClient(slot, upstream) else {
            closeClient(slot)
            return
        }
        let clientDone =
            client.pointee.flags.contains(.ended) && upstreams[upstream].pointee.out.isEmpty
        let upstreamDone =
            upstreams[upstream].pointee.flags.contains(.answerEnded) && client.pointee.out.isEmpty
        if clientDone, upstreamDone { closeClient(slot) }
    }

    private func tunnelToUpstream(_ slot: Int, _ upstream: Int) -> Bool {
        let client = clients[slot]
        let peer = upstreams[upstream]
        if client.pointee.inEnd > client.pointee.inStart {
            let input = Slice(
                slot: client.pointee.inSlot, offset: Int(client.pointee.inStart),
                count: Int(client.pointee.inEnd - client.pointee.inStart))
            batch.add(input, blocks)
            let outcome = batch.send(
                to: peer.pointee.channel, canSend: true, queue: &peer.pointee.out, blocks, slices)
            releaseInput(slot)
            if outcome == .failed { return false }
        }
        for _ in 0..<ProxyLimits.relayRoundsPerTurnMax {
            guard client.pointee.flags.contains(.readReady),
                hasQueueRoom(peer.pointee.out)
            else { break }
            switch passTunnel(
                client.pointee.channel, peer.pointee.channel, &peer.pointee.out)
            {
            case .bytes(let count, let isFull):
                counters.add(.bytesIn, UInt64(count))
                client.pointee.bodyRead += UInt64(count)
                if !isFull, !client.pointee.flags.contains(.peerClosed) {
                    client.pointee.flags.remove(.readReady)
                }
            case .wouldBlock: client.pointee.flags.remove(.readReady)
            case .endOfStream:
                client.pointee.flags.remove(.readReady)
                client.pointee.flags.insert(.ended)
            case .failed: return false
            case .noMemory: break
            }
        }
        if client.pointee.flags.contains(.readReady),
            hasQueueRoom(peer.pointee.out)
        {
            goOn(client: slot)
        }
        if client.pointee.flags.contains(.ended), peer.pointee.out.isEmpty,
            !peer.pointee.flags.contains(.wroteEnd)
        {
            peer.pointee.flags.insert(.wroteEnd)
            peer.pointee.channel.shutdownWrites()
        }
        return true
    }

    private func tunnelToClient(_ slot: Int, _ upstream: Int) -> Bool {
        let client = clients[slot]
        let peer = upstreams[upstream]
        for _ in 0..<ProxyLimits.relayRoundsPerTurnMax {
            guard peer.pointee.flags.contains(.readReady),
                hasQueueRoom(client.pointee.out)
            else { break }
            switch passTunnel(
                peer.pointee.channel, client.pointee.channel, &client.pointee.out)
            {
            case .bytes(let count, let isFull):
                counters.add(.bytesOut, UInt64(count))
                client.pointee.answerBytes += UInt64(count)
                if !isFull, !peer.pointee.flags.contains(.peerClosed) {
                    peer.pointee.flags.remove(.readReady)
                }
            case .wouldBlock: peer.pointee.flags.remove(.readReady)
            case .endOfStream:
                peer.pointee.flags.remove(.readReady)
                peer.pointee.flags.insert(.answerEnded)
            case .failed: return false
            case .noMemory: break
            }
        }
        if peer.pointee.flags.contains(.readReady),
            hasQueueRoom(client.pointee.out)
        {
            goOn(upstream: upstream)
        }
        if peer.pointee.flags.contains(.answerEnded), client.pointee.out.isEmpty,
            !client.pointee.flags.contains(.wroteEnd)
        {
            client.pointee.flags.insert(.wroteEnd)
            client.pointee.channel.shutdownWrites()
        }
        return true
    }

    /// One read and one send of a tunnel; a failed send counts as a failed read.
    private func passTunnel(
        _ source: Channel, _ destination: Channel, _ queue: inout SliceQueue
    ) -> BlockRead {
        let read = receiveBlocks(
            source, limit: min(queueRoom(queue), ProxyLimits.relayBytesUnknown))
        guard case .bytes = read else { return read }
        let parts = batch.count
        for place in 0..<parts { headParts[place] = batch[place] }
        let outcome = batch.send(to: destination, canSend: true, queue: &queue, blocks, slices)
        for place in 0..<parts { blocks.release(headParts[place].slot) }
        return outcome == .failed ? .failed : read
    }
}
