/// A JSON document (RFC 8259), read once into a flat list of values.
///
/// Every value stands as a range of the bytes that were read: numbers and strings keep their
/// spelling, so that what is passed on unchanged is passed on byte for byte. Reading neither
/// recurses nor copies; a string is decoded when it is asked for. Not for use by two threads.
public final class JSONDocument {
    /// One value, or the name of a member.
    struct Node: BitwiseCopyable {
        enum Kind: UInt8 { case null, no, yes, number, string, list, object, name }

        var kind: Kind
        /// A string or name with a backslash in it.
        var hasEscapes = false
        var start: UInt32
        var end: UInt32 = 0
        /// The node behind this value and all that is in it.
        var next: UInt32 = 0
        /// Elements or members.
        var count: UInt32 = 0
    }

    /// The bytes that were read.
    public let bytes: [UInt8]
    /// Values before what they hold, in the order of the text.
    let nodes: [Node]
    /// Names that stand more than once in one object, in the order of their repetition; at most
    /// `Limits.repeatedNamesMax`. The last value counts.
    public internal(set) var repeatedNames: [String] = []

    /// Reads `bytes`, which hold one value and white space. Takes time linear in them.
    public init(
        _ bytes: [UInt8], depthMax: Int = Limits.depthMax, valuesMax: Int = Limits.valuesMax
    ) throws(JSONFault) {
        guard bytes.count <= Limits.documentBytesMax else {
            throw JSONFault(.tooLong, at: Limits.documentBytesMax)
        }
        let result = bytes.withUnsafeBytes { raw -> Result<[Node], JSONFault> in
            var scanner = JSONScanner(raw, depthMax: depthMax, valuesMax: valuesMax)
            do throws(JSONFault) {
                try scanner.scan()
                return .success(scanner.nodes)
            } catch {
                return .failure(error)
            }
        }
        self.bytes = bytes
        nodes = try result.get()
        findRepeatedNames()
    }

    /// Reads the UTF-8 bytes of `text`.
    public convenience init(_ text: String) throws(JSONFault) { try self.init(Array(text.utf8)) }

    /// The document's value.
    public var root: JSONValue { JSONValue(document: self, index: 0) }

    /// Calls `body` with each string that is a value, in the order of the text, until it returns
    /// false. Names of members are none. Does not recurse.
    public func forEachString(_ body: (JSONValue) -> Bool) {
        for index in nodes.indices where nodes[index].kind == .string {
            guard body(JSONValue(document: self, index: index)) else { return }
        }
    }

    // MARK: Strings

    /// Calls `body` with the decoded bytes of the string or name at `index`. A surrogate that
    /// stands alone becomes U+FFFD.
    func withDecoded<R>(_ index: Int, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        let node = nodes[index]
        return bytes.withUnsafeBytes { raw in
            // Without the quotes.
            let inner = UnsafeRawBufferPointer(
                rebasing: raw[Int(node.start) + 1..<Int(node.end) - 1])
            guard node.hasEscapes else { return body(inner) }
            return Self.decode(inner).withUnsafeBytes(body)
        }
    }

    private static func decode(_ inner: UnsafeRawBufferPointer) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(inner.count)
        var at = 0
        while at < inner.count {
            let byte = inner[at]
            guard byte == 0x5C else {
                result.append(byte)
                at += 1
                continue
            }
            let letter = inner[at + 1]
            at += 2
            switch letter {
            case UInt8(ascii: "b"): result.append(0x08)
            case UInt8(ascii: "f"): result.append(0x0C)
            case UInt8(ascii: "n"): result.append(0x0A)
            case UInt8(ascii: "r"): result.append(0x0D)
            case UInt8(ascii: "t"): result.append(0x09)
            case UInt8(ascii: "u"):
                var scalar = hex4(inner, at)
                at += 4
                if scalar & 0xFC00 == 0xD800, at + 6 <= inner.count, inner[at] == 0x5C,
                    inner[at + 1] == UInt8(ascii: "u")
                {
                    let low = hex4(inner, at + 2)
                    if low & 0xFC00 == 0xDC00 {
                        scalar = 0x10000 + (scalar & 0x3FF) << 10 + (low & 0x3FF)
                        at += 6
                    }
                }
                let decoded = Unicode.Scalar(scalar) ?? "\u{FFFD}"
                result.append(contentsOf: String(decoded).utf8)
            default: result.append(letter)
            }
        }
        return result
    }

    private static func hex4(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> UInt32 {
        var value: UInt32 = 0
        for place in start..<start + 4 {
            value = value << 4 | UInt32(JSONScanner.hexDigit(bytes[place]) ?? 0)
        }
        return value
    }

    // MARK: Repeated names

    /// Hashed with the process's own seed, so that nobody can choose names that collide and make
    /// an object of n members cost n² comparisons.
    private func findRepeatedNames() {
        var names: [(hash: Int, index: Int)] = []
        for index in nodes.indices where nodes[index].kind == .object && nodes[index].count > 1 {
            names.removeAll(keepingCapacity: true)
            var member = index + 1
            while member < Int(nodes[index].next) {
                var hasher = Hasher()
                withDecoded(member) { hasher.combine(bytes: $0) }
                names.append((hasher.finalize(), member))
                member = Int(nodes[member + 1].next)
            }
            names.sort { ($0.hash, $0.index) < ($1.hash, $1.index) }
            for (one, other) in zip(names, names.dropFirst()) where one.hash == other.hash {
                let name = text(one.index)
                guard name == text(other.index), !repeatedNames.contains(name) else { continue }
                repeatedNames.append(name)
                if repeatedNames.count == Limits.repeatedNamesMax { return }
            }
        }
    }

    func text(_ index: Int) -> String {
        withDecoded(index) { String(decoding: $0, as: UTF8.self) }
    }
}
