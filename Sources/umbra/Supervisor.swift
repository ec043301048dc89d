import CLinux
import CoreLoop
import Mirror
import Proxy

/// The parent of all roles: opens what must outlive them (listening sockets, shared memory), starts
/// them, and starts again what dies. It parses nothing that comes from a network.
final class Supervisor {
    /// Generations that may still be finishing requests: a further reload waits for one of them.
    static let formerMax = 4

    let source: ConfigurationSource
    let sockets = ListenSockets()
    let caps = CapPages()
    let counters = CarriedCounters()
    let tickets: TicketPage
    var current: Generation
    /// Those before it that have processes left, the oldest first.
    var former: [Generation] = []
    /// Events that ended generations have handed over and nobody has taken yet.
    var unreadRings: [EventRings] = []
    var reload: Reload?
    /// Who asked for a reload that has not begun.
    var askers: [(ReloadOutcome) -> Void] = []
    var lastNumber = 1
    var saidWaiting = false
    /// Since when, monotonic milliseconds, the old admin process makes room for the new one.
    var adminWaitsSince: UInt64?
    /// Rung by whoever has something for the supervisor.
    let bell: Wake
    private var signalFD: Int32 = -1
    var isStopping = false
    private var forcedExit: Int32?
    private var saidReady = false
    var nextCount = Instant(nanoseconds: 0)
    /// What people have said of mirroring; holds for every generation.
    var mirrorOrders = MirrorOrders()
    /// No order is taken before this.
    var ordersRestUntil = Instant(nanoseconds: 0)

    /// Opens the sockets, and makes the memory of the first generation.
    init(_ launch: Launch, source: ConfigurationSource) throws(StartFault) {
        self.source = source
        do throws(SystemError) {
            bell = try .create()
            tickets = try TicketPage()
        } catch { throw StartFault(error) }
        current = try Self.generation(1, launch, sockets, caps, tickets, formerRings: [])
        caps.adopt(current.caps, now: .now())
        counters.follow(current, after: nil)
        current.serve(after: nil)
        current.serveAdmin()
    }

    static func generation(
        _ number: Int, _ launch: Launch, _ sockets: ListenSockets, _ caps: CapPages,
        _ tickets: TicketPage, formerRings: [EventRings]
    ) throws(StartFault) -> Generation {
        let settings = launch.settings
        let wanted = ProxyLimits.descriptors(connections: settings.runtime.connectionsPerWorker)
        GatewayNotices.fileLimit(ProcessControl.raiseFileLimit(to: wanted), of: wanted)
        let plan = try sockets.plan(
            settings.listen.map(\.address), admin: settings.admin.listen, workers: launch.workers)
        do throws(SystemError) {
            return try Generation(
                number, launch, plan: plan, caps: try caps.plan(settings.shadows), tickets: tickets,
                formerRings: formerRings)
        } catch { throw StartFault(error) }
    }

    // MARK: The loop

    /// Runs until a signal ends it. Returns the exit status.
    func run() -> Int32 {
        takeOverSignals()
        ProcessControl.setName("umbra")
        // No user waits for it.
        ProcessControl.standBack()
        // A trap's backtrace takes 0.3 s: a worker shall be back within 0.2.
        setenv("SWIFT_BACKTRACE", "enable=no", 0)
        let startedMs = Instant.now().milliseconds
        show(current, startedMs: startedMs)
        GatewayNotices.start(current.launch.settings)
        while true {
            startDue()
            if let forcedExit {
                sockets.closeAll()
                return forcedExit
            }
            if isStopping, current.isOver, former.isEmpty, reload == nil {
                sockets.closeAll()
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
    func show(_ generation: Generation, startedMs: UInt64) {
        let cells = generation.board.supervisor
        GatewayLog.count(in: cells)
        cells[.pid].set(UInt64(getpid()))
        cells[.state].set(UInt64(ProcessState.running.rawValue))
        cells[.startedMs].set(startedMs)
        cells[.heartbeatMs].set(Instant.now().milliseconds)
        generation.board.reloads[.generation].set(UInt64(generation.number))
    }
}
