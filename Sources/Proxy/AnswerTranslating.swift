import CLinux
import CoreLoop
import HTTP
import Providers

/// Answers of targets that speak another language than the client.
///
/// What belongs to one connection stays there: the target's framing ends here, and the client gets
/// a head of the gateway's own. A stream that fails tells so within itself, in an event at which
/// clients raise, and never ends like a whole one.
extension ProxyWorker {
    private func translation(of client: Int) -> TranslatedAnswer {
        guard let answer = heldRequests[client]?.answer else {
            preconditionFailure("a translated request has no way back")
        }
        return answer
    }

    /// Takes the head of an answer to a translated request. True where the loop goes on with what
    /// lies behind it.
    func beginTranslated(_ slot: Int, _ client: Int, _ base: UnsafeRawPointer, _ headBytes: Int)
        -> Bool
    {
        let upstream = upstreams[slot]
        let answer = translation(of: client)
        let status = answerHead.status
        let streams = answer.shape.streams && status < 300
        var framing = AnswerFraming.none
        upstream.pointee.bodyLeft = 0
        switch answerHead.framing {
        case .none: break
        case .length(let length):
            framing = .length
            upstream.pointee.bodyLeft = length
        case .chunked: framing = .chunked
        case .untilClose: framing = .untilClose
        }
        // A redirect would lead the client past the gateway, to a server of another language.
        guard status < 300 || status >= 400, !isCompressed(base),
            !streams || hasContentType("text/event-stream", base),
            upstream.pointee.bodyLeft <= UInt64(ProxyLimits.translatedAnswerBytesMax) || streams
        else {
            upstreamFailed(slot, .upstreamMalformed)
            return false
        }
        noteAnswer(client, base)
        answer.begin(status: status, framing: framing, second: Int(wallMs / 1_000))
        if answerHead.keepAlive { upstream.pointee.flags.insert(.keepAlive) }
        upstream.pointee.framing = .translated
        upstream.pointee.flags.insert(.answerBegun)
        slices.clear(&upstream.pointee.replay, blocks)
        answer.fields = TranslatedFields.kept(
            answerHead.fields, base, for: answer.dialect, wallMs: wallMs)
        if streams, !sendStreamHead(client) { return false }
        return consumeAnswer(slot, headBytes) && passTranslated(slot, client)
    }

    // MARK: Bodies

    /// Takes what the input holds of the body. True where the loop goes on.
    func passTranslated(_ slot: Int, _ client: Int) -> Bool {
        let upstream = upstreams[slot]
        let answer = translation(of: client)
        let start = Int(upstream.pointee.inStart)
        let count = Int(upstream.pointee.inEnd) - start
        let input = UnsafeRawBufferPointer(
            start: count > 0 ? blocks.pointer(upstream.pointee.inSlot) + start : nil, count: count)
        let keptBefore = answer.kept.count
        // What comes behind a stream's end is not waited for.
        let wasOver = answer.step != .goesOn
        var output: [UInt8] = []
        var payload = 0
        let end = readTranslated(slot, answer, input, &payload, &output)
        if upstream.pointee.inStart == upstream.pointee.inEnd { releaseUpstreamInput(slot) }
        translatedBytes += answer.kept.count - keptBefore
        if end == .invalid || answer.kept.count > ProxyLimits.translatedAnswerBytesMax {
            // What was valid goes out; then the stream tells that the rest is missing.
            if sendEvents(client, &output) { upstreamFailed(slot, .upstreamMalformed) }
            return false
        }
        guard translatedBytes <= ProxyLimits.translatedBytesMax else {
            upstreamFailed(slot, .noMemory)
            return false
        }
        if !answer.isStream {
            if end == .whole { finishKept(slot, client, answer) }
            return end == .more
        }
        if end == .whole { answer.end(into: &output) }
        guard sendEvents(client, &output) else { return false }
        if end == .more {
            if answer.step == .goesOn { return true }
            if answer.step == .ended, !wasOver || payload == 0 {
                // The end of the framing is a write of its own for many servers. Without it the
                // connection could not be used again; the client has all its events.
                schedule(upstream: slot, ms: ProxyLimits.translatedEndMs)
                return true
            }
        }
        finishStream(slot, client, isReusable: end == .whole)
        return false
    }

    private enum BodyEnd { case more, whole, invalid }

    /// Takes the payload out of the target's framing.
    private func readTranslated(
        _ slot: Int, _ answer: TranslatedAnswer, _ input: UnsafeRawBufferPointer,
        _ payload: inout Int, _ output: inout [UInt8]
    ) -> BodyEnd {
        let upstream = upstreams[slot]
        var taken = 0
        defer { upstream.pointee.inStart += UInt32(taken) }
        switch answer.framing {
        case .none, .translated: return .whole
        case .length, .untilClose:
            let isLength = answer.framing == .length
            taken =
                isLength ? Int(min(UInt64(input.count), upstream.pointee.bodyLeft)) : input.count
            payload = taken
            if taken > 0 {
                let piece = UnsafeRawBufferPointer(rebasing: input[..<taken])
                keepAnswer(Int(upstream.pointee.client), piece)
                answer.take(piece, into: &output)
            }
            if isLength { upstream.pointee.bodyLeft -= UInt64(taken) }
            return isLength && upstream.pointee.bodyLeft == 0 ? .whole : .more
        case .chunked:
            while taken < input.count {
                let before = taken
                switch upstream.pointee.chunks.next(input, &taken) {
                case .data:
                    payload += taken - before
                    let piece = UnsafeRawBufferPointer(rebasing: input[before..<taken])
                    keepAnswer(Int(upstream.pointee.client), piece)
                    answer.take(piece, into: &output)
                case .framing, .cut, .trailer, .needMore: break
                case .end: return .whole
                case .invalid: return .invalid
                }
            }
            return .more
        }
    }

    /// Translates an answer that is whole, and sends it.
    private func finishKept(_ slot: Int, _ client: Int, _ answer: TranslatedAnswer) {
        let member =
            clients[client].pointee.flags.contains(.annotated)
            ? forwarding.annotation(ofRoute: Int(clients[client].pointee.route))
            : UnsafeRawBufferPointer(start: nil, count: 0)
        do throws(AnswerFault) {
            let made = try answer.translated(second: Int(wallMs / 1_000), member: member)
            clients[client].pointee.answerBytes = UInt64(made.body.count)
            let isSent = made.body.withUnsafeBytes {
                sendTranslated(client, status: made.status, $0)
            }
            if isSent { endTranslated(slot) }
        } catch {
            upstreamFailed(slot, .upstreamMalformed)
        }
    }

    private func sendStreamHead(_ client: Int) -> Bool {
        let isOld = clients[client].pointee.flags.contains(.http10)
        clients[client].pointee.flags.formUnion(isOld ? [.unchunked, .closeAfter] : [])
        return sendTranslated(client, status: 200, nil)
    }

    /// Sends the head of a translated answer and its body, which is nil for a stream.
    private func sendTranslated(
        _ slot: Int, status: Int, _ body: UnsafeRawBufferPointer?
    ) -> Bool {
        let client = clients[slot]
        client.pointee.status = UInt16(truncatingIfNeeded: status)
        client.pointee.flags.insert(.answerBegun)
        var form = Forwarding.AnswerForm()
        form.wallMs = wallMs
        form.secureEntry = client.pointee.secureEntry
        form.closes = client.pointee.flags.contains(.closeAfter)
        form.keepsHTTP10 = client.pointee.flags.contains(.http10) && !form.closes
        form.isChunked = body == nil && !client.pointee.flags.contains(.unchunked)
        form.contentLength = body.map { UInt64($0.count) }
        let bytesMax = GatewayAnswer.bytesMax + ProxyLimits.translatedFieldBytesMax
        return withUnsafeTemporaryAllocation(byteCount: bytesMax, alignment: 16) { scratch in
            var writer = HeadWriter(scratch)
            forwarding.writeTranslatedAnswer(
                status: status, translation(of: slot).fields, form, into: &writer)
            return sendMade(
                slot, head: writer.written, body ?? UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    /// Sends what was made of a stream's events. False where the client is gone.
    private func sendEvents(_ slot: Int, _ events: inout [UInt8]) -> Bool {
        guard !events.isEmpty else { return true }
        let client = clients[slot]
        client.pointee.answerBytes += UInt64(events.count)
        if client.pointee.flags.contains(.unchunked) {
            return events.withUnsafeBytes {
                sendMade(slot, head: UnsafeRawBufferPointer(start: nil, count: 0), $0)
            }
        }
        return withUnsafeTemporaryAllocation(byteCount: 32, alignment: 16) { scratch in
            var writer = HeadWriter(scratch)
            writer.append(hex: UInt64(events.count))
            writer.append("\r\n")
            events.append(contentsOf: [0x0D, 0x0A])
            return events.withUnsafeBytes {
                sendMade(slot, head: writer.written, $0)
            }
        }
    }

    // MARK: Ends

    /// Ends a stream for its client.
    private func finishStream(_ slot: Int, _ client: Int, isReusable: Bool) {
        if !isReusable { upstreams[slot].pointee.flags.remove(.keepAlive) }
        if !clients[client].pointee.flags.contains(.unchunked) {
            let last: StaticString = "0\r\n\r\n"
            let bytes = UnsafeRawBufferPointer(
                start: last.utf8Start, count: last.utf8CodeUnitCount)
            guard sendMade(client, bytes) else { return }
        }
        endTranslated(slot)
    }

    private func endTranslated(_ slot: Int) {
        upstreams[slot].pointee.flags.insert(.answerEnded)
        finishAnswer(slot)
    }

    /// The target has closed. True where that is settled: it ended what it had to say, or what it
    /// said before is enough.
    func translatedEnded(_ slot: Int, isClean: Bool) -> Bool {
        let upstream = upstreams[slot]
        let client = Int(upstream.pointee.client)
        // The framing of a connection's former exchange stays until the next answer begins.
        guard client >= 0, upstream.pointee.framing == .translated,
            upstream.pointee.flags.contains(.answerBegun)
        else { return false }
        let answer = translation(of: client)
        if answer.step == .ended {
            finishStream(slot, client, isReusable: false)
            return true
        }
        guard isClean, answer.framing == .untilClose else { return false }
        upstreams[slot].pointee.flags.remove(.keepAlive)
        if answer.isStream {
            failTranslated(slot, client, .upstreamReset)
        } else {
            finishKept(slot, client, answer)
        }
        return true
    }

    /// Time ran out for the target. True where its stream had come to its end before.
    func translatedTimedOut(_ slot: Int, _ client: Int) -> Bool {
        guard translation(of: client).step == .ended else { return false }
        finishStream(slot, client, isReusable: false)
        return true
    }

    /// The target failed after its answer's head: within the stream where one has begun, else with
    /// an answer of the gateway's own.
    func failTranslated(_ slot: Int, _ client: Int, _ fault: GatewayFault) {
        let answer = translation(of: client)
        guard answer.isStream else {
            gatewayAnswer(client, fault)
            return
        }
        guard fault != .noMemory else {
            cutOff(client)
            return
        }
        var output: [UInt8] = []
        answer.end(into: &output)
        if sendEvents(client, &output) { finishStream(slot, client, isReusable: false) }
    }
}
