import CLinux
import CoreLoop
import Mirror
import Proxy
import TLS

/// The parent of all roles: opens what must outlive them (listening sockets, shared memory), starts
/// them, and starts again what dies. It parses nothing that comes from a network.
final class Supervisor {
    private let sockets: ListenSockets
    private let tickets: TicketPage
    private let current: Generation
    private var signalFD: Int32 = -1
    private var isStopping = false
    private var forcedExit: Int32?
    private var saidReady = false
    /// What people have said of mirroring; holds for every generation.
    var mirrorOrders = MirrorOrders()
    /// No order is taken before this.
    var ordersRestUntil = Instant(nanoseconds: 0)

    /// Opens the sockets, and makes the memory of the first generation.
    init(
        settings: GatewaySettings, document: [UInt8], keyFiles: KeyFiles
    ) throws(SystemError) {
        let workers = settings.runtime.workers ?? ProcessControl.affinity().count
        let wanted = ProxyLimits.descriptors(connections: settings.runtime.connectionsPerWorker)
        GatewayNotices.fileLimit(ProcessControl.raiseFileLimit(to: wanted), of: wanted)
        sockets = try ListenSockets(settings.listen.map(\.address), workers: workers)
        if let address = settings.admin.listen { try sockets.openAdmin(address) }
        tickets = try TicketPage()
        current = try Generation(
            Launch(settings: settings, workers: workers, document: document, keyFiles: keyFiles),
            sockets: sockets, tickets: tickets)
    }

    /// Those that have processes, the latest last.
    var generations: [Generation] { [current] }

    // MARK: The loop

    /// Runs until a signal ends it. Returns the exit status.
    func run() -> Int32 {
        var mask = sigset_t()
        sigemptyset(&mask)
        for number in [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1] { sigaddset(&mask, number) }
        sigprocmask(SIG_BLOCK, &mask, nil)
        signalFD = signalfd(-1, &mask, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
        ProcessControl.setName("umbra")
        // A trap's backtrace takes 0.3 s: a worker shall be back within 0.2.
        setenv("SWIFT_BACKTRACE", "enable=no", 0)
        let cells = current.board.supervisor
        GatewayLog.count(in: cells)
        cells[.pid].set(UInt64(getpid()))
        cells[.state].set(UInt64(ProcessState.running.rawValue))
        cells[.startedMs].set(Instant.now().milliseconds)
        GatewayNotices.start(current.launch.settings)
        while true {
            current.startDue()
            if let forcedExit { return forcedExit }
            if isStopping, current.isOver {
                Console.log(.info, "Stopped")
                return 0
            }
            var pollers = [pollfd(fd: signalFD, events: Int16(POLLIN), revents: 0)]
            let waitMs = addBells(to: &pollers, waitMs: pollMs(), now: .now())
            _ = poll(&pollers, nfds_t(pollers.count), waitMs)
            cells[.heartbeatMs].set(Instant.now().milliseconds)
            takeSignals()
            reap()
            takeOrders(now: .now())
            endMirrorOrders(now: .now())
            current.enforceEnd()
            current.watchLatency(now: .now())
            tickets.rotate(everyMs: current.launch.settings.ticketRotationMs, now: .now())
            sayReady()
            GatewayLog.tick()
        }
    }

    private func pollMs() -> Int32 {
        let now = Instant.now().milliseconds
        var wait: UInt64 = saidReady ? 500 : 5
        if isStopping { wait = 20 }
        if let at = current.nextStartMs { wait = min(wait, at > now ? at - now : 0) }
        return Int32(wait)
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
                    current.killAll()
                    forcedExit = 1
                }
            case SIGUSR1: current.reopenLogs()
            default: break
            }
        }
    }

    private func reap() {
        var status: Int32 = 0
        while true {
            let pid = waitpid(-1, &status, WNOHANG)
            guard pid > 0 else { return }
            _ = current.tookDeath(of: pid, status)
        }
    }

    func beginStop() {
        guard !isStopping else { return }
        Console.log(.info, "Stopping: finishing what is under way")
        isStopping = true
        sockets.closeAll()
        current.beginStop()
    }

    private func sayReady() {
        guard !saidReady, !isStopping, current.isReady else { return }
        saidReady = true
        GatewayNotices.ready(current.launch, listen: sockets.text)
    }
}
