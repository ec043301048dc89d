import CLinux
import CoreLoop
import Proxy

/// One role's process, alive or waiting for its next start.
final class Child {
    let role: Role
    let index: Int
    var pid: pid_t = 0
    var startedMs: UInt64 = 0
    var waitMs: UInt64 = 0
    /// When it is started; nil where it runs, or is not started again.
    var startAtMs: UInt64? = 0
    /// Ended by us, to start with fresh memory: no fault of its own.
    var isRecycled = false

    init(_ role: Role, _ index: Int) {
        self.role = role
        self.index = index
    }

    var name: String { "\(role.label) \(index)" }
}

/// Starts processes from this very binary.
enum Spawning {
    /// What the roles are started from: this very binary, even where an upgrade has replaced the
    /// file. A profiler that runs programs by path (valgrind) names the path instead.
    private static let executable =
        getenv("UMBRA_EXECUTABLE").map { String(cString: $0) } ?? "/proc/self/exe"

    /// A descriptor of this process, and the number that the new one has it under.
    typealias Handed = (fd: Int32, as: Int32)

    /// Starts `umbra` with `words`, the standard streams and `descriptors`; all signals reach it.
    /// It stands back from its first instruction, with `nice` where this process has less.
    static func start(
        _ words: [String], _ descriptors: [Handed], nice: Int
    ) throws(SystemError) -> pid_t {
        // Sources first move above every place that a target takes, so that no dup2 overwrites one.
        let floor = (descriptors.map(\.as).max() ?? 0) + 1
        var moved: [Int32] = []
        defer { for fd in moved { close(fd) } }
        for (fd, _) in descriptors {
            moved.append(
                try check(umbra_fcntl(fd, F_DUPFD_CLOEXEC, floor), "fcntl(F_DUPFD_CLOEXEC)"))
        }
        var arguments = (["umbra"] + words).map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let code = umbra_spawn(
            &pid, executable, &arguments, moved, descriptors.map(\.as), Int32(moved.count),
            Int32(nice), CoreLoop.Limits.longSliceNs)
        if code != 0 { throw SystemError("vfork/execve", code: code) }
        return pid
    }

    /// How a process ended, for a person.
    static func text(_ status: Int32) -> String {
        if umbra_wait_signalled(status) != 0 {
            let number = umbra_wait_signal(status)
            return "killed by signal \(number) (\(String(cString: strsignal(number))))"
        }
        return "exit status \(umbra_wait_status(status))"
    }
}
