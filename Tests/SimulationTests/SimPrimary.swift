import CLinux
import CoreLoop

/// The primary: judges what it gets and answers each request as its plan says.
final class SimPrimary {
    private unowned let world: World
    private let listener: Int32
    let address: SocketAddress
    private var connections: [PrimaryConnection] = []

    init(_ world: World, _ listening: Listening, smallBuffers: Bool) {
        self.world = world
        listener = listening.fd
        address = listening.address
        if smallBuffers { SmallBuffers.set(listener) }
    }

    deinit { close(listener) }

    var states: [String] { connections.map(\.state) }

    func accept() {
        var storage = sockaddr_storage()
        var length = socklen_t()
        while case .connection(let fd) = Socket.accept(listener, &storage, &length) {
            connections.append(PrimaryConnection(world, fd))
        }
    }

    /// One of its connections does something.
    func act(_ dice: inout Dice) {
        accept()
        guard !connections.isEmpty else { return }
        let index = dice.below(connections.count)
        connections[index].act(&dice, isEager: false)
        if !world.calm, dice.chance(3) {
            connections[index].closeIfIdle(withReset: dice.chance(30))
        }
        sweep()
    }

    func actAll(_ dice: inout Dice) {
        accept()
        for connection in connections { connection.act(&dice, isEager: true) }
        sweep()
    }

    /// Ends everything, as a service that stops.
    func closeAll() {
        accept()
        connections = []
    }

    private func sweep() { connections.removeAll { $0.isOver } }
}

/// One connection from the gateway.
final class PrimaryConnection {
    private unowned let world: World
    private var fd: Int32
    private var reader = WireReader()
    private var out = Outgoing()
    private var current: RequestPlan?
    private var isWhole = false
    private var hasAnswered = false
    private var delay = 0
    private var afterOut = AfterOut.nothing
    private var isStuck = false
    private(set) var isOver = false
    private var owesSurplus = false
    private var lastServed: Int?

    private enum AfterOut { case nothing, close, reset, stick }

    private static let evil =
        "HTTP/1.1 200 OK\r\nX-Answer: 0\r\nContent-Length: 4\r\n\r\nEVIL"

    init(_ world: World, _ fd: Int32) {
        self.world = world
        self.fd = fd
    }

    deinit { if fd >= 0 { close(fd) } }

    var state: String {
        "primary fd \(fd) request \(current?.id ?? -1) whole \(isWhole) answered \(hasAnswered)"
            + " stuck \(isStuck) out \(out.byteCount) read \(reader.contentBytes)"
    }

    private func end(withReset: Bool = false) {
        if withReset { Socket.setResetOnClose(fd) }
        close(fd)
        fd = -1
        isOver = true
    }

    /// Whether a request, or a part of one, lies there unread.
    private var hasUnread: Bool { Socket.isStale(fd) }

    /// Closes where no request has reached it: the gateway has to notice before it sends one.
    func closeIfIdle(withReset: Bool) {
        guard !isOver, current == nil, out.isEmpty, reader.isBetweenMessages, !hasUnread,
            let lastServed
        else { return }
        world.idleCloses += 1
        // A reset takes back what the kernel still holds of an answer.
        end(withReset: withReset && world.fates[lastServed]!.isAnswered)
    }

    func act(_ dice: inout Dice, isEager: Bool) {
        guard !isOver, !isStuck else { return }
        if owesSurplus, current == nil, dice.chance(30) { sendSurplus() }
        if isOver { return }
        if !out.isEmpty {
            guard let sent = out.send(to: fd, atMost: isEager ? 1 << 20 : dice.within(1...100_000))
            else { return end() }
            world.progress += sent
            if out.isEmpty { answerIsOut() }
            if isOver { return }
        } else if current != nil, !hasAnswered, isWhole || current!.answer.isEarly {
            if delay > 0, !isEager {
                delay -= 1
            } else {
                answer(&dice)
            }
        }
        if !isStuck, !isOver { read(isEager ? 256 << 10 : dice.within(1...100_000)) }
    }

    private func read(_ limit: Int) {
        let room = min(limit, world.scratch.memory.count)
        switch Socket.receive(fd, world.scratch.memory.baseAddress!, room) {
        case .bytes(let count):
            world.progress += count
            take(UnsafeRawBufferPointer(rebasing: world.scratch.memory[..<count]))
        case .wouldBlock: return
        case .endOfStream, .failed:
            if let current, !isWhole, !world.mayCut(current.id) {
                world.fail("primary: request cut off: \(current)")
            }
            end()
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while true {
            switch reader.next(bytes, &position) {
            case .needMore: return
            case .head(let head): takeHead(head)
            case .end: requestEnded()
            case .wrong(let text):
                return world.fail("primary: request \(current.map { "\($0)" } ?? "?"): \(text)")
            }
            if world.hasFailed || isStuck || isOver { return }
        }
    }

    private func takeHead(_ head: WireHead) {
        if let current {
            return world.fail("primary: a request behind the unanswered \(current): \(head.text)")
        }
        guard let id = head.value("x-id").flatMap({ Int($0) }), let fate = world.fates[id] else {
            return world.fail("primary: no request: \(head.text)")
        }
        let plan = fate.plan
        if let fault = wrong(head, plan) {
            return world.fail("primary: \(fault): \(head.text)")
        }
        world.fates[id]!.headsAtPrimary += 1
        let most = plan.isIdempotent ? 2 : 1
        if world.fates[id]!.headsAtPrimary > most {
            return world.fail("primary: sent \(fate.headsAtPrimary + 1) times: \(plan)")
        }
        current = plan
        isWhole = false
        hasAnswered = false
        delay = plan.answer.delay
        let framing: WireReader.Framing =
            switch plan.framing {
            case .none: .none
            case .length: .length(plan.bodyBytes)
            case .chunked: .chunked
            }
        reader.begin(framing, content: Content.ofRequest(id))
        if plan.answer.fault == .stopsReading { isStuck = true }
    }

    private func wrong(_ head: WireHead, _ plan: RequestPlan) -> String? {
        let line = "\(plan.method) \(plan.path)?q=1&token=\(RequestPlan.canary)1&z=2 HTTP/1.1"
        if head.line != line { return "request line" }
        if head.values("host") != ["sim.test"] { return "Host" }
        if head.value("authorization") != "Bearer \(RequestPlan.canary)2" { return "credentials" }
        if head.value("cookie") != "a=\(RequestPlan.canary)3" { return "cookie" }
        if head.value("te") != nil || head.value("x-hop") != nil { return "hop-by-hop" }
        if head.value("connection") != nil { return "Connection" }
        if head.values("via") != ["1.\(plan.isHTTP10 ? 0 : 1) umbra"] { return "Via" }
        if (head.value("x-padding") ?? "").utf8.count != plan.padding { return "padding" }
        let length = head.values("content-length")
        let coding = head.values("transfer-encoding")
        switch plan.framing {
        case .none: if !length.isEmpty || !coding.isEmpty { return "framing" }
        case .length: if length != ["\(plan.bodyBytes)"] || !coding.isEmpty { return "framing" }
        case .chunked: if !length.isEmpty || coding != ["chunked"] { return "framing" }
        }
        return nil
    }

    private func requestEnded() {
        guard let plan = current else { return }
        isWhole = true
        if reader.contentBytes != plan.bodyBytes {
            return world.fail("primary: \(reader.contentBytes) bytes of \(plan)")
        }
        if plan.framing == .chunked, reader.trailers != plan.trailers {
            return world.fail("primary: trailers \(reader.trailers), \(plan)")
        }
        if !world.fates[plan.id]!.isSentWhole {
            return world.fail("primary: whole before the client sent it: \(plan)")
        }
        world.fates[plan.id]!.wholeAtPrimary += 1
        if hasAnswered, out.isEmpty { exchangeEnded() }
    }

    private func exchangeEnded() {
        lastServed = current?.id
        current = nil
        hasAnswered = false
    }

    // MARK: Answers

    private func answer(_ dice: inout Dice) {
        let request = current!
        let plan = request.answer
        hasAnswered = true
        afterOut = .nothing
        switch plan.fault {
        case .closeBefore: return end()
        case .resetBefore: return end(withReset: true)
        case .garbage:
            out.add("SSH-2.0-OpenSSH\r\n\r\n")
            return afterOut = .close
        case .hangBefore: return isStuck = true
        case .none, .twoFramings, .closeWithin, .resetWithin, .badChunk, .hangWithin, .stopsReading:
            break
        }
        for _ in 0..<plan.interims {
            out.add("HTTP/1.1 103 Early Hints\r\nX-Answer: \(request.id)\r\nLink: </x>\r\n\r\n")
        }
        var head = "HTTP/1.1 \(plan.status) Because\r\nX-Answer: \(request.id)\r\n"
        head += "Keep-Alive: timeout=5\r\n"
        if plan.fault == .twoFramings {
            head += "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
        }
        if !plan.keepAlive { head += "Connection: close\r\n" }
        switch plan.framing {
        case .none: if request.method == "HEAD" { head += "Content-Length: \(plan.bodyBytes)\r\n" }
        case .length: head += "Content-Length: \(plan.bodyBytes)\r\n"
        case .chunked: head += "Transfer-Encoding: chunked\r\n"
        case .untilClose: break
        }
        out.add(head + "\r\n")
        addBody(request, &dice)
        // Only over Unix sockets, where it is there before the gateway can send another request:
        // what crosses one on its way is an answer to all who see it.
        if plan.fault == .none, plan.keepAlive, world.plan.usesUnixSockets {
            owesSurplus = plan.surplus != .none
        }
    }

    /// Sends an answer that nobody asked for.
    private func sendSurplus() {
        owesSurplus = false
        guard !hasUnread else { return }
        out.add(Self.evil)
        if out.send(to: fd, atMost: 1_000) == nil || !out.isEmpty { end() }
    }

    private func addBody(_ request: RequestPlan, _ dice: inout Dice) {
        let plan = request.answer
        let body = Content.ofAnswer(request.id)
        var count = plan.framing == .none ? 0 : plan.bodyBytes
        var isCut: Bool
        switch plan.fault {
        case .closeWithin: (isCut, afterOut) = (true, .close)
        case .resetWithin: (isCut, afterOut) = (true, .reset)
        case .hangWithin: (isCut, afterOut) = (true, .stick)
        case .badChunk: (isCut, afterOut) = (plan.framing == .chunked, .close)
        default: isCut = false
        }
        // Nothing to cut: the answer is whole, and the connection's end is all there is of the
        // fault.
        if isCut, count == 0, plan.framing != .chunked { (isCut, afterOut) = (false, .close) }
        if isCut { count /= 2 }
        switch plan.framing {
        case .none: if isCut { afterOut = .close }
        case .length: out.add(body, count)
        case .untilClose:
            out.add(body, count)
            // A clean end says that this was all, and nobody can know better.
            if afterOut == .close { afterOut = .reset }
            if afterOut == .nothing { afterOut = .close }
        case .chunked:
            if !isCut { return out.addChunked(body, count, trailers: plan.trailers, &dice) }
            if count > 0 {
                out.add("\(String(count, radix: 16))\r\n")
                out.add(body, count)
            }
            out.add(plan.fault == .badChunk ? "\r\nxyz\r\n" : "\r\n")
        }
        if !plan.keepAlive, afterOut == .nothing { afterOut = .close }
    }

    private func answerIsOut() {
        switch afterOut {
        case .nothing:
            let sendsAtOnce = current?.answer.surplus == .atOnce
            if current != nil, hasAnswered, isWhole { exchangeEnded() }
            if owesSurplus, sendsAtOnce, current == nil { sendSurplus() }
        case .close: end()
        case .reset: end(withReset: true)
        case .stick: isStuck = true
        }
        afterOut = .nothing
    }
}
