import CLinux
import CoreLoop
import HTTP

/// Bytes prepared at start and kept for the process's life.
struct PreparedBytes {
    let start: UnsafeRawPointer
    let count: Int

    init(_ text: String) {
        let bytes = Array(text.utf8)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
        memory.copyMemory(from: bytes, byteCount: bytes.count)
        start = UnsafeRawPointer(memory)
        count = bytes.count
    }

    var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    @inline(__always)
    func equals(_ other: UnsafeRawPointer, _ otherCount: Int) -> Bool {
        count == otherCount && memcmp(start, other, count) == 0
    }

    /// Compares without case; these bytes are lower case.
    func equalsIgnoringCase(_ other: UnsafeRawPointer, _ otherCount: Int) -> Bool {
        guard count == otherCount else { return false }
        for index in 0..<count {
            let byte = other.load(fromByteOffset: index, as: UInt8.self)
            let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
            if lower != start.load(fromByteOffset: index, as: UInt8.self) { return false }
        }
        return true
    }
}

/// Finds a request's route: the first whose conditions all hold. The last route holds for all.
///
/// Paths are compared as they were sent, byte for byte and without the query; `%2F` and `..` are
/// left to the upstream, which gets the same bytes.
final class Router {
    private struct Condition {
        let name: PreparedBytes
        let value: PreparedBytes?
    }

    private enum Host {
        case any
        case exact(PreparedBytes)
        /// The suffix that a wildcard stands before, with its dot.
        case below(PreparedBytes)
    }

    private enum Path {
        case any
        case exact(PreparedBytes)
        case prefix(PreparedBytes)
    }

    private struct Entry {
        let host: Host
        let path: Path
        let methods: [PreparedBytes]
        let conditions: [Condition]
        /// Nothing to compare.
        let isCatchAll: Bool
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let count: Int

    init(_ routes: [RouteSettings]) {
        precondition(!routes.isEmpty)
        count = routes.count
        entries = .allocate(capacity: count)
        for (index, route) in routes.enumerated() {
            (entries + index).initialize(to: Self.compile(route))
        }
    }

    deinit {
        entries.deinitialize(count: count)
        entries.deallocate()
    }

    private static func compile(_ route: RouteSettings) -> Entry {
        let host: Host =
            if let name = route.host {
                name.hasPrefix("*.")
                    ? .below(PreparedBytes(String(name.dropFirst()))) : .exact(PreparedBytes(name))
            } else {
                .any
            }
        let path: Path =
            switch route.path {
            case .any: .any
            case .exact(let text): .exact(PreparedBytes(text))
            case .prefix(let text): .prefix(PreparedBytes(text))
            }
        return Entry(
            host: host, path: path, methods: route.methods.map { PreparedBytes($0) },
            conditions: route.headers.map {
                Condition(name: PreparedBytes($0.name), value: $0.value.map { PreparedBytes($0) })
            },
            isCatchAll: route.host == nil && route.path == .any && route.methods.isEmpty
                && route.headers.isEmpty)
    }

    /// The index of the route for `head`, which was parsed from `bytes`.
    func route(_ head: RequestHead, _ bytes: UnsafeRawPointer) -> Int {
        for index in 0..<count where entries[index].isCatchAll || matches(index, head, bytes) {
            return index
        }
        return count - 1
    }

    private func matches(_ index: Int, _ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        matchesHost(index, head, bytes) && matchesPath(index, head, bytes)
            && matchesMethod(index, head, bytes) && matchesFields(index, head, bytes)
    }

    private func matchesHost(_ index: Int, _ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        let start = bytes + head.authority.start
        var count = Int(head.authority.count)
        // The port is left out: the last colon that is not inside an IPv6 literal's brackets.
        var place = count
        while place > 0 {
            place -= 1
            let byte = start.load(fromByteOffset: place, as: UInt8.self)
            if byte == 0x5D { break }
            if byte == 0x3A {
                count = place
                break
            }
        }
        switch entries[index].host {
        case .any: return true
        case .exact(let name): return name.equalsIgnoringCase(start, count)
        case .below(let suffix):
            return count > suffix.count
                && suffix.equalsIgnoringCase(start + (count - suffix.count), suffix.count)
        }
    }

    private func matchesPath(_ index: Int, _ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        let start = bytes + head.path.start
        let count = Int(head.path.count)
        switch entries[index].path {
        case .any: return true
        case .exact(let path):
            let query = memchr(start, 0x3F, count).map { UnsafeRawPointer($0) - start } ?? count
            return path.equals(start, query)
        case .prefix(let path):
            return count >= path.count && memcmp(path.start, start, path.count) == 0
        }
    }

    private func matchesMethod(_ index: Int, _ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool
    {
        let start = bytes + head.methodRange.start
        let count = Int(head.methodRange.count)
        let methods = entries[index].methods
        return methods.isEmpty || methods.contains { $0.equals(start, count) }
    }

    private func matchesFields(_ index: Int, _ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool
    {
        entries[index].conditions.allSatisfy { condition in
            for position in 0..<head.fields.count {
                let field = head.fields[position]
                guard
                    condition.name.equalsIgnoringCase(
                        bytes + field.name.start, Int(field.name.count))
                else { continue }
                guard let value = condition.value else { return true }
                if value.equals(bytes + field.value.start, Int(field.value.count)) { return true }
            }
            return false
        }
    }
}
