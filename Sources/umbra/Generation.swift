import Admin
import CLinux
import CoreLoop
import Mirror
import Proxy
import Upstream

/// The processes that run under one configuration, and all that only they share: launch page,
/// board, blocks, links and doors. What outlives a reload is the supervisor's.
///
/// It starts without serving (`startDue` until `isReady`), serves from `serve` on, and ends by
/// `retire` where another takes its place, or by `beginStop`.
final class Generation {
    /// A child that lived this long starts anew at once; sooner, each death doubles the wait.
    static let healthyMs: UInt64 = 1_000
    static let backoffMsFirst: UInt64 = 100
    static let backoffMsMax: UInt64 = 30_000
    /// A wait longer than this has a worker's socket served by another worker meanwhile.
    static let patienceMs: UInt64 = 150
    /// After the drain timeout, what still runs has this long before it is killed.
    static let killAfterMs: UInt64 = 1_000
    /// The nice value of the roles that no user waits for, but the shadow's, which is a setting.
    static let sideRoleNice = 5

    /// From 1.
    let number: Int
    let launch: Launch
    let board: Board
    /// Where its admin process's orders come in.
    let desk: ControlDesk
    /// What former generations have counted, in the board's layout; see `CarriedCounters`.
    let carried: Board
    private let boardMemory: SharedMemory
    private let launchFD: Int32
    private let secrets: Secrets
    let plan: ListenPlan
    let caps: CapPages.Set
    private var children: [Child] = []
    private var workerWakes: [Wake] = []
    private var shadowWakes: [Wake] = []
    private var regions: [Region] = []
    private(set) var latencyWatch: LatencyWatch?
    private var isServing = false
    /// What kept it from starting.
    private(set) var failure: String?
    /// Nil where no events are logged.
    let eventRings: EventRings?
    /// Those of the generations before, whose workers may still hand events over: this one's events
    /// process takes them.
    private let formerRings: [EventRings]
    /// Since when its processes are to end; nil while they serve.
    private(set) var endingSince: UInt64?

    /// Makes the memory of a generation; `startDue` then starts its processes.
    init(
        _ number: Int, _ launch: Launch, plan: ListenPlan, caps: CapPages.Set, tickets: TicketPage,
        formerRings: [EventRings]
    ) throws(SystemError) {
        self.number = number
        self.launch = launch
        self.plan = plan
        self.caps = caps
        let boardBytes = Board.byteCount(launch.shape)
        boardMemory = try .create(name: "umbra-board", byteCount: 2 * boardBytes)
        board = Board.map(boardMemory.base, launch.shape)
        carried = Board.map(boardMemory.base + boardBytes, launch.shape)
        desk = try ControlDesk()
        launchFD = try launch.write()
        latencyWatch = launch.settings.guardOverheadMax.map { LatencyWatch(overheadMax: $0) }
        secrets = try Secrets(launch, tickets)
        eventRings = try EventRings(launch)
        self.formerRings = formerRings
        board.mirror.control[.enabled].set(launch.settings.mirrorEnabled ? 1 : 0)
        for epoch in board.mirror.shadowEpochs { epoch.publish(1) }
        for worker in 0..<launch.workers {
            workerWakes.append(try .create())
            regions.append(try Region(launch.settings, worker: worker))
            children.append(Child(.worker, worker))
        }
        for index in 0..<launch.shape.mirror.shadowProcesses {
            shadowWakes.append(try .create())
            children.append(Child(.shadow, index))
        }
        if eventRings != nil { children.append(Child(.events, 0)) }
        if board.health != nil { children.append(Child(.health, 0)) }
    }

    deinit {
        close(launchFD)
        for wake in workerWakes + shadowWakes { close(wake.fd) }
    }

    /// Takes over what the generation before knows of endpoints that both check: a reload must not
    /// send requests to one that is known to be down. Before its processes are started.
    func inheritVerdicts(from former: Generation) {
        let checked = Set(launch.settings.targets.filter { $0.health != nil }.map(\.id))
        let known = former.board.verdicts(former.launch.settings)
        for (name, cells) in board.verdicts(launch.settings) where checked.contains(name.target) {
            guard let old = known[name] else { continue }
            for cell in [HealthCell.state, .sinceMs, .lastResult, .lastStatus] {
                cells[cell].set(old.value(cell))
            }
        }
        board.upstreams.healthVersion.publish(1)
    }

    /// Begins to serve, with the guard's memory of the generation before.
    func serve(after former: Generation?) {
        isServing = true
        if let watch = former?.latencyWatch, let mine = latencyWatch {
            latencyWatch = watch.continued(as: mine)
            board.mirror.control[.guardHolds].set(
                former?.board.mirror.control.value(.guardHolds) ?? 0)
        }
        for child in children where child.role == .worker {
            assignSockets(of: child.index, to: child.index)
        }
    }

    /// Starts the admin process: once that of the generation before has ended, which has the same
    /// listener.
    func serveAdmin() {
        if plan.admin >= 0 { children.append(Child(.admin, 0)) }
    }

    /// What its health process has found of names, for the next generation.
    var knownAddresses: KnownAddresses {
        KnownAddresses(launch.settings.targets, board.upstreams)
    }

    // MARK: How it is

    /// Every process runs, and every worker's copies have somebody to take them.
    var isReady: Bool {
        let running = UInt64(ProcessState.running.rawValue)
        return children.allSatisfy { row($0).value(.state) == running } && isMirrorAttached
    }

    private var isMirrorAttached: Bool {
        regions.enumerated().allSatisfy { worker, region in
            guard let link = region.link else { return true }
            let epoch = board.mirror.shadowEpochs[launch.shadowProcess(ofWorker: worker)]
            return link.attachedEpoch.acquired == epoch.acquired
        }
    }

    /// Its admin process, if there is one, has ended.
    var hasNoAdmin: Bool { children.allSatisfy { $0.role != .admin || $0.pid == 0 } }

    /// No process of it runs.
    var isOver: Bool { children.allSatisfy { $0.pid == 0 } }

    /// When the next of its processes is to be started, monotonic milliseconds.
    var nextStartMs: UInt64? { children.compactMap(\.startAtMs).min() }

    private func row(_ child: Child) -> CounterRow<ProcessCell> {
        switch child.role {
        case .worker: board.workerProcesses[child.index]
        case .shadow: board.shadowProcesses[child.index]
        case .health: board.health ?? board.admin
        case .events: board.events ?? board.admin
        default: board.admin
        }
    }

    /// Holds mirroring where it slows the users, and lets it go on; to be called in each turn.
    func watchLatency(now: Instant) { latencyWatch?.look(at: board, now: now) }

    // MARK: Starting

    /// Starts whatever is due.
    func startDue() {
        let now = Instant.now().milliseconds
        for child in children {
            guard let at = child.startAtMs, at <= now else { continue }
            child.startAtMs = nil
            start(child, now)
        }
    }

    private func start(_ child: Child, _ now: UInt64) {
        let cells = row(child)
        if child.role == .worker, isServing { assignSockets(of: child.index, to: child.index) }
        cells[.state].set(UInt64(ProcessState.starting.rawValue))
        cells[.heartbeatMs].set(now)
        do throws(SystemError) {
            let words = [
                "role", child.role.label, "--index", "\(child.index)", "--parent", "\(getpid())",
                "--listeners", "\(plan.sets.joined().count)",
            ]
            child.pid = try Spawning.start(
                words, descriptors(of: child), nice: nice(of: child.role))
        } catch {
            Console.log(.error, "cannot start \(child.name): \(error)")
            holdBack(child, now)
            return
        }
        Console.log(.debug, "\(child.name) started, process \(child.pid)")
        child.startedMs = now
        cells[.pid].set(UInt64(child.pid))
        cells[.startedMs].set(now)
    }

    /// The nice value of a role, where the supervisor's own is not higher.
    private func nice(of role: Role) -> Int {
        switch role {
        case .supervisor, .worker: CoreLoop.Limits.niceMin
        case .shadow: launch.settings.runtime.shadowNice
        case .admin, .health, .events: Self.sideRoleNice
        }
    }

    /// The descriptors of a child in the order of `RoleFD`.
    private func descriptors(of child: Child) -> [Spawning.Handed] {
        var list: [Spawning.Handed] = [
            (launchFD, RoleFD.launch), (boardMemory.fd, RoleFD.board),
        ]
        switch child.role {
        case .worker:
            let region = regions[child.index]
            list.append((workerWakes[child.index].fd, RoleFD.wake))
            list.append((region.blocks.fd, RoleFD.blocks))
            list += secrets.forWorkers
            list += eventRings?.forProducers ?? []
            if region.linkFD >= 0 {
                list.append((region.linkFD, RoleFD.link))
                list.append(
                    (shadowWakes[launch.shadowProcess(ofWorker: child.index)].fd, RoleFD.shadowWake)
                )
            }
            for (place, fd) in plan.sets.joined().enumerated() {
                list.append((fd, RoleFD.firstListener + Int32(place)))
            }
        case .shadow:
            list.append((shadowWakes[child.index].fd, RoleFD.wake))
            list += secrets.forShadows
            list += eventRings?.forProducers ?? []
            var place = RoleFD.firstPair
            for worker in 0..<launch.workers
            where launch.shadowProcess(ofWorker: worker) == child.index {
                list.append((regions[worker].blocksReadOnly, place))
                list.append((regions[worker].linkFD, place + 1))
                place += 2
            }
            for fd in caps.fds {
                list.append((fd, place))
                place += 1
            }
        case .health: list += secrets.forHealth
        case .events:
            list += eventRings?.forWriter(besides: formerRings) ?? []
        default:
            list.append((plan.admin, RoleFD.adminListener))
            list.append((desk.memoryFD, RoleFD.control))
            list.append((desk.bell.fd, RoleFD.controlBell))
            list.append((desk.replyBell.fd, RoleFD.wake))
        }
        return list
    }

    // MARK: Deaths

    /// Takes note of a process that has ended. False where it is none of this generation.
    func tookDeath(of pid: pid_t, _ status: Int32) -> Bool {
        guard let child = children.first(where: { $0.pid == pid }) else { return false }
        died(child, status)
        return true
    }

    private func died(_ child: Child, _ status: Int32) {
        let now = Instant.now().milliseconds
        let cells = row(child)
        child.pid = 0
        cells[.pid].set(0)
        cells[.state].set(UInt64(ProcessState.absent.rawValue))
        cells[.lastStatus].set(UInt64(UInt32(bitPattern: status)))
        if child.role == .shadow { shadowDied(child.index) }
        if child.role == .worker { workerDied(child.index) }
        if child.role == .admin { desk.askerDied() }
        if endingSince != nil { return }
        if !isServing {
            failure = failure ?? "\(child.name) ended: \(Spawning.text(status))"
            return
        }
        cells.add(.restarts)
        let wasRecycled = child.isRecycled
        child.isRecycled = false
        if wasRecycled {
            child.startAtMs = now
            return
        }
        Console.log(.error, "\(child.name) died: \(Spawning.text(status)); starting it again")
        let lived = now - child.startedMs
        if lived >= Self.healthyMs {
            child.waitMs = 0
            child.startAtMs = now
        } else {
            holdBack(child, now)
        }
    }

    private func holdBack(_ child: Child, _ now: UInt64) {
        child.waitMs =
            child.waitMs == 0 ? Self.backoffMsFirst : min(child.waitMs * 2, Self.backoffMsMax)
        child.startAtMs = now + child.waitMs
        row(child)[.state].set(UInt64(ProcessState.heldBack.rawValue))
        Console.log(.warn, "\(child.name) dies too fast: held back for \(child.waitMs) ms")
        if child.role == .worker, child.waitMs > Self.patienceMs,
            let other = livingWorker(besides: child.index)
        {
            Console.log(
                .warn, "worker \(other) serves the socket of worker \(child.index) meanwhile")
            assignSockets(of: child.index, to: other)
        }
    }

    private func livingWorker(besides index: Int) -> Int? {
        children.first { $0.role == .worker && $0.index != index && $0.pid > 0 }?.index
    }

    private func assignSockets(of worker: Int, to server: Int) {
        board.workerProcesses[worker][.servedBy].set(UInt64(server + 1))
        for wake in workerWakes { wake.signal() }
    }

    /// The dead shadow process holds nothing any more: the workers may take their loans back.
    private func shadowDied(_ index: Int) {
        for (worker, region) in regions.enumerated()
        where launch.shadowProcess(ofWorker: worker) == index {
            region.link?.attachedEpoch.publish(0)
        }
        for shadow in 0..<launch.shape.mirror.shadows {
            let gauges = board.mirror.gauges(process: index, shadow: shadow)
            for gauge in [ShadowGauge.inFlight, .connectionsOpen, .connectionsIdle] {
                gauges[gauge].set(0)
            }
        }
        let epoch = board.mirror.shadowEpochs[index]
        epoch.publish(epoch.value + 1)
        for wake in workerWakes { wake.signal() }
    }

    /// Closes a dead worker's books and gives its next life fresh memory. Its shadow process reads
    /// the old memory: it starts anew as well, with the new.
    private func workerDied(_ index: Int) {
        if let link = regions[index].link { board.mirror.settle(deadWorker: index, link: link) }
        let counters = board.workers[index].counters
        for gauge in [
            WorkerCounter.connectionsOpen, .upstreamOpen, .upstreamIdle, .tunnelsOpen, .blocksTaken,
        ] { counters[gauge].set(0) }
        guard endingSince == nil else { return }
        do throws(SystemError) {
            regions[index] = try Region(launch.settings, worker: index)
        } catch {
            Console.log(.error, "no fresh memory for worker \(index): \(error); it keeps the old")
        }
        let process = launch.shadowProcess(ofWorker: index)
        if let shadow = children.first(where: { $0.role == .shadow && $0.index == process }),
            shadow.pid > 0
        {
            shadow.isRecycled = true
            kill(shadow.pid, SIGKILL)
        }
    }

    /// Has the workers write on into access logs of the same names: after a rotation. By the board
    /// and not by a signal, which would end a worker that does not expect it yet.
    func reopenLogs() {
        board.supervisor[.logRotations].add()
        for wake in workerWakes { wake.signal() }
    }

    // MARK: Ending

    /// Has the workers finish what is under way and end; nothing is started again.
    func beginStop() { end(workersBy: SIGTERM) }

    /// Another generation serves: the workers finish what is under way, and the copies of it. The
    /// admin process ends at once, to make room for the other's; so does the events process where
    /// the other has one (`eventsGoOn`), which takes the workers' last events.
    func retire(eventsGoOn: Bool) {
        end(workersBy: SIGUSR2)
        for child in children where child.pid > 0 {
            guard child.role == .admin || (child.role == .events && eventsGoOn) else { continue }
            kill(child.pid, SIGTERM)
        }
    }

    private func end(workersBy signal: Int32) {
        endingSince = endingSince ?? Instant.now().milliseconds
        for child in children {
            child.startAtMs = nil
            if child.role == .worker, child.pid > 0 {
                row(child)[.state].set(UInt64(ProcessState.stopping.rawValue))
                kill(child.pid, signal)
            }
        }
        stopHelpers()
    }

    /// It did not start, or is not wanted any more.
    func discard() {
        beginStop()
        killAll()
    }

    /// The shadow and admin processes end once no worker needs them.
    private func stopHelpers() {
        guard children.allSatisfy({ $0.role != .worker || $0.pid == 0 }) else { return }
        for child in children where child.pid > 0 { kill(child.pid, SIGTERM) }
    }

    /// Moves an ending generation on: its helpers after its workers, and by force what is late.
    func enforceEnd() {
        guard let endingSince else { return }
        stopHelpers()
        let limit = UInt64(launch.settings.runtime.drainTimeoutMs) + Self.killAfterMs
        if Instant.now().milliseconds > endingSince + limit { killAll() }
    }

    /// Ends an admin process that does not end by itself.
    func killAdmin() {
        for child in children where child.role == .admin && child.pid > 0 {
            kill(child.pid, SIGKILL)
        }
    }

    /// Ends every process at once.
    func killAll() {
        for child in children where child.pid > 0 { kill(child.pid, SIGKILL) }
    }
}
