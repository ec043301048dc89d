import CoreLoop
import HTTP
import Mirror
import Providers

/// Requests that go on only when all of them is there: policies read them, or they are translated.
///
/// Nothing is sent before: no connection to the target is taken up by a client that is slow.
extension ProxyWorker {
    /// Notes down what a request asks of an LLM target.
    func noteAsk(_ slot: Int, _ bytes: UnsafeRawPointer, route: Int) {
        guard let ask = forwarding.ask(requestHead, bytes, route: route) else { return }
        var flags: ClientFlags = []
        if ask.dialect == .anthropic { flags.insert(.speaksMessages) }
        if ask.isInference { flags.insert(.asksModel) }
        if ask.isAnnotated { flags.insert(.annotated) }
        if ask.isTranslated { flags.formUnion([.held, .translated]) }
        if onHeld != nil, ask.isInference || (inspects && carriesText(bytes)) {
            flags.insert(.held)
        }
        clients[slot].pointee.flags.formUnion(flags)
    }

    /// Begins to hold the request whose head is parsed.
    func hold(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int) {
        let client = clients[slot]
        let isRead = client.pointee.flags.contains(.requestRead)
        guard client.pointee.bodyLeft <= UInt64(ProxyLimits.heldBodyBytesMax) else {
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, .bodyTooLarge)
            return
        }
        if readsStrictly, isEncoded(bytes) {
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, .bodyEncoded)
            return
        }
        heldRequests[slot] = HeldRequest(
            head: Array(UnsafeRawBufferPointer(start: bytes, count: headBytes)),
            dialect: client.pointee.flags.contains(.speaksMessages) ? .anthropic : .openAI)
        let waits = requestHead.expectContinue && !isRead
        consumeHead(slot, headBytes)
        // The target could say it only when it has the head, which it gets with the body.
        if waits, client.pointee.inStart == client.pointee.inEnd {
            let word: StaticString = "HTTP/1.1 100 Continue\r\n\r\n"
            let bytes = UnsafeRawBufferPointer(
                start: word.utf8Start, count: word.utf8CodeUnitCount)
            guard sendMade(slot, bytes) else { return }
        }
        client.pointee.progress = 0
        if !isRead { schedule(client: slot, ms: bodyTimeoutMs) }
        holdMore(slot)
    }

    /// Takes what has come of a held request, and sends it on when it is whole.
    func holdMore(_ slot: Int) {
        let client = clients[slot]
        guard let held = heldRequests[slot] else { return }
        var reads = 0
        while client.pointee.state == .exchange, !client.pointee.flags.contains(.requestRead) {
            if client.pointee.inEnd > client.pointee.inStart {
                if let fault = keep(slot, held) {
                    if case .refused = fault { counters.add(.refusals) }
                    gatewayAnswer(slot, fault)
                    return
                }
                continue
            }
            guard mayRead(slot, &reads, max: ProxyLimits.headReadsPerTurnMax) else { return }
            guard fillInput(slot) else {
                if client.pointee.flags.contains(.ended) { continue }
                return
            }
            noteProgress(slot)
        }
        if client.pointee.state == .exchange { sendHeld(slot, held) }
    }

    /// Moves the body's bytes from the input to where the request is held.
    private func keep(_ slot: Int, _ held: HeldRequest) -> GatewayFault? {
        let client = clients[slot]
        let start = Int(client.pointee.inStart)
        let input = UnsafeRawBufferPointer(
            start: blocks.pointer(client.pointee.inSlot) + start,
            count: Int(client.pointee.inEnd) - start)
        var taken = 0
        var isKept = true
        if client.pointee.flags.contains(.requestChunked) {
            steps: while taken < input.count, isKept {
                let before = taken
                switch client.pointee.chunks.next(input, &taken) {
                case .data:
                    let data = UnsafeRawBufferPointer(rebasing: input[before..<taken])
                    isKept = held.append(data, blocks)
                // What a trailer says is for whoever reads chunks; the body goes on with a length.
                case .framing, .cut, .trailer, .needMore: break
                case .end:
                    client.pointee.flags.insert(.requestRead)
                    break steps
                case .invalid(let fault): return .refused(fault)
                }
            }
        } else {
            taken = Int(min(UInt64(input.count), client.pointee.bodyLeft))
            isKept = held.append(UnsafeRawBufferPointer(rebasing: input[..<taken]), blocks)
            client.pointee.bodyLeft -= UInt64(taken)
            if client.pointee.bodyLeft == 0 { client.pointee.flags.insert(.requestRead) }
        }
        client.pointee.inStart += UInt32(taken)
        client.pointee.progress &+= UInt32(taken)
        client.pointee.bodyRead = UInt64(held.byteCount)
        if client.pointee.inStart == client.pointee.inEnd { releaseInput(slot) }
        let limit = settings.limits.bodyBytes
        if held.byteCount > ProxyLimits.heldBodyBytesMax || (limit > 0 && held.byteCount > limit) {
            return .bodyTooLarge
        }
        if !isKept { counters.add(.blocksExhausted) }
        return isKept ? nil : .noMemory
    }

    /// Sends a request that is whole.
    private func sendHeld(_ slot: Int, _ held: HeldRequest) {
        switch onHeld?(slot, held) ?? .pass {
        case .pass: keepRequest(slot, held)
        case .replaced(let body):
            guard held.replace(with: body, blocks) else {
                gatewayAnswer(slot, .noMemory)
                return
            }
            // Without what the policies took out.
            keepRequest(slot, held)
        case .answer(let status, let body):
            keepRequest(slot, held)
            answer(slot, status: status, body)
            return
        }
        let head = held.head
        head.withUnsafeBytes { bytes in
            guard case .complete = requestHead.parse(bytes) else {
                preconditionFailure("the same head was parsed before, within the same limits")
            }
            sendHeld(slot, held, bytes.baseAddress!)
        }
    }

    /// Keeps the body for the request's events.
    private func keepRequest(_ slot: Int, _ held: HeldRequest) {
        guard clients[slot].pointee.kept != ExchangeCaptures.none else { return }
        for slice in held.body { keepRequest(slot, slice) }
    }

    private func sendHeld(_ slot: Int, _ held: HeldRequest, _ bytes: UnsafeRawPointer) {
        let client = clients[slot]
        let route = Int(client.pointee.route)
        var body = held.body
        let isTranslated = client.pointee.flags.contains(.translated)
        if isTranslated {
            switch translate(slot, held) {
            case .success(let made): body = made
            case .failure(let fault):
                refuse(slot, held, fault)
                return
            }
        }
        defer { if isTranslated { for slice in body { blocks.release(slice.slot) } } }
        let lines = forwarding.beginHeldRequest(requestHead, bytes, peer: client.pointee.peer)
        let bodyBytes = body.reduce(0) { $0 + Int($1.count) }
        let written = writeLarge(spread) {
            forwarding.writeHeldRequest(
                requestHead, bytes, route: route, lines, bodyBytes: bodyBytes,
                isTranslated: isTranslated, into: &$0)
        }
        guard let headSlices = written else {
            gatewayAnswer(slot, .noMemory)
            return
        }
        if client.pointee.log != AccessLog.none { noteMade(client.pointee.log) }
        let target = forwarding.target(ofRoute: route)
        if !table.targets[target].isPlain { beginChoice(target, for: slot, bytes) }
        let upstream = acquireUpstream(target, for: slot, checkFirst: true)
        guard upstream >= 0 else {
            releaseHead(headSlices)
            gatewayAnswer(slot, Self.fault(ofMissing: upstream))
            return
        }
        client.pointee.upstream = Int32(upstream)
        upstreams[upstream].pointee.client = Int32(slot)
        for place in 0..<headSlices { batch.add(headParts[place], blocks) }
        send(body, to: upstream, slot)
        mirror(
            slot, held, bytes, route: route, lines, primaryHead: isTranslated ? 0 : headSlices)
        releaseHead(headSlices)
        held.release(blocks)
        afterRequestBytes(slot)
    }

    /// Sends a body behind what the batch holds, in as many writes as it takes.
    private func send(_ body: [Slice], to upstream: Int, _ slot: Int) {
        for slice in body {
            if batch.isFull { _ = sendToUpstream(upstream) }
            batch.add(slice, blocks)
        }
        _ = sendToUpstream(upstream)
    }

    /// Lets the mirror choose a held request, and lends it what the client sent, after policies:
    /// in the client's language, whatever the primary's is. The first `primaryHead` of `headParts`
    /// are the head that the primary got; 0 where that is in another language.
    private func mirror(
        _ slot: Int, _ held: HeldRequest, _ bytes: UnsafeRawPointer, route: Int,
        _ lines: Forwarding.HeldLines, primaryHead: Int
    ) {
        guard let tap else { return }
        let id = beginCapture(slot, bytes, route: route, bodyBytes: UInt64(held.byteCount))
        guard id != MirrorTap.none else { return }
        var parts = [Slice]()
        for place in 0..<primaryHead { parts.append(headParts[place]) }
        if primaryHead == 0 {
            // As it would go to a target of the client's language, and not into `headParts`, where
            // the primary's is until its caller lets go of it.
            let made = writeLarge(makeBlocks) {
                forwarding.writeHeldRequest(
                    requestHead, bytes, route: route, lines, bodyBytes: held.byteCount,
                    isTranslated: false, into: &$0)
            }
            guard let made else {
                tap.abandon(id, .captureLimit, blocks, slices)
                return
            }
            parts = made
        }
        defer { if primaryHead == 0 { for part in parts { blocks.release(part.slot) } } }
        for part in parts {
            guard tap.append(part, .head, to: id, blocks, slices) else { return }
        }
        for slice in held.body {
            guard tap.append(slice, .body, to: id, blocks, slices) else { return }
        }
        clients[slot].pointee.capture = id
    }

    /// The exchange is over: lets go of what was held.
    func releaseHeld(_ slot: Int) {
        guard let held = heldRequests[slot] else { return }
        held.release(blocks)
        translatedBytes -= held.answer?.kept.count ?? 0
        heldRequests[slot] = nil
    }
}
