import CoreLoop
import HTTP
import Mirror
import TLS

extension ProxyWorker {
    /// The kernel says something of a client's socket.
    func clientEvent(_ slot: Int, _ readiness: Readiness) {
        let client = clients[slot]
        if readiness.contains(.error) {
            closeClient(slot)
            return
        }
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp]) {
            client.pointee.flags.insert(.readReady)
            if !readiness.isDisjoint(with: [.peerClosed, .hangUp]) {
                client.pointee.flags.insert(.peerClosed)
            }
        }
        if readiness.contains(.writable), !client.pointee.out.isEmpty {
            flushClient(slot)
            return
        }
        driveClient(slot)
    }

    /// Does what a client's connection can do now.
    func driveClient(_ slot: Int) {
        switch clients[slot].pointee.state {
        case .securing: secureClient(slot)
        case .head: readHead(slot)
        case .exchange: pumpRequest(slot)
        case .tunnel: pumpTunnel(slot)
        case .finishing: break
        case .lingering: linger(slot)
        }
    }

    /// Reads and serves heads until there is none whole, or an exchange waits for its upstream.
    func readHead(_ slot: Int) {
        let client = clients[slot]
        var reads = 0
        while client.pointee.state == .head {
            // Answers first: a client that does not read them gets no further request served.
            guard client.pointee.out.isEmpty else { return }
            if client.pointee.inEnd > client.pointee.inStart, parseHead(slot) { continue }
            guard client.pointee.state == .head else { return }
            guard client.pointee.flags.contains(.readReady) else {
                waitForHead(slot)
                return
            }
            guard reads < ProxyLimits.headReadsPerTurnMax else {
                goOn(client: slot)
                return
            }
            reads += 1
            guard fillInput(slot) else { return }
        }
    }

    private func waitForHead(_ slot: Int) {
        let client = clients[slot]
        if client.pointee.flags.contains(.ended)
            || (closesIdle && client.pointee.inStart == client.pointee.inEnd
                && !client.pointee.flags.contains(.late))
        {
            closeClient(slot)
            return
        }
        if client.pointee.inStart == client.pointee.inEnd {
            releaseInput(slot)
        } else if !client.pointee.flags.contains(.headTimer) {
            // Counted from the first byte and never moved: a head that trickles in is cut.
            client.pointee.flags.insert(.headTimer)
            schedule(client: slot, ms: settings.limits.headTimeoutMs)
        }
    }

    /// Reads once into the input. False where nothing came: the reason is in the flags, or the
    /// connection is closed.
    func fillInput(_ slot: Int) -> Bool {
        let client = clients[slot]
        guard let space = inputSpace(slot) else { return false }
        let channel = client.pointee.channel
        switch channel.receive(space.baseAddress!, space.count) {
        case .bytes(let count):
            client.pointee.inEnd += UInt32(count)
            counters.add(.bytesIn, UInt64(count))
            // A short read has emptied the socket: the next event says when there is more.
            if channel.isDrained(isShort: count < space.count),
                !client.pointee.flags.contains(.peerClosed)
            {
                client.pointee.flags.remove(.readReady)
            }
            return true
        case .wouldBlock:
            client.pointee.flags.remove(.readReady)
            return client.pointee.state == .head
        case .endOfStream:
            client.pointee.flags.remove(.readReady)
            client.pointee.flags.insert(.ended)
            return client.pointee.state == .head
        case .failed:
            closeClient(slot)
            return false
        }
    }

    /// Room to read into; nil where there is none, the client answered and on its way out.
    private func inputSpace(_ slot: Int) -> UnsafeMutableRawBufferPointer? {
        let client = clients[slot]
        if client.pointee.largeHead >= 0 {
            // Never more than a block at once, so that what lies behind the head fits into one.
            let left = requestHead.limits.headBytesMax - Int(client.pointee.inEnd)
            let start = largeHeads.pointer(client.pointee.largeHead) + Int(client.pointee.inEnd)
            return UnsafeMutableRawBufferPointer(start: start, count: min(left, blockBytes))
        }
        if client.pointee.inSlot == BlockPool.none {
            let block = blocks.take()
            guard block != BlockPool.none else {
                counters.add(.blocksExhausted)
                gatewayAnswer(slot, .noMemory)
                return nil
            }
            client.pointee.inSlot = block
            client.pointee.inStart = 0
            client.pointee.inEnd = 0
        } else if Int(client.pointee.inEnd) == blockBytes, !makeRoom(slot) {
            return nil
        }
        if client.pointee.largeHead >= 0 { return inputSpace(slot) }
        let start = blocks.pointer(client.pointee.inSlot) + Int(client.pointee.inEnd)
        return UnsafeMutableRawBufferPointer(
            start: start, count: blockBytes - Int(client.pointee.inEnd))
    }

    /// Moves an unfinished head to where it can grow: a fresh block, or a larger buffer.
    private func makeRoom(_ slot: Int) -> Bool {
        let client = clients[slot]
        let count = Int(client.pointee.inEnd - client.pointee.inStart)
        let source = blocks.pointer(client.pointee.inSlot) + Int(client.pointee.inStart)
        if client.pointee.inStart > 0 {
            // The bytes before it may be lent or waiting: they stay where they are.
            let block = blocks.take()
            guard block != BlockPool.none else {
                gatewayAnswer(slot, .noMemory)
                return false
            }
            blocks.pointer(block).copyMemory(from: source, byteCount: count)
            blocks.release(client.pointee.inSlot)
            client.pointee.inSlot = block
        } else {
            let buffer = largeHeads.take()
            guard buffer >= 0 else {
                gatewayAnswer(slot, .noMemory)
                return false
            }
            largeHeads.pointer(buffer).copyMemory(from: source, byteCount: count)
            blocks.release(client.pointee.inSlot)
            client.pointee.inSlot = BlockPool.none
            client.pointee.largeHead = buffer
        }
        client.pointee.inStart = 0
        client.pointee.inEnd = UInt32(count)
        return true
    }

    func releaseInput(_ slot: Int) {
        let client = clients[slot]
        if client.pointee.inSlot != BlockPool.none {
            blocks.release(client.pointee.inSlot)
            client.pointee.inSlot = BlockPool.none
        }
        if client.pointee.largeHead >= 0 {
            largeHeads.giveBack(client.pointee.largeHead)
            client.pointee.largeHead = -1
        }
        client.pointee.inStart = 0
        client.pointee.inEnd = 0
        client.pointee.seen = 0
    }

    private func inputBase(_ slot: Int) -> UnsafeMutableRawPointer {
        let client = clients[slot]
        let base =
            client.pointee.largeHead >= 0
            ? largeHeads.pointer(client.pointee.largeHead) : blocks.pointer(client.pointee.inSlot)
        return base + Int(client.pointee.inStart)
    }

    /// Parses the head that has come so far. True where the loop goes on: a request was taken.
    private func parseHead(_ slot: Int) -> Bool {
        let client = clients[slot]
        let count = Int(client.pointee.inEnd - client.pointee.inStart)
        let bytes = UnsafeRawBufferPointer(start: inputBase(slot), count: count)
        let seen = Int(client.pointee.seen)
        let outcome = seen == 0 ? requestHead.parse(bytes) : requestHead.parse(bytes, seen: seen)
        switch outcome {
        case .incomplete:
            client.pointee.seen = UInt32(count)
            return false
        case .invalid(let fault):
            beginExchange(slot)
            if let log { client.pointee.log = log.beginRefused(client.pointee.peer.address) }
            counters.add(.refusals)
            gatewayAnswer(slot, .refused(fault))
            return false
        case .complete(let headBytes):
            client.pointee.seen = 0
            beginExchange(slot)
            serve(slot, UnsafeRawPointer(bytes.baseAddress!), headBytes: headBytes)
            return true
        }
    }

    private func beginExchange(_ slot: Int) {
        let client = clients[slot]
        client.pointee.state = .exchange
        client.pointee.startedNs = readClock().nanoseconds
        client.pointee.flags.remove(.headTimer)
    }

    /// Serves the request whose head is parsed.
    private func serve(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int) {
        let client = clients[slot]
        let head = requestHead
        client.pointee.method = head.method
        if head.versionMinor == 0 { client.pointee.flags.insert(.http10) }
        if !head.keepAlive || isDraining { client.pointee.flags.insert(.closeAfter) }
        if head.wantsUpgrade { client.pointee.flags.insert(.wantsUpgrade) }
        if head.method.isIdempotent { client.pointee.flags.insert(.idempotent) }
        let route = router.route(head, bytes)
        client.pointee.route = UInt16(truncatingIfNeeded: route)
        let isProvider = forwarding.hasProvider(ofRoute: route)
        if let log {
            let address = forwarding.chain.client(head.fields, bytes, client.pointee.peer)
            client.pointee.log = log.begin(head, bytes, route: route, address)
            if isProvider, log.makesEvents, client.pointee.log != AccessLog.none {
                beginEvents(slot, log, bytes, route: route)
            }
        }
        switch head.framing {
        case .length(let length): client.pointee.bodyLeft = length
        case .chunked:
            client.pointee.bodyLeft = 0
            client.pointee.flags.insert(.requestChunked)
        default: client.pointee.bodyLeft = 0
        }
        if client.pointee.bodyLeft == 0, !client.pointee.flags.contains(.requestChunked) {
            client.pointee.flags.insert(.requestRead)
        }
        if isProvider { noteAsk(slot, bytes, route: route) }
        if let fault = objection(head) {
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, fault)
            return
        }
        if redirects, let port = settings.listen[Int(client.pointee.entry)].redirectPort {
            redirect(slot, bytes, headBytes: headBytes, toPort: port)
            return
        }
        if asksKeys, !admit(slot, bytes, headBytes: headBytes) { return }
        if head.maxForwards == 0, head.method == .options || head.method == .trace {
            answerHere(slot, bytes, headBytes: headBytes)
            return
        }
        if isProvider {
            if forwarding.lacksKey(ofRoute: route) {
                consumeHead(slot, headBytes)
                gatewayAnswer(slot, .keyMissing)
                return
            }
            if client.pointee.flags.contains(.held) {
                hold(slot, bytes, headBytes: headBytes)
                return
            }
        }
        forward(slot, bytes, headBytes: headBytes, route: route)
    }

    /// Whether a request brings a key that is known; answered where not.
    @inline(never)
    private func admit(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int) -> Bool {
        let key = forwarding.clientKeys?.find(requestHead.fields, bytes) ?? 0
        guard key > 0 else {
            counters.add(.unauthorized)
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, .unauthorized)
            return false
        }
        let record = clients[slot].pointee.log
        if record != AccessLog.none { log?.setClientKey(record, key) }
        return true
    }

    /// What speaks against passing the request on.
    private func objection(_ head: RequestHead) -> GatewayFault? {
        if head.method == .connect { return .connectRefused }
        if head.method == .trace, !settings.forwarding.allowTrace { return .traceRefused }
        if head.versionMinor == 0, head.framing == .none {
            switch head.method {
            // Without a length there is no telling where an HTTP/1.0 body ends (RFC 1945 §7.2.2).
            case .post, .put, .patch: return .lengthRequired
            default: break
            }
        }
        let limit = settings.limits.bodyBytes
        if limit > 0, case .length(let length) = head.framing, length > UInt64(limit) {
            return .bodyTooLarge
        }
        return nil
    }

    /// Takes the head off the input; what lies behind it stays.
    func consumeHead(_ slot: Int, _ headBytes: Int) {
        let client = clients[slot]
        client.pointee.inStart += UInt32(headBytes)
        guard client.pointee.largeHead >= 0 else { return }
        let count = Int(client.pointee.inEnd - client.pointee.inStart)
        let source = largeHeads.pointer(client.pointee.largeHead) + Int(client.pointee.inStart)
        let block = count > 0 ? blocks.take() : BlockPool.none
        if count > 0, block != BlockPool.none {
            blocks.pointer(block).copyMemory(from: source, byteCount: count)
        }
        largeHeads.giveBack(client.pointee.largeHead)
        client.pointee.largeHead = -1
        client.pointee.inSlot = block
        client.pointee.inStart = 0
        client.pointee.inEnd = block == BlockPool.none ? 0 : UInt32(count)
        if count > 0, block == BlockPool.none {
            // Bytes of the body are lost: the request cannot be served any more.
            counters.add(.blocksExhausted)
            client.pointee.flags.insert(.ended)
            client.pointee.flags.remove(.readReady)
        }
    }

    /// Writes the head for the upstream, sends it with what is there of the body, and shows it to
    /// the mirror.
    private func forward(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int, route: Int) {
        let client = clients[slot]
        guard let headSlices = writeRequestHead(slot, bytes, headBytes: headBytes, route: route)
        else {
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, .noMemory)
            return
        }
        if client.pointee.log != AccessLog.none { noteMade(client.pointee.log) }
        let isIdempotent = client.pointee.flags.contains(.idempotent)
        let target = forwarding.target(ofRoute: route)
        if !table.targets[target].isPlain { beginChoice(target, for: slot, bytes) }
        let upstream = acquireUpstream(target, for: slot, checkFirst: !isIdempotent)
        guard upstream >= 0 else {
            releaseHead(headSlices)
            consumeHead(slot, headBytes)
            keepInput(slot)
            gatewayAnswer(slot, Self.fault(ofMissing: upstream))
            return
        }
        client.pointee.upstream = Int32(upstream)
        upstreams[upstream].pointee.client = Int32(slot)
        for place in 0..<headSlices { batch.add(headParts[place], blocks) }
        let largeHead = client.pointee.largeHead >= 0
        // A mirrored head must outlive the input it is chosen from only until `choose` has run.
        var body = Slice(slot: 0, offset: 0, count: 0)
        var more = 0
        let announced = client.pointee.bodyLeft
        if !largeHead {
            client.pointee.inStart += UInt32(headBytes)
            body = takeBufferedLength(slot)
            if body.count > 0 { batch.add(body, blocks) }
            if client.pointee.bodyLeft > 0, client.pointee.flags.contains(.readReady) {
                // What else has come goes out with the head: one send, which wakes the upstream
                // once.
                more = receiveMore(slot, upstream, at: headSlices)
            }
        }
        // Large bodies are not kept: they would fill the blocks while they wait for an answer.
        if more == 0 { keepForReplay(slot, upstream) }
        let isSent = sendToUpstream(upstream)
        if isSent {
            mirror(
                slot, bytes, route: route, headSlices: headSlices, body: body, announced: announced)
        }
        releaseHead(headSlices)
        if more > 0, !showBody(slot, more, at: headSlices, isSent: isSent) { return }
        if largeHead { consumeHead(slot, headBytes) }
        afterRequestBytes(slot)
        if !client.pointee.flags.contains(.requestRead), client.pointee.state == .exchange {
            client.pointee.progress = 0
            schedule(client: slot, ms: bodyTimeoutMs)
            pumpRequest(slot, reads: more == 0 ? 0 : 1)
        }
    }

    static func fault(ofMissing upstream: Int) -> GatewayFault {
        switch upstream {
        case upstreamRefusedAtOnce: .upstreamRefused
        case upstreamSaturated: .upstreamSaturated
        default: .noUpstream
        }
    }

    /// Writes down the ids that the request did not bring.
    func noteMade(_ record: UInt32) {
        if let trace = forwarding.begunTrace { log?.setTrace(record, trace) }
        guard !requestHead.fields.contains(.xRequestID) else { return }
        withUnsafeTemporaryAllocation(byteCount: UUIDv7.textBytes, alignment: 8) { scratch in
            var writer = HeadWriter(scratch)
            forwarding.appendMadeID(to: &writer)
            log?.setRequestID(record, writer.written)
        }
    }

    /// Writes the forwarded head into blocks, listed in `headParts`. Returns how many; nil where no
    /// block is left.
    private func writeRequestHead(
        _ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int, route: Int
    ) -> Int? {
        var room = headBytes + ProxyLimits.headGrowthMax
        while headBytes <= blockBytes {
            guard takeHeadRoom(room) else { return nil }
            let start = headEnd
            var writer = HeadWriter(
                UnsafeMutableRawBufferPointer(
                    start: blocks.pointer(headBlock) + start, count: blockBytes - start))
            forwarding.writeRequest(
                requestHead, bytes, headBytes: headBytes, route: route,
                peer: clients[slot].pointee.peer, tls: clients[slot].pointee.tls,
                entry: Int(clients[slot].pointee.entry), into: &writer)
            if !writer.overflowed {
                blocks.retain(headBlock)
                headParts[0] = Slice(slot: headBlock, offset: start, count: writer.count)
                // On a cache line of its own.
                headEnd = (start + writer.count + 63) & ~63
                return 1
            }
            if start == 0 { break }
            // It grew by more than heads do: once more, in an empty block.
            room = blockBytes
        }
        return writeLargeHead(slot, bytes, headBytes: headBytes, route: route)
    }

    /// Makes `headBlock` one with room for a head of `byteCount` bytes behind those that somebody
    /// still has (a copy, a retry, a slow upstream): small heads lie together, not in a block each.
    /// Where there is none it is an empty block. False where no block is left.
    private func takeHeadRoom(_ byteCount: Int) -> Bool {
        if headBlock != BlockPool.none {
            if !blocks.isShared(headBlock) { headEnd = 0 }
            if headEnd == 0 || byteCount <= blockBytes - headEnd { return true }
            blocks.release(headBlock)
        }
        headBlock = blocks.take()
        headEnd = 0
        return headBlock != BlockPool.none
    }

    /// Lets go of `headBlock` where nobody has a head in it.
    func releaseHeadBlock() {
        guard headBlock != BlockPool.none, !blocks.isShared(headBlock) else { return }
        blocks.release(headBlock)
        headBlock = BlockPool.none
    }

    private func writeLargeHead(
        _ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int, route: Int
    ) -> Int? {
        writeLarge(spread) {
            forwarding.writeRequest(
                requestHead, bytes, headBytes: headBytes, route: route,
                peer: clients[slot].pointee.peer, tls: clients[slot].pointee.tls,
                entry: Int(clients[slot].pointee.entry), into: &$0)
        }
    }

    /// Lets the mirror choose the request. Where it is to be kept, its capture; else
    /// `MirrorTap.none`. `bodyBytes` is 0 where that is not known yet.
    @inline(__always)
    func beginCapture(
        _ slot: Int, _ bytes: UnsafeRawPointer, route: Int, bodyBytes: UInt64
    ) -> UInt32 {
        let client = clients[slot]
        guard let choice = tap?.choose(route: route, head: requestHead, bytes: bytes) else {
            return MirrorTap.none
        }
        if choice.isEligible { client.pointee.flags.insert(.eligible) }
        guard choice.lanes != 0 else { return MirrorTap.none }
        client.pointee.flags.insert(.mirrored)
        return tap?.open(
            choice.lanes, route: route, bodyBytes: bodyBytes,
            hasBody: requestHead.framing != .none,
            primaryPrefixBytes: forwarding.prefixBytes(ofRoute: route),
            primary: forwarding.copyPrimary(ofRoute: route), log: client.pointee.log,
            pair: log?.pair(client.pointee.log) ?? 0) ?? MirrorTap.none
    }

    /// Lets the mirror choose the request, and lends it the head and the body's first bytes.
    /// `announced` is the length of the whole body, 0 where that is not known.
    private func mirror(
        _ slot: Int, _ bytes: UnsafeRawPointer, route: Int, headSlices: Int, body: Slice,
        announced: UInt64
    ) {
        let client = clients[slot]
        let id = beginCapture(slot, bytes, route: route, bodyBytes: announced)
        guard id != MirrorTap.none else { return }
        for place in 0..<headSlices {
            guard tap?.append(headParts[place], .head, to: id, blocks, slices) == true else {
                return
            }
        }
        if body.count > 0, tap?.append(body, .body, to: id, blocks, slices) != true { return }
        client.pointee.capture = id
    }
}
