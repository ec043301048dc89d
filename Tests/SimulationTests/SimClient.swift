import CLinux
import CoreLoop

/// What has happened to one request, as far as the peers saw it.
struct Fate {
    var plan: RequestPlan
    /// The client has handed all of it to the kernel.
    var isSentWhole = false
    /// Something happened that may cost the request its answer, and what.
    var excuse: String?
    /// How often the primary saw its head, and the whole of it.
    var headsAtPrimary = 0
    var wholeAtPrimary = 0
    /// By shadow.
    var headsAtShadow = [0, 0, 0]
    var wholeAtShadow = [0, 0, 0]
    var isAnswered = false
}

/// A client with its script. It reads what it gets and compares it with what its requests shall
/// get.
final class SimClient {
    private unowned let world: World
    private let plan: ClientPlan
    private var connectionIndex = 0
    private var fd: Int32 = -1
    private var out = Outgoing()
    private var bytesSent = 0
    /// Requests put into `out`, and the number of bytes after which each is sent whole.
    private var queued = 0
    private var ends: [Int] = []
    private var bytesQueued = 0
    private var answered = 0
    private var reader = WireReader()
    private var isInAnswer = false
    /// The message that is being read is the gateway's own.
    private var isGatewayAnswer = false
    private var expectedBytes: Int?
    private var willClose = false
    private var isWriteBroken = false
    private(set) var isDone = false

    init(_ world: World, _ plan: ClientPlan) {
        self.world = world
        self.plan = plan
    }

    deinit { if fd >= 0 { close(fd) } }

    private var script: ClientPlan.Connection { plan.connections[connectionIndex] }

    /// Whether what it waits for may need a timeout.
    var mayWait: Bool {
        isDone || answered < script.requests.count && world.isExcused(script.requests[answered].id)
    }

    private var next: String {
        guard !isDone, let request = script.requests.dropFirst(answered).first else { return "-" }
        return "\(request)"
    }

    var state: String {
        "client connection \(connectionIndex)/\(plan.connections.count) fd \(fd) sent \(bytesSent)"
            + "/\(bytesQueued) queued \(queued) answered \(answered)"
            + " of \(isDone ? 0 : script.requests.count) in answer \(isInAnswer)"
            + " next \(next)"
    }

    func act(_ dice: inout Dice, isEager: Bool) {
        guard !isDone else { return }
        if fd < 0 { return connect() }
        let reads = isEager || dice.chance(plan.readShare)
        if reads { read(atMost: isEager ? 256 << 10 : dice.within(1...plan.readMax)) }
        guard fd >= 0 else { return }
        fill(&dice)
        write(isEager ? 256 << 10 : dice.within(1...plan.writeMax))
    }

    private func connect() {
        guard connectionIndex < plan.connections.count else {
            isDone = true
            return
        }
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        fd = socket(world.address.family, type, 0)
        if plan.smallBuffers { SmallBuffers.set(fd) }
        // A piece that waits for an acknowledgement would wait in real time.
        if !world.address.isUnix { Socket.setNoDelay(fd) }
        if world.address.withSockaddr({ CLinux.connect(fd, $0, $1) }) != 0, lastErrno != EINPROGRESS
        {
            // A full backlog of a Unix socket: later again.
            close(fd)
            fd = -1
            return
        }
        out = Outgoing()
        reader = WireReader()
        (bytesSent, queued, bytesQueued, answered, ends) = (0, 0, 0, 0, [])
        (isInAnswer, isGatewayAnswer, willClose, isWriteBroken) = (false, false, false, false)
    }

    /// Puts the next request into the stream: when the one before is answered, or at once.
    private func fill(_ dice: inout Dice) {
        while queued < script.requests.count, !willClose, plan.pipelines || queued == answered,
            queued == 0 || script.requests[queued - 1].keepAlive
        {
            let request = script.requests[queued]
            let head = request.head()
            bytesQueued += head.utf8.count
            out.add(head)
            switch request.framing {
            case .none: break
            case .length:
                out.add(Content.ofRequest(request.id), request.bodyBytes)
            case .chunked:
                out.addChunked(
                    Content.ofRequest(request.id), request.bodyBytes, trailers: request.trailers,
                    &dice)
            }
            bytesQueued = bytesSent + out.byteCount
            ends.append(bytesQueued)
            queued += 1
        }
    }

    private func write(_ limit: Int) {
        guard !out.isEmpty, !isWriteBroken else { return }
        var limit = limit
        if let last = script.leavesAfterBytes { limit = min(limit, max(0, last - bytesSent)) }
        guard let sent = out.send(to: fd, atMost: limit) else {
            // What came before the reset is still to be read.
            isWriteBroken = true
            return
        }
        bytesSent += sent
        world.progress += sent
        for index in 0..<ends.count where ends[index] <= bytesSent {
            world.fates[script.requests[index].id]!.isSentWhole = true
        }
        if let last = script.leavesAfterBytes, bytesSent >= last { leave() }
    }

    /// Goes away in the middle.
    private func leave() {
        for request in script.requests { world.excuse(request.id, "the client went away") }
        if script.leavesWithReset { Socket.setResetOnClose(fd) }
        finishConnection()
    }

    private func finishConnection() {
        close(fd)
        fd = -1
        world.progress += 1
        connectionIndex += 1
        if connectionIndex == plan.connections.count { isDone = true }
    }

    private func read(atMost limit: Int) {
        var left = limit
        while left > 0, fd >= 0 {
            let room = min(left, world.scratch.memory.count)
            switch Socket.receive(fd, world.scratch.memory.baseAddress!, room) {
            case .bytes(let count):
                left -= count
                world.progress += count
                take(UnsafeRawBufferPointer(rebasing: world.scratch.memory[..<count]))
            case .wouldBlock: return
            case .endOfStream: return ended(isClean: true)
            case .failed(let code):
                if code == ECONNREFUSED { return }
                return ended(isClean: false)
            }
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while true {
            switch reader.next(bytes, &position) {
            case .needMore: return
            case .head(let head): takeHead(head)
            case .end: answerEnded()
            case .wrong(let text):
                return world.fail("client: \(text); \(state); got \(hex(bytes, position))")
            }
            if world.hasFailed || fd < 0 { return }
        }
    }

    private func hex(_ bytes: UnsafeRawBufferPointer, _ position: Int) -> String {
        String(decoding: bytes[position..<min(bytes.count, position + 60)], as: UTF8.self)
    }

    private func takeHead(_ head: WireHead) {
        // A connection over the limit is answered before it asks.
        let isRefused = world.plan.isTight && head.line.contains(" 503 ")
        guard answered < queued || isRefused else {
            world.fail("client: an answer that nobody asked for: \(head.text)")
            return
        }
        let request = script.requests[answered]
        let status = Int(head.line.split(separator: " ").dropFirst().first ?? "") ?? 0
        isInAnswer = true
        if let id = head.value("x-answer") {
            takePrimaryHead(head, request, status: status, id: id)
        } else {
            takeGatewayHead(head, request, status: status)
        }
    }

    private func takePrimaryHead(
        _ head: WireHead, _ request: RequestPlan, status: Int, id: String
    ) {
        let answer = request.answer
        if id != "\(request.id)" {
            return world.fail("client: the answer to \(id) for \(request); \(state)")
        }
        if status < 200 {
            if request.isHTTP10 { return world.fail("client: 1xx for HTTP/1.0") }
            isInAnswer = false
            return reader.begin(.none, content: nil)
        }
        if status != answer.status { return world.fail("client: status \(status), \(request)") }
        if head.value("via") != "1.1 umbra" { return world.fail("client: no Via: \(head.text)") }
        if head.value("connection") == "close" { willClose = true }
        let framing: WireReader.Framing
        expectedBytes = answer.bodyBytes
        if answer.framing == .none {
            framing = .none
            expectedBytes = 0
        } else if head.value("transfer-encoding") == "chunked" {
            // What a close ends at the primary is sent in chunks: a cut is then seen to be one.
            if answer.framing == .length || request.isHTTP10 {
                return world.fail("client: chunked framing: \(head.text)")
            }
            framing = .chunked
        } else if let length = head.value("content-length").flatMap({ Int($0) }) {
            if answer.framing != .length || length != answer.bodyBytes {
                return world.fail("client: wrong length: \(head.text)")
            }
            framing = .length(length)
        } else {
            if answer.framing == .length { return world.fail("client: no length: \(head.text)") }
            if !request.isHTTP10 { return world.fail("client: until close: \(head.text)") }
            framing = .untilClose
            willClose = true
        }
        reader.begin(framing, content: Content.ofAnswer(request.id))
    }

    private func takeGatewayHead(_ head: WireHead, _ request: RequestPlan, status: Int) {
        isGatewayAnswer = true
        let length = head.value("content-length").flatMap { Int($0) }
        guard let length, head.value("content-type") == "application/json",
            [408, 502, 503, 504].contains(status)
        else { return world.fail("client: neither primary's nor gateway's answer: \(head.text)") }
        if world.fates[request.id]!.excuse == nil, !world.mayRefuse(status) {
            world.fail("client: \(status) without a reason, \(request)")
        }
        if head.value("connection") == "close" { willClose = true }
        expectedBytes = nil
        reader.begin(request.method == "HEAD" ? .none : .length(length), content: nil)
    }

    private func answerEnded() {
        guard isInAnswer else { return }
        let request = script.requests[answered]
        if isGatewayAnswer {
            let body = String(decoding: reader.free, as: UTF8.self)
            if request.method != "HEAD", !body.hasPrefix("{\"error\": {") || !body.hasSuffix("}}\n")
            {
                world.fail("client: the gateway's answer: \(body)")
            }
        } else {
            // A Unix socket knows no reset: what the primary cut off there looks whole to all.
            let mayBeShort =
                world.plan.usesUnixSockets && request.answer.framing == .untilClose
                && world.isExcused(request.id)
            if reader.contentBytes != expectedBytes, !mayBeShort {
                world.fail("client: \(reader.contentBytes) bytes, \(request)")
            }
            let trailers = request.answer.framing == .chunked ? request.answer.trailers : ""
            if reader.trailers != trailers {
                world.fail("client: trailers \(reader.trailers), \(request)")
            }
        }
        world.fates[request.id]!.isAnswered = true
        isInAnswer = false
        isGatewayAnswer = false
        answered += 1
        if answered == script.requests.count { finishConnection() }
    }

    /// The gateway has closed the connection.
    private func ended(isClean: Bool) {
        // A write that failed has taken the reset's error: what a read says then is no end.
        let isClean = isClean && !isWriteBroken
        if isInAnswer, reader.isUntilClose, isClean {
            let request = script.requests[answered]
            // A Unix socket knows no reset: there a cut looks like an end.
            let mayBeShort = world.plan.usesUnixSockets && world.mayCut(request.id)
            if reader.contentBytes != expectedBytes, !mayBeShort {
                world.fail("client: a cut answer passes as a whole one, \(request)")
            }
            world.fates[request.id]!.isAnswered = true
            return finishConnection()
        }
        if answered < script.requests.count, answered < queued || isInAnswer {
            let request = script.requests[answered]
            // Bytes behind the last request are thrown away within bounds; a reset beyond these
            // may overtake the answer.
            let isAnnounced = willClose && (!isInAnswer || !isClean && queued > answered + 1)
            // The reset that cuts a later answer off takes this one with it.
            let isDragged =
                !isClean
                && script.requests[answered..<queued].contains {
                    world.isExcused($0.id)
                }
            if !isDragged, !isAnnounced, !world.mayCut(request.id) {
                world.fail("client: cut off (\(isClean ? "end" : "reset")), \(request); \(state)")
            }
        } else if answered < script.requests.count, !willClose, world.calm, !hasExcuse {
            world.fail("client: closed between requests; \(state)")
        }
        finishConnection()
    }

    private var hasExcuse: Bool { script.requests.contains { world.fates[$0.id]!.excuse != nil } }
}
