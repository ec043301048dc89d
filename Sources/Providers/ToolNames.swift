/// The names of a request's tools as the other side takes them: letters, digits, `_` and `-`, and
/// no more of them than it allows.
///
/// Names that it takes stay as they are; others are changed, and never to one that is another
/// tool's. Nothing is allocated where all fit.
struct ToolNames {
    private let bytesMax: Int
    private var sent: [String: String] = [:]
    private var taken: Set<String> = []
    /// The number that is tried next behind a name that is taken: without it, a request full of
    /// names that change to the same one would cost the square of their count.
    private var next: [String: Int] = [:]
    /// The client's names by what is sent, of those that were changed.
    private(set) var originals: [String: String] = [:]

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Looks at all names before the first is written, so that a changed one meets no other.
    mutating func prepare(_ names: some Sequence<JSONValue>) {
        guard names.contains(where: { !fits($0) }) else { return }
        for name in names where fits(name) {
            if let text = name.string { taken.insert(text) }
        }
        for name in names where !fits(name) {
            if let text = name.string { _ = change(text) }
        }
    }

    private func fits(_ name: JSONValue) -> Bool {
        name.withText { $0.count <= bytesMax && !$0.isEmpty && $0.allSatisfy(Self.isAllowed) }
            ?? false
    }

    /// Whether a name or an id may hold `byte`.
    static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    /// Writes the name as it is sent.
    mutating func write(_ name: JSONValue, to writer: inout JSONWriter) {
        if fits(name) {
            writer.value(name)
        } else {
            writer.value(change(name.string ?? ""))
        }
    }

    /// A name for a tool that the client does not know: as near to `wanted` as can be.
    mutating func add(_ wanted: String, besides names: some Sequence<JSONValue>) -> String {
        for name in names {
            if let text = name.string { taken.insert(text) }
        }
        return unused(wanted)
    }

    private mutating func change(_ name: String) -> String {
        if let known = sent[name] { return known }
        let changed = unused(name)
        sent[name] = changed
        originals[changed] = name
        return changed
    }

    private mutating func unused(_ name: String) -> String {
        var bytes = name.unicodeScalars.map { scalar -> UInt8 in
            let byte = UInt8(exactly: scalar.value) ?? 0
            return Self.isAllowed(byte) ? byte : UInt8(ascii: "_")
        }
        if bytes.isEmpty { bytes = Array("tool".utf8) }
        let first = String(decoding: bytes.prefix(bytesMax), as: UTF8.self)
        var candidate = first
        var number = next[first] ?? 2
        while taken.contains(candidate) {
            let ending = "_\(number)"
            candidate =
                String(decoding: bytes.prefix(bytesMax - ending.utf8.count), as: UTF8.self)
                + ending
            number += 1
        }
        next[first] = number
        taken.insert(candidate)
        return candidate
    }

    /// Writes the id of a call, which holds the same bytes as a name: equal ids stay equal.
    static func writeID(_ id: JSONValue, to writer: inout JSONWriter) {
        let fits = id.withText { $0.allSatisfy(isAllowed) && !$0.isEmpty } ?? false
        if fits { return writer.value(id) }
        let bytes = id.withText { $0.map { isAllowed($0) ? $0 : UInt8(ascii: "_") } } ?? []
        writer.value(bytes.isEmpty ? "call" : String(decoding: bytes, as: UTF8.self))
    }
}
