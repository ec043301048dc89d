import CLinux
import CoreLoop
import Synchronization

/// Where access log lines go: a file that may be rotated away, fill its disk, or cease to exist,
/// and that comes to be written again by itself. What it does not take is counted by lines, and
/// costs nothing else. Used by the log's thread alone, but for `fault`.
final class AccessLogFile: @unchecked Sendable {
    /// The errno by which lines are lost now; 0 none.
    let fault = Atomic<Int32>(0)
    private var fd: Int32
    private let path: String?
    private let lost: Cell
    private let changes: Wake?
    /// Lines were lost: the next ones begin with a newline, because half a line may stand before.
    private var isBroken = false
    private var nextOpen = Instant(nanoseconds: 0)
    /// A file that could not be opened is tried again this often, and one that has no room for the
    /// moment has this long once the log is to end.
    private static let retryMs = 1_000

    init(fd: Int32, path: String?, lost: Cell, changes: Wake?) {
        self.fd = fd
        self.path = path
        self.lost = lost
        self.changes = changes
        if fd < 0 { note(lastErrno) }
    }

    deinit { if path != nil, fd >= 0 { close(fd) } }

    /// Opens the path anew; the old file stays where that fails.
    func reopen() {
        guard let path else { return }
        let new = AccessLog.open(path)
        guard new >= 0 else {
            note(lastErrno)
            return
        }
        if fd >= 0 { close(fd) }
        fd = new
        isBroken = false
        note(0)
    }

    /// Writes whole lines. `isHurried` ends the wait for a file that has no room for the moment (a
    /// pipe whose reader stands still).
    func write(_ lines: [UInt8], isHurried: () -> Bool) {
        guard !lines.isEmpty else { return }
        guard isOpen else {
            lost.add(UInt64(lines.count { $0 == 0x0A }))
            return
        }
        if isBroken, put([0x0A], isHurried) == 1 { isBroken = false }
        let written = isBroken ? 0 : put(lines, isHurried)
        guard written < lines.count else {
            note(0)
            return
        }
        isBroken = true
        lost.add(UInt64(lines[written...].count { $0 == 0x0A }))
    }

    private var isOpen: Bool {
        if fd >= 0 { return true }
        let now = Instant.now()
        guard now >= nextOpen else { return false }
        nextOpen = now.adding(ms: Self.retryMs)
        reopen()
        return fd >= 0
    }

    /// Writes as much as the file takes; returns how much that was. Notes why it was not all.
    private func put(_ bytes: [UInt8], _ isHurried: () -> Bool) -> Int {
        var start = 0
        var hurriedSince: Instant?
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                CLinux.write(fd, $0.baseAddress! + start, $0.count - start)
            }
            if count > 0 {
                start += count
                continue
            }
            let code = count == 0 ? ENOSPC : lastErrno
            if code == EINTR { continue }
            if code == EAGAIN {
                if isHurried() {
                    let now = Instant.now()
                    let since = hurriedSince ?? now
                    hurriedSince = since
                    if now > since.adding(ms: Self.retryMs) {
                        note(code)
                        break
                    }
                }
                var poller = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
                _ = poll(&poller, 1, Int32(Self.retryMs / 4))
                continue
            }
            note(code)
            break
        }
        return start
    }

    private func note(_ code: Int32) {
        if fault.exchange(code, ordering: .acquiringAndReleasing) != code { changes?.signal() }
    }
}
