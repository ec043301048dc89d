import CLinux
import CoreLoop
import HTTP

/// One client of a stand-in: reads its requests, and sends each answer at its times. One at a
/// time; what is pipelined waits in the socket.
final class MockConnection {
    /// What it waits for.
    enum Phase {
        case head
        case body
        /// The answer's next event is due.
        case answering
        /// The last answer is out; what still comes is thrown away until the client closes.
        case lingering
    }

    let fd: Int32
    let serial: UInt32
    private(set) var phase = Phase.head
    /// When the next event is to be sent; nil where only the socket can move it on.
    private(set) var dueAt: Instant?
    private(set) var request = MockRequest()
    private var input: [UInt8] = []
    private var output: [UInt8] = []
    private var sentCount = 0
    private var framing = BodyFraming.none
    private var chunks = ChunkedReader()
    private var reply = MockReply()
    private var nextEvent = 0
    private var headIsSent = false
    private var hasEnded = false
    private var closes = false

    init(fd: Int32, serial: UInt32) {
        self.fd = fd
        self.serial = serial
    }

    deinit { close(fd) }

    /// Bytes of a body that is not whole.
    var bodyBytes: Int { request.body.count }

    /// What one step came to.
    enum Step {
        /// The socket or the time must move it on.
        case waits
        /// A request is whole: `begin` its answer.
        case request
        /// It is over.
        case closed
    }

    // MARK: Requests

    /// Goes on as far as socket and time allow. `buffer` is lent for reading.
    func proceed(
        _ head: RequestHead, _ buffer: UnsafeMutableRawBufferPointer, now: Instant
    ) -> Step {
        while true {
            switch flush() {
            case .failed: return .closed
            case .waits: return .waits
            case .done: break
            }
            switch phase {
            case .answering:
                if let dueAt, dueAt > now { return .waits }
                guard dueAt != nil else { return .waits }
                if !sendDue(now) { return .closed }
                continue
            case .lingering:
                guard receive(buffer) else { return hasEnded ? .closed : .waits }
                input.removeAll(keepingCapacity: true)
                continue
            case .head:
                switch parse(head) {
                case .done: continue
                case .refused: continue
                case .more: break
                }
            case .body:
                switch takeBody() {
                case .done: return .request
                case .refused: continue
                case .more: break
                }
            }
            guard receive(buffer) else { return hasEnded ? .closed : .waits }
        }
    }

    private enum Progress { case done, more, refused }

    /// Reads once. False where nothing came.
    private func receive(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard let base = buffer.baseAddress else { return false }
        switch Socket.receive(fd, base, buffer.count) {
        case .bytes(let count):
            input.append(contentsOf: UnsafeRawBufferPointer(start: base, count: count))
            return true
        case .wouldBlock: return false
        case .endOfStream, .failed:
            hasEnded = true
            return false
        }
    }

    private func parse(_ head: RequestHead) -> Progress {
        if input.isEmpty { return .more }
        let outcome = input.withUnsafeBytes { bytes -> HeadOutcome in
            let outcome = head.parse(bytes)
            if case .complete = outcome { read(head, bytes) }
            return outcome
        }
        switch outcome {
        case .incomplete: return .more
        case .invalid(let fault):
            refuse(fault.status, "\(fault.text)")
            return .refused
        case .complete(let count):
            input.removeFirst(count)
            framing = head.framing
            if case .length(let length) = framing, length > MockLimits.bodyBytesMax {
                refuse(413, "Request exceeds the maximum size")
                return .refused
            }
            chunks = ChunkedReader()
            phase = .body
            if head.expectContinue, input.isEmpty {
                output += Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
            }
            return .done
        }
    }

    private func read(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) {
        func text(_ range: ByteRange) -> String {
            String(decoding: range.bytes(in: bytes), as: UTF8.self)
        }
        request = MockRequest()
        request.method = text(head.methodRange)
        let target = text(head.path)
        request.path = String(target.prefix { $0 != "?" })
        for index in 0..<head.fields.count {
            let field = head.fields[index]
            request.fields.append((text(field.name).lowercased(), text(field.value)))
        }
        request.keepsAlive = head.keepAlive
        request.takesChunks = head.versionMinor >= 1
    }

    private func takeBody() -> Progress {
        switch framing {
        case .none: return .done
        case .length(let length):
            let wanted = Int(length) - request.body.count
            let taken = min(wanted, input.count)
            request.body.append(contentsOf: input[..<taken])
            input.removeFirst(taken)
            return request.body.count == Int(length) ? .done : .more
        default: return takeChunks()
        }
    }

    private func takeChunks() -> Progress {
        var position = 0
        var progress = Progress.more
        input.withUnsafeBytes { bytes in
            while progress == .more {
                let start = position
                switch chunks.next(bytes, &position) {
                case .data:
                    request.body.append(contentsOf: bytes[start..<position])
                    if request.body.count > MockLimits.bodyBytesMax { progress = .refused }
                case .framing, .cut, .trailer: break
                case .needMore: return
                case .end: progress = .done
                case .invalid: progress = .refused
                }
            }
        }
        input.removeFirst(position)
        if progress == .refused { refuse(400, "The body cannot be read") }
        return progress
    }

    /// Answers what is no request of the API, and ends.
    private func refuse(_ status: Int, _ message: String) {
        begin(
            MockReply(
                status: status, contentType: "text/plain", body: Array((message + "\n").utf8)),
            now: Instant(nanoseconds: 0), closes: true)
    }

    // MARK: Answers

    /// Begins the answer to the request that is whole.
    func begin(_ reply: MockReply, now: Instant, closes mustClose: Bool = false) {
        self.reply = reply
        closes = mustClose || !request.keepsAlive || (reply.streams && !request.takesChunks)
        nextEvent = 0
        headIsSent = false
        phase = .answering
        request.body = []
        dueAt = reply.ending == .never ? nil : after(now, ms: reply.delayMs)
    }

    private func after(_ now: Instant, ms: Double) -> Instant {
        Instant(nanoseconds: now.nanoseconds &+ UInt64(max(0, ms) * 1_000_000))
    }

    /// Puts what is due into the output. False where the connection ends here.
    private func sendDue(_ now: Instant) -> Bool {
        if !headIsSent {
            headIsSent = true
            output += reply.head(
                closes: closes, isChunked: request.takesChunks, wallMs: WallClock.milliseconds())
            if !reply.streams { return sendWhole() }
        }
        while let due = dueAt, due <= now, nextEvent < reply.events.count {
            append(reply.events[nextEvent])
            nextEvent += 1
            if reply.isEndless, nextEvent == reply.events.count - 1 { nextEvent = 1 }
            // From when it was due, so that the rate holds however late a turn is.
            dueAt = after(due, ms: reply.intervalMs)
            if output.count > MockLimits.pendingBytesMax { return true }
        }
        guard nextEvent == reply.events.count else { return true }
        if reply.ending == .reset { return reset() }
        if request.takesChunks { output += Array("0\r\n\r\n".utf8) }
        end()
        return true
    }

    private func append(_ event: [UInt8]) {
        guard request.takesChunks else { return output += event }
        output += Array((String(event.count, radix: 16) + "\r\n").utf8)
        output += event
        output += [0x0D, 0x0A]
    }

    private func sendWhole() -> Bool {
        if reply.ending == .reset {
            output += reply.body.prefix(reply.body.count / 2)
            return reset()
        }
        if request.method != "HEAD" { output += reply.body }
        end()
        return true
    }

    /// What was said goes out, then the connection is cut.
    private func reset() -> Bool {
        _ = flush()
        Socket.setResetOnClose(fd)
        return false
    }

    private func end() {
        dueAt = nil
        reply = MockReply()
        phase = .head
        guard closes else { return }
        phase = .lingering
        if case .done = flush() { Socket.shutdownWrites(fd) }
    }

    /// The client has closed or broken its side while it was to be answered.
    func peerIsGone() -> Bool { phase == .answering }

    private enum Flush { case done, waits, failed }

    private func flush() -> Flush {
        while sentCount < output.count {
            let outcome = output.withUnsafeBytes {
                Socket.send(fd, $0.baseAddress! + sentCount, $0.count - sentCount)
            }
            switch outcome {
            case .bytes(let count): sentCount += count
            case .wouldBlock: return .waits
            case .failed: return .failed
            }
        }
        output.removeAll(keepingCapacity: true)
        sentCount = 0
        return .done
    }
}
