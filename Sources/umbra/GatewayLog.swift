import CLinux
import CoreLoop
import Proxy

/// The gateway's own log, in each of its processes: what to say, in which form, and a way out that
/// never waits. Written by a process's main thread only.
enum GatewayLog {
    private struct State {
        var settings = GatewayLogSettings()
        var process = LogLine.supervisor
        var throttle = LogThrottle()
        var cells: CounterRow<ProcessCell>?
        var exit = LogExit()
    }

    // One thread uses it: see above.
    nonisolated(unsafe) private static var state = State()

    /// From now on lines are written as `settings` say. `process` names whose they are.
    static func configure(_ settings: GatewayLogSettings, process: String = LogLine.supervisor) {
        state.settings = settings
        state.process = process
        state.exit = LogExit(settings.destination)
    }

    /// Where what is not written is counted.
    static func count(in cells: CounterRow<ProcessCell>) { state.cells = cells }

    /// Says one event; `kind` nil is never held back.
    static func say(_ level: LogLevel, _ text: String, kind: LogKind?) {
        guard level <= state.settings.level else { return }
        if let kind, !state.throttle.admits(kind, level, text, now: .now()) {
            state.cells?.add(.logRepeated)
            return
        }
        write(level, text)
    }

    /// Says how many events of a kind were held back, when their time is over. To be called in each
    /// turn of a loop; costs nothing while nothing is held back.
    static func tick() {
        guard state.throttle.nextDue != nil else { return }
        sayHeld(now: .now())
    }

    /// Says what is still held back: at the process's end.
    static func end() { sayHeld(now: nil) }

    private static func sayHeld(now: Instant?) {
        while let summary = state.throttle.takeDue(now: now) {
            write(
                summary.level,
                "… \(summary.count) more like it in \(Limits.logWindowMs / 1_000) s, the last: "
                    + summary.text, repeated: summary.count)
        }
    }

    private static func write(_ level: LogLevel, _ text: String, repeated: Int = 0) {
        var line = LogLine(
            level, process: state.process, pid: getpid(), wallMs: WallClock.milliseconds(),
            text: text)
        line.repeated = repeated
        let bytes = line.bytes(state.settings.format, prioritised: state.exit.isPrioritised)
        if !state.exit.take(bytes) { state.cells?.add(.logUnwritten) }
    }
}

/// Standard error, used so that a reader that has stopped stops nobody here.
private struct LogExit {
    /// Whether the journal takes a line's level from its first bytes.
    private(set) var isPrioritised = false
    private var fd = STDERR_FILENO
    private var isSocket = false

    init() {}

    init(_ destination: GatewayLogSettings.Destination) {
        var status = stat()
        guard fstat(STDERR_FILENO, &status) == 0 else { return }
        switch destination {
        case .stderr: break
        case .journald: isPrioritised = true
        case .auto: isPrioritised = Self.isJournal(status)
        }
        let kind = status.st_mode & mode_t(S_IFMT)
        isSocket = kind == mode_t(S_IFSOCK)
        if kind == mode_t(S_IFIFO) { fd = Self.ownEnd }
    }

    /// The pipe opened anew, so that it can be non-blocking for us alone: others share the mode of
    /// the inherited descriptor. That one where it cannot be opened.
    private static let ownEnd: Int32 = {
        let fd = umbra_open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0)
        return fd < 0 ? STDERR_FILENO : fd
    }()

    /// systemd says which device and inode its connection to the journal is (systemd.exec(5)):
    /// what was redirected since is not it.
    private static func isJournal(_ status: stat) -> Bool {
        guard let value = getenv("JOURNAL_STREAM") else { return false }
        return String(cString: value) == "\(status.st_dev):\(status.st_ino)"
    }

    /// Writes a whole line; false where there is no room for it now. A line is at most PIPE_BUF
    /// bytes: a pipe takes all of it or nothing.
    func take(_ line: [UInt8]) -> Bool {
        var start = 0
        while start < line.count {
            let count = line.withUnsafeBytes { bytes in
                isSocket
                    ? send(
                        fd, bytes.baseAddress! + start, bytes.count - start,
                        Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
                    : CLinux.write(fd, bytes.baseAddress! + start, bytes.count - start)
            }
            if count < 0 {
                if lastErrno == EINTR { continue }
                return false
            }
            start += count
        }
        return true
    }
}
