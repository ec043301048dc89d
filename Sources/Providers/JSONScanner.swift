/// One pass over a JSON text: checks every byte of it and lists its values.
///
/// The nesting is kept on a stack of its own, never on the thread's: 10,000 brackets are a fault
/// and not a crash.
struct JSONScanner {
    private let bytes: UnsafeRawBufferPointer
    private let depthMax: Int
    private let valuesMax: Int
    private var at = 0
    /// The lists and objects that are open, outermost first.
    private var open: [Int] = []
    private(set) var nodes: [JSONDocument.Node] = []

    init(_ bytes: UnsafeRawBufferPointer, depthMax: Int, valuesMax: Int) {
        self.bytes = bytes
        self.depthMax = depthMax
        self.valuesMax = valuesMax
        // About what API requests hold; more grows as it must.
        nodes.reserveCapacity(min(valuesMax, bytes.count / 12 + 1))
    }

    /// Reads the whole text.
    mutating func scan() throws(JSONFault) {
        if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF {
            throw JSONFault(.byteOrderMark, at: 0)
        }
        skipSpace()
        guard at < bytes.count else { throw JSONFault(.empty, at: at) }
        while true {
            // A list or object that has just been opened, and holds something, wants its first
            // value.
            if try readValue() { continue }
            if try closeAll() { break }
        }
        skipSpace()
        guard at == bytes.count else { throw JSONFault(.textBehind, at: at) }
    }

    /// After a value: closes what ends here, or stands at the next value. True at the very end.
    private mutating func closeAll() throws(JSONFault) -> Bool {
        while let container = open.last {
            skipSpace()
            let byte = try peek()
            let isObject = nodes[container].kind == .object
            if byte == UInt8(ascii: ",") {
                at += 1
                nodes[container].count += 1
                skipSpace()
                if isObject { try readName() }
                return false
            }
            guard byte == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else {
                throw JSONFault(.unexpectedByte, at: at)
            }
            nodes[container].count += 1
            close(container)
        }
        return true
    }

    private mutating func close(_ container: Int) {
        at += 1
        nodes[container].end = UInt32(at)
        nodes[container].next = UInt32(nodes.count)
        open.removeLast()
    }

    /// Reads one value, or the opening of one. True where its first value comes next.
    private mutating func readValue() throws(JSONFault) -> Bool {
        let byte = try peek()
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            let isObject = byte == UInt8(ascii: "{")
            guard open.count < depthMax else { throw JSONFault(.tooDeep, at: at) }
            open.append(try append(isObject ? .object : .list))
            at += 1
            skipSpace()
            if try peek() == (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
                close(open[open.count - 1])
                return false
            }
            if isObject { try readName() }
            return true
        case UInt8(ascii: "\""): try readString(.string)
        case UInt8(ascii: "t"): try readWord("true", .yes)
        case UInt8(ascii: "f"): try readWord("false", .no)
        case UInt8(ascii: "n"): try readWord("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try readNumber()
        default: throw JSONFault(.unexpectedByte, at: at)
        }
        return false
    }

    /// A member's name and its colon.
    private mutating func readName() throws(JSONFault) {
        guard try peek() == UInt8(ascii: "\"") else { throw JSONFault(.unexpectedByte, at: at) }
        try readString(.name)
        skipSpace()
        guard try peek() == UInt8(ascii: ":") else { throw JSONFault(.unexpectedByte, at: at) }
        at += 1
        skipSpace()
    }

    private mutating func append(_ kind: JSONDocument.Node.Kind) throws(JSONFault) -> Int {
        guard nodes.count < valuesMax else { throw JSONFault(.tooManyValues, at: at) }
        nodes.append(JSONDocument.Node(kind: kind, start: UInt32(at)))
        return nodes.count - 1
    }

    private mutating func finish(_ node: Int) {
        nodes[node].end = UInt32(at)
        nodes[node].next = UInt32(node + 1)
    }

    private func peek() throws(JSONFault) -> UInt8 {
        guard at < bytes.count else { throw JSONFault(.unexpectedEnd, at: at) }
        return bytes[at]
    }

    private mutating func skipSpace() {
        while at < bytes.count {
            switch bytes[at] {
            case 0x20, 0x0A, 0x0D, 0x09: at += 1
            default: return
            }
        }
    }

    private mutating func readWord(
        _ word: StaticString, _ kind: JSONDocument.Node.Kind
    ) throws(JSONFault) {
        let node = try append(kind)
        for place in 0..<word.utf8CodeUnitCount {
            guard try peek() == word.utf8Start[place] else {
                throw JSONFault(.unexpectedByte, at: at)
            }
            at += 1
        }
        finish(node)
    }

    // MARK: Numbers

    private mutating func readNumber() throws(JSONFault) {
        let node = try append(.number)
        if bytes[at] == UInt8(ascii: "-") { at += 1 }
        if at < bytes.count, bytes[at] == UInt8(ascii: "0") {
            at += 1
        } else {
            try readDigits()
        }
        if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
            at += 1
            try readDigits()
        }
        if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
            at += 1
            if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") {
                at += 1
            }
            try readDigits()
        }
        // 01, 1x and the like: a digit behind a leading zero is the only one left to refuse here.
        if at < bytes.count, Self.isDigit(bytes[at]) { throw JSONFault(.badNumber, at: at) }
        finish(node)
    }

    private mutating func readDigits() throws(JSONFault) {
        guard at < bytes.count else { throw JSONFault(.unexpectedEnd, at: at) }
        guard Self.isDigit(bytes[at]) else { throw JSONFault(.badNumber, at: at) }
        while at < bytes.count, Self.isDigit(bytes[at]) { at += 1 }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    static func hexDigit(_ byte: UInt8) -> UInt8? {
        if isDigit(byte) { return byte - 0x30 }
        let letter = (byte | 0x20) &- UInt8(ascii: "a")
        return letter < 6 ? letter + 10 : nil
    }

    // MARK: Strings

    private mutating func readString(_ kind: JSONDocument.Node.Kind) throws(JSONFault) {
        let node = try append(kind)
        at += 1
        while at < bytes.count {
            skipPlain()
            guard at < bytes.count else { break }
            let byte = bytes[at]
            switch byte {
            case UInt8(ascii: "\""):
                at += 1
                finish(node)
                return
            case UInt8(ascii: "\\"):
                nodes[node].hasEscapes = true
                try readEscape()
            case 0..<0x20: throw JSONFault(.controlInString, at: at)
            case 0x20..<0x80: at += 1
            default: try readScalar()
            }
        }
        throw JSONFault(.unexpectedEnd, at: at)
    }

    /// Passes over eight bytes at a time while none of them is a quote, a backslash, a control byte
    /// or beyond ASCII: an image's base64 is megabytes of nothing else.
    @inline(__always)
    private mutating func skipPlain() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs = ones &* 0x80
        while at &+ 8 <= bytes.count {
            let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let quote = word ^ (ones &* 0x22)
            let backslash = word ^ (ones &* 0x5C)
            // A borrow may mark the byte above one that counts; it never misses one.
            let marks =
                (quote &- ones) & ~quote | (backslash &- ones) & ~backslash
                | (word &- ones &* 0x20) & ~word | word
            if marks & highs != 0 { return }
            at &+= 8
        }
    }

    private mutating func readEscape() throws(JSONFault) {
        guard at + 1 < bytes.count else { throw JSONFault(.unexpectedEnd, at: bytes.count) }
        switch bytes[at + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
            UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            at += 2
        case UInt8(ascii: "u"):
            for place in at + 2..<at + 6 {
                guard place < bytes.count else {
                    throw JSONFault(.unexpectedEnd, at: bytes.count)
                }
                guard Self.hexDigit(bytes[place]) != nil else {
                    throw JSONFault(.badEscape, at: place)
                }
            }
            at += 6
        default: throw JSONFault(.badEscape, at: at + 1)
        }
    }

    /// One scalar of two to four bytes: neither overlong, nor a surrogate, nor beyond U+10FFFF
    /// (RFC 3629, the table of section 4).
    private mutating func readScalar() throws(JSONFault) {
        let first = bytes[at]
        let count: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch first {
        case 0xC2...0xDF: count = 2
        case 0xE0: (count, second) = (3, 0xA0...0xBF)
        case 0xED: (count, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: count = 3
        case 0xF0: (count, second) = (4, 0x90...0xBF)
        case 0xF4: (count, second) = (4, 0x80...0x8F)
        case 0xF1...0xF3: count = 4
        default: throw JSONFault(.badUTF8, at: at)
        }
        for place in 1..<count {
            guard at + place < bytes.count else {
                throw JSONFault(.unexpectedEnd, at: bytes.count)
            }
            let allowed = place == 1 ? second : 0x80...0xBF
            guard allowed.contains(bytes[at + place]) else { throw JSONFault(.badUTF8, at: at) }
        }
        at += count
    }
}
