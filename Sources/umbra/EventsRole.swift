import CLinux
import CoreLoop
import EventLog
import Proxy

/// What workers and the event log's process share: a ring for each worker, in one memory, and the
/// door of the process. They outlive each of both.
final class EventRings {
    private let memory: SharedMemory
    private let door: Wake

    /// Nil where no events are logged.
    init?(_ launch: Launch) throws(SystemError) {
        guard launch.settings.eventLog != nil else { return nil }
        memory = try .create(name: "umbra-events", byteCount: Self.byteCount(launch))
        door = try .create()
    }

    deinit { close(door.fd) }

    var forWorkers: [Spawning.Handed] {
        [(memory.fd, RoleFD.eventRings), (door.fd, RoleFD.eventsWake)]
    }

    /// With the rings of former generations, whose doors nobody opens any more: their workers knock
    /// in vain, and are looked after each time that the writer's wait is over.
    func forWriter(besides former: [EventRings]) -> [Spawning.Handed] {
        let others = former.enumerated().map { place, rings in
            (fd: rings.memory.fd, as: RoleFD.formerRings + Int32(place))
        }
        return [(memory.fd, RoleFD.eventRings), (door.fd, RoleFD.wake)] + others
    }

    private static func byteCount(_ launch: Launch) -> Int {
        launch.workers * RecordRing.byteCount()
    }

    /// The rings behind a descriptor that this process was handed: as many as its memory holds.
    static func map(_ fd: Int32) throws(SystemError) -> [RecordRing] {
        var status = stat()
        try check(fstat(fd, &status), "fstat(rings)")
        let one = RecordRing.byteCount()
        let count = Int(status.st_size) / one
        let base = try RoleCommand.mapForEver(fd, count * one, writable: true)
        return (0..<count).map { worker in
            var plan = MemoryPlan(base: base + worker * one)
            return RecordRing(plan: &plan)!
        }
    }

    /// The rings of this generation and of those before it.
    static func mapAll() throws(SystemError) -> [RecordRing] {
        var rings = try map(RoleFD.eventRings)
        for place in 0...Int32(Supervisor.formerMax) {
            let fd = RoleFD.formerRings + place
            guard umbra_fcntl(fd, F_GETFD, 0) >= 0 else { break }
            rings += try map(fd)
        }
        return rings
    }
}

/// The process that writes the event log.
enum EventsRole {
    /// How long it waits before it tries a folder again that it could not open.
    private static let retryMs: UInt32 = 50
    /// How long it waits before it says so.
    private static let patienceMs: UInt64 = 2_000

    /// A worker's end: what makes events of its mirrored requests. Nil where none are logged.
    static func tap(_ launch: Launch, _ worker: Int) throws(SystemError) -> EventTap? {
        guard launch.settings.eventLog != nil else { return nil }
        let rings = try EventRings.map(RoleFD.eventRings)
        let version = String(ChainHash.of(launch.document).text.prefix(12))
        return EventTap(
            rings[worker], wake: Wake(fd: RoleFD.eventsWake),
            names: EventTap.Names(settings: launch.settings, configVersion: version))
    }

    static func run(
        _ launch: Launch, _ board: Board, _ isStopped: () -> Bool
    ) throws(SystemError) {
        guard let settings = launch.settings.eventLog, let counters = board.eventLog,
            let process = board.events
        else { return }
        GatewayLog.count(in: process)
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 5)
        let rings = try EventRings.mapAll()
        // It serves from now on: what comes waits in the rings until the folder is free, which at a
        // reload it is once the former events process has ended.
        process[.state].set(UInt64(ProcessState.running.rawValue))
        var fault: String?
        var waitingSince: UInt64 = 0
        while !isStopped() {
            process[.heartbeatMs].set(Instant.now().milliseconds)
            do throws(LogFault) {
                let writer = try LogWriter(settings, counters: counters, time: .now())
                if fault != nil {
                    Console.log(.info, "event log: \(settings.directory) is written")
                }
                return serve(writer, rings, process, counters, isStopped)
            } catch {
                let text = "\(error)"
                // A reload's handing over is no news; only what lasts is.
                let since = Instant.now().milliseconds
                if waitingSince == 0 { waitingSince = since }
                if text != fault, since >= waitingSince + patienceMs {
                    Console.log(.warn, "event log: \(text); events wait, then they are dropped")
                    fault = text
                }
            }
            GatewayLog.tick()
            usleep(retryMs * 1_000)
        }
    }

    private static func serve(
        _ writer: LogWriter, _ rings: [RecordRing], _ process: CounterRow<ProcessCell>,
        _ counters: CounterRow<LogCounter>, _ isStopped: () -> Bool
    ) {
        let loop = LogLoop(
            writer, rings: rings, wake: Wake(fd: RoleFD.wake), counters: counters)
        var failures = (write: counters.value(.writeFailures), sync: counters.value(.syncFailures))
        let isDurable = loop.run {
            process[.heartbeatMs].set(Instant.now().milliseconds)
            let now = (counters.value(.writeFailures), counters.value(.syncFailures))
            if now.0 != failures.write {
                Console.log(.error, "event log: cannot write: the disk is full, or fails")
            }
            if now.1 != failures.sync { Console.log(.error, "event log: the disk does not sync") }
            failures = now
            GatewayLog.tick()
            return isStopped()
        }
        if !isDurable { Console.log(.error, "event log: the last events were not made durable") }
    }
}
