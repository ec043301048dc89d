public import CLinux
public import CoreLoop
import Glibc

/// A program started by a tool, ended by its pid.
///
/// It goes through the tool's own binary, which pins it, ties it to its parent's life
/// (PR_SET_PDEATHSIG, which outlives `exec`) and then becomes it: also a tool that is killed
/// leaves nothing behind.
public final class ChildProcess: @unchecked Sendable {
    /// The process itself: `exec` keeps the pid.
    public let pid: pid_t
    private var status: Int32?

    private static let trampolineFlag = "--become"

    /// Must be the first thing a tool's `main` does: where the process was started to become
    /// another one, this does not return.
    public static func becomeIfAsked() {
        let arguments = CommandLine.arguments
        guard arguments.count >= 5, arguments[1] == trampolineFlag, let parent = pid_t(arguments[2])
        else { return }
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        guard ProcessControl.dieWithParent(parent, signal: SIGTERM) else { _exit(127) }
        let cpus = arguments[3].split(separator: ",").compactMap { Int($0) }
        if !cpus.isEmpty { ProcessControl.setAffinity(cpus) }
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments[4...].map { strdup($0) }
        pointers.append(nil)
        execv(arguments[4], &pointers)
        Standard.error("cannot start \(arguments[4]): \(SystemError.text(lastErrno))\n")
        _exit(127)
    }

    /// Starts `program` (a path) on `cpus` (all where empty), its output into `logFile`.
    public init(_ program: String, _ arguments: [String], cpus: [Int] = [], logFile: String)
        throws(SystemError)
    {
        let log = try check(
            umbra_open(logFile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644), "open(log)")
        defer { close(log) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, log, 1)
        posix_spawn_file_actions_adddup2(&actions, log, 2)
        let cpuText = cpus.map { "\($0)" }.joined(separator: ",")
        let words =
            ["/proc/self/exe", Self.trampolineFlag, "\(getpid())", cpuText, program] + arguments
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var started = pid_t()
        let code = posix_spawn(&started, "/proc/self/exe", &actions, nil, pointers, environ)
        if code != 0 { throw SystemError("posix_spawn", code: code) }
        pid = started
    }

    /// Whether it still runs.
    public var isRunning: Bool {
        if status != nil { return false }
        var status: Int32 = 0
        if waitpid(pid, &status, WNOHANG) == pid {
            self.status = status
            return false
        }
        return true
    }

    /// How it ended, in words; nil while it runs.
    public var end: String? {
        guard !isRunning, let status else { return nil }
        if umbra_wait_signalled(status) != 0 {
            return "killed by signal \(umbra_wait_signal(status))"
        }
        return "exit \(umbra_wait_status(status))"
    }

    /// SIGTERM, then SIGKILL to what is left of its tree after `graceMs`. Waits for its end.
    public func terminate(graceMs: Int = 4_000) {
        guard isRunning else { return }
        let tree = ProcessTree(root: pid)
        kill(pid, SIGTERM)
        let deadline = Instant.now().adding(ms: graceMs)
        while isRunning, Instant.now() < deadline { usleep(10_000) }
        guard isRunning else { return }
        // Its own children first seen before the SIGTERM, so that no pid is a stranger's.
        for pid in tree.pids where pid == self.pid || ProcessTree.parent(of: pid) == self.pid {
            kill(pid, SIGKILL)
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, lastErrno == EINTR {}
        self.status = status
    }
}
