import CLinux
import CoreLoop

/// One connection's way through its requests.
extension Origin {
    /// Reads and answers as far as the connection allows.
    func proceed(_ slot: Int) {
        let generation = slab.generation(slot)
        while slab.isLive(slot, generation),
            slab[slot].pointee.phase == .reading || slab[slot].pointee.phase == .draining
        {
            // What was kept may hold a whole pipelined request.
            if slab[slot].pointee.stashed > 0, slab[slot].pointee.phase == .reading {
                let kept = slab[slot].pointee.stashed
                slab[slot].pointee.stashed = 0
                take(slot, own(slot), kept)
                guard slab.isLive(slot, generation) else { return }
                // Unchanged, it is the start of a head or line and needs more.
                if slab[slot].pointee.stashed != kept { continue }
            }
            if !slab[slot].pointee.mayRead { return }
            if !receive(slot) { return }
        }
    }

    private func own(_ slot: Int) -> UnsafeMutablePointer<UInt8> {
        stash.base.assumingMemoryBound(to: UInt8.self) + slot * LoadLimits.headBytesMax
    }

    /// One `recv` and what follows from it. False where nothing came or the connection is gone.
    private func receive(_ slot: Int) -> Bool {
        let connection = slab[slot]
        let kept = connection.pointee.stashed
        if canDiscard, kept == 0, connection.pointee.body.discardable > 0 {
            return discardBody(slot)
        }
        let start = kept > 0 ? own(slot) : buffer
        let room = (kept > 0 ? LoadLimits.headBytesMax : LoadLimits.receiveBytes) - kept
        if room == 0 {
            counters.add(.badRequests)
            drop(slot)
            return false
        }
        switch Socket.receive(connection.pointee.fd, start + kept, room) {
        case .wouldBlock:
            connection.pointee.mayRead = false
            return false
        case .failed, .endOfStream:
            if connection.pointee.headIsRead || kept > 0 { counters.add(.cutOff) }
            drop(slot)
            return false
        case .bytes(let received):
            counters.add(.bytesReceived, UInt64(received))
            // A short read emptied the socket: what comes later is a new edge.
            if received < room { connection.pointee.mayRead = false }
            if options.mode == .hang, connection.pointee.phase == .draining { return true }
            connection.pointee.stashed = 0
            take(slot, start, kept + received)
            return true
        }
    }

    /// Throws away what has come of a long body. False where nothing came or all is over.
    private func discardBody(_ slot: Int) -> Bool {
        let connection = slab[slot]
        let wanted = connection.pointee.body.discardable
        switch discard(connection.pointee.fd, wanted) {
        case .wouldBlock:
            connection.pointee.mayRead = false
            return false
        case .failed, .endOfStream:
            counters.add(.cutOff)
            drop(slot)
            return false
        case .bytes(let received):
            counters.add(.bytesReceived, UInt64(received))
            if received < wanted { connection.pointee.mayRead = false }
            connection.pointee.body.discarded(received)
            if connection.pointee.body.phase == .done { complete(slot) }
            return true
        }
    }

    /// Reads `count` bytes of requests, until one is to be answered; keeps the rest.
    private func take(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
        let connection = slab[slot]
        var at = 0
        if !connection.pointee.headIsRead {
            var head = HeadScan()
            switch head.scan(bytes, count) {
            case .bad:
                counters.add(.badRequests)
                drop(slot)
                return
            case .incomplete:
                keep(slot, bytes, count)
                return
            case .complete: break
            }
            at = head.headBytes
            if !begin(slot, bytes, &head) { return }
        }
        let bodyStart = at
        at += connection.pointee.body.consume(bytes + at, count - at)
        if options.echo == .body { echo(slot, bytes + bodyStart, at - bodyStart) }
        switch connection.pointee.body.phase {
        case .bad:
            counters.add(.badRequests)
            drop(slot)
        case .done:
            keep(slot, bytes + at, count - at)
            complete(slot)
        default: keep(slot, bytes + at, count - at)
        }
    }

    /// The request came whole: it is answered now or after the delay.
    private func complete(_ slot: Int) {
        slab[slot].pointee.headIsRead = false
        slab[slot].pointee.body = .none
        counters.add(.complete)
        if options.delayMs > 0 {
            delay(slot)
        } else {
            slab[slot].pointee.phase = .writing
            write(slot)
        }
    }

    private func keep(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
        slab[slot].pointee.stashed = count
        if count > 0 { memmove(own(slot), bytes, count) }
    }

    /// A head is complete. False where the connection ends or hangs here.
    private func begin(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ head: inout HeadScan)
        -> Bool
    {
        let connection = slab[slot]
        counters.add(.requests)
        if head.isShadow { counters.add(.shadowMarked) }
        record(head)
        switch options.mode {
        case .hang:
            // It counts as read, and from here on everything is thrown away.
            connection.pointee.phase = .draining
            return false
        case .reset:
            Socket.setResetOnClose(connection.pointee.fd)
            drop(slot)
            return false
        case .close:
            drop(slot)
            return false
        case .normal, .garbage, .refuse, .neverAccept: break
        }
        connection.pointee.headIsRead = true
        connection.pointee.isHead = head.startLineBytes > 5 && memcmp(bytes, "HEAD ", 5) == 0
        let isVersion10 = head.startLineBytes > 8 && bytes[head.startLineBytes - 1] == 0x30
        connection.pointee.closesAfter =
            head.closes || (isVersion10 && !head.keepsAlive) || options.mode == .garbage
        connection.pointee.echoBytes = 0
        connection.pointee.echoesChunks = head.isChunked && options.echo == .body
        if head.isChunked {
            connection.pointee.body = .chunked
        } else {
            connection.pointee.body = .length(max(0, head.contentLength))
        }
        if head.expectsContinue { sendContinue(connection.pointee.fd) }
        if options.echo == .head { echo(slot, bytes, head.headBytes) }
        return true
    }

    private func sendContinue(_ fd: Int32) {
        let line: StaticString = "HTTP/1.1 100 Continue\r\n\r\n"
        _ = Socket.send(fd, line.utf8Start, line.utf8CodeUnitCount)
    }

    private func record(_ head: HeadScan) {
        let index = Int(arrivalCount.value)
        guard index < options.arrivalsMax else { return }
        let base = arrivalMemory.base.assumingMemoryBound(to: Arrival.self)
        base[index] = Arrival(
            atNs: Instant.now().nanoseconds, serial: head.serial, connection: head.connection,
            isShadow: head.isShadow)
        arrivalCount.publish(UInt64(index + 1))
    }

    // MARK: Answering

    /// Keeps content for the answer, behind room for the answer's head. A chunked request's
    /// framing comes with it, since the answer is framed the same way.
    private func echo(_ slot: Int, _ bytes: UnsafeMutablePointer<UInt8>, _ count: Int) {
        let connection = slab[slot]
        let used = connection.pointee.echoBytes
        let taken = min(count, LoadLimits.echoBytesMax - used)
        guard taken > 0 else { return }
        memcpy(echoMemory.base + slot * Self.echoSlotBytes + 1_024 + used, bytes, taken)
        connection.pointee.echoBytes = used + taken
    }

    /// Hands the kernel as much of the answer as it takes; at its end reads on, or closes.
    func write(_ slot: Int) {
        let connection = slab[slot]
        let bytes: UnsafeMutableRawPointer
        let total: Int
        if options.echo != .off {
            (bytes, total) = echoedAnswer(slot)
        } else {
            let answer = connection.pointee.closesAfter ? answerClosing : answerKept
            bytes = UnsafeMutableRawPointer(answer.bytes)
            total = connection.pointee.isHead ? answer.headBytes : answer.byteCount
        }
        while connection.pointee.sentBytes < total {
            let sent = connection.pointee.sentBytes
            switch Socket.send(connection.pointee.fd, bytes + sent, total - sent) {
            case .bytes(let count):
                connection.pointee.sentBytes = sent + count
                counters.add(.bytesSent, UInt64(count))
            case .wouldBlock: return
            case .failed:
                counters.add(.cutOff)
                drop(slot)
                return
            }
        }
        counters.add(.answers)
        if connection.pointee.closesAfter {
            drop(slot)
            return
        }
        connection.pointee.sentBytes = 0
        connection.pointee.answerBytes = 0
        connection.pointee.phase = .reading
    }

    /// The echoed answer's bytes; its head is written right before the content, once.
    private func echoedAnswer(_ slot: Int) -> (UnsafeMutableRawPointer, Int) {
        let connection = slab[slot]
        let content = echoMemory.base + slot * Self.echoSlotBytes + 1_024
        if connection.pointee.answerBytes == 0 {
            var text =
                "HTTP/1.1 \(options.status) \(Answer.reason(options.status))\r\nServer: load-origin\r\n"
            text += "Content-Type: application/octet-stream\r\n"
            for field in options.fields { text += field + "\r\n" }
            if connection.pointee.closesAfter { text += "Connection: close\r\n" }
            text +=
                connection.pointee.echoesChunks
                ? "Transfer-Encoding: chunked\r\n\r\n"
                : "Content-Length: \(connection.pointee.echoBytes)\r\n\r\n"
            let head = Array(text.utf8)
            precondition(head.count <= 1_024, "the fields of an echoing origin are too long")
            head.withUnsafeBytes { _ = memcpy(content - head.count, $0.baseAddress!, head.count) }
            connection.pointee.answerBytes = head.count
        }
        let headBytes = connection.pointee.answerBytes
        let total = headBytes + (connection.pointee.isHead ? 0 : connection.pointee.echoBytes)
        return (content - headBytes, total)
    }
}
