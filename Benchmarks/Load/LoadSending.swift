import CLinux
import CoreLoop
import TLS

/// What is due goes out, on connections that are made where there are none.
extension LoadGenerator {
    /// Sends what is due as far as there are connections, and keeps the backlog in its bound.
    func sendDue(_ now: UInt64) {
        guard var schedule, var due else {
            sendClosedLoop(now)
            return
        }
        while due.next <= now, due.next < endAt, limitAllows(due.taken) {
            count(.offered, due.next >= measureFrom)
            due.advance()
            if due.taken - schedule.taken > UInt64(options.backlogMax), freeCount == 0 {
                let isMeasured = schedule.next >= measureFrom
                count(.unanswered, isMeasured)
                count(.backlogDropped, isMeasured)
                schedule.advance()
            }
        }
        while schedule.taken < due.taken, freeCount > 0 {
            let intended = schedule.next
            schedule.advance()
            assign(takeFree(), intended: intended, now: now)
        }
        self.schedule = schedule
        self.due = due
    }

    private func sendClosedLoop(_ now: UInt64) {
        guard now >= pausedUntil else { return }
        // Each connection at most once: one that fails at once must not be tried for ever.
        var left = freeCount
        while left > 0, freeCount > 0, now < endAt, limitAllows(serial) {
            count(.offered, now >= measureFrom)
            assign(takeFree(), intended: now, now: now)
            left -= 1
            if now < pausedUntil { return }
        }
    }

    private func limitAllows(_ offered: UInt64) -> Bool {
        options.requestsMax == 0 || offered < options.requestsMax
    }

    /// Gives a request to a connection without one, which may have to be made first.
    private func assign(_ slot: Int, intended: UInt64, now: UInt64) {
        let connection = connections + slot
        connection.pointee.hasRequest = true
        connection.pointee.isMeasured = intended >= measureFrom
        connection.pointee.intended = intended
        connection.pointee.started = now
        connection.pointee.serial = serial
        connection.pointee.request = UInt32(serial % UInt64(requestCount))
        connection.pointee.sentBytes = 0
        connection.pointee.headIsRead = false
        connection.pointee.body = .none
        connection.pointee.closesAfter = false
        serial &+= 1
        inFlight += 1
        if connection.pointee.phase == .open {
            write(slot)
        } else if !connect(slot) {
            fail(slot, .failedConnect)
        }
    }

    /// Hands the kernel as much of the request as it takes.
    private func write(_ slot: Int) {
        let connection = connections + slot
        let template = templates[Int(connection.pointee.request)]
        template.number(serial: connection.pointee.serial, connection: slot)
        while connection.pointee.sentBytes < template.byteCount {
            let sent = connection.pointee.sentBytes
            switch connection.pointee.channel.send(
                template.bytes + sent, template.byteCount - sent)
            {
            case .bytes(let bytes):
                if sent == 0 { countSent(slot) }
                connection.pointee.sentBytes = sent + bytes
            case .wouldBlock: return
            case .failed:
                // An answer may be there already: a server may refuse a body early and close.
                read(slot)
                if connection.pointee.phase == .open, connection.pointee.hasRequest {
                    fail(slot, .failedReset)
                }
                return
            }
        }
    }

    private func countSent(_ slot: Int) {
        let connection = connections + slot
        count(.sent, connection.pointee.isMeasured)
        if connection.pointee.isMeasured {
            lateness.record(connection.pointee.started &- connection.pointee.intended)
        }
    }

    // MARK: Connections

    /// Starts a connection; false where the kernel refused at once.
    func connect(_ slot: Int) -> Bool {
        let connection = connections + slot
        connection.pointee.generation &+= 1
        connection.pointee.stashed = 0
        switch Socket.connect(to: options.target) {
        case .failed:
            return false
        case .connected(let fd), .inProgress(let fd):
            connection.pointee.fd = fd
            connection.pointee.phase = .connecting
            let token = Token(
                kind: Self.connectionKind, slot: slot, generation: connection.pointee.generation)
            do throws(SystemError) { try epoll.add(fd, token) } catch {
                closeSocket(slot)
                return false
            }
            return true
        }
    }

    func ready(_ slot: Int, _ readiness: Readiness) {
        let connection = connections + slot
        if connection.pointee.phase == .connecting {
            guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
            guard Socket.pendingError(connection.pointee.fd) == 0 else {
                fail(slot, .failedConnect)
                return
            }
            if security == nil { opened(slot) } else { beginSecuring(slot) }
            return
        }
        if connection.pointee.phase == .securing {
            secure(slot)
            return
        }
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .error, .hangUp]) { read(slot) }
        if connection.pointee.phase == .open, connection.pointee.hasRequest,
            readiness.contains(.writable),
            connection.pointee.sentBytes < templates[Int(connection.pointee.request)].byteCount
        {
            write(slot)
        }
    }

    private func beginSecuring(_ slot: Int) {
        let connection = connections + slot
        guard let session = security?.connect(connection.pointee.fd, address: slot) else {
            fail(slot, .failedConnect)
            return
        }
        connection.pointee.tls = session
        connection.pointee.phase = .securing
        secure(slot)
    }

    private func secure(_ slot: Int) {
        let connection = connections + slot
        switch connection.pointee.tls.handshake() {
        case .wouldBlock: return
        case .done:
            if connection.pointee.tls.isResumed { count(.resumed, connection.pointee.isMeasured) }
            opened(slot)
        case .plainHTTP, .failed: fail(slot, .failedConnect)
        }
    }

    private func opened(_ slot: Int) {
        let connection = connections + slot
        connection.pointee.phase = .open
        count(.connectionsMade, connection.pointee.isMeasured)
        if connection.pointee.hasRequest {
            write(slot)
        } else {
            giveFree(slot)
        }
    }

    /// Ends the connection, and the request on it with it.
    func fail(_ slot: Int, _ reason: LoadCounter) {
        let connection = connections + slot
        let wasConnecting = isConnecting(slot)
        closeSocket(slot)
        if reason == .failedConnect, options.rate == nil {
            pausedUntil = Instant.now().adding(ms: LoadLimits.connectRetryMs).nanoseconds
        }
        if connection.pointee.hasRequest {
            count(reason, connection.pointee.isMeasured)
            connection.pointee.hasRequest = false
            inFlight -= 1
            giveFree(slot)
        } else if wasConnecting {
            // A connect of the start; an idle connection is in the free list already.
            giveFree(slot)
        }
    }

    func closeSocket(_ slot: Int) {
        let connection = connections + slot
        connection.pointee.tls.close(saysGoodbye: connection.pointee.phase == .open)
        connection.pointee.tls = TLSSession()
        if connection.pointee.fd >= 0 { close(connection.pointee.fd) }
        connection.pointee.fd = -1
        connection.pointee.phase = .closed
        connection.pointee.stashed = 0
    }

    func closeTimedOut(_ now: UInt64) {
        guard options.timeoutSeconds > 0 else { return }
        let limit = Self.ns(options.timeoutSeconds)
        for slot in 0..<connectionCount where connections[slot].hasRequest {
            if now > connections[slot].started &+ limit { fail(slot, .failedTimeout) }
        }
    }

    func giveFree(_ slot: Int) {
        var place = freeHead + freeCount
        if place >= connectionCount { place -= connectionCount }
        free[place] = UInt32(slot)
        freeCount += 1
    }

    private func takeFree() -> Int {
        let slot = Int(free[freeHead])
        freeHead += 1
        if freeHead == connectionCount { freeHead = 0 }
        freeCount -= 1
        return slot
    }
}
