/// Reads the value of one `Forwarded` field, element by element (RFC 7239 §4). Allocates nothing.
public struct ForwardedReader {
    /// What the reader found next.
    public enum Step {
        /// An element, and the node that its `for` names, without quotes; nil where it has no
        /// `for`, or one that is written with escapes, which no address needs.
        case element(node: UnsafeRawBufferPointer?)
        case end
        /// The value breaks the grammar: nothing in it can be trusted.
        case malformed
    }

    private let bytes: Bytes
    private var index = 0

    /// A reader of `value`, which must outlive it.
    public init(_ value: UnsafeRawBufferPointer) {
        guard let base = value.baseAddress else {
            bytes = Bytes(base: UnsafeRawPointer(bitPattern: 1)!, count: 0)
            return
        }
        bytes = Bytes(base: base, count: value.count)
    }

    /// The next element. Empty ones are passed over (RFC 9110 §5.6.1.2).
    public mutating func next() -> Step {
        while index < bytes.count, bytes[index] == 0x2C || Bytes.isSpace(bytes[index]) {
            index += 1
        }
        guard index < bytes.count else { return .end }
        var node: UnsafeRawBufferPointer?
        var hasFor = false
        while true {
            if index < bytes.count, bytes[index] != 0x3B, bytes[index] != 0x2C {
                guard let name = token(), index < bytes.count, bytes[index] == 0x3D else {
                    return .malformed
                }
                index += 1
                guard let value = value() else { return .malformed }
                if bytes.isName(name, "for") {
                    // Each parameter once: two would be two clients.
                    guard !hasFor else { return .malformed }
                    hasFor = true
                    node = value.hasEscapes ? nil : value.text
                }
            }
            index = bytes.skipSpaces(from: index)
            guard index < bytes.count, bytes[index] != 0x2C else { return .element(node: node) }
            guard bytes[index] == 0x3B else { return .malformed }
            index = bytes.skipSpaces(from: index + 1)
        }
    }

    /// Whether the whole value keeps to the grammar and has an element.
    public static func isValid(_ value: UnsafeRawBufferPointer) -> Bool {
        var reader = ForwardedReader(value)
        var hasElement = false
        while true {
            switch reader.next() {
            case .element: hasElement = true
            case .end: return hasElement
            case .malformed: return false
            }
        }
    }

    private mutating func token() -> ByteRange? {
        let start = index
        while index < bytes.count, Bytes.isToken(bytes[index]) { index += 1 }
        return index > start ? ByteRange(found: start, index) : nil
    }

    private mutating func value() -> (text: UnsafeRawBufferPointer, hasEscapes: Bool)? {
        guard index < bytes.count, bytes[index] == 0x22 else {
            return token().map { (part($0.start, $0.end), false) }
        }
        index += 1
        let start = index
        var hasEscapes = false
        while index < bytes.count, bytes[index] != 0x22 {
            if bytes[index] == 0x5C {
                hasEscapes = true
                index += 1
            }
            index += 1
        }
        guard index < bytes.count else { return nil }
        index += 1
        return (part(start, index - 1), hasEscapes)
    }

    private func part(_ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes.base + start, count: end - start)
    }
}
