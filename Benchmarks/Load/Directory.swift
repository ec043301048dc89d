public import CoreLoop
import Glibc

/// Directories, without Foundation.
public enum Directory {
    /// The names in a directory, without `.` and `..`; empty where it cannot be read.
    public static func names(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// A new empty directory under TMPDIR or /tmp that only this user may enter.
    public static func makeTemporary(_ prefix: String) throws(SystemError) -> String {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/\(prefix)-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!) != nil }
        if !made { throw SystemError("mkdtemp") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Removes a directory that holds nothing but files.
    public static func remove(_ path: String) {
        for name in names(path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }
}
