import CLinux
import CoreLoop
import Mirror
import Proxy

/// What a shadow does with copies.
enum ShadowMode: CaseIterable {
    case fast, slow, hung, refusing, resetting, garbage, endless, busy, closing
}

/// One shadow: judges the copies that it gets and behaves as badly as its mode says.
final class SimShadow {
    private unowned let world: World
    let index: Int
    let address: SocketAddress
    private var listener: Int32
    private var connections: [ShadowPeer] = []
    private(set) var mode: ShadowMode
    /// Whole answers with a status below 500 that were begun: no more results can be ok.
    fileprivate(set) var goodAnswers = 0
    fileprivate(set) var headCount = 0

    init(_ world: World, index: Int, _ listening: Listening, mode: ShadowMode) {
        self.world = world
        self.index = index
        self.mode = mode
        listener = listening.fd
        address = listening.address
        if mode == .refusing { refuse() }
    }

    deinit { if listener >= 0 { close(listener) } }

    private func refuse() {
        close(listener)
        listener = -1
    }

    func change(_ new: ShadowMode) {
        if new == .refusing, listener >= 0 { refuse() }
        if new != .refusing, listener < 0 {
            // Somebody else may have got the port meanwhile: then it goes on refusing.
            guard let fd = try? Socket.listen(on: address, sharesPort: false) else { return }
            listener = fd
        }
        mode = new
    }

    func act(_ dice: inout Dice, isEager: Bool) {
        var storage = sockaddr_storage()
        var length = socklen_t()
        if listener >= 0, mode != .hung || dice.chance(50) {
            while case .connection(let fd) = Socket.accept(listener, &storage, &length) {
                connections.append(ShadowPeer(world, self, fd))
            }
        }
        if isEager {
            for connection in connections { connection.act(&dice, isEager: true) }
        } else if !connections.isEmpty {
            connections[dice.below(connections.count)].act(&dice, isEager: false)
        }
        connections.removeAll { $0.isOver }
    }

    func closeAll() { connections = [] }
}

/// One connection from the shadow process.
private final class ShadowPeer {
    private unowned let world: World
    private unowned let shadow: SimShadow
    private var fd: Int32
    private var reader = WireReader()
    private var out = Outgoing()
    private var current: RequestPlan?
    private var delay = 0
    private var closesBehind = false
    private(set) var isOver = false

    init(_ world: World, _ shadow: SimShadow, _ fd: Int32) {
        self.world = world
        self.shadow = shadow
        self.fd = fd
    }

    deinit { if fd >= 0 { close(fd) } }

    private func end(withReset: Bool = false) {
        if withReset { Socket.setResetOnClose(fd) }
        close(fd)
        fd = -1
        isOver = true
    }

    func act(_ dice: inout Dice, isEager: Bool) {
        guard !isOver, shadow.mode != .hung else { return }
        if !out.isEmpty {
            guard let sent = out.send(to: fd, atMost: isEager ? 1 << 20 : dice.within(1...50_000))
            else { return end() }
            world.progress += sent
            if out.isEmpty, closesBehind { return end() }
        }
        if current != nil, reader.isBetweenMessages, out.isEmpty {
            if delay > 0 {
                delay -= 1
            } else {
                answer(&dice)
            }
            return
        }
        read(isEager ? 256 << 10 : dice.within(1...100_000), &dice)
    }

    private func read(_ limit: Int, _ dice: inout Dice) {
        let room = min(limit, world.scratch.memory.count)
        switch Socket.receive(fd, world.scratch.memory.baseAddress!, room) {
        case .bytes(let count):
            world.progress += count
            take(UnsafeRawBufferPointer(rebasing: world.scratch.memory[..<count]), &dice)
        case .wouldBlock: return
        case .endOfStream, .failed: end()
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer, _ dice: inout Dice) {
        var position = 0
        while true {
            switch reader.next(bytes, &position) {
            case .needMore: return
            case .head(let head):
                takeHead(head, &dice)
                if shadow.mode == .resetting { return end(withReset: true) }
            case .end: copyEnded()
            case .wrong(let text):
                return world.fail("shadow: copy of \(current.map { "\($0)" } ?? "?"): \(text)")
            }
            if world.hasFailed || isOver { return }
        }
    }

    private func takeHead(_ head: WireHead, _ dice: inout Dice) {
        if current != nil { return world.fail("shadow: a copy behind an unanswered one") }
        guard let id = head.value("x-id").flatMap({ Int($0) }), let fate = world.fates[id] else {
            return world.fail("shadow: no request: \(head.text)")
        }
        if let fault = wrong(head, fate) {
            return world.fail("shadow: \(fault): \(fate.plan): \(head.text)")
        }
        shadow.headCount += 1
        world.fates[id]!.headsAtShadow[shadow.index] += 1
        current = fate.plan
        delay = shadow.mode == .slow ? dice.within(10...200) : dice.below(3)
        if let length = head.value("content-length") {
            reader.begin(.length(Int(length) ?? -1), content: Content.ofRequest(id))
        } else if head.value("transfer-encoding") == "chunked" {
            reader.begin(.chunked, content: Content.ofRequest(id))
        } else {
            reader.begin(.none, content: nil)
        }
    }

    private func wrong(_ head: WireHead, _ fate: Fate) -> String? {
        let plan = fate.plan
        if !fate.isSentWhole { return "a copy before the request was whole" }
        if fate.headsAtShadow[shadow.index] > 0 { return "a second copy" }
        if head.text.contains(RequestPlan.canary) { return "a secret" }
        if !head.line.hasPrefix("\(plan.method) \(plan.path)?q=1&token=") { return "request line" }
        if !head.line.hasSuffix("&z=2 HTTP/1.1") { return "request line" }
        if head.values("x-umbra-shadow") != ["true"] { return "X-Umbra-Shadow" }
        if (head.value("x-umbra-shadow-id") ?? "").utf8.count != 36 { return "id" }
        if head.values("host") != ["sim.test"] { return "Host" }
        if head.value("x-user") == nil || head.value("x-hop") != nil { return "fields" }
        if (head.value("x-padding") ?? "").utf8.count != plan.padding { return "padding" }
        if plan.framing == .none, head.value("content-length") != nil { return "framing" }
        if head.values("content-length").count + head.values("transfer-encoding").count > 1 {
            return "framing"
        }
        let route = world.route(of: plan)
        guard let lane = route.lanes.first(where: { $0.shadow == shadow.index }) else {
            return "no lane"
        }
        if lane.sampleRate == 0 || !lane.methods.contains(plan.method) { return "not wanted" }
        if plan.bodyBytes > lane.bodyBytesMax { return "larger than max_body_bytes" }
        return nil
    }

    private func copyEnded() {
        guard let plan = current else { return }
        if reader.contentBytes != plan.bodyBytes {
            return world.fail("shadow: \(reader.contentBytes) bytes of \(plan)")
        }
        if reader.trailers.contains(RequestPlan.canary) {
            return world.fail("shadow: a secret in the trailers of \(plan)")
        }
        world.fates[plan.id]!.wholeAtShadow[shadow.index] += 1
    }

    private func answer(_ dice: inout Dice) {
        let plan = current!
        current = nil
        let body = Content.ofAnswer(plan.id)
        let isBodyless = plan.method == "HEAD"
        switch shadow.mode {
        case .fast, .slow, .hung, .refusing, .resetting:
            shadow.goodAnswers += 1
            let count = dice.below(2_000)
            if dice.chance(40), !isBodyless {
                out.add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                out.addChunked(body, count, trailers: "", &dice)
            } else {
                out.add("HTTP/1.1 404 No\r\nX-Answer: 0\r\nContent-Length: \(count)\r\n\r\n")
                if !isBodyless { out.add(body, count) }
            }
        case .garbage: out.add(dice.chance(50) ? "220 smtp ready\r\n" : "HTTP/1.1 200 OK\r\nA\n\n")
        case .endless:
            // Without a length the connection's end is the answer's.
            shadow.goodAnswers += 1
            out.add("HTTP/1.1 200 OK\r\n\r\n")
            out.add(Content.bytes, Content.bodyBytesMax)
            closesBehind = true
        case .busy:
            out.add(
                "HTTP/1.1 503 Busy\r\nRetry-After: \(dice.below(3))\r\nContent-Length: 0\r\n\r\n")
        case .closing: end()
        }
    }
}
