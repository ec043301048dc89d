public import CLinux

/// A process and all that descend from it, as /proc shows them.
public struct ProcessTree: Sendable, Equatable {
    /// The process that was asked for.
    public let root: pid_t
    /// The root first; then its descendants, by pid.
    public let pids: [pid_t]

    /// Looks once. Empty where the root is gone.
    public init(root: pid_t) {
        self.root = root
        var parents: [(pid: pid_t, parent: pid_t)] = []
        for pid in Self.allPids() {
            if let parent = Self.parent(of: pid) { parents.append((pid, parent)) }
        }
        guard parents.contains(where: { $0.pid == root }) else {
            pids = []
            return
        }
        var known: Set<pid_t> = [root]
        var grew = true
        while grew {
            grew = false
            for entry in parents where known.contains(entry.parent) && !known.contains(entry.pid) {
                known.insert(entry.pid)
                grew = true
            }
        }
        pids = [root] + known.filter { $0 != root }.sorted()
    }

    /// CPU time of all its processes and their threads so far, nanoseconds, from the scheduler's
    /// own account (/proc/PID/task/*/schedstat); by clock ticks where the kernel keeps none.
    /// What ended in between is not in it: compare `pids` of two looks.
    public func cpuNs() -> UInt64 { pids.reduce(0) { $0 + Self.cpuNs(of: $1) } }

    /// Every process's name, for a report.
    public func names() -> [String] {
        pids.map { pid in
            let bytes = Standard.readFile("/proc/\(pid)/comm") ?? []
            return String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self)
        }
    }

    /// CPU time of one process, nanoseconds; 0 where it is gone.
    public static func cpuNs(of pid: pid_t) -> UInt64 {
        var total: UInt64 = 0
        var found = false
        for thread in numbers(in: "/proc/\(pid)/task") {
            guard let bytes = Standard.readFile("/proc/\(pid)/task/\(thread)/schedstat") else {
                continue
            }
            let text = String(decoding: bytes, as: UTF8.self)
            if let first = text.split(separator: " ").first, let ns = UInt64(first) {
                total += ns
                found = true
            }
        }
        if found { return total }
        guard let fields = statFields(pid), fields.count > 12 else { return 0 }
        let ticks = (UInt64(fields[11]) ?? 0) + (UInt64(fields[12]) ?? 0)
        return ticks * 1_000_000_000 / UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    }

    static func allPids() -> [pid_t] { numbers(in: "/proc").map { pid_t($0) } }

    static func parent(of pid: pid_t) -> pid_t? {
        guard let fields = statFields(pid), fields.count > 1 else { return nil }
        return pid_t(fields[1])
    }

    /// The fields of /proc/PID/stat behind the name: state, parent, …
    private static func statFields(_ pid: pid_t) -> [Substring]? {
        guard let bytes = Standard.readFile("/proc/\(pid)/stat") else { return nil }
        // The name stands in parentheses and may hold blanks and parentheses itself.
        guard let close = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        return String(decoding: bytes[(close + 1)...], as: UTF8.self).split(separator: " ")
    }

    /// The entries of a directory whose names are numbers.
    static func numbers(in directory: String) -> [Int] {
        Directory.names(directory).compactMap { Int($0) }
    }
}
