/// Writes JSON into a buffer of its own; commas come by themselves, members keep their order.
///
/// Where `object` and `list` take what they hold as a closure, what is begun is ended by the form
/// of the calls; `beginObject` and its like are for code that may throw between.
public struct JSONWriter {
    /// What was written so far.
    public private(set) var bytes: [UInt8] = []
    private var needsComma = false

    /// An empty writer, with room for about `capacity` bytes.
    public init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    /// A writer that goes on behind `bytes`, which stop behind a member of an object.
    init(continuing bytes: [UInt8]) {
        self.bytes.reserveCapacity(bytes.count + 256)
        self.bytes.append(contentsOf: bytes)
        needsComma = true
    }

    /// The document that `body` writes.
    public static func write(_ body: (inout JSONWriter) -> Void) -> [UInt8] {
        var writer = JSONWriter()
        body(&writer)
        return writer.bytes
    }

    /// An object of the members that `body` writes.
    public mutating func object(_ body: (inout JSONWriter) -> Void) {
        begin(UInt8(ascii: "{"))
        body(&self)
        end(UInt8(ascii: "}"))
    }

    /// A list of the values that `body` writes.
    public mutating func list(_ body: (inout JSONWriter) -> Void) {
        begin(UInt8(ascii: "["))
        body(&self)
        end(UInt8(ascii: "]"))
    }

    /// Opens an object.
    public mutating func beginObject() { begin(UInt8(ascii: "{")) }
    /// Closes the innermost object.
    public mutating func endObject() { end(UInt8(ascii: "}")) }
    /// Opens a list.
    public mutating func beginList() { begin(UInt8(ascii: "[")) }
    /// Closes the innermost list.
    public mutating func endList() { end(UInt8(ascii: "]")) }

    private mutating func begin(_ bracket: UInt8) {
        separate()
        bytes.append(bracket)
        needsComma = false
    }

    private mutating func end(_ bracket: UInt8) {
        bytes.append(bracket)
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        needsComma = true
    }

    // MARK: Members

    /// A member's name; its value is written next.
    public mutating func name(_ name: String) {
        value(name)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    /// A member whose value is an object.
    public mutating func object(_ name: String, _ body: (inout JSONWriter) -> Void) {
        self.name(name)
        object(body)
    }

    /// A member whose value is a list.
    public mutating func list(_ name: String, _ body: (inout JSONWriter) -> Void) {
        self.name(name)
        list(body)
    }

    /// A member with a text; null where there is none.
    public mutating func member(_ name: String, _ text: String?) {
        self.name(name)
        if let text { value(text) } else { null() }
    }

    /// A member with a whole number.
    public mutating func member(_ name: String, _ number: Int) {
        self.name(name)
        value(number)
    }

    /// A member with true or false.
    public mutating func member(_ name: String, _ flag: Bool) {
        self.name(name)
        value(flag)
    }

    /// A member with a number.
    public mutating func member(_ name: String, number: Double) {
        self.name(name)
        value(number)
    }

    /// A member with a value as it was read.
    public mutating func member(_ name: String, raw: JSONValue) {
        self.name(name)
        value(raw)
    }

    /// A member that is null.
    public mutating func null(_ name: String) {
        self.name(name)
        null()
    }

    // MARK: Values

    /// Null.
    public mutating func null() {
        separate()
        bytes.append(contentsOf: "null".utf8)
    }

    /// True or false.
    public mutating func value(_ flag: Bool) {
        separate()
        bytes.append(contentsOf: (flag ? "true" : "false").utf8)
    }

    /// A whole number.
    public mutating func value(_ number: Int) {
        separate()
        bytes.append(contentsOf: String(number).utf8)
    }

    /// A number; null where it is infinite or none, for which JSON has no form.
    public mutating func value(_ number: Double) {
        guard number.isFinite else { return null() }
        separate()
        bytes.append(contentsOf: "\(number)".utf8)
    }

    /// A number of single precision, in its shortest form.
    public mutating func value(single number: Float) {
        guard number.isFinite else { return null() }
        separate()
        bytes.append(contentsOf: "\(number)".utf8)
    }

    /// A value as it was read, spelling and all.
    public mutating func value(_ raw: JSONValue) {
        separate()
        bytes.append(contentsOf: raw.raw)
    }

    /// A whole document that was written before.
    public mutating func value(document: [UInt8]) {
        separate()
        bytes.append(contentsOf: document)
    }

    /// A string.
    public mutating func value(_ text: String) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { escape(UnsafeRawBufferPointer($0)) }
        bytes.append(UInt8(ascii: "\""))
    }

    /// A string whose content is the UTF-8 of `text`, which may be JSON itself.
    public mutating func value(text: UnsafeRawBufferPointer) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        escape(text)
        bytes.append(UInt8(ascii: "\""))
    }

    /// A string that joins what `parts` hold, spelt as they are: none is decoded. Values that are
    /// no strings are passed over.
    public mutating func value(joining parts: [JSONValue]) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        for part in parts where part.kind == .string {
            bytes.append(contentsOf: part.raw.dropFirst().dropLast())
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// Appends in runs: most text has nothing to escape.
    private mutating func escape(_ text: UnsafeRawBufferPointer) {
        var start = 0
        for at in 0..<text.count {
            let byte = text[at]
            guard byte < 0x20 || byte == 0x22 || byte == 0x5C else { continue }
            bytes.append(contentsOf: text[start..<at])
            start = at + 1
            bytes.append(0x5C)
            switch byte {
            case 0x0A: bytes.append(UInt8(ascii: "n"))
            case 0x0D: bytes.append(UInt8(ascii: "r"))
            case 0x09: bytes.append(UInt8(ascii: "t"))
            case 0x22, 0x5C: bytes.append(byte)
            default:
                bytes.append(contentsOf: "u00".utf8)
                bytes.append(0x30 + byte >> 4)
                let low = byte & 15
                bytes.append(low < 10 ? 0x30 + low : 0x57 + low)
            }
        }
        bytes.append(contentsOf: text[start...])
    }
}
