import CLinux
public import CoreLoop

/// Standard output and error, written at once: nothing may be lost when the process is killed.
public enum Standard {
    /// Writes to standard output.
    public static func out(_ text: String) { write(1, text) }

    /// Writes to standard error.
    public static func error(_ text: String) { write(2, text) }

    /// A line that the next one overwrites, on standard error; nothing where that is no terminal.
    public static func progress(_ text: String) {
        guard isTerminal else { return }
        write(2, "\r\u{1B}[K" + text)
    }

    /// Clears the progress line.
    public static func endProgress() {
        if isTerminal { write(2, "\r\u{1B}[K") }
    }

    private static var isTerminal: Bool { isatty(2) == 1 }

    private static func write(_ fd: Int32, _ text: String) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { CLinux.write(fd, $0.baseAddress, $0.count) }
            if written < 0 && lastErrno != EINTR { return }
            bytes = bytes.dropFirst(max(0, written))
        }
    }

    /// Writes a file anew; throws what the kernel says.
    public static func writeFile(_ path: String, _ text: String) throws(SystemError) {
        let fd = try check(
            umbra_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644), "open")
        defer { CLinux.close(fd) }
        write(fd, text)
    }

    /// A file's bytes, or nil where it cannot be read. For /proc as well.
    public static func readFile(_ path: String) -> [UInt8]? {
        let fd = umbra_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard fd >= 0 else { return nil }
        defer { CLinux.close(fd) }
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = piece.withUnsafeMutableBytes { CLinux.read(fd, $0.baseAddress, $0.count) }
            if count == 0 { return result }
            if count < 0 {
                if lastErrno == EINTR { continue }
                return nil
            }
            result += piece[..<count]
        }
    }
}
