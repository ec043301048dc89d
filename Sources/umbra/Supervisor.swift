import CLinux
import Configuration
import CoreLoop
import Mirror
import Proxy
import TLS

/// The parent of all roles: opens what must outlive them (listening sockets, shared memory), starts
/// them, and starts again what dies. It parses nothing that comes from a network.
final class Supervisor {
    /// Generations that may still be finishing requests: a further reload waits for one of them.
    static let formerMax = 4

    private let source: ConfigurationSource
    private let sockets = ListenSockets()
    private let caps = CapPages()
    private let counters = CarriedCounters()
    private let tickets: TicketPage
    private var current: Generation
    /// Those before it that have processes left, the oldest first.
    private var former: [Generation] = []
    private var reload: Reload?
    /// Who asked for a reload that has not begun.
    private var askers: [(ReloadOutcome) -> Void] = []
    private var lastNumber = 1
    private var saidWaiting = false
    /// Since when, monotonic milliseconds, the old admin process makes room for the new one.
    private var adminWaitsSince: UInt64?
    /// Rung by whoever has something for the supervisor.
    private let bell: Wake
    private var signalFD: Int32 = -1
    private var isStopping = false
    private var forcedExit: Int32?
    private var saidReady = false
    private var nextCount = Instant(nanoseconds: 0)
    /// What people have said of mirroring; holds for every generation.
    var mirrorOrders = MirrorOrders()
    /// No order is taken before this.
    var ordersRestUntil = Instant(nanoseconds: 0)

    /// Opens the sockets, and makes the memory of the first generation.
    init(_ launch: Launch, source: ConfigurationSource) throws(SystemError) {
        self.source = source
        bell = try .create()
        tickets = try TicketPage()
        current = try Self.generation(1, launch, sockets, caps, tickets, formerRings: [])
        caps.adopt(current.caps, now: .now())
        counters.follow(current, after: nil)
        current.serve(after: nil)
        current.serveAdmin()
    }

    private static func generation(
        _ number: Int, _ launch: Launch, _ sockets: ListenSockets, _ caps: CapPages,
        _ tickets: TicketPage, formerRings: [EventRings]
    ) throws(SystemError) -> Generation {
        let settings = launch.settings
        let wanted = ProxyLimits.descriptors(connections: settings.runtime.connectionsPerWorker)
        GatewayNotices.fileLimit(ProcessControl.raiseFileLimit(to: wanted), of: wanted)
        let plan = try sockets.plan(
            settings.listen.map(\.address), admin: settings.admin.listen, workers: launch.workers)
        return try Generation(
            number, launch, plan: plan, caps: try caps.plan(settings.shadows), tickets: tickets,
            formerRings: formerRings)
    }

    // MARK: The loop

    /// Runs until a signal ends it. Returns the exit status.
    func run() -> Int32 {
        takeOverSignals()
        ProcessControl.setName("umbra")
        // A trap's backtrace takes 0.3 s: a worker shall be back within 0.2.
        setenv("SWIFT_BACKTRACE", "enable=no", 0)
        let startedMs = Instant.now().milliseconds
        show(current, startedMs: startedMs)
        GatewayNotices.start(current.launch.settings)
        while true {
            startDue()
            if let forcedExit { return forcedExit }
            if isStopping, current.isOver, former.isEmpty, reload == nil {
                Console.log(.info, "Stopped")
                return 0
            }
            waitForEvents()
            current.board.supervisor[.heartbeatMs].set(Instant.now().milliseconds)
            takeSignals()
            reap()
            takeOrders(now: .now())
            endMirrorOrders(now: .now())
            moveReload(startedMs: startedMs)
            endFormer()
            if isStopping { current.enforceEnd() }
            current.watchLatency(now: .now())
            tickets.rotate(everyMs: current.launch.settings.ticketRotationMs, now: .now())
            sayReady()
            GatewayLog.tick()
        }
    }

    private func takeOverSignals() {
        var mask = sigset_t()
        sigemptyset(&mask)
        for number in [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&mask, number) }
        sigprocmask(SIG_BLOCK, &mask, nil)
        signalFD = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
    }

    private func waitForEvents() {
        var pollers = [signalFD, bell.fd].map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        let waitMs = addBells(to: &pollers, waitMs: pollMs(), now: .now())
        _ = poll(&pollers, nfds_t(pollers.count), waitMs)
        bell.clear()
    }

    private func pollMs() -> Int32 {
        let now = Instant.now().milliseconds
        var wait: UInt64 = saidReady ? 500 : 5
        if case .starting = reload?.stage { wait = 5 }
        if isStopping || !former.isEmpty { wait = min(wait, 20) }
        for generation in [current] + former {
            if let at = generation.nextStartMs { wait = min(wait, at > now ? at - now : 0) }
        }
        return Int32(wait)
    }

    private func startDue() {
        current.startDue()
        if case .starting(let generation, _) = reload?.stage { generation.startDue() }
    }

    private func takeSignals() {
        var info = signalfd_siginfo()
        while read(signalFD, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {
            switch Int32(info.ssi_signo) {
            case SIGTERM, SIGINT:
                if !isStopping {
                    beginStop()
                } else {
                    Console.log(.warn, "Second signal: ending at once")
                    for generation in generations { generation.killAll() }
                    forcedExit = 1
                }
            // One that has not begun does for all who have asked since.
            case SIGHUP: if askers.isEmpty { beginReload { _ in } }
            case SIGUSR1: for generation in generations { generation.reopenLogs() }
            default: break
            }
        }
    }

    /// Every generation that may have processes, the latest last.
    var generations: [Generation] {
        var list = former + [current]
        if case .starting(let generation, _) = reload?.stage { list.append(generation) }
        return list
    }

    private func reap() {
        var status: Int32 = 0
        while true {
            let pid = waitpid(-1, &status, WNOHANG)
            guard pid > 0 else { return }
            _ = generations.contains { $0.tookDeath(of: pid, status) }
        }
    }

    func beginStop() {
        guard !isStopping else { return }
        Console.log(.info, "Stopping: finishing what is under way")
        isStopping = true
        cancelReload("the gateway is stopping")
        sockets.closeForClients()
        for generation in generations {
            let stopping = UInt64(ProcessState.stopping.rawValue)
            generation.board.supervisor[.state].set(stopping)
            generation.beginStop()
        }
    }

    private func sayReady() {
        guard !saidReady, !isStopping, current.isReady else { return }
        saidReady = true
        GatewayNotices.ready(current.launch, listen: current.plan.text)
    }

    /// Writes what the board says of the supervisor.
    private func show(_ generation: Generation, startedMs: UInt64) {
        let cells = generation.board.supervisor
        GatewayLog.count(in: cells)
        cells[.pid].set(UInt64(getpid()))
        cells[.state].set(UInt64(ProcessState.running.rawValue))
        cells[.startedMs].set(startedMs)
        cells[.heartbeatMs].set(Instant.now().milliseconds)
        generation.board.reloads[.generation].set(UInt64(generation.number))
    }
}

// MARK: Reload

extension Supervisor {
    /// Reads the configuration again and has it served, if it can be. Whoever asks while one is
    /// under way gets the next: the file may have changed since. `asker` is told what became of it.
    func beginReload(_ asker: @escaping (ReloadOutcome) -> Void) {
        guard !isStopping else { return asker(.failed("the gateway is stopping")) }
        askers.append(asker)
        bell.signal()
    }

    /// A reload is under way, or waits to begin.
    var isReloading: Bool { reload != nil || !askers.isEmpty || adminWaitsSince != nil }

    private func moveReload(startedMs: UInt64) {
        if reload == nil, !askers.isEmpty, !isStopping, adminWaitsSince == nil,
            former.count < Self.formerMax
        {
            readAgain()
        }
        if reload == nil, !askers.isEmpty, former.count >= Self.formerMax, !saidWaiting {
            saidWaiting = true
            Console.log(
                .warn,
                "A reload waits: \(former.count) configurations still finish requests, the oldest at "
                    + "most for its drain_timeout", isLimited: false)
        }
        switch reload?.stage {
        case .reading(let load):
            if let outcome = load.outcome {
                takeConfiguration(outcome)
            } else if Instant.now().milliseconds > (reload?.startedMs ?? 0) + Reload.readMsMax {
                cancelReload("\(source.file) could not be read within \(Reload.readMsMax) ms")
            }
        case .starting(let generation, let since):
            if let failure = generation.failure {
                cancelReload(failure)
            } else if generation.isReady {
                change(to: generation, startedMs: startedMs)
            } else if Instant.now().milliseconds > since + Reload.startMsMax {
                cancelReload("its processes did not get ready within \(Reload.startMsMax) ms")
            }
        case nil: break
        }
    }

    private func readAgain() {
        saidWaiting = false
        Console.log(.info, "Reloading \(source.file)", isLimited: false)
        do throws(SystemError) {
            reload = Reload(
                stage: .reading(
                    try ConfigurationLoad(source, known: current.knownAddresses, bell: bell)),
                startedMs: Instant.now().milliseconds, askers: askers)
            askers = []
        } catch {
            end(.failed("\(error)"), askers, .failed)
            askers = []
        }
    }

    private func takeConfiguration(_ outcome: ConfigurationSource.Outcome) {
        switch outcome {
        case .refused(let findings):
            say(findings, .error)
            Console.log(
                .error, "Reload refused: \(source.file) is not valid; nothing has changed",
                isLimited: false)
            endReload(.refused(file: source.file, findings), .refused)
        case .unusable(let reason, _): cancelReload(reason)
        case .read(let launch, let findings):
            say(findings, .warn)
            do throws(SystemError) {
                lastNumber += 1
                let generation = try Self.generation(
                    lastNumber, launch, sockets, caps, tickets,
                    formerRings: generations.compactMap(\.eventRings))
                mirrorOrders.apply(to: generation.board.mirror, launch.settings)
                generation.inheritVerdicts(from: current)
                reload?.stage = .starting(generation, sinceMs: Instant.now().milliseconds)
            } catch {
                cancelReload("\(error)")
            }
        }
    }

    private func say(_ findings: [Diagnostic], _ level: LogLevel) {
        for finding in findings {
            Console.log(level, finding.text(file: source.file), isLimited: false)
        }
    }

    private func change(to next: Generation, startedMs: UInt64) {
        let old = current
        let reloads = old.board.reloads
        for cell in [ReloadCell.done, .refused, .failed] {
            next.board.reloads[cell].set(reloads.value(cell))
        }
        GatewayLog.configure(next.launch.settings.log)
        show(next, startedMs: startedMs)
        caps.adopt(next.caps, now: .now())
        counters.follow(next, after: old)
        next.serve(after: old)
        sockets.keepOnly(next.plan)
        current = next
        former.append(old)
        adminWaitsSince = Instant.now().milliseconds
        let tookMs = Instant.now().milliseconds - (reload?.startedMs ?? 0)
        Console.log(
            .info,
            "Reloaded \(source.file) in \(tookMs) ms: configuration \(next.number) serves on "
                + next.plan.text, isLimited: false)
        endReload(.done(generation: next.number, tookMs: tookMs), .done)
        old.retire(eventsGoOn: next.eventRings != nil)
    }

    /// The reload that is under way comes to nothing, for this reason.
    private func cancelReload(_ reason: String) {
        guard let reload else {
            end(.failed(reason), askers, .failed)
            askers = []
            return
        }
        if case .starting(let generation, _) = reload.stage {
            generation.discard()
            former.append(generation)
        }
        Console.log(
            .error, "Reload failed: \(reason); nothing has changed", isLimited: false)
        sockets.keepOnly(current.plan)
        endReload(.failed(reason), .failed)
    }

    private func endReload(_ outcome: ReloadOutcome, _ cell: ReloadCell) {
        end(outcome, reload?.askers ?? [], cell)
        reload = nil
    }

    private func end(
        _ outcome: ReloadOutcome, _ askers: [(ReloadOutcome) -> Void], _ cell: ReloadCell
    ) {
        guard !askers.isEmpty else { return }
        current.board.reloads.add(cell)
        for asker in askers { asker(outcome) }
    }

    /// Moves the generations on that serve no more, and has the present one's admin process take
    /// over.
    private func endFormer() {
        let now = Instant.now()
        for generation in former {
            generation.enforceEnd()
            guard generation.isOver else { continue }
            counters.ended(generation)
            former.removeAll { $0 === generation }
        }
        current.board.reloads[.draining].set(UInt64(former.count))
        if let since = adminWaitsSince {
            guard former.allSatisfy(\.hasNoAdmin) else {
                if now.milliseconds > since + Reload.adminMsMax {
                    for generation in former { generation.killAdmin() }
                }
                return
            }
            adminWaitsSince = nil
            // What the old one told last must not be more than what the new one tells first.
            counters.write()
            current.serveAdmin()
        }
        guard !former.isEmpty, now >= nextCount else { return }
        counters.write()
        let tookMs = Int(Instant.now().nanoseconds(since: now) / 1_000_000)
        nextCount = Instant.now().adding(ms: max(100, 20 * tookMs))
    }
}
