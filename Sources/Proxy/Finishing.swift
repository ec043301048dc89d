import CLinux
import CoreLoop
import HTTP
import Mirror
import TLS

extension ProxyWorker {
    /// Sends what `batch` holds to a client. False where the connection is closed over it.
    func sendToClient(_ slot: Int) -> Bool {
        let client = clients[slot]
        counters.add(.bytesOut, UInt64(batch.byteCount))
        switch batch.send(
            to: client.pointee.channel, canSend: true, queue: &client.pointee.out, blocks, slices)
        {
        case .sent: return true
        case .queued:
            if !client.pointee.flags.contains(.writeTimer) {
                client.pointee.flags.insert(.writeTimer)
                client.pointee.progress = 0
                schedule(client: slot, ms: bodyTimeoutMs)
            }
            return true
        case .failed:
            closeClient(slot)
            return false
        }
    }

    /// The client reads on: sends what waits, then lets go on whatever stood still for it.
    func flushClient(_ slot: Int) {
        let client = clients[slot]
        let before = client.pointee.out.byteCount
        let outcome = batch.flush(&client.pointee.out, to: client.pointee.channel, blocks, slices)
        let sent = before - client.pointee.out.byteCount
        switch outcome {
        case .failed:
            closeClient(slot)
            return
        case .queued:
            client.pointee.progress &+= UInt32(sent)
            if client.pointee.progress >= ProxyLimits.progressBytesMin {
                client.pointee.progress = 0
                schedule(client: slot, ms: bodyTimeoutMs)
            }
        case .sent:
            client.pointee.flags.remove(.writeTimer)
            afterFlush(slot)
            if client.pointee.state == .lingering || client.pointee.fd < 0 { return }
        }
        if hasQueueRoom(client.pointee.out), client.pointee.upstream >= 0 {
            let upstream = Int(client.pointee.upstream)
            // Its time stood still while the client was slow, and it may have nothing more to say.
            if upstreams[upstream].pointee.state == .active { awaitAnswer(upstream) }
            driveUpstream(upstream)
        }
        if client.pointee.fd >= 0, client.pointee.state != .finishing { driveClient(slot) }
    }

    private func afterFlush(_ slot: Int) {
        let client = clients[slot]
        switch client.pointee.state {
        case .finishing: closeAfterAnswer(slot)
        case .head: schedule(client: slot, ms: settings.limits.idleTimeoutMs)
        case .exchange:
            if client.pointee.flags.contains(.requestRead) {
                pause(client: slot)
            } else {
                schedule(client: slot, ms: bodyTimeoutMs)
            }
        case .tunnel: pause(client: slot)
        case .securing, .lingering: break
        }
    }

    // MARK: The exchange's end

    /// The upstream's answer is whole and handed on: counts, keeps or closes the upstream, and goes
    /// on with the client.
    func finishAnswer(_ slot: Int) {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        let isReusable =
            upstream.pointee.flags.contains(.keepAlive)
            && upstream.pointee.flags.isDisjoint(with: [.peerClosed, .writeFailed])
            && upstream.pointee.inStart == upstream.pointee.inEnd && upstream.pointee.out.isEmpty
            && upstream.pointee.framing != .untilClose
            && clients[client].pointee.flags.contains(.requestRead)
            && !hasSurplus(slot)
        clients[client].pointee.upstream = -1
        upstream.pointee.client = -1
        if isReusable { pool(slot) } else { closeUpstream(slot) }
        finishExchange(client)
    }

    /// Whether bytes lie behind the answer, or the peer's end. A read that took exactly what was
    /// due left them in the socket, and no event will tell of them: they would pass for the next
    /// answer.
    private func hasSurplus(_ upstream: Int) -> Bool {
        upstreams[upstream].pointee.flags.contains(.readReady)
            && upstreams[upstream].pointee.channel.isStale
    }

    /// Counts and logs the exchange, then closes the connection or gets it ready for the next
    /// request.
    func finishExchange(_ slot: Int) {
        let client = clients[slot]
        recordExchange(slot, isWhole: true)
        guard client.pointee.flags.isDisjoint(with: [.closeAfter]),
            client.pointee.flags.contains(.requestRead)
        else {
            beginFinishing(slot)
            return
        }
        let kept = client.pointee.flags.intersection([
            .readReady, .ended, .peerClosed, .queuedAgain, .writeTimer,
        ])
        client.pointee.flags = kept
        client.pointee.state = .head
        client.pointee.status = 0
        client.pointee.chunks = ChunkedReader()
        client.pointee.bodyRead = 0
        client.pointee.answerBytes = 0
        client.pointee.log = AccessLog.none
        client.pointee.copiesOut = .none
        if !kept.contains(.writeTimer) { schedule(client: slot, ms: settings.limits.idleTimeoutMs) }
        // The next request may be in the buffer or the socket already: no event will say so.
        if client.pointee.inEnd > client.pointee.inStart
            || !kept.isDisjoint(with: [.readReady, .ended]) || closesIdle
        {
            goOn(client: slot)
        }
    }

    /// Writes down what became of the exchange.
    private func recordExchange(_ slot: Int, isWhole: Bool) {
        let client = clients[slot]
        let latencyNs = readClock().nanoseconds(
            since: Instant(nanoseconds: client.pointee.startedNs))
        counters.add(.requests)
        if client.pointee.kept != ExchangeCaptures.none { endKept(slot, isWhole: isWhole) }
        if client.pointee.flags.contains(.held) { releaseHeld(slot) }
        if client.pointee.capture != MirrorTap.none, let tap {
            // The request never became whole, or the upstream answered before it did.
            tap.abandon(client.pointee.capture, .clientAborted, blocks, slices)
            client.pointee.capture = MirrorTap.none
        }
        if isWhole {
            switch client.pointee.status {
            case 200..<300: counters.add(.answers2xx)
            case 300..<400: counters.add(.answers3xx)
            case 400..<500: counters.add(.answers4xx)
            case 500...: counters.add(.answers5xx)
            default: counters.add(.answers1xx)
            }
            if client.pointee.flags.contains(.mirrored) {
                board.mirrored.record(latencyNs)
            } else if client.pointee.flags.contains(.eligible) {
                board.unmirrored.record(latencyNs)
            } else {
                board.ineligible.record(latencyNs)
            }
        } else {
            counters.add(.unanswered)
        }
        if client.pointee.log != AccessLog.none, let log {
            log.finish(
                client.pointee.log, status: Int(client.pointee.status), latencyNs: latencyNs,
                requestBytes: client.pointee.bodyRead, answerBytes: client.pointee.answerBytes,
                isWhole: isWhole)
            client.pointee.log = AccessLog.none
        }
    }

    /// Answers in the gateway's own name. The connection closes behind it unless the whole request
    /// was read.
    func gatewayAnswer(_ slot: Int, _ fault: GatewayFault) {
        let client = clients[slot]
        if client.pointee.flags.contains(.retried) {
            noteRetriedOutcome(
                slot, forwarding.target(ofRoute: Int(client.pointee.route)), recovered: false)
        }
        detachUpstream(slot)
        if client.pointee.state == .head {
            // No exchange has begun: a head that came too late, or no block to read it into.
            client.pointee.state = .exchange
            client.pointee.startedNs = readClock().nanoseconds
            if let log { client.pointee.log = log.beginRefused(client.pointee.peer.address) }
        }
        guard !client.pointee.flags.contains(.answerBegun) else {
            cutOff(slot)
            return
        }
        var closes =
            !client.pointee.flags.contains(.requestRead)
            || client.pointee.flags.contains(.closeAfter)
        // What follows a CONNECT is not HTTP, whatever it looks like.
        switch fault {
        case .refused, .connectRefused: closes = true
        default: break
        }
        if closes { client.pointee.flags.insert(.closeAfter) }
        counters.add(.gatewayAnswers)
        client.pointee.status = UInt16(fault.status)
        client.pointee.flags.insert(.answerBegun)
        let isHead = client.pointee.method == .head
        noteUnread(slot, fault)
        nameRequest(slot)
        let isSent = withUnsafeTemporaryAllocation(byteCount: GatewayAnswer.bytesMax, alignment: 16)
        { scratch in
            var writer = HeadWriter(scratch)
            let count = GatewayAnswer.write(
                fault, isHead: isHead, closes: closes, secureEntry: client.pointee.secureEntry,
                speaksMessages: client.pointee.flags.contains(.speaksMessages), wallMs: wallMs,
                forwarding, &writer
            ) { writeRequestID(slot, &$0) }
            client.pointee.answerBytes = UInt64(count)
            return sendMade(slot, writer.written)
        }
        if isSent { finishExchange(slot) }
    }

    /// Sends an answer made here: at once, or through a block where the socket is full. False where
    /// the connection closed.
    func sendMade(_ slot: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let client = clients[slot]
        var sent = 0
        if client.pointee.out.isEmpty,
            case .bytes(let count) = client.pointee.channel.send(bytes.baseAddress!, bytes.count)
        {
            counters.add(.bytesOut, UInt64(count))
            if count == bytes.count { return true }
            sent = count
        }
        let block = blocks.take()
        guard block != BlockPool.none else {
            closeClient(slot)
            return false
        }
        blocks.pointer(block).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        batch.add(Slice(slot: block, offset: sent, count: bytes.count - sent), blocks)
        defer { blocks.release(block) }
        return sendToClient(slot)
    }

    /// OPTIONS or TRACE with Max-Forwards: 0 ends here (RFC 9110 §7.6.2).
    func answerHere(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int) {
        let client = clients[slot]
        let isTrace = client.pointee.method == .trace
        let closes =
            client.pointee.flags.contains(.closeAfter)
            || !client.pointee.flags.contains(.requestRead)
        if closes { client.pointee.flags.insert(.closeAfter) }
        client.pointee.status = 200
        client.pointee.flags.insert(.answerBegun)
        counters.add(.gatewayAnswers)
        let isSent = withUnsafeTemporaryAllocation(byteCount: 512 + headBytes, alignment: 16) {
            scratch in
            var writer = HeadWriter(scratch)
            writer.append("HTTP/1.1 200 OK\r\n")
            forwarding.writeDate(wallMs, &writer)
            forwarding.writePolicy(secureEntry: client.pointee.secureEntry, &writer)
            writer.append(
                isTrace
                    ? "Content-Type: message/http\r\n"
                    : "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
            writer.append("Content-Length: ")
            writer.append(decimal: isTrace ? UInt64(traceBytes(bytes, headBytes, nil)) : 0)
            writer.append(closes ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n")
            if isTrace { _ = traceBytes(bytes, headBytes, &writer) }
            consumeHead(slot, headBytes)
            return sendMade(slot, writer.written)
        }
        if isSent {
            afterRequestBytes(slot)
            finishExchange(slot)
        }
    }

    /// Writes the head back for TRACE, without the fields that carry secrets (RFC 9110 §9.3.8).
    /// Returns its length.
    private func traceBytes(
        _ bytes: UnsafeRawPointer, _ headBytes: Int, _ writer: UnsafeMutablePointer<HeadWriter>?
    ) -> Int {
        var count = 0
        func write(_ start: Int, _ end: Int) {
            count += end - start
            writer?.pointee.append(UnsafeRawBufferPointer(start: bytes + start, count: end - start))
        }
        let fields = requestHead.fields.count
        write(0, fields > 0 ? requestHead.fields[0].line.start : headBytes - 2)
        for index in 0..<fields {
            let field = requestHead.fields[index]
            switch field.known {
            case .authorization, .cookie, .proxyAuthorization: continue
            default: write(field.line.start, field.line.end)
            }
        }
        write(headBytes - 2, headBytes)
        return count
    }

    // MARK: Closing

    private func detachUpstream(_ slot: Int) {
        let upstream = Int(clients[slot].pointee.upstream)
        if upstream >= 0 { closeUpstream(upstream) }
        clients[slot].pointee.upstream = -1
    }

    /// Ends an answer that cannot be completed so that the client sees it: with a reset, never with
    /// a clean end.
    func cutOff(_ slot: Int) {
        Socket.setResetOnClose(clients[slot].pointee.fd)
        clients[slot].pointee.flags.insert(.cut)
        closeClient(slot)
    }

    private func beginFinishing(_ slot: Int) {
        let client = clients[slot]
        client.pointee.state = .finishing
        if client.pointee.out.isEmpty { closeAfterAnswer(slot) }
    }

    /// The last answer is with the kernel. Where the client may still be sending, its bytes are
    /// thrown away for a while: closing on unread bytes resets the connection, and a reset may
    /// overtake the answer (RFC 9112 §9.6).
    private func closeAfterAnswer(_ slot: Int) {
        let client = clients[slot]
        let isQuiet =
            client.pointee.flags.contains(.requestRead)
            && client.pointee.inStart == client.pointee.inEnd
            && !client.pointee.flags.contains(.readReady)
        if isQuiet || client.pointee.flags.contains(.ended) {
            closeClient(slot)
            return
        }
        releaseInput(slot)
        client.pointee.channel.shutdownWrites()
        client.pointee.state = .lingering
        client.pointee.lingerBytes = 0
        schedule(client: slot, ms: ProxyLimits.lingerMs)
        goOn(client: slot)
    }

    /// Reads and throws away, within bounds, until the peer closes.
    func linger(_ slot: Int) {
        let client = clients[slot]
        let isOver = withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 16) { scratch in
            while true {
                switch Socket.receive(client.pointee.fd, scratch.baseAddress!, scratch.count) {
                case .bytes(let count):
                    client.pointee.lingerBytes += UInt32(count)
                    if client.pointee.lingerBytes > ProxyLimits.lingerBytesMax { return true }
                case .wouldBlock: return false
                case .endOfStream, .failed: return true
                }
            }
        }
        if isOver { closeClient(slot) }
    }

    func clientTimedOut(_ slot: Int) {
        let client = clients[slot]
        switch client.pointee.state {
        case .head:
            if !client.pointee.out.isEmpty {
                counters.add(.timeoutsWrite)
                cutOff(slot)
            } else if client.pointee.inEnd > client.pointee.inStart {
                counters.add(.timeoutsHead)
                gatewayAnswer(slot, .headTimeout)
            } else {
                counters.add(.timeoutsIdle)
                closeClient(slot)
            }
        case .exchange:
            if client.pointee.flags.contains(.writeTimer), !client.pointee.out.isEmpty {
                counters.add(.timeoutsWrite)
                cutOff(slot)
            } else if !client.pointee.flags.contains(.requestRead) {
                counters.add(.timeoutsBody)
                gatewayAnswer(slot, .bodyTimeout)
            }
        case .finishing, .tunnel:
            counters.add(.timeoutsWrite)
            cutOff(slot)
        case .securing: handshakeTimedOut(slot)
        case .lingering: closeClient(slot)
        }
    }

    /// Closes a client's connection and everything that hangs on it.
    func closeClient(_ slot: Int) {
        let client = clients[slot]
        // An exchange that ends here has an answer that is not whole, and a tunnel has said its end
        // where it had one (`wroteEnd`).
        let mayEndCleanly =
            client.pointee.state != .exchange && client.pointee.state != .tunnel
            && !client.pointee.flags.contains(.cut)
        switch client.pointee.state {
        case .exchange:
            if client.pointee.flags.contains(.retried) {
                noteRetriedOutcome(
                    slot, forwarding.target(ofRoute: Int(client.pointee.route)), recovered: false)
            }
            recordExchange(slot, isWhole: false)
            // What we have cut off is no client that left.
            if !client.pointee.flags.contains(.cut) { tap?.clientLeft(client.pointee.copiesOut) }
        case .tunnel:
            counters[.tunnelsOpen].subtract()
            recordExchange(slot, isWhole: true)
        case .securing, .head, .finishing, .lingering: break
        }
        detachUpstream(slot)
        releaseInput(slot)
        slices.clear(&client.pointee.out, blocks)
        if client.pointee.trailers >= 0 { largeHeads.giveBack(client.pointee.trailers) }
        timers.cancel(slot)
        if client.pointee.tls.isOn {
            client.pointee.tls.close(saysGoodbye: mayEndCleanly && client.pointee.out.isEmpty)
        }
        close(client.pointee.fd)
        // Whoever holds this slot further up the call sees that there is nothing left to do.
        client.pointee.fd = -1
        client.pointee.state = .finishing
        clients.remove(slot)
    }
}
