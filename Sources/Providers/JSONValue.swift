/// A value of a `JSONDocument`, by its place in it.
public struct JSONValue {
    let document: JSONDocument
    let index: Int

    /// The seven kinds of value.
    public enum Kind: Sendable { case null, flag, number, string, list, object }

    private var node: JSONDocument.Node { document.nodes[index] }

    /// What it is.
    public var kind: Kind {
        switch node.kind {
        case .null: .null
        case .no, .yes: .flag
        case .number: .number
        case .string, .name: .string
        case .list: .list
        case .object: .object
        }
    }

    /// The value as it is spelt, white space inside included.
    public var raw: ArraySlice<UInt8> { document.bytes[Int(node.start)..<Int(node.end)] }

    /// True for null.
    public var isNull: Bool { node.kind == .null }

    /// The decoded string; nil for anything else.
    public var string: String? { node.kind == .string ? document.text(index) : nil }

    /// Calls `body` with the UTF-8 of a string, which is decoded only where it has escapes; nil for
    /// anything else.
    public func withText<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R? {
        node.kind == .string ? document.withDecoded(index, body) : nil
    }

    /// Whether it is the string `text`.
    public func isText(_ text: StaticString) -> Bool {
        let wanted = UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        return withText { $0.count == wanted.count && $0.elementsEqual(wanted) } ?? false
    }

    /// Whether it is a string that is empty or all white space. Looks no further than the first
    /// byte that is something else, and decodes nothing.
    public var isBlank: Bool {
        guard node.kind == .string else { return false }
        return document.bytes.withUnsafeBytes { bytes in
            var at = Int(node.start) + 1
            let end = Int(node.end) - 1
            while at < end {
                switch bytes[at] {
                case 0x20: at += 1
                // \t, \n, \f and \r: other white space cannot stand there unescaped.
                case 0x5C where "tnfr".utf8.contains(bytes[at + 1]): at += 2
                default: return false
                }
            }
            return true
        }
    }

    /// Whether it is the string of no bytes.
    var isEmptyText: Bool { node.kind == .string && node.end - node.start == 2 }

    /// True or false; nil for anything else.
    public var flag: Bool? {
        switch node.kind {
        case .yes: true
        case .no: false
        default: nil
        }
    }

    /// The number; nil for anything else, and for one beyond what a Double holds.
    public var number: Double? {
        guard node.kind == .number, let value = Double(String(decoding: raw, as: UTF8.self)),
            value.isFinite
        else { return nil }
        return value
    }

    /// The whole number, where it is spelt without fraction and exponent and fits; else nil.
    public var integer: Int? {
        node.kind == .number ? Int(String(decoding: raw, as: UTF8.self)) : nil
    }

    /// Elements or members; 0 for what has none.
    public var count: Int { Int(node.count) }

    /// The elements of a list, in order; none for anything else.
    public var elements: Elements {
        let isList = node.kind == .list
        return Elements(
            document: document, place: index + 1, end: isList ? Int(node.next) : index + 1)
    }

    /// The members of an object in order, a repeated name as often as it stands there; none for
    /// anything else.
    public var members: Members {
        let isObject = node.kind == .object
        return Members(
            document: document, place: index + 1, end: isObject ? Int(node.next) : index + 1)
    }

    /// The value of the member `name`, the last where the name is repeated; nil where there is
    /// none, and for what is no object. Looks at every member.
    public subscript(_ name: StaticString) -> JSONValue? {
        let wanted = UnsafeRawBufferPointer(
            start: name.utf8Start, count: name.utf8CodeUnitCount)
        return member { $0.count == wanted.count && $0.elementsEqual(wanted) }
    }

    /// As `subscript(_:)`, where a member that is null counts as none.
    public func present(_ name: StaticString) -> JSONValue? {
        guard let value = self[name], !value.isNull else { return nil }
        return value
    }

    /// As above, for a name that is not known before.
    public subscript(named name: String) -> JSONValue? {
        member { $0.elementsEqual(name.utf8) }
    }

    private func member(_ fits: (UnsafeRawBufferPointer) -> Bool) -> JSONValue? {
        guard node.kind == .object else { return nil }
        var found: JSONValue?
        var place = index + 1
        while place < Int(node.next) {
            if document.withDecoded(place, fits) {
                found = JSONValue(document: document, index: place + 1)
            }
            place = Int(document.nodes[place + 1].next)
        }
        return found
    }

    /// The elements of a list.
    public struct Elements: Sequence, IteratorProtocol {
        let document: JSONDocument
        var place: Int
        let end: Int

        /// The next element.
        public mutating func next() -> JSONValue? {
            guard place < end else { return nil }
            defer { place = Int(document.nodes[place].next) }
            return JSONValue(document: document, index: place)
        }
    }

    /// The members of an object.
    public struct Members: Sequence, IteratorProtocol {
        let document: JSONDocument
        var place: Int
        let end: Int

        /// The next member.
        public mutating func next() -> (name: String, value: JSONValue)? {
            guard place < end else { return nil }
            let value = JSONValue(document: document, index: place + 1)
            defer { place = Int(document.nodes[place + 1].next) }
            return (document.text(place), value)
        }
    }
}
