import CLinux

/// The files by which the system finds names, read again where they have changed.
struct SystemFiles {
    private var resolverText = FileText("/etc/resolv.conf")
    private var hostsText = FileText("/etc/hosts")
    private var sourcesText = FileText("/etc/nsswitch.conf")
    private(set) var resolver = ResolverFile(text: [])
    private(set) var hosts = HostsFile(text: [])
    private(set) var sources = NameSources(text: [])

    /// Looks for changes: three `stat`s where there is none.
    mutating func refresh() {
        if let text = resolverText.changed() { resolver = ResolverFile(text: text) }
        if let text = hostsText.changed() { hosts = HostsFile(text: text) }
        if let text = sourcesText.changed() { sources = NameSources(text: text) }
    }
}

/// One file's bytes, at most `UpstreamLimits.systemFileBytesMax`.
private struct FileText {
    /// What tells one state of a file from another.
    private struct Mark: Equatable {
        var device: UInt
        var inode: UInt
        var size: Int
        var seconds: Int
        var nanoseconds: Int
    }

    private let path: String
    private var mark: Mark?

    init(_ path: String) { self.path = path }

    /// The text where it is not that of the last call; a file that cannot be read is empty.
    mutating func changed() -> [UInt8]? {
        var status = stat()
        let now: Mark? =
            stat(path, &status) == 0
            ? Mark(
                device: UInt(status.st_dev), inode: UInt(status.st_ino), size: Int(status.st_size),
                seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec) : nil
        guard now != mark else { return nil }
        mark = now
        return now == nil ? [] : read()
    }

    private func read() -> [UInt8] {
        let fd = umbra_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
        guard fd >= 0 else { return [] }
        defer { close(fd) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count < UpstreamLimits.systemFileBytesMax {
            let count = chunk.withUnsafeMutableBytes { CLinux.read(fd, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return bytes
    }
}
