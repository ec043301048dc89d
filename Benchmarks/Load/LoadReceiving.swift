import CLinux
import CoreLoop
import TLS

/// Answers are read, judged and counted.
extension LoadGenerator {
    func read(_ slot: Int) {
        let connection = connections + slot
        while connection.pointee.phase == .open {
            if canDiscard, connection.pointee.hasRequest, connection.pointee.body.discardable > 0 {
                if !discardBody(slot) { return }
                continue
            }
            let kept = connection.pointee.stashed
            let own =
                stash.base.assumingMemoryBound(to: UInt8.self) + slot * LoadLimits.headBytesMax
            let start = kept > 0 ? own : buffer
            let room = (kept > 0 ? LoadLimits.headBytesMax : LoadLimits.receiveBytes) - kept
            if room == 0 {
                fail(slot, .failedBadAnswer)
                return
            }
            let channel = connection.pointee.channel
            switch channel.receive(start + kept, room) {
            case .wouldBlock: return
            case .failed:
                ended(slot, cleanly: false)
                return
            case .endOfStream:
                ended(slot, cleanly: true)
                return
            case .bytes(let received):
                if !take(slot, start, kept + received) { return }
                // A short read emptied the socket: what comes later is a new edge.
                if channel.isDrained(isShort: received < room) { return }
            }
        }
    }

    /// Throws away what has come of a long body. False where nothing is left to read for now.
    private func discardBody(_ slot: Int) -> Bool {
        let connection = connections + slot
        let wanted = connection.pointee.body.discardable
        switch discard(connection.pointee.fd, wanted) {
        case .wouldBlock: return false
        case .failed, .endOfStream:
            fail(slot, .failedReset)
            return false
        case .bytes(let received):
            connection.pointee.body.discarded(received)
            if connection.pointee.body.phase == .done { answered(slot) }
            return received == wanted
        }
    }

    /// The peer closed (`cleanly`) or reset the connection.
    private func ended(_ slot: Int, cleanly: Bool) {
        let connection = connections + slot
        guard connection.pointee.hasRequest else {
            // It stays in the free list and is made anew with the next request.
            closeSocket(slot)
            return
        }
        if cleanly, connection.pointee.headIsRead, connection.pointee.body.phase == .untilClose {
            connection.pointee.closesAfter = true
            answered(slot)
        } else {
            fail(slot, .failedReset)
        }
    }

    /// Reads `count` bytes of answer. False where the connection is gone.
    private func take(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) -> Bool {
        let connection = connections + slot
        var at = 0
        while at < count, connection.pointee.hasRequest {
            if !connection.pointee.headIsRead {
                switch readHead(slot, bytes + at, count - at) {
                case .bad:
                    fail(slot, .failedBadAnswer)
                    return false
                case .incomplete:
                    keep(slot, bytes + at, count - at)
                    return true
                case .complete(let headBytes): at += headBytes
                }
            }
            guard connection.pointee.headIsRead else { continue }
            at += connection.pointee.body.consume(bytes + at, count - at)
            switch connection.pointee.body.phase {
            case .done: answered(slot)
            case .bad:
                fail(slot, .failedBadAnswer)
                return false
            default:
                keep(slot, bytes + at, count - at)
                return true
            }
        }
        if at < count, connection.pointee.phase == .open {
            self.count(.strayBytes, connection.pointee.isMeasured)
            closeSocket(slot)
        }
        connection.pointee.stashed = 0
        return connection.pointee.phase == .open
    }

    private func keep(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
        let own = stash.base + slot * LoadLimits.headBytesMax
        if count > 0 { memmove(own, bytes, count) }
        connections[slot].stashed = count
    }

    private enum AnswerHead { case complete(Int), incomplete, bad }

    /// Reads status line and fields; interim answers are passed over.
    private func readHead(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int)
        -> AnswerHead
    {
        let connection = connections + slot
        if memcmp(bytes, "HTTP/1.", min(7, count)) != 0 { return .bad }
        var head = HeadScan()
        switch head.scan(bytes, count) {
        case .incomplete: return .incomplete
        case .bad: return .bad
        case .complete: break
        }
        guard head.startLineBytes >= 12 else { return .bad }
        let status = HeadScan.number(bytes + 9, 3)
        guard status >= 100, status <= 599 else { return .bad }
        if status < 200, status != 101 {
            self.count(.status1xx, connection.pointee.isMeasured)
            return .complete(head.headBytes)
        }
        connection.pointee.status = UInt32(status)
        connection.pointee.headIsRead = true
        connection.pointee.closesAfter = head.closes || (bytes[7] == 0x30 && !head.keepsAlive)
        if templates[Int(connection.pointee.request)].isHead || status == 204 || status == 304
            || status == 101
        {
            connection.pointee.body = .none
        } else if head.isChunked {
            connection.pointee.body = .chunked
        } else if head.contentLength >= 0 {
            connection.pointee.body = .length(head.contentLength)
        } else {
            connection.pointee.body = .untilClose
        }
        return .complete(head.headBytes)
    }

    /// The answer is complete: counts it and frees the connection.
    private func answered(_ slot: Int) {
        let connection = connections + slot
        let now = Instant.now().nanoseconds
        let isMeasured = connection.pointee.isMeasured
        let bodyBytes = connection.pointee.body.bodyBytes
        count(.answered, isMeasured)
        switch connection.pointee.status / 100 {
        case 2: count(.status2xx, isMeasured)
        case 3: count(.status3xx, isMeasured)
        case 4: count(.status4xx, isMeasured)
        default: count(.status5xx, isMeasured)
        }
        if let expected = options.bodyBytesExpected, expected != bodyBytes {
            count(.wrongLength, isMeasured)
        }
        total.add(.bodyBytes, UInt64(bodyBytes))
        if isMeasured {
            measured.add(.bodyBytes, UInt64(bodyBytes))
            if now <= endAt { measured.add(.answeredInTime) }
            latency.record(now &- connection.pointee.intended)
        }
        connection.pointee.hasRequest = false
        inFlight -= 1
        let isHalfSent =
            connection.pointee.sentBytes < templates[Int(connection.pointee.request)].byteCount
        if connection.pointee.closesAfter || isHalfSent || options.reconnects { closeSocket(slot) }
        giveFree(slot)
    }
}
