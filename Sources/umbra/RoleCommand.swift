import Admin
import CLinux
import CoreLoop
import Load
import Mirror
import Policy
import Proxy
import TLS
import Upstream

/// Set by SIGTERM in a role: end in order. By SIGUSR2: another generation serves now.
nonisolated(unsafe) private var stopRequested: Int32 = 0
nonisolated(unsafe) private var retireRequested: Int32 = 0

/// The processes that the supervisor starts: `umbra role worker|shadow|admin|health|events
/// --index N --parent PID`.
enum RoleCommand {
    /// How long a loop waits without events; nobody has to knock louder than this.
    private static let waitMsMax: Int32 = 250

    static func run(_ words: [String]) -> Int32 {
        guard let name = words.first,
            let arguments = try? Arguments(
                Array(words.dropFirst()), valued: ["--index", "--parent", "--listeners"],
                flags: []),
            let index = arguments.value("--index").flatMap({ Int($0) }),
            let parent = arguments.value("--parent").flatMap({ pid_t($0) })
        else {
            Console.error("umbra role: started by the supervisor only; see 'umbra --help'.")
            return 2
        }
        // Its parent dead already: nobody would ever end it.
        guard ProcessControl.dieWithParent(parent) else { return 0 }
        signal(SIGTERM) { _ in stopRequested = 1 }
        signal(SIGUSR2) { _ in retireRequested = 1 }
        // Ctrl-C reaches the whole terminal group; the supervisor says when to end.
        umbra_ignore_signal(SIGINT)
        umbra_ignore_signal(SIGHUP)
        umbra_ignore_signal(SIGUSR1)
        ProcessControl.setName("umbra-\(name)-\(index)")
        let launch = Launch.read(RoleFD.launch)
        GatewayLog.configure(launch.settings.log, process: "\(name) \(index)")
        defer { GatewayLog.end() }
        do {
            switch name {
            case "worker":
                let listeners = Int32(arguments.value("--listeners") ?? "") ?? 0
                try runWorker(index, launch, listeners: listeners)
            case "shadow": try runShadow(index, launch)
            case "admin": try runAdmin(launch)
            case "health": try runHealth(launch)
            case "events": try EventsRole.run(launch, try mapBoard(launch)) { stopRequested != 0 }
            default: return 2
            }
        } catch {
            Console.log(.error, "\(error)")
            return 1
        }
        return 0
    }

    private static func mapBoard(_ launch: Launch) throws(SystemError) -> Board {
        Board.map(
            try mapForEver(RoleFD.board, Board.byteCount(launch.shape), writable: true),
            launch.shape)
    }

    private static func randomSeed() -> UInt64 { SecureRandom().next() }

    // MARK: Worker

    private static func runWorker(_ index: Int, _ launch: Launch, listeners: Int32)
        throws(SystemError)
    {
        ProcessControl.comeForward()
        var settings = launch.settings
        let board = try mapBoard(launch)
        GatewayLog.count(in: board.workerProcesses[index])
        pin(index, launch)
        let runtime = settings.runtime
        let blocks = try SharedMemory.map(
            fd: RoleFD.blocks, byteCount: runtime.blocksPerWorker * runtime.blockBytes,
            writable: true)
        let tap = try openTap(index, launch, board.mirror)
        // Read before the file is opened: a rotation in between has it opened twice.
        var rotations = board.supervisor.value(.logRotations)
        let taps = try EventsRole.tap(launch, index)
        let log = try openLog(launch, index, board.workers[index].counters, taps?.events)
        let security = try Secrets.forWorker(&settings)
        let worker = try ProxyWorker(
            settings: settings, security: security, index: index, board: board,
            memory: blocks.base, memoryFD: blocks.fd, tap: tap, log: log,
            captures: try EventsRole.captures(settings, taps?.captures), wakeFD: RoleFD.wake,
            now: .now(), seed: randomSeed())
        givePolicies(worker, settings)
        // One listening socket of each address for each worker; this one serves its own, and those
        // that the supervisor has it serve for others.
        let addresses = settings.listen.count
        func adjustListeners() {
            // There may be more sets than workers: see `ListenPlan`.
            for set in 0..<Int(listeners) / addresses {
                let server = board.workerProcesses[set % launch.workers].value(.servedBy)
                let isMine = server == UInt64(index + 1)
                for place in 0..<addresses {
                    let fd = RoleFD.firstListener + Int32(set * addresses + place)
                    if isMine {
                        try? worker.addListener(fd, entry: place)
                    } else {
                        worker.removeListener(fd)
                    }
                }
            }
        }
        worker.onWake = {
            adjustListeners()
            follow(log, board, &rotations)
        }
        worker.onDescriptors = tellDescriptors
        worker.onTLSFault = { text in Console.log(.warn, text) }
        adjustListeners()
        board.workerProcesses[index][.state].set(UInt64(ProcessState.running.rawValue))
        while stopRequested == 0, retireRequested == 0 {
            worker.turn(timeoutMs: waitMsMax)
            GatewayLog.tick()
        }
        // From here on the numbers of the listeners may be other descriptors'.
        worker.onWake = { follow(log, board, &rotations) }
        finish(worker, tap, listeners, drainTimeoutMs: settings.runtime.drainTimeoutMs)
        log?.stop()
        follow(log, board, &rotations)
        withExtendedLifetime(blocks.base) {}
    }

    /// Nil where nothing is mirrored.
    private static func openTap(
        _ index: Int, _ launch: Launch, _ board: MirrorBoard
    ) throws(SystemError) -> MirrorTap? {
        let settings = launch.settings
        guard !settings.shadows.isEmpty else { return nil }
        let depth = settings.runtime.ringDepth
        let memory = try mapForEver(
            RoleFD.link, MirrorLink.byteCount(depth: depth), writable: true)
        var plan = MemoryPlan(base: memory)
        return try MirrorTap(
            worker: index, process: launch.shadowProcess(ofWorker: index),
            routes: settings.routes.map(\.lanes), link: MirrorLink(plan: &plan, depth: depth)!,
            board: board, wake: Wake(fd: RoleFD.shadowWake),
            blocksOnLoanMax: settings.runtime.blocksOnLoanMax,
            cancelsWithClient: settings.shadows.contains(where: \.cancelsWithClient))
    }

    private static func givePolicies(_ worker: ProxyWorker, _ settings: GatewaySettings) {
        do throws(PatternFault) {
            worker.use(try PolicyChain(settings.policies))
        } catch {
            preconditionFailure("patterns were checked before: \(error.text)")
        }
    }

    /// Lets what is under way end. Where another generation serves, copies too; a gateway that
    /// stops waits for its clients alone.
    private static func finish(
        _ worker: ProxyWorker, _ tap: MirrorTap?, _ listeners: Int32, drainTimeoutMs: Int
    ) {
        if stopRequested == 0 { worker.retire() } else { worker.drain() }
        // Whoever connects from now on is refused at once instead of waiting for nobody.
        for fd in RoleFD.firstListener..<RoleFD.firstListener + listeners { close(fd) }
        let end = Instant.now().adding(ms: drainTimeoutMs)
        while Instant.now() < end {
            if stopRequested != 0 { worker.drain() }
            let waitsForCopies = stopRequested == 0 && tap?.hasOutstanding == true
            guard worker.clientCount > 0 || waitsForCopies else { return }
            worker.turn(timeoutMs: 50)
        }
        let cut = worker.cutAll()
        guard cut > 0 else { return }
        Console.log(
            .warn, "\(cut) request(s) had not ended within runtime.drain_timeout, and were cut")
    }

    private static func openLog(
        _ launch: Launch, _ worker: Int, _ counters: CounterRow<WorkerCounter>,
        _ events: EventTap?
    ) throws(SystemError) -> AccessLog? {
        let settings = launch.settings
        guard settings.accessLog != nil || events != nil else { return nil }
        let path = settings.accessLog.flatMap { $0.path == "-" ? nil : $0.path }
        let fd = settings.accessLog.map { _ in path.map(AccessLog.open) ?? STDOUT_FILENO }
        return try AccessLog(
            fd: fd, path: path, routes: settings.routes.map(\.name),
            targets: settings.routes.map { settings.targets[$0.target].id },
            shadows: settings.shadows.map(\.targetID),
            clientKeys: settings.auth?.keys.map(\.name) ?? [],
            counters: counters, events: events, changes: Wake(fd: RoleFD.wake),
            worker: worker)
    }

    /// Opens the access log anew where the supervisor says so, and says what has become of it.
    private static func follow(_ log: AccessLog?, _ board: Board, _ rotations: inout UInt64) {
        let wanted = board.supervisor.value(.logRotations)
        if wanted != rotations {
            rotations = wanted
            log?.reopen()
        }
        switch log?.takeNews() {
        case .failing(let code):
            Console.log(
                .error, "access log: \(SystemError.text(code)); lines are lost until it goes again")
        case .recovered(let lost):
            Console.log(
                .info, "access log: written again; \(lost) lines were lost", isLimited: true)
        case nil: break
        }
    }

    private static func tellDescriptors(_ areShort: Bool) {
        if areShort {
            let limit = ProcessControl.fileLimit()
            Console.log(
                .warn,
                "out of file descriptors (nofile \(limit)): accepting rests until some are free")
        } else {
            Console.log(.info, "accepting again", isLimited: true)
        }
    }

    private static func pin(_ index: Int, _ launch: Launch) {
        let cpus = ProcessControl.affinity()
        guard launch.settings.runtime.pinCPUs, cpus.count > 1, launch.workers <= cpus.count else {
            return
        }
        ProcessControl.setAffinity([cpus[index]])
    }

    // MARK: Shadow

    private static func runShadow(_ index: Int, _ launch: Launch) throws(SystemError) {
        var settings = launch.settings
        let board = try mapBoard(launch)
        GatewayLog.count(in: board.shadowProcesses[index])
        let cpus = ProcessControl.affinity()
        if settings.runtime.pinCPUs, cpus.count > launch.workers {
            ProcessControl.setAffinity(Array(cpus[launch.workers...]))
        }
        let runtime = settings.runtime
        var links: [ShadowLink] = []
        let workers = (0..<launch.workers).filter { launch.shadowProcess(ofWorker: $0) == index }
        for place in workers.indices {
            let first = RoleFD.firstPair + 2 * Int32(place)
            // Mapped for this process's life: they go with it.
            let blocks = try mapForEver(
                first, runtime.blocksPerWorker * runtime.blockBytes, writable: false)
            let memory = try mapForEver(
                first + 1, MirrorLink.byteCount(depth: runtime.ringDepth), writable: true)
            var plan = MemoryPlan(base: memory)
            links.append(
                ShadowLink(
                    link: MirrorLink(plan: &plan, depth: runtime.ringDepth)!,
                    blocks: UnsafeRawPointer(blocks),
                    blockBytes: runtime.blockBytes, blockCount: runtime.blocksPerWorker))
        }
        let security = Secrets.forShadow(&settings)
        let firstCap = RoleFD.firstPair + 2 * Int32(workers.count)
        var caps: [QPSCap] = []
        for (place, shadow) in settings.shadows.enumerated() {
            let capacity = QPSCap.capacity(for: shadow.qps)
            let memory = try mapForEver(
                firstCap + Int32(place), QPSCap.byteCount(capacity: capacity), writable: true)
            caps.append(.map(memory, capacity: capacity))
        }
        let worker = try ShadowWorker(
            process: index, epoch: board.mirror.shadowEpochs[index].acquired, links: links,
            shadows: settings.shadows,
            targets: settings.targets, caps: caps, security: security,
            board: board.mirror, upstreams: board.upstreams,
            captures: try EventsRole.captures(launch, shadow: index),
            memoryBytes: settings.runtime.shadowMemoryBytes,
            wakeFD: RoleFD.wake, now: .now(), seed: randomSeed())
        limitMemory(settings.runtime.shadowMemoryBytes)
        let process = board.shadowProcesses[index]
        process[.state].set(UInt64(ProcessState.running.rawValue))
        worker.run {
            process[.heartbeatMs].set(Instant.now().milliseconds)
            GatewayLog.tick()
            return stopRequested != 0
        }
        worker.cancelAll()
    }

    /// Lets this process take at most `bytes` more than it has reserved by now: what it reserves at
    /// its start is bounded by the settings, and costs memory only once it is touched.
    private static func limitMemory(_ bytes: Int) {
        let text = Standard.readFile("/proc/self/statm") ?? []
        let words = String(decoding: text, as: UTF8.self).split(separator: " ")
        guard words.count > 5, let pages = Int(words[5]) else { return }
        let total = rlim_t(pages * Int(sysconf(Int32(_SC_PAGESIZE))) + bytes)
        var limit = rlimit(rlim_cur: total, rlim_max: total)
        setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit)
    }

    static func mapForEver(
        _ fd: Int32, _ byteCount: Int, writable: Bool
    ) throws(SystemError) -> UnsafeMutableRawPointer {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        guard let base = mmap(nil, byteCount, protection, MAP_SHARED, fd, 0),
            base != UnsafeMutableRawPointer(bitPattern: -1)
        else { throw SystemError("mmap") }
        close(fd)
        return base
    }

    // MARK: Admin

    private static func runAdmin(_ launch: Launch) throws(SystemError) {
        // The live board, then what former generations counted, in the same layout.
        let boardBytes = Board.byteCount(launch.shape)
        let memory = try mapForEver(RoleFD.board, 2 * boardBytes, writable: true)
        let board = Board.map(memory, launch.shape)
        GatewayLog.count(in: board.admin)
        // Without its variable a token fits nobody: better than asking for none.
        let token = launch.settings.admin.tokenVariable.map {
            getenv($0).map { String(cString: $0) } ?? ""
        }
        let mailbox = ControlMailbox(
            memory: try mapForEver(RoleFD.control, ControlMailbox.byteCount, writable: true),
            bell: Wake(fd: RoleFD.controlBell), replyBell: Wake(fd: RoleFD.wake))
        let server = try AdminServer(
            settings: launch.settings, board: board,
            view: BoardView(
                live: memory, carried: memory + boardBytes, shape: launch.shape,
                settings: launch.settings),
            listener: RoleFD.adminListener, token: token, mailbox: mailbox,
            startedAt: Instant(
                nanoseconds: board.supervisor.value(.startedMs) &* 1_000_000),
            version: umbraVersion)
        board.admin[.state].set(UInt64(ProcessState.running.rawValue))
        server.run {
            GatewayLog.tick()
            return stopRequested != 0
        }
        // Another generation's admin process takes the listener over: what is asked is answered.
        server.finish()
    }

    // MARK: Health

    private static func runHealth(_ launch: Launch) throws(SystemError) {
        let board = try mapBoard(launch)
        let settings = launch.settings
        guard let process = board.health else { return }
        GatewayLog.count(in: process)
        let worker = try HealthWorker(
            targets: settings.targets, resolver: settings.resolver,
            security: Secrets.forHealth(settings), board: board.upstreams, now: .now(),
            seed: randomSeed())
        worker.onVerdict { target, place, state, result, status in
            let endpoint = settings.targets[target].endpoints[place].label
            let what = status == 0 ? result.label : "\(result.label) \(status)"
            Console.log(
                state == .unhealthy ? .warn : .info,
                "Endpoint \(endpoint) of \(settings.targets[target].id) is \(state.label) "
                    + "(last check: \(what))")
        }
        process[.state].set(UInt64(ProcessState.running.rawValue))
        worker.run {
            process[.heartbeatMs].set(Instant.now().milliseconds)
            GatewayLog.tick()
            return stopRequested != 0
        }
    }
}
