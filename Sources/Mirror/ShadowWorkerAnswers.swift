import CoreLoop
import HTTP
import TLS

/// Answers: read to their end within bounds, judged, and thrown away.
extension ShadowWorker {
    /// Reads what there is, up to a turn's share. `isOver`: the peer's end was announced, so that a
    /// short read does not mean that there is nothing behind it.
    func read(_ slot: Int, isOver: Bool) {
        let connection = pool.connections[slot]
        connection.pointee.isUnread = false
        for _ in 0..<ShadowLimits.readsPerTurnMax {
            var place = scratch.input.baseAddress!
            var room = scratch.input.count
            if connection.pointee.answer.residue != ShadowConnection.none {
                let used = connection.pointee.answer.residueBytes
                place = pool.residue(connection.pointee.answer.residue) + used
                room = ShadowLimits.answerHeadBytesMax - used
            }
            let channel = connection.pointee.channel
            switch channel.receive(place, room) {
            case .bytes(let count):
                guard take(slot, count) else { return }
                if channel.isDrained(isShort: count < room), !isOver { return }
            case .wouldBlock: return
            case .endOfStream: return ended(slot)
            case .failed: return broken(slot)
            }
        }
        connection.pointee.isUnread = true
        let generation = pool.connections.generation(slot)
        scratch.addUnread(
            Token(kind: TokenKind.connection.rawValue, slot: slot, generation: generation))
    }

    /// Goes on with those that had more than their share.
    func readUnread() {
        let count = scratch.unreadCount
        guard count > 0 else { return }
        for index in 0..<count {
            let token = scratch.unread(index)
            guard pool.connections.isLive(token.slot, token.generation),
                pool.connections[token.slot].pointee.isUnread,
                pool.connections[token.slot].pointee.phase != .idle
            else { continue }
            read(token.slot, isOver: true)
        }
        scratch.removeUnread(count)
    }

    /// Goes over `count` new bytes. False where the answer ended with them, one way or the other.
    private func take(_ slot: Int, _ count: Int) -> Bool {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        connection.pointee.answer.bytes += count
        state.pointee.gauges.add(.answerBytes, UInt64(count))
        let seen = connection.pointee.answer.residueBytes
        let residue = connection.pointee.answer.residue
        let start =
            residue == ShadowConnection.none
            ? scratch.input.baseAddress! : pool.residue(residue)
        let bytes = UnsafeRawBufferPointer(start: start, count: seen + count)
        var position = 0
        if connection.pointee.answer.stage == .head {
            switch takeHead(slot, bytes, seen: seen) {
            case .content(let contentStart): position = contentStart
            case .needMore: break
            case .failed(let word):
                fail(slot, word)
                return false
            }
        }
        if connection.pointee.answer.stage != .head {
            switch takeContent(slot, bytes, &position) {
            case .end:
                complete(slot, hasSurplus: position < bytes.count)
                return false
            case .needMore: giveBackResidue(slot)
            case .failed:
                fail(slot, .bad)
                return false
            }
        }
        if connection.pointee.answer.bytes > state.pointee.answerBytesMax {
            tooLong(slot)
            fail(slot, .good)
            return false
        }
        return true
    }

    private enum HeadStep {
        case content(start: Int)
        case needMore
        case failed(Word)
    }

    private func takeHead(
        _ slot: Int, _ bytes: UnsafeRawBufferPointer, seen: Int
    ) -> HeadStep {
        let connection = pool.connections[slot]
        var position = 0
        while position < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
            let outcome = answerHead.parse(
                rest, toHead: connection.pointee.copy.isHead, seen: position == 0 ? seen : 0)
            switch outcome {
            case .incomplete:
                keepResidue(slot, rest)
                return .needMore
            case .invalid: return .failed(.bad)
            case .complete(let headBytes):
                let head = UnsafeRawBufferPointer(rebasing: rest[..<headBytes])
                position += headBytes
                if answerHead.isInterim {
                    connection.pointee.answer.interims += 1
                    let interims = connection.pointee.answer.interims
                    if interims > ShadowLimits.interimAnswersMax { return .failed(.bad) }
                    continue
                }
                // Nothing was asked that a change of protocols could answer.
                if answerHead.status == 101 { return .failed(.bad) }
                if let word = noteHead(slot, head) { return .failed(word) }
                return .content(start: position)
            }
        }
        // Interim answers only, and all of them whole.
        giveBackResidue(slot)
        return .needMore
    }

    /// Keeps the beginning of a head until the rest comes.
    private func keepResidue(_ slot: Int, _ rest: UnsafeRawBufferPointer) {
        let connection = pool.connections[slot]
        if connection.pointee.answer.residue == ShadowConnection.none {
            connection.pointee.answer.residue = pool.takeResidue()
        }
        // The two overlap where an interim answer stood before.
        let place = pool.residue(connection.pointee.answer.residue)
        if let base = rest.baseAddress, base != UnsafeRawPointer(place) {
            place.copyMemory(from: base, byteCount: rest.count)
        }
        connection.pointee.answer.residueBytes = rest.count
    }

    /// What the final head says. Not nil where the answer is given up at once.
    private func noteHead(_ slot: Int, _ head: UnsafeRawBufferPointer) -> Word? {
        let connection = pool.connections[slot]
        let state = shadows + connection.pointee.shadow
        connection.pointee.answer.status = answerHead.status
        connection.pointee.answer.keepAlive = answerHead.keepAlive
        let asksForPause =
            answerHead.status == 429 || answerHead.status == 503
            // Anthropic's word for an overload.
            || answerHead.status == 529 && connection.pointee.copy.rewrite.inference != nil
        if asksForPause,
            let field = answerHead.fields.first(.retryAfter)
        {
            let value = answerHead.fields[field].value.bytes(in: head)
            coolDown(state, forMs: RetryAfter.milliseconds(value, wallMs: WallClock.milliseconds()))
        }
        if connection.pointee.copy.rewrite.inference != nil {
            connection.pointee.answer.isForeign = !isModelAnswer(head)
            if connection.pointee.copy.isCaptured { captureHead(slot, head) }
        }
        switch answerHead.framing {
        case .none:
            connection.pointee.answer.stage = .length
            connection.pointee.answer.remaining = 0
        case .length(let length):
            connection.pointee.answer.stage = .length
            connection.pointee.answer.remaining = length
            // Too long by its own word: not a byte of it is worth reading.
            if length > UInt64(max(0, state.pointee.answerBytesMax)) {
                tooLong(slot)
                return .good
            }
        case .chunked:
            connection.pointee.answer.stage = .chunked
            pool.reader(slot).pointee = ChunkedReader()
        case .untilClose: connection.pointee.answer.stage = .untilClose
        }
        return nil
    }

    private func coolDown(_ state: UnsafeMutablePointer<ShadowState>, forMs pauseMs: Int) {
        guard pauseMs > 0 else { return }
        let until = now.adding(ms: min(pauseMs, ShadowLimits.coolDownMsMax))
        if until > state.pointee.coolDownUntil {
            state.pointee.coolDownUntil = until
            state.pointee.gauges[.coolDownUntil].set(until.nanoseconds)
        }
    }

    private enum ContentStep { case end, needMore, failed }

    private func takeContent(
        _ slot: Int, _ bytes: UnsafeRawBufferPointer, _ position: inout Int
    ) -> ContentStep {
        let connection = pool.connections[slot]
        switch connection.pointee.answer.stage {
        case .head: return .needMore
        case .untilClose:
            capture(slot, bytes, position..<bytes.count)
            position = bytes.count
            return .needMore
        case .length:
            let left = connection.pointee.answer.remaining
            let step = min(left, UInt64(bytes.count - position))
            capture(slot, bytes, position..<position + Int(step))
            position += Int(step)
            connection.pointee.answer.remaining = left - step
            return left == step ? .end : .needMore
        case .chunked:
            let reader = pool.reader(slot)
            while true {
                let start = position
                switch reader.pointee.next(bytes, &position) {
                case .data: capture(slot, bytes, start..<position)
                case .framing, .cut, .trailer: continue
                case .needMore: return .needMore
                case .end: return .end
                case .invalid: return .failed
                }
            }
        }
    }

    /// The answer is whole.
    private func complete(_ slot: Int, hasSurplus: Bool) {
        let connection = pool.connections[slot]
        let wasSentWhole = connection.pointee.phase == .awaiting
        // An answer that came before the whole copy was sent leaves the rest of it on the
        // connection.
        let isReusable =
            wasSentWhole && connection.pointee.answer.keepAlive && !hasSurplus
            && !connection.pointee.tls.hasPending
        giveBackResidue(slot)
        let answer = connection.pointee.answer
        let result: CopyResult = answer.status >= 500 || answer.isForeign ? .error : .ok
        endSent(slot, result, answer.isForeign ? .bad : .good, isWhole: true)
        if isReusable { keep(slot) } else { close(slot, reset: !wasSentWhole) }
    }

    /// The peer sends no more.
    private func ended(_ slot: Int) {
        if pool.connections[slot].pointee.answer.stage == .untilClose {
            complete(slot, hasSurplus: false)
        } else {
            broken(slot)
        }
    }

    /// The connection broke before the answer was whole.
    ///
    /// One that was idle before may have been closed by its peer at the moment when the copy
    /// left: that says nothing about the shadow. The copy is not sent again.
    func broken(_ slot: Int) {
        let connection = pool.connections[slot]
        let crossed = connection.pointee.isReused && connection.pointee.answer.bytes == 0
        fail(slot, crossed ? .nothing : .bad)
    }

    private func fail(_ slot: Int, _ word: Word) {
        endSent(slot, .error, word)
        close(slot, reset: true)
    }
}
