import CLinux
public import CoreLoop

/// The bytes of the files that a configuration names for TLS, by their names as written.
///
/// Read once, by the process that checked them, and handed on in a memfd of their own: a process
/// that is started later has the same certificates, whatever became of the files.
public struct KeyFiles: Sendable, Equatable {
    private var bytes: [String: [UInt8]] = [:]

    /// No files.
    public init() {}

    /// How many there are.
    public var count: Int { bytes.count }

    /// One file's bytes; nil where it was not read.
    public subscript(_ name: String) -> [UInt8]? {
        get { bytes[name] }
        set { bytes[name] = newValue }
    }

    /// Only the files of these names.
    public func only(_ names: [String]) -> KeyFiles {
        var part = KeyFiles()
        for name in names { part.bytes[name] = bytes[name] }
        return part
    }

    /// Writes all into a new memfd: for each file a line `COUNT NAME`, and its bytes.
    public func write() throws(SystemError) -> Int32 {
        var text: [UInt8] = []
        for (name, content) in bytes.sorted(by: { $0.key < $1.key }) {
            text += Array("\(content.count) \(name)\n".utf8) + content
        }
        defer { Self.wipe(&text) }
        let fd = try check(memfd_create("umbra-keys", UMBRA_MFD_CLOEXEC), "memfd_create")
        var start = 0
        while start < text.count {
            let count = text.withUnsafeBytes {
                CLinux.write(fd, $0.baseAddress! + start, text.count - start)
            }
            if count < 0 {
                let error = SystemError("write(memfd)")
                close(fd)
                throw error
            }
            start += count
        }
        return fd
    }

    /// Reads what `write` wrote. Traps on anything else: only the supervisor writes it.
    public static func read(_ fd: Int32) -> KeyFiles {
        var status = stat()
        precondition(fstat(fd, &status) == 0, "a role needs its key files")
        var text = [UInt8](repeating: 0, count: Int(status.st_size))
        defer { wipe(&text) }
        let count = text.withUnsafeMutableBytes { pread(fd, $0.baseAddress, $0.count, 0) }
        precondition(count == text.count, "the key files are cut off")
        var files = KeyFiles()
        var start = 0
        while start < text.count {
            guard let end = text[start...].firstIndex(of: 0x0A) else { break }
            let line = String(decoding: text[start..<end], as: UTF8.self)
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2, let length = Int(words[0]), length <= text.count - end - 1
            else { preconditionFailure("the key files are malformed") }
            files.bytes[String(words[1])] = Array(text[(end + 1)..<(end + 1 + length)])
            start = end + 1 + length
        }
        return files
    }

    /// Overwrites what is here: once the contexts are made, nobody needs the keys' text.
    public mutating func wipe() {
        for name in bytes.keys { Self.wipe(&bytes[name]!) }
        bytes = [:]
    }

    private static func wipe(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { raw in
            if let base = raw.baseAddress { explicit_bzero(base, raw.count) }
        }
    }
}
