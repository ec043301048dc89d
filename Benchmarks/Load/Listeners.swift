public import CLinux

/// Who listens on a TCP port, by the kernel's own tables.
///
/// With SO_REUSEPORT a forgotten process takes its share of the connections silently; a figure
/// taken beside one is worthless.
public enum Listeners {
    /// One listening socket and the processes that hold it.
    public struct Socket: Sendable, Equatable {
        /// The socket's inode: the same for each descriptor of it.
        public let inode: UInt64
        /// Ascending; empty where its holders may not be seen.
        public let pids: [pid_t]
    }

    /// All listening sockets of `port`, IPv4 and IPv6.
    public static func sockets(port: UInt16) -> [Socket] {
        var inodes: Set<UInt64> = []
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            guard let bytes = Standard.readFile(file) else { continue }
            inodes.formUnion(parse(String(decoding: bytes, as: UTF8.self), port: port))
        }
        guard !inodes.isEmpty else { return [] }
        var holders: [UInt64: [pid_t]] = [:]
        for pid in ProcessTree.allPids() {
            var seen: Set<UInt64> = []
            for fd in ProcessTree.numbers(in: "/proc/\(pid)/fd") {
                guard let inode = socketInode("/proc/\(pid)/fd/\(fd)"), inodes.contains(inode)
                else { continue }
                if seen.insert(inode).inserted { holders[inode, default: []].append(pid) }
            }
        }
        return inodes.sorted().map { Socket(inode: $0, pids: (holders[$0] ?? []).sorted()) }
    }

    /// The inodes of the sockets that listen on `port`, from the text of /proc/net/tcp.
    static func parse(_ table: String, port: UInt16) -> [UInt64] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            // 0A is TCP_LISTEN; field 1 is address:port in hexadecimal, field 9 the inode.
            guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":")
            else { return nil }
            guard UInt16(fields[1][fields[1].index(after: colon)...], radix: 16) == port else {
                return nil
            }
            return UInt64(fields[9])
        }
    }

    private static func socketInode(_ path: String) -> UInt64? {
        var buffer = [UInt8](repeating: 0, count: 64)
        let count = buffer.withUnsafeMutableBytes {
            readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        guard count > 0 else { return nil }
        let text = String(decoding: buffer[..<count], as: UTF8.self)
        guard text.hasPrefix("socket:["), text.hasSuffix("]") else { return nil }
        return UInt64(text.dropFirst(8).dropLast())
    }

    /// What is wrong where only `owners` should listen on `port`; nil where all is well.
    public static func fault(port: UInt16, owners: [pid_t], expected: Bool = true) -> String? {
        let found = sockets(port: port)
        if found.isEmpty { return expected ? "nobody listens on port \(port)" : nil }
        if !expected { return "somebody listens on port \(port), where nobody should" }
        for socket in found {
            if socket.pids.isEmpty {
                return "a process that cannot be seen listens on port \(port)"
            }
            if let foreign = socket.pids.first(where: { !owners.contains($0) }) {
                return "process \(foreign) listens on port \(port) as well; expected only \(owners)"
            }
        }
        return nil
    }
}
