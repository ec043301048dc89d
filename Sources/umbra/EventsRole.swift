import CLinux
import CoreLoop
import EventLog
import Policy
import Proxy
import Verdict

/// The process that writes the event log.
enum EventsRole {
    /// How long it waits before it tries a folder again that it could not open.
    private static let retryMs: UInt32 = 50
    /// How long it waits before it says so.
    private static let patienceMs: UInt64 = 2_000

    /// A worker's end: what makes events of its mirrored requests, and the ring of its captures.
    /// Nil where none are logged.
    static func tap(
        _ launch: Launch, _ worker: Int
    ) throws(SystemError) -> (events: EventTap, captures: RecordRing)? {
        guard launch.settings.eventLog != nil else { return nil }
        let rings = try EventRings.map(RoleFD.eventRings)
        let version = String(ChainHash.of(launch.document).text.prefix(12))
        let tap = EventTap(
            rings.events[worker], wake: Wake(fd: RoleFD.eventsWake),
            names: EventTap.Names(settings: launch.settings, configVersion: version))
        return (tap, rings.primaries[worker])
    }

    /// What a worker keeps of exchanges with LLM targets; nil where there are none, or no events.
    static func captures(
        _ settings: GatewaySettings, _ ring: RecordRing?
    ) throws(SystemError) -> ExchangeCaptures? {
        guard let ring, settings.hasProviders else { return nil }
        return try ExchangeCaptures(
            ring, bodyBytesMax: settings.captureBytes,
            blocksMax: settings.runtime.blocksPerWorker / ProxyLimits.captureBlocksShare)
    }

    /// A shadow process's end: the ring of its captures. Nil where none are logged.
    static func captures(_ launch: Launch, shadow index: Int) throws(SystemError) -> RecordRing? {
        guard launch.settings.eventLog != nil else { return nil }
        return try EventRings.map(RoleFD.eventRings).shadows[index]
    }

    static func run(
        _ launch: Launch, _ board: Board, _ isStopped: () -> Bool
    ) throws(SystemError) {
        guard let settings = launch.settings.eventLog, let counters = board.eventLog,
            let process = board.events
        else { return }
        GatewayLog.count(in: process)
        let rings = try EventRings.mapAll()
        // It serves from now on: what comes waits in the rings until the folder is free, which at a
        // reload it is once the former events process has ended.
        process[.state].set(UInt64(ProcessState.running.rawValue))
        var fault: String?
        var waitingSince: UInt64 = 0
        var stoppedSince: UInt64?
        while true {
            let now = Instant.now().milliseconds
            process[.heartbeatMs].set(now)
            if isStopped() {
                // Whoever ends before its turn came still writes what waits, if it comes in time.
                let since = stoppedSince ?? now
                stoppedSince = since
                guard !rings.events.allSatisfy(\.isEmpty), now < since + patienceMs else { return }
            }
            do throws(LogFault) {
                let writer = try LogWriter(settings, counters: counters, time: .now())
                if fault != nil {
                    Console.log(.info, "event log: \(settings.directory) is written")
                }
                // A configuration that was checked has no pattern that cannot be read.
                let policies = try? PolicyChain(launch.settings.policies)
                let judge = Judge(
                    primaries: rings.primaries, shadows: rings.shadows, left: rings.left,
                    policies: policies, counters: counters)
                serve(writer, rings.events, judge, process, counters, isStopped)
                guard writer.isRemoved, !isStopped() else { return }
                Console.log(
                    .error,
                    "event log: a segment in \(settings.directory) was removed while it was "
                        + "written: its last events are lost, a new one is begun")
                continue
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
        _ writer: LogWriter, _ rings: [RecordRing], _ judge: Judge,
        _ process: CounterRow<ProcessCell>,
        _ counters: CounterRow<LogCounter>, _ isStopped: () -> Bool
    ) {
        let loop = LogLoop(
            writer, rings: rings, wake: Wake(fd: RoleFD.wake), counters: counters,
            source: judge)
        var failures = (write: counters.value(.writeFailures), sync: counters.value(.syncFailures))
        let isDurable = loop.run {
            process[.heartbeatMs].set(Instant.now().milliseconds)
            let now = (counters.value(.writeFailures), counters.value(.syncFailures))
            if now.0 != failures.write {
                let fault = SystemError.text(writer.writeFault)
                Console.log(.error, "event log: cannot write: \(fault)")
            }
            if now.1 != failures.sync {
                let fault = SystemError.text(writer.syncFault)
                Console.log(.error, "event log: the disk does not sync: \(fault)")
            }
            failures = now
            GatewayLog.tick()
            return isStopped() || writer.isRemoved
        }
        if !isDurable, !writer.isRemoved {
            Console.log(.error, "event log: the last events were not made durable")
        }
    }
}
