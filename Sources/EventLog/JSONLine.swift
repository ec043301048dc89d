/// Writes one JSON object on one line into memory that it was given; nothing is allocated.
///
/// What does not fit is left out and remembered: `bytes` is nil then. Text becomes valid UTF-8
/// whatever came in: bytes that are none are written as U+FFFD. Controls, U+007F to U+009F too,
/// are escaped: a line that is shown on a terminal does nothing to it.
public struct JSONLine {
    private let base: UnsafeMutablePointer<UInt8>
    private let capacity: Int
    private var needsComma = false
    /// Bytes written so far.
    public private(set) var count = 0
    /// Whether something did not fit.
    public private(set) var isFull = false

    /// Writes into `memory`.
    public init(_ memory: UnsafeMutableRawBufferPointer) {
        base = memory.baseAddress!.assumingMemoryBound(to: UInt8.self)
        capacity = memory.count
    }

    /// What was written; nil where something did not fit.
    public var bytes: UnsafeRawBufferPointer? {
        isFull ? nil : UnsafeRawBufferPointer(start: base, count: count)
    }

    // MARK: Nesting

    /// Begins an object: the whole, or an element of a list.
    public mutating func open() {
        separate()
        put(UInt8(ascii: "{"))
        needsComma = false
    }

    /// Begins a member that is an object.
    public mutating func open(_ name: StaticString) {
        self.name(name)
        put(UInt8(ascii: "{"))
        needsComma = false
    }

    /// Ends an object.
    public mutating func close() {
        put(UInt8(ascii: "}"))
        needsComma = true
    }

    /// Begins a member that is a list.
    public mutating func openList(_ name: StaticString) {
        self.name(name)
        put(UInt8(ascii: "["))
        needsComma = false
    }

    /// Ends a list.
    public mutating func closeList() {
        put(UInt8(ascii: "]"))
        needsComma = true
    }

    /// A member that is a list of texts.
    public mutating func member(_ name: StaticString, _ texts: [String]) {
        openList(name)
        for text in texts {
            separate()
            quote(text)
        }
        closeList()
    }

    // MARK: Members

    /// A member that is a text.
    public mutating func member(_ name: StaticString, _ text: String) {
        self.name(name)
        quote(text)
    }

    /// A member that is a text of bytes from elsewhere.
    public mutating func member(_ name: StaticString, _ text: UnsafeRawBufferPointer) {
        self.name(name)
        quote(text)
    }

    /// A member with a name from elsewhere.
    public mutating func member(named name: String, _ text: String) {
        separate()
        quote(name)
        put(UInt8(ascii: ":"))
        quote(text)
    }

    /// A member whose text is a word of the program's own, written as it is.
    public mutating func member(_ name: StaticString, word: StaticString) {
        self.name(name)
        put(UInt8(ascii: "\""))
        put(word)
        put(UInt8(ascii: "\""))
    }

    /// A member that is a whole number.
    public mutating func member(_ name: StaticString, _ number: Int) {
        self.name(name)
        if number < 0 { put(UInt8(ascii: "-")) }
        put(number: UInt64(number.magnitude))
    }

    /// A member that is true or false.
    public mutating func member(_ name: StaticString, _ flag: Bool) {
        self.name(name)
        put(flag ? "true" : "false")
    }

    /// A member that is `value` thousandths, without zeros at the end: 834, 0.25.
    public mutating func member(_ name: StaticString, thousandths value: Int) {
        self.name(name)
        if value < 0 { put(UInt8(ascii: "-")) }
        put(decimal: UInt64(value.magnitude), places: 3)
    }

    /// A member that is a number, rounded to four places; null where it is infinite or none.
    public mutating func member(_ name: StaticString, _ number: Double) {
        self.name(name)
        guard number.isFinite, abs(number) < 1e14 else { return put("null") }
        let scaled = (abs(number) * 10_000).rounded()
        if number < 0, scaled > 0 { put(UInt8(ascii: "-")) }
        put(decimal: UInt64(scaled), places: 4)
    }

    /// A member that is a moment, milliseconds since 1970.
    public mutating func member(_ name: StaticString, moment ms: UInt64) {
        self.name(name)
        put(UInt8(ascii: "\""))
        if let target = room(for: EventTime.textBytes) { EventTime.write(ms, to: target) }
        put(UInt8(ascii: "\""))
    }

    /// A member that is `prefix` and the 32 hexadecimal digits of `id`.
    public mutating func member(
        _ name: StaticString, _ prefix: StaticString, id: (UInt64, UInt64)
    ) {
        self.name(name)
        put(UInt8(ascii: "\""))
        put(prefix)
        if let target = room(for: 32) {
            Hexadecimal.write(id.0, to: target)
            Hexadecimal.write(id.1, to: target + 16)
        }
        put(UInt8(ascii: "\""))
    }

    /// A member that is a text of at most `limit` bytes of the source; true where it was cut, at a
    /// character's end. So much of it is written as leaves `reserve` bytes of the memory.
    public mutating func member(
        _ name: StaticString, cutting text: String, limit: Int, reserve: Int
    ) -> Bool {
        var copy = text
        return copy.withUTF8 { utf8 in
            let bytes = UnsafeRawBufferPointer(utf8)
            // A byte takes six at most, where it has to be escaped.
            let room = max(0, capacity - count - reserve - name.utf8CodeUnitCount - 8)
            var taken = min(bytes.count, limit)
            if Self.escapedBytes(bytes, taken) > room { taken = min(taken, room / 6) }
            while taken < bytes.count, taken > 0, bytes[taken] & 0xC0 == 0x80 { taken -= 1 }
            member(name, UnsafeRawBufferPointer(rebasing: bytes[..<taken]))
            return taken < bytes.count
        }
    }

    /// At least the bytes that the first `count` of `bytes` become.
    private static func escapedBytes(_ bytes: UnsafeRawBufferPointer, _ count: Int) -> Int {
        var sum = count
        for byte in bytes[..<count] where byte < 0x20 || byte == 0x7F || byte == 0xC2 { sum += 5 }
        for byte in bytes[..<count] where byte == 0x22 || byte == 0x5C { sum += 1 }
        return sum
    }

    // MARK: Bytes

    private mutating func name(_ name: StaticString) {
        separate()
        put(UInt8(ascii: "\""))
        put(name)
        put(UInt8(ascii: "\""))
        put(UInt8(ascii: ":"))
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { put(UInt8(ascii: ",")) }
        needsComma = true
    }

    /// Room for `size` bytes, which count as written; nil where they do not fit.
    private mutating func room(for size: Int) -> UnsafeMutableRawPointer? {
        guard !isFull, capacity - count >= size else {
            isFull = true
            return nil
        }
        defer { count += size }
        return UnsafeMutableRawPointer(base + count)
    }

    private mutating func put(_ byte: UInt8) {
        guard !isFull, count < capacity else {
            isFull = true
            return
        }
        base[count] = byte
        count += 1
    }

    private mutating func put(_ text: StaticString) {
        room(for: text.utf8CodeUnitCount)?
            .copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    }

    private mutating func put(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0 else { return }
        room(for: bytes.count)?.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    }

    private mutating func put(number: UInt64) {
        var digits = InlineArray<20, UInt8>(repeating: 0x30)
        var place = 20
        var rest = number
        repeat {
            place -= 1
            digits[place] = 0x30 + UInt8(rest % 10)
            rest /= 10
        } while rest > 0
        for index in place..<20 { put(digits[index]) }
    }

    private mutating func put(decimal value: UInt64, places: Int) {
        var (scale, left) = (UInt64(1), places)
        for _ in 0..<places { scale *= 10 }
        put(number: value / scale)
        var rest = value % scale
        guard rest > 0 else { return }
        while rest % 10 == 0 {
            rest /= 10
            left -= 1
        }
        put(UInt8(ascii: "."))
        var divisor: UInt64 = 1
        for _ in 1..<left { divisor *= 10 }
        while divisor > 0 {
            put(0x30 + UInt8(rest / divisor % 10))
            divisor /= 10
        }
    }

    // MARK: Strings

    private mutating func quote(_ text: String) {
        var copy = text
        copy.withUTF8 { quote(UnsafeRawBufferPointer($0)) }
    }

    private mutating func quote(_ text: UnsafeRawBufferPointer) {
        put(UInt8(ascii: "\""))
        var start = 0
        var at = 0
        while at < text.count {
            let byte = text[at]
            if byte >= 0x20, byte < 0x7F, byte != 0x22, byte != 0x5C {
                at += 1
                continue
            }
            let length = byte < 0x80 ? 0 : UTF8Form.length(text, at)
            let isHighControl = length == 2 && byte == 0xC2 && text[at + 1] < 0xA0
            if length > 0, !isHighControl {
                at += length
                continue
            }
            put(UnsafeRawBufferPointer(rebasing: text[start..<at]))
            if isHighControl {
                escape(text[at + 1])
                at += 2
            } else {
                if byte < 0x80 { escape(byte) } else { put("\u{FFFD}") }
                at += 1
            }
            start = at
        }
        put(UnsafeRawBufferPointer(rebasing: text[start..<at]))
        put(UInt8(ascii: "\""))
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case 0x22, 0x5C:
            put(UInt8(ascii: "\\"))
            put(byte)
        case 0x0A: put("\\n")
        case 0x0D: put("\\r")
        case 0x09: put("\\t")
        default:
            put("\\u00")
            put(byte >> 4 < 10 ? 0x30 + byte >> 4 : 0x57 + byte >> 4)
            put(byte & 15 < 10 ? 0x30 + byte & 15 : 0x57 + byte & 15)
        }
    }
}

/// UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
enum UTF8Form {
    /// Bytes of the character that begins at `at`; 0 where none does.
    static func length(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> Int {
        func follows(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> Bool {
            at + offset < bytes.count && range.contains(bytes[at + offset])
        }
        switch bytes[at] {
        case 0..<0x80: return 1
        case 0xC2...0xDF: return follows(1) ? 2 : 0
        case 0xE0: return follows(1, 0xA0...0xBF) && follows(2) ? 3 : 0
        case 0xED: return follows(1, 0x80...0x9F) && follows(2) ? 3 : 0
        case 0xE1...0xEF: return follows(1) && follows(2) ? 3 : 0
        case 0xF0: return follows(1, 0x90...0xBF) && follows(2) && follows(3) ? 4 : 0
        case 0xF1...0xF3: return follows(1) && follows(2) && follows(3) ? 4 : 0
        case 0xF4: return follows(1, 0x80...0x8F) && follows(2) && follows(3) ? 4 : 0
        default: return 0
        }
    }
}
