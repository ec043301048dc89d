public import CLinux

/// What a process can do to itself and to its children.
public enum ProcessControl {
    /// The CPUs that this process may run on, ascending.
    public static func affinity() -> [Int] {
        var mask = umbra_cpu_mask()
        guard umbra_getaffinity(&mask) > 0 else { return [0] }
        return withUnsafeBytes(of: mask) { raw in
            (0..<raw.count * 8).filter { raw[$0 / 8] & (1 << UInt8($0 % 8)) != 0 }
        }
    }

    /// Keeps this process on `cpus`. False where the kernel refuses.
    @discardableResult
    public static func setAffinity(_ cpus: [Int]) -> Bool {
        var mask = umbra_cpu_mask()
        withUnsafeMutableBytes(of: &mask) { raw in
            for cpu in cpus where cpu >= 0 && cpu < raw.count * 8 {
                raw[cpu / 8] |= 1 << UInt8(cpu % 8)
            }
        }
        return umbra_setaffinity(&mask) == 0
    }

    /// Has the kernel send `signal` to this process when its parent dies, whatever kills it.
    /// False where the parent is already another one than `parent`.
    public static func dieWithParent(_ parent: pid_t, signal: Int32 = SIGKILL) -> Bool {
        _ = umbra_prctl(PR_SET_PDEATHSIG, UInt(signal))
        return getppid() == parent
    }

    /// Lets this thread, and what it starts, stand back where CPUs are short: by its nice value,
    /// which never falls, and by a slice of time so long that whoever has the kernel's and wakes up
    /// goes before it (EEVDF, since Linux 6.12). The nice value alone where the kernel or a filter
    /// knows no slices; false where it refuses that too.
    @discardableResult
    public static func standBack(nice: Int = Limits.niceMin) -> Bool {
        umbra_stand_back(Int32(nice), Limits.longSliceNs) == 0
    }

    /// Goes first where CPUs are short, with the kernel's own slice of time: takes back what this
    /// thread has of a parent that stands back. Its nice value stays.
    public static func comeForward() {
        let nice = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
        _ = umbra_set_scheduling(nice, 0)
    }

    /// Shows `name` (at most 15 bytes) in ps and top.
    public static func setName(_ name: String) {
        _ = name.withCString { umbra_prctl(PR_SET_NAME, UInt(bitPattern: $0)) }
    }

    /// The limit of open files; 0 where it cannot be read.
    public static func fileLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        return Int(clamping: limit.rlim_cur)
    }

    /// Raises the limit of open files as far as allowed; returns what it is now.
    @discardableResult
    public static func raiseFileLimit(to wanted: Int) -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        if limit.rlim_cur < rlim_t(wanted) {
            var raised = limit
            raised.rlim_cur = rlim_t(wanted)
            raised.rlim_max = max(limit.rlim_max, rlim_t(wanted))
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised) != 0 {
                raised = limit
                raised.rlim_cur = min(rlim_t(wanted), limit.rlim_max)
                _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &raised)
            }
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        return Int(clamping: limit.rlim_cur)
    }
}

/// An eventfd: one process's knock on another's door.
public struct Wake: Sendable {
    /// The eventfd. Whoever created it closes it.
    public let fd: Int32

    /// An eventfd that was inherited.
    public init(fd: Int32) { self.fd = fd }

    /// A new eventfd, non-blocking and closed on exec.
    public static func create() throws(SystemError) -> Wake {
        Wake(fd: try check(eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC)), "eventfd"))
    }

    /// Wakes whoever waits for `fd`. Never blocks.
    @inlinable
    public func signal() {
        var one: UInt64 = 1
        _ = write(fd, &one, 8)
    }

    /// Takes the knocks that came.
    @inlinable
    public func clear() {
        var count: UInt64 = 0
        _ = read(fd, &count, 8)
    }
}
