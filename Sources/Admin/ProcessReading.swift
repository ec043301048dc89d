import CLinux
import CoreLoop
import Proxy

/// What the board says of one process.
struct ProcessReading {
    let role: Role
    let index: Int
    let pid: UInt64
    let state: ProcessState
    let restarts: UInt64
    let startedMs: UInt64
    let heartbeatMs: UInt64
    let lastStatus: UInt64
    let logRepeated: UInt64
    let logUnwritten: UInt64
    /// The worker that serves this worker's socket; nil for nobody, and for other roles.
    let servedBy: Int?

    init(_ role: Role, _ index: Int, _ row: CounterRow<ProcessCell>) {
        self.role = role
        self.index = index
        pid = row.value(.pid)
        state = ProcessState(rawValue: Int(clamping: row.value(.state))) ?? .absent
        restarts = row.value(.restarts)
        startedMs = row.value(.startedMs)
        heartbeatMs = row.value(.heartbeatMs)
        lastStatus = row.value(.lastStatus)
        logRepeated = row.value(.logRepeated)
        logUnwritten = row.value(.logUnwritten)
        let serving = row.value(.servedBy)
        servedBy = role == .worker && serving > 0 ? Int(clamping: serving) - 1 : nil
    }

    /// Every process: the supervisor, the workers, the shadows, the admin process, the health
    /// process, and the one that writes the event log.
    static func all(_ board: Board) -> [ProcessReading] {
        func each(_ role: Role, _ rows: [CounterRow<ProcessCell>]) -> [ProcessReading] {
            rows.enumerated().map { ProcessReading(role, $0.offset, $0.element) }
        }
        return each(.supervisor, [board.supervisor]) + each(.worker, board.workerProcesses)
            + each(.shadow, board.shadowProcesses) + each(.admin, [board.admin])
            + each(.health, board.health.map { [$0] } ?? [])
            + each(.events, board.events.map { [$0] } ?? [])
    }

    /// Whether there is a process now.
    var isAlive: Bool {
        switch state {
        case .starting, .running, .stopping: pid > 0
        case .absent, .heldBack: false
        }
    }

    /// Milliseconds since the start; nil where there is no process.
    func uptimeMs(_ now: Instant) -> UInt64? { isAlive ? Self.age(of: startedMs, now) : nil }

    /// Milliseconds since the last heartbeat; nil where there was none.
    func heartbeatAgeMs(_ now: Instant) -> UInt64? {
        heartbeatMs > 0 ? Self.age(of: heartbeatMs, now) : nil
    }

    // A beat may be later than the turn's own time: it counts as now.
    private static func age(of ms: UInt64, _ now: Instant) -> UInt64 {
        now.milliseconds > ms ? now.milliseconds - ms : 0
    }

    /// How the process before this one ended, as `exit 1` or `signal 9`; nil where none has.
    var lastExit: String? {
        guard restarts > 0 || lastStatus > 0 else { return nil }
        let status = Int32(truncatingIfNeeded: lastStatus)
        if umbra_wait_signalled(status) != 0 { return "signal \(umbra_wait_signal(status))" }
        return "exit \(umbra_wait_status(status))"
    }

    /// Bytes of memory that the process has in use (`/proc/PID/statm`); nil where that cannot be
    /// read.
    var residentBytes: UInt64? {
        guard isAlive else { return nil }
        let fd = umbra_open("/proc/\(pid)/statm", O_RDONLY | O_CLOEXEC, 0)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var text = [UInt8](repeating: 0, count: 256)
        let count = read(fd, &text, text.count)
        guard count > 0 else { return nil }
        let fields = text[..<count].split(separator: 0x20)
        guard fields.count > 1, let pages = UInt64(String(decoding: fields[1], as: UTF8.self))
        else { return nil }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Why a worker cannot be counted on; nil where it can: it runs, and it has beaten of late.
    func unreadiness(_ now: Instant) -> String? {
        guard state == .running else { return "not_running" }
        guard let age = heartbeatAgeMs(now) else { return "no_heartbeat" }
        return age < AdminLimits.heartbeatMsMax ? nil : "stale_heartbeat"
    }
}
