import CLinux
import CoreLoop
import Mirror
import Synchronization
import Upstream

@testable import Proxy

/// A gateway with its clients, its primary and its shadows, in one thread. The seed decides who
/// acts next and what time it is; the sockets are real.
final class World {
    let seed: UInt64
    let plan: WorldPlan
    let settings: GatewaySettings
    let scratch = Scratch()
    var fates: [Int: Fate] = [:]
    private(set) var failure: String?
    /// Bytes and connections that moved.
    var progress = 0
    private(set) var address: SocketAddress
    private var dice: Dice
    private var now = Instant(nanoseconds: 5_000_000_000_000)

    private let listener: Int32
    private let wake: Wake
    private let boardMemory: SharedMemory
    private let capMemory: SharedMemory
    private let caps: [QPSCap]
    private let linkMemory: SharedMemory
    private let blockMemory: SharedMemory
    let board: Board
    private let link: MirrorLink
    let worker: ProxyWorker
    private let tap: MirrorTap?
    private let log: AccessLog?
    private let logFD: Int32
    private var shadowWorker: ShadowWorker?
    private var primary: SimPrimary!
    /// Idle connections that the primary has closed. Over TCP the end may cross a request.
    var idleCloses = 0
    private var shadows: [SimShadow] = []
    private var clients: [SimClient] = []
    private var watch: SendWatch
    private let directory: String?

    var hasFailed: Bool { failure != nil }
    /// Nothing runs out and no time is over: every exchange ends as its plan says.
    var calm: Bool { !plan.isTight && !plan.isHasty }
    func mayCut(_ id: Int) -> Bool { !calm || fates[id]!.excuse != nil }

    init(seed: UInt64) throws {
        self.seed = seed
        var plan = WorldPlan(seed: seed)
        directory = plan.usesUnixSockets ? try Self.makeDirectory() : nil
        let here = directory
        func wanted(_ name: String) -> SocketAddress {
            SocketAddress(here.map { "unix:\($0)/\(name)" } ?? "127.0.0.1:0")!
        }
        listener = try Socket.listen(on: wanted("g"), sharesPort: false)
        address = try Socket.localAddress(listener)
        wake = try Wake.create()
        // Addresses come last: they are not known before the peers listen.
        let primaryListener = try Listening(wanted("p"))
        let shadowListeners = try plan.settings.shadows.indices.map {
            try Listening(wanted("s\($0)"))
        }
        plan.settings.targets = [primaryListener.target("primary")]
        for (index, listening) in shadowListeners.enumerated() {
            plan.settings.targets.append(listening.target("shadow-\(index)"))
        }
        plan.settings.listen = [ListenerSettings(address)]
        settings = plan.settings
        self.plan = plan
        dice = plan.rng

        let shape = Board.Shape(settings: settings, workers: 1)
        boardMemory = try .plain(byteCount: Board.byteCount(shape))
        board = Board.map(boardMemory.base, shape)
        board.mirror.control[.enabled].set(1)
        for epoch in board.mirror.shadowEpochs { epoch.publish(1) }
        let runtime = settings.runtime
        linkMemory = try .plain(byteCount: MirrorLink.byteCount(depth: runtime.ringDepth))
        var memoryPlan = MemoryPlan(base: linkMemory.base)
        link = MirrorLink(plan: &memoryPlan, depth: runtime.ringDepth)!
        blockMemory = try .plain(byteCount: runtime.blocksPerWorker * runtime.blockBytes)
        let capacity = QPSCap.capacity(for: settings.shadows.map(\.qps).max() ?? 0)
        let capBytes = QPSCap.byteCount(capacity: capacity)
        capMemory = try .plain(byteCount: max(1, settings.shadows.count) * capBytes)
        let capBase = capMemory.base
        caps = settings.shadows.indices.map { .map(capBase + $0 * capBytes, capacity: capacity) }
        watch = SendWatch(depth: runtime.ringDepth, qps: settings.shadows.map(\.qps))
        tap =
            settings.shadows.isEmpty
            ? nil
            : try MirrorTap(
                worker: 0, process: 0, routes: settings.routes.map(\.lanes), link: link,
                board: board.mirror, wake: wake, blocksOnLoanMax: runtime.blocksOnLoanMax,
                random: SecureRandom(simulatedFrom: seed))
        logFD = plan.hasLog ? memfd_create("log", UMBRA_MFD_CLOEXEC) : -1
        log =
            plan.hasLog
            ? try AccessLog(
                fd: logFD, routes: settings.routes.map(\.name),
                targets: settings.routes.map { _ in "primary" },
                shadows: settings.shadows.map(\.targetID), counters: board.workers[0].counters)
            : nil
        worker = try ProxyWorker(
            settings: settings, index: 0, board: board, memory: blockMemory.base, memoryFD: -1,
            tap: tap, log: log, wakeFD: -1, now: now, seed: seed, movesClock: true)
        try worker.addListener(listener)
        try fill(primaryListener, shadowListeners)
    }

    deinit {
        close(listener)
        close(wake.fd)
        if logFD >= 0 { close(logFD) }
        if let directory {
            for name in ["g", "p", "s0", "s1", "s2"] { unlink("\(directory)/\(name)") }
            rmdir(directory)
        }
    }

    private static func makeDirectory() throws -> String {
        var name = Array("/tmp/umbra-sim-XXXXXX".utf8CString)
        guard mkdtemp(&name) != nil else { throw SystemError("mkdtemp") }
        return String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func fill(_ primaryListener: Listening, _ shadowListeners: [Listening]) throws {
        primary = SimPrimary(self, primaryListener, smallBuffers: dice.chance(40))
        for (index, listening) in shadowListeners.enumerated() {
            let mode = dice.chance(50) ? .fast : dice.one(of: ShadowMode.allCases)
            shadows.append(SimShadow(self, index: index, listening, mode: mode))
        }
        startShadow()
        var id = 1
        var drawing = plan
        for _ in 0..<plan.clientCount {
            drawing.rng = dice
            let client = drawing.clientPlan(firstID: id)
            dice = drawing.rng
            for request in client.connections.flatMap(\.requests) {
                fates[request.id] = Fate(plan: request, excuse: Self.excuse(request))
                id = request.id + 1
            }
            clients.append(SimClient(self, client))
        }
    }

    /// What in the plan itself may cost a request its answer.
    private static func excuse(_ request: RequestPlan) -> String? {
        if request.answer.fault != .none { return "the primary's fault" }
        if request.answer.isEarly, request.framing != .none { return "an early answer" }
        return nil
    }

    /// What the gateway holds, for a world that hangs.
    private var gateway: String {
        let clients = (0..<worker.clients.walkEnd).filter { worker.clients.isUsed($0) }.map {
            let client = worker.clients[$0].pointee
            return "client \($0): \(client.state) flags \(String(client.flags.rawValue, radix: 2))"
                + " in \(client.inEnd - client.inStart) out \(client.out.byteCount)"
                + " upstream \(client.upstream) left \(client.bodyLeft)"
        }
        let upstreams = (0..<worker.upstreams.walkEnd).filter { worker.upstreams.isUsed($0) }.map {
            let upstream = worker.upstreams[$0].pointee
            return "upstream \($0): \(upstream.state)"
                + " flags \(String(upstream.flags.rawValue, radix: 2))"
                + " in \(upstream.inEnd - upstream.inStart) out \(upstream.out.byteCount)"
                + " client \(upstream.client) left \(upstream.bodyLeft)"
        }
        return (clients + upstreams + primary.states).joined(separator: "\n")
    }

    var summary: String {
        let mirror = board.mirror
        var text = "requests \(board.workers[0].counters.value(.requests))"
        for shadow in settings.shadows.indices {
            let tally = mirror.tally(worker: 0, shadow: shadow)
            text += "; shadow \(shadow) sent \(tally.sent.value)"
            for result in CopyResult.allCases where tally.results(result).value > 0 {
                text += " \(result.label) \(tally.results(result).value)"
            }
            for reason in DropReason.allCases where tally.dropped(reason).value > 0 {
                text += " \(reason.label) \(tally.dropped(reason).value)"
            }
        }
        return text
    }

    // MARK: What the peers say

    func fail(_ text: String) {
        guard failure == nil else { return }
        let counters = board.workers[0].counters
        let counted = WorkerCounter.allCases.filter { counters.value($0) > 0 }
            .map { "\($0) \(counters.value($0))" }
        let kind = [
            plan.isTight ? "tight" : nil, plan.isHasty ? "hasty" : nil,
            plan.usesUnixSockets ? "unix" : nil, plan.hasShadowDeaths ? "deaths" : nil,
        ].compactMap { $0 }
        failure = text + "\nworld: \(kind)\ncounted: \(counted.joined(separator: ", "))"
    }

    func excuse(_ id: Int, _ reason: String) { fates[id]!.excuse = reason }
    func isExcused(_ id: Int) -> Bool { fates[id]!.excuse != nil }

    func mayRefuse(_ status: Int) -> Bool {
        let mayCross = idleCloses > 0 && !plan.usesUnixSockets
        return (mayCross && status == 502) || (plan.isTight && status != 504)
            || (plan.isHasty && (status == 408 || status == 504))
    }

    func route(of request: RequestPlan) -> RouteSettings {
        settings.routes[min(request.route, settings.routes.count - 1)]
    }

    // MARK: The shadow process

    private func startShadow() {
        guard !settings.shadows.isEmpty, shadowWorker == nil else { return }
        do {
            shadowWorker = try ShadowWorker(
                process: 0, epoch: board.mirror.shadowEpochs[0].acquired,
                links: [
                    ShadowLink(
                        link: link, blocks: UnsafeRawPointer(blockMemory.base),
                        blockBytes: settings.runtime.blockBytes,
                        blockCount: settings.runtime.blocksPerWorker)
                ],
                shadows: settings.shadows, targets: settings.targets, caps: caps,
                board: board.mirror,
                wakeFD: wake.fd, now: now, seed: seed)
        } catch {
            fail("no shadow worker: \(error)")
        }
    }

    /// As a SIGKILL ends it, and as the supervisor clears up behind it.
    private func killShadow() {
        shadowWorker = nil
        link.attachedEpoch.publish(0)
        let epoch = board.mirror.shadowEpochs[0]
        epoch.publish(epoch.value + 1)
    }

    private func turnShadow() {
        shadowWorker?.turn(now: now, timeoutMs: 0)
        look()
    }

    private func turnWorker(timeoutMs: Int32 = 0) {
        worker.turn(now: now, timeoutMs: timeoutMs)
        look()
    }

    private func look() {
        if !settings.shadows.isEmpty, let fault = watch.look(link, now) { fail(fault) }
    }
}

// MARK: - The run

extension World {
    /// Runs to its end. What is wrong is in `failure`.
    func run() {
        for _ in 0..<plan.steps where !hasFailed { step() }
        settleDown()
        if !hasFailed { finish() }
    }

    private func step() {
        moveClock()
        switch dice.below(100) {
        case 0..<30: turnWorker()
        case 30..<42: turnShadow()
        case 42..<72: clients[dice.below(clients.count)].act(&dice, isEager: false)
        case 72..<90: primary.act(&dice)
        default:
            guard !shadows.isEmpty else { return }
            let shadow = shadows[dice.below(shadows.count)]
            shadow.act(&dice, isEager: false)
            if dice.chance(2) { shadow.change(dice.one(of: ShadowMode.allCases)) }
            if plan.hasShadowDeaths, dice.chance(3) {
                if shadowWorker == nil { startShadow() } else { killShadow() }
            }
        }
    }

    private func moveClock() {
        let microseconds = dice.below(1_500)
        now = Instant(nanoseconds: now.nanoseconds + UInt64(microseconds) * 1_000)
        if dice.chance(1) { now = now.adding(ms: dice.below(plan.isHasty ? 5_000 : 1_200)) }
    }

    private var allDone: Bool { clients.allSatisfy(\.isDone) }

    /// Everybody acts in turn until nothing moves any more.
    private func untilQuiet(idleRounds: Int) {
        var idle = 0
        while idle < idleRounds, !hasFailed {
            let before = progress
            // Small buffers make the kernel wait at times, in real time.
            turnWorker(timeoutMs: idle > 8 ? 1 : 0)
            turnShadow()
            for client in clients { client.act(&dice, isEager: true) }
            primary.actAll(&dice)
            for shadow in shadows { shadow.act(&dice, isEager: true) }
            now = Instant(nanoseconds: now.nanoseconds + 100_000)
            idle = progress == before ? idle + 1 : 0
            if allDone, idle > 8 { return }
            if idle > 12, clients.allSatisfy(\.mayWait) { return }
        }
    }

    /// Lets all exchanges end: first without time passing, then by their timeouts.
    private func settleDown() {
        if shadowWorker == nil { startShadow() }
        untilQuiet(idleRounds: 300)
        let stuck = clients.filter { !$0.isDone && !$0.mayWait }
        if calm, let client = stuck.first, !hasFailed {
            return fail("hangs without a reason: \(client.state)\n\(gateway)")
        }
        var rounds = 0
        while !allDone, !hasFailed {
            now = now.adding(ms: plan.isHasty ? 5_000 : 100_000)
            untilQuiet(idleRounds: calm ? 60 : 8)
            rounds += 1
            if getenv("UMBRA_SHOW") != nil {
                print(now, gateway)
                for client in clients { print(client.state) }
            }
            if rounds > 400 {
                return fail("hangs for ever: \(clients.first { !$0.isDone }!.state)\n\(gateway)")
            }
        }
        // The mirror: what is under way ends by the shadows' timeouts.
        for _ in 0..<120 where !hasFailed {
            now = now.adding(ms: 100)
            untilQuiet(idleRounds: 2)
        }
    }

    private func finish() {
        checkQuiet()
        checkCounters()
        primary.closeAll()
        for _ in 0..<4 { turnWorker() }
        if worker.upstreams.usedCount != 0 {
            fail("\(worker.upstreams.usedCount) upstream connections are left")
        }
        shadowWorker?.cancelAll()
        shadowWorker = nil
        checkDescriptors()
        if !hasFailed { checkLog() }
    }

    private func checkQuiet() {
        if worker.clientCount != 0 { fail("\(worker.clientCount) clients are left") }
        if worker.blocksTaken != 1 { fail("\(worker.blocksTaken - 1) blocks are left") }
        if worker.slicesUsed != 0 { fail("\(worker.slicesUsed) slices are left") }
        if tap?.hasOutstanding == true { fail("copies are outstanding") }
        let active = (0..<worker.upstreams.walkEnd).filter {
            worker.upstreams.isUsed($0) && worker.upstreams[$0].pointee.state != .idle
        }
        if !active.isEmpty { fail("\(active.count) upstream connections are not idle") }
    }

    private func checkCounters() {
        let mirror = board.mirror
        for shadow in settings.shadows.indices {
            var sampled: UInt64 = 0
            for (index, route) in settings.routes.enumerated() {
                let lane = mirror.lane(worker: 0, route: index, shadow: shadow)
                let eligible = lane.value(.eligible)
                if eligible != lane.value(.sampled) + lane.value(.notSampled) {
                    fail("eligible \(eligible) is not sampled + not sampled")
                }
                sampled += lane.value(.sampled)
                guard let settings = route.lanes.first(where: { $0.shadow == shadow }) else {
                    continue
                }
                let expected = settings.sampleRate * Double(eligible)
                if settings.sampleBy == .request,
                    abs(Double(lane.value(.sampled)) - expected) >= 1 + 1e-6
                {
                    fail("sampled \(lane.value(.sampled)) of \(eligible) at \(settings.sampleRate)")
                }
            }
            let tally = mirror.tally(worker: 0, shadow: shadow)
            if tally.outstanding.value != 0 { fail("outstanding \(tally.outstanding.value)") }
            if sampled != tally.sent.value + tally.droppedTotal {
                fail("sampled \(sampled), sent \(tally.sent.value), dropped \(tally.droppedTotal)")
            }
            if tally.sent.value != tally.resultsTotal {
                fail("sent \(tally.sent.value), results \(tally.resultsTotal)")
            }
            if tally.results(.ok).value > UInt64(shadows[shadow].goodAnswers) {
                fail("\(tally.results(.ok).value) ok of \(shadows[shadow].goodAnswers) answers")
            }
            if tally.sent.value < UInt64(shadows[shadow].headCount) {
                fail("\(shadows[shadow].headCount) copies came of \(tally.sent.value) sent")
            }
        }
    }

    /// No descriptor of this world may be left but those that the world still holds.
    private func checkDescriptors() {
        guard plan.usesUnixSockets == false, let port = address.port else { return }
        clients = []
        shadows = []
        let primaryPort = primary.address.port
        for fd in Int32(0)..<4_096 {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let result = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    getpeername(fd, $0, &length)
                }
            }
            guard result == 0, storage.ss_family == sa_family_t(AF_INET) else { continue }
            let peer = withUnsafePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    SocketAddress(copying: $0, length: length)
                }
            }
            let local = try? Socket.localAddress(fd)
            if local?.port == port { fail("a client's descriptor is left") }
            if peer.port == primaryPort { fail("a descriptor to the primary is left") }
        }
    }

    private func checkLog() {
        guard let log else { return }
        log.stop()
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = bytes.withUnsafeMutableBytes { pread(logFD, $0.baseAddress, $0.count, 0) }
        let lines = bytes[..<max(0, count)].count { $0 == 0x0A }
        let counters = board.workers[0].counters
        if UInt64(lines) != counters.value(.logRecords) {
            fail("\(lines) lines of \(counters.value(.logRecords)) records")
        }
        let logged = counters.value(.logRecords) + counters.value(.logDropped)
        if calm, logged != counters.value(.requests) {
            fail("\(logged) records of \(counters.value(.requests)) requests")
        }
    }
}
