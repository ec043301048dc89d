import CLinux
import CoreLoop

/// A segment's file name: `events-00000042-20261127.jsonl`, its number and the day (UTC) whose
/// records it holds.
struct SegmentName: Equatable, Sendable {
    static let numberMax = 99_999_999

    /// Counted from 1 over the life of the log, and the day since 1970-01-01.
    let number: Int
    let day: Int

    init(number: Int, day: Int) {
        self.number = number
        self.day = day
    }

    /// Reads a name; nil for files that are no segments.
    init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "events", parts[2].hasSuffix(".jsonl"),
            parts[1].utf8.count == 8, let number = Int(parts[1]), number > 0,
            let day = EventTime.day(parts[2].dropLast(6)),
            SegmentName(number: number, day: day).text == text
        else { return nil }
        self.init(number: number, day: day)
    }

    var text: String {
        let digits = String(number)
        let zeros = String(repeating: "0", count: max(0, 8 - digits.utf8.count))
        return "events-\(zeros)\(digits)-\(EventTime.dayText(day)).jsonl"
    }
}

/// A log's folder.
struct LogFolder: Sendable {
    let path: String

    func path(of name: SegmentName) -> String { "\(path)/\(name.text)" }

    /// The segments, oldest first. Other files are none of ours.
    func segments() throws(SystemError) -> [SegmentName] {
        guard let stream = opendir(path) else { throw SystemError("opendir") }
        defer { closedir(stream) }
        var names: [SegmentName] = []
        while let entry = readdir(stream) {
            if let name = SegmentName(String(cString: umbra_entry_name(entry))) {
                names.append(name)
            }
        }
        return names.sorted { $0.number < $1.number }
    }

    /// Opens a segment for reading; never through a symbolic link.
    func open(_ name: SegmentName, _ flags: Int32 = O_RDONLY) throws(SystemError) -> Int32 {
        try check(
            umbra_open(path(of: name), flags | O_CLOEXEC | O_NOFOLLOW, 0o640), "open(segment)")
    }

    /// Makes names that came or went outlast a power failure.
    func sync() throws(SystemError) {
        let fd = try check(umbra_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), "open(folder)")
        defer { close(fd) }
        try check(fsync(fd), "fsync(folder)")
    }
}

/// Size and last change of an open file.
struct FileState {
    let byteCount: Int
    let changedMs: UInt64
    let isWritable: Bool

    init(_ fd: Int32) throws(SystemError) {
        var status = stat()
        try check(fstat(fd, &status), "fstat")
        byteCount = Int(status.st_size)
        changedMs =
            UInt64(max(0, status.st_mtim.tv_sec)) * 1_000
            + UInt64(status.st_mtim.tv_nsec) / 1_000_000
        isWritable = status.st_mode & 0o222 != 0
    }
}

/// The lock of a log's folder: one writer at a time. Given up with this value, and with the
/// process whatever ends it.
struct FolderLock: ~Copyable {
    private let fd: Int32

    /// Takes the lock of the file `lock` in the folder; nil where another writer holds it.
    static func take(_ folder: LogFolder) throws(SystemError) -> FolderLock? {
        let fd = try check(
            umbra_open("\(folder.path)/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640),
            "open(lock)")
        if flock(fd, LOCK_EX | LOCK_NB) == 0 { return FolderLock(fd: fd) }
        let error = SystemError("flock")
        close(fd)
        if error.code == EWOULDBLOCK { return nil }
        throw error
    }

    private init(fd: Int32) { self.fd = fd }

    deinit { close(fd) }
}
