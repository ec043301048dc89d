import Admin
import CLinux
import CoreLoop
import Mirror
import Proxy
import Upstream

/// The parent of all roles: opens what must outlive them (listening sockets, shared memory), starts
/// them, and starts again what dies. It parses nothing that comes from a network.
final class Supervisor {
    /// A child that lived this long starts anew at once; sooner, each death doubles the wait.
    static let healthyMs: UInt64 = 1_000
    static let backoffMsFirst: UInt64 = 100
    static let backoffMsMax: UInt64 = 30_000
    /// A wait longer than this has a worker's socket served by another worker meanwhile.
    static let patienceMs: UInt64 = 150
    /// After the drain timeout, what still runs has this long before it is killed.
    static let killAfterMs: UInt64 = 1_000

    /// What the roles are started from: this very binary, even where an upgrade has replaced the
    /// file. A profiler that runs programs by path (valgrind) names the path instead.
    private let executable =
        getenv("UMBRA_EXECUTABLE").map { String(cString: $0) } ?? "/proc/self/exe"
    let launch: Launch
    let board: Board
    private let boardMemory: SharedMemory
    private let launchFD: Int32
    private let parentPID = getpid()
    private var children: [Child] = []
    private var workerWakes: [Wake] = []
    private var shadowWakes: [Wake] = []
    private var regions: [Region] = []
    /// `listeners[worker * addresses + address]`.
    private var listeners: [Int32] = []
    private var adminListener: Int32 = -1
    private var signalFD: Int32 = -1
    private var stoppingSince: UInt64?
    private var forcedExit: Int32?
    private var saidReady = false

    /// One role's process, alive or waiting for its next start.
    final class Child {
        let role: Role
        let index: Int
        var pid: pid_t = 0
        var startedMs: UInt64 = 0
        var waitMs: UInt64 = 0
        var startAtMs: UInt64? = 0
        /// Ended by us, to start with fresh memory: no fault of its own.
        var isRecycled = false

        init(_ role: Role, _ index: Int) {
            self.role = role
            self.index = index
        }

        var name: String { "\(role.label) \(index)" }
    }

    /// One worker's blocks and link: new for each life of the worker, so that nothing of a former
    /// life is written over while a shadow process may still read it.
    final class Region {
        let blocks: SharedMemory
        let blocksReadOnly: Int32
        private let linkMemory: SharedMemory?
        /// -1 without shadows.
        let linkFD: Int32
        let link: MirrorLink?

        init(_ launch: Launch, worker: Int) throws(SystemError) {
            let runtime = launch.settings.runtime
            blocks = try .create(
                name: "umbra-blocks-\(worker)",
                byteCount: runtime.blocksPerWorker * runtime.blockBytes)
            blocksReadOnly = try blocks.openReadOnly()
            if launch.settings.shadows.isEmpty {
                linkMemory = nil
                linkFD = -1
                link = nil
            } else {
                let memory = try SharedMemory.create(
                    name: "umbra-link-\(worker)",
                    byteCount: MirrorLink.byteCount(depth: runtime.ringDepth))
                var plan = MemoryPlan(base: memory.base)
                link = MirrorLink(plan: &plan, depth: runtime.ringDepth)
                linkFD = memory.fd
                linkMemory = consume memory
            }
        }

        deinit { close(blocksReadOnly) }
    }

    init(settings: GatewaySettings, document: [UInt8]) throws(SystemError) {
        let workers = settings.runtime.workers ?? ProcessControl.affinity().count
        launch = Launch(settings: settings, workers: workers, document: document)
        ProcessControl.raiseFileLimit(
            to: settings.runtime.connectionsPerWorker * 2 + 256)
        boardMemory = try .create(name: "umbra-board", byteCount: Board.byteCount(launch.shape))
        board = Board.map(boardMemory.base, launch.shape)
        launchFD = try launch.write()
        board.mirror.control[.enabled].set(settings.mirrorEnabled ? 1 : 0)
        for epoch in board.mirror.shadowEpochs { epoch.publish(1) }
        for worker in 0..<workers {
            workerWakes.append(try .create())
            regions.append(try Region(launch, worker: worker))
            children.append(Child(.worker, worker))
        }
        for index in 0..<launch.shape.mirror.shadowProcesses {
            shadowWakes.append(try .create())
            children.append(Child(.shadow, index))
        }
        try openListeners()
    }

    private func openListeners() throws(SystemError) {
        var addresses = launch.settings.listen
        for worker in 0..<launch.workers {
            for (place, address) in addresses.enumerated() {
                if address.isUnix, worker > 0 {
                    // One path, one socket: all workers accept from it.
                    listeners.append(listeners[place])
                    continue
                }
                do throws(SystemError) {
                    if worker == 0, launch.workers > 1, address.port ?? 0 != 0 {
                        // A shared port would let a second gateway of the same user take half of
                        // the connections without a word.
                        close(try Socket.listen(on: address, sharesPort: false))
                    }
                    listeners.append(try Socket.listen(on: address, sharesPort: launch.workers > 1))
                } catch {
                    Console.log(
                        .error, "cannot listen on \(address.text): \(SystemError.text(error.code))")
                    throw error
                }
                // Port 0: the kernel chose; the other workers bind the same.
                if worker == 0, address.port == 0 {
                    addresses[place] = try Socket.localAddress(listeners.last!)
                }
            }
        }
        listenText = addresses.map(\.text).joined(separator: ", ")
        if let address = launch.settings.admin.listen {
            do throws(SystemError) {
                adminListener = try Socket.listen(on: address, sharesPort: false)
            } catch {
                Console.log(
                    .error,
                    "cannot listen on admin \(address.text): \(SystemError.text(error.code))")
                throw error
            }
            children.append(Child(.admin, 0))
        }
    }

    private var listenText = ""

    // MARK: The loop

    /// Runs until a signal ends it. Returns the exit status.
    func run() -> Int32 {
        var mask = sigset_t()
        sigemptyset(&mask)
        for number in [SIGCHLD, SIGTERM, SIGINT, SIGHUP] { sigaddset(&mask, number) }
        sigprocmask(SIG_BLOCK, &mask, nil)
        signalFD = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
        ProcessControl.setName("umbra")
        // A trap's backtrace takes 0.3 s: a worker shall be back within 0.2.
        setenv("SWIFT_BACKTRACE", "enable=no", 0)
        board.supervisor[.pid].set(UInt64(parentPID))
        board.supervisor[.state].set(UInt64(ProcessState.running.rawValue))
        board.supervisor[.startedMs].set(Instant.now().milliseconds)
        sayStart()
        while true {
            startDue()
            if let forcedExit { return forcedExit }
            if stoppingSince != nil, children.allSatisfy({ $0.pid == 0 }) {
                Console.log(.info, "Stopped")
                return 0
            }
            var poller = pollfd(fd: signalFD, events: Int16(POLLIN), revents: 0)
            _ = poll(&poller, 1, pollMs())
            board.supervisor[.heartbeatMs].set(Instant.now().milliseconds)
            takeSignals()
            reap()
            if let since = stoppingSince { enforceStop(since) }
            sayReady()
        }
    }

    private func pollMs() -> Int32 {
        let now = Instant.now().milliseconds
        var wait: UInt64 = saidReady ? 500 : 5
        if stoppingSince != nil { wait = 20 }
        for child in children {
            if let at = child.startAtMs { wait = min(wait, at > now ? at - now : 0) }
        }
        return Int32(wait)
    }

    private func takeSignals() {
        var info = signalfd_siginfo()
        while read(signalFD, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {
            switch Int32(info.ssi_signo) {
            case SIGTERM, SIGINT:
                if stoppingSince == nil {
                    beginStop()
                } else {
                    Console.log(.warn, "Second signal: ending at once")
                    for child in children where child.pid > 0 { kill(child.pid, SIGKILL) }
                    forcedExit = 1
                }
            default: break
            }
        }
    }

    private func beginStop() {
        Console.log(.info, "Stopping: finishing what is under way")
        stoppingSince = Instant.now().milliseconds
        for fd in Set(listeners) { close(fd) }
        listeners = []
        for child in children {
            child.startAtMs = nil
            if child.role == .worker, child.pid > 0 {
                row(child)[.state].set(UInt64(ProcessState.stopping.rawValue))
                kill(child.pid, SIGTERM)
            }
        }
        stopHelpers()
    }

    /// The shadow and admin processes end once no worker needs them.
    private func stopHelpers() {
        guard children.allSatisfy({ $0.role != .worker || $0.pid == 0 }) else { return }
        for child in children where child.pid > 0 { kill(child.pid, SIGTERM) }
    }

    private func enforceStop(_ since: UInt64) {
        stopHelpers()
        let limit = UInt64(launch.settings.runtime.drainTimeoutMs) + Self.killAfterMs
        if Instant.now().milliseconds > since + limit {
            for child in children where child.pid > 0 { kill(child.pid, SIGKILL) }
        }
    }

    // MARK: Starting

    private func row(_ child: Child) -> CounterRow<ProcessCell> {
        switch child.role {
        case .worker: board.workerProcesses[child.index]
        case .shadow: board.shadowProcesses[child.index]
        default: board.admin
        }
    }

    private func startDue() {
        let now = Instant.now().milliseconds
        for child in children {
            guard let at = child.startAtMs, at <= now else { continue }
            child.startAtMs = nil
            start(child, now)
        }
    }

    private func start(_ child: Child, _ now: UInt64) {
        let cells = row(child)
        if child.role == .worker { assignSockets(of: child.index, to: child.index) }
        cells[.state].set(UInt64(ProcessState.starting.rawValue))
        cells[.heartbeatMs].set(now)
        do throws(SystemError) {
            child.pid = try spawn(child)
        } catch {
            Console.log(.error, "cannot start \(child.name): \(error)")
            holdBack(child, now)
            return
        }
        child.startedMs = now
        cells[.pid].set(UInt64(child.pid))
        cells[.startedMs].set(now)
    }

    /// The descriptors of a child in the order of `RoleFD`.
    private func descriptors(of child: Child) -> [(fd: Int32, as: Int32)] {
        var list: [(fd: Int32, as: Int32)] = [
            (launchFD, RoleFD.launch), (boardMemory.fd, RoleFD.board),
        ]
        switch child.role {
        case .worker:
            let region = regions[child.index]
            list.append((workerWakes[child.index].fd, RoleFD.wake))
            list.append((region.blocks.fd, RoleFD.blocks))
            if region.linkFD >= 0 {
                list.append((region.linkFD, RoleFD.link))
                list.append(
                    (shadowWakes[launch.shadowProcess(ofWorker: child.index)].fd, RoleFD.shadowWake)
                )
            }
            for (place, fd) in listeners.enumerated() {
                list.append((fd, RoleFD.firstListener + Int32(place)))
            }
        case .shadow:
            list.append((shadowWakes[child.index].fd, RoleFD.wake))
            var place = RoleFD.firstPair
            for worker in 0..<launch.workers
            where launch.shadowProcess(ofWorker: worker) == child.index {
                list.append((regions[worker].blocksReadOnly, place))
                list.append((regions[worker].linkFD, place + 1))
                place += 2
            }
        default: list.append((adminListener, RoleFD.adminListener))
        }
        return list
    }

    private func spawn(_ child: Child) throws(SystemError) -> pid_t {
        let wanted = descriptors(of: child)
        // Sources first move above every place that a target takes, so that no dup2 overwrites one.
        let floor = (wanted.map(\.as).max() ?? 0) + 1
        var moved: [Int32] = []
        defer { for fd in moved { close(fd) } }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (fd, place) in wanted {
            let copy = try check(umbra_fcntl(fd, F_DUPFD_CLOEXEC, floor), "fcntl(F_DUPFD_CLOEXEC)")
            moved.append(copy)
            posix_spawn_file_actions_adddup2(&actions, copy, place)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let words = [
            "umbra", "role", child.role.label, "--index", "\(child.index)", "--parent",
            "\(parentPID)",
            "--listeners", "\(listeners.count)",
        ]
        var arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let code = umbra_spawn(&pid, executable, &actions, &attributes, &arguments)
        if code != 0 { throw SystemError("posix_spawn", code: code) }
        return pid
    }

    // MARK: Deaths

    private func reap() {
        var status: Int32 = 0
        while true {
            let pid = waitpid(-1, &status, WNOHANG)
            guard pid > 0 else { return }
            if let child = children.first(where: { $0.pid == pid }) { died(child, status) }
        }
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
        if stoppingSince != nil { return }
        cells.add(.restarts)
        let wasRecycled = child.isRecycled
        child.isRecycled = false
        if wasRecycled {
            child.startAtMs = now
            return
        }
        Console.log(.error, "\(child.name) died: \(Self.text(status)); starting it again")
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
        guard stoppingSince == nil else { return }
        do throws(SystemError) {
            regions[index] = try Region(launch, worker: index)
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

    private static func text(_ status: Int32) -> String {
        if umbra_wait_signalled(status) != 0 {
            let number = umbra_wait_signal(status)
            return "killed by signal \(number) (\(String(cString: strsignal(number))))"
        }
        return "exit status \(umbra_wait_status(status))"
    }

    // MARK: What it says

    private func sayStart() {
        let settings = launch.settings
        Console.log(.info, "Loaded \(settings.targets.count) provider(s), 0 policy(ies)")
        let primary = settings.targets[settings.routes.last!.target].id
        for (place, shadow) in settings.shadows.enumerated() {
            let lane = settings.routes.last!.lanes.first { $0.shadow == place }
            let rate = lane.map { Self.percent($0.sampleRate) } ?? "per route"
            Console.log(
                .info,
                "Traffic mirror: primary=\(primary), shadow=\(shadow.targetID), sample_rate=\(rate)"
            )
        }
    }

    private static func percent(_ rate: Double) -> String {
        let millionths = Int((rate * 100_000_000).rounded())
        let whole = millionths / 1_000_000
        var rest = "\(1_000_000 + millionths % 1_000_000)".dropFirst()
        while rest.last == "0" { rest = rest.dropLast() }
        return rest.isEmpty ? "\(whole)%" : "\(whole).\(rest)%"
    }

    /// Every worker's copies have somebody to take them.
    private var isMirrorAttached: Bool {
        regions.enumerated().allSatisfy { worker, region in
            guard let link = region.link else { return true }
            let epoch = board.mirror.shadowEpochs[launch.shadowProcess(ofWorker: worker)]
            return link.attachedEpoch.acquired == epoch.acquired
        }
    }

    private func sayReady() {
        guard !saidReady, stoppingSince == nil else { return }
        let running = UInt64(ProcessState.running.rawValue)
        guard children.allSatisfy({ row($0).value(.state) == running }), isMirrorAttached else {
            return
        }
        saidReady = true
        Console.log(
            .info,
            "Listening on \(listenText), \(launch.workers) worker(s)"
                + (launch.settings.admin.listen.map { ", admin on \($0.text)" } ?? ""))
        Console.log(.info, "Gateway ready")
    }
}
