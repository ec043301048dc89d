import CLinux

/// The members of one JSON object, one after the other; a value is the bytes that it stands in.
///
/// This finds things in records, it does not judge them: what is no JSON ends the members early,
/// and is never read behind its end.
struct JSONMembers {
    private let bytes: UnsafeRawBufferPointer
    private var at: Int

    /// The members of the object that begins with the first of `bytes`; none where none does.
    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        at = bytes.first == UInt8(ascii: "{") ? 1 : bytes.count
    }

    /// The next member: its name between the quotes, and its value with them; nil after the last.
    mutating func next() -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
        skip(UInt8(ascii: ","))
        guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { return nil }
        let start = at
        guard skipString() else { return nil }
        let name = UnsafeRawBufferPointer(rebasing: bytes[start + 1..<at - 1])
        skip(UInt8(ascii: ":"))
        let first = at
        guard skipValue(), at > first else { return nil }
        return (name, UnsafeRawBufferPointer(rebasing: bytes[first..<at]))
    }

    /// The value of the member `name`; nil where there is none.
    static func value(
        _ name: StaticString, in object: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        var members = JSONMembers(object)
        while let member = members.next() {
            if JSONText.equals(member.name, name) { return member.value }
        }
        return nil
    }

    /// The value at the end of a path of member names: `traffic_mirror.primary.latency_ms`.
    static func value(
        path: [StaticString], in object: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        var value = object
        for name in path.prefix(Limits.nestingMax) {
            guard let next = Self.value(name, in: value) else { return nil }
            value = next
        }
        return value
    }

    /// The values in a list, each as it is written.
    static func elements(_ list: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer] {
        guard list.first == UInt8(ascii: "[") else { return [] }
        var scan = JSONMembers(list)
        scan.at = 1
        var found: [UnsafeRawBufferPointer] = []
        while true {
            scan.skip(UInt8(ascii: ","))
            let first = scan.at
            guard scan.at < list.count, list[first] != UInt8(ascii: "]"), scan.skipValue(),
                scan.at > first
            else { return found }
            found.append(UnsafeRawBufferPointer(rebasing: list[first..<scan.at]))
        }
    }

    /// Skips white space around one `mark`, which may be missing.
    private mutating func skip(_ mark: UInt8) {
        while at < bytes.count, bytes[at] <= 0x20 { at += 1 }
        if at < bytes.count, bytes[at] == mark { at += 1 }
        while at < bytes.count, bytes[at] <= 0x20 { at += 1 }
    }

    private mutating func skipValue() -> Bool {
        guard at < bytes.count else { return false }
        switch bytes[at] {
        case UInt8(ascii: "\""): return skipString()
        case UInt8(ascii: "{"), UInt8(ascii: "["): return skipNested()
        default:
            while at < bytes.count {
                switch bytes[at] {
                case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"), 0...0x20:
                    return true
                default: at += 1
                }
            }
            return true
        }
    }

    private mutating func skipNested() -> Bool {
        var depth = 0
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\""):
                guard skipString() else { return false }
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if depth == 0 {
                    at += 1
                    return true
                }
            default: break
            }
            at += 1
        }
        return false
    }

    /// Skips the string whose first quote is here.
    private mutating func skipString() -> Bool {
        var from = at + 1
        while from < bytes.count,
            let found = memchr(bytes.baseAddress! + from, 0x22, bytes.count - from)
        {
            let quote = UnsafeRawPointer(found) - bytes.baseAddress!
            var slashes = 0
            while quote - slashes - 1 > at, bytes[quote - slashes - 1] == 0x5C { slashes += 1 }
            from = quote + 1
            if slashes % 2 == 0 {
                at = from
                return true
            }
        }
        return false
    }
}

/// Texts as they stand in JSON.
enum JSONText {
    static func equals(_ bytes: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
        bytes.count == word.utf8CodeUnitCount
            && (bytes.isEmpty || memcmp(bytes.baseAddress!, word.utf8Start, bytes.count) == 0)
    }

    static func equals(_ a: UnsafeRawBufferPointer, _ b: [UInt8]) -> Bool {
        guard a.count == b.count, a.count > 0 else { return a.count == b.count }
        return b.withUnsafeBytes { memcmp(a.baseAddress!, $0.baseAddress!, a.count) == 0 }
    }

    /// `text` in the form that `JSONLine` writes it in, quotes included: equal texts have equal
    /// bytes in a log, so that filters compare without decoding.
    static func quoted(_ text: String) -> [UInt8] {
        var memory = [UInt8](repeating: 0, count: 6 * text.utf8.count + 16)
        return memory.withUnsafeMutableBytes {
            var line = JSONLine($0)
            line.member("", text)
            return Array(line.bytes!.dropFirst(3))
        }
    }

    /// What a JSON string stands for, appended to `target`; any other value as it is written.
    /// A surrogate without its partner becomes U+FFFD.
    static func decode(_ value: UnsafeRawBufferPointer, into target: inout [UInt8]) {
        guard value.count >= 2, value.first == 0x22 else {
            target.append(contentsOf: value)
            return
        }
        let end = value.count - 1
        var at = 1
        while at < end {
            let byte = value[at]
            at += 1
            guard byte == 0x5C, at < end else {
                target.append(byte)
                continue
            }
            let kind = value[at]
            at += 1
            switch kind {
            case UInt8(ascii: "n"): target.append(0x0A)
            case UInt8(ascii: "r"): target.append(0x0D)
            case UInt8(ascii: "t"): target.append(0x09)
            case UInt8(ascii: "b"): target.append(0x08)
            case UInt8(ascii: "f"): target.append(0x0C)
            case UInt8(ascii: "u"):
                let unit = unit(value, at, end)
                at = min(at + 4, end)
                var scalar = UInt32(unit)
                if unit & 0xFC00 == 0xD800, at + 6 <= end, value[at] == 0x5C,
                    value[at + 1] == UInt8(ascii: "u")
                {
                    let low = Self.unit(value, at + 2, end)
                    if low & 0xFC00 == 0xDC00 {
                        scalar = 0x10000 + UInt32(unit & 0x3FF) << 10 + UInt32(low & 0x3FF)
                        at += 6
                    }
                }
                let character = Unicode.Scalar(scalar) ?? "\u{FFFD}"
                target.append(contentsOf: String(Character(character)).utf8)
            default: target.append(kind)
            }
        }
    }

    private static func unit(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ end: Int) -> UInt16 {
        guard at + 4 <= end else { return 0xFFFD }
        var value: UInt16 = 0
        for byte in bytes[at..<at + 4] {
            switch byte {
            case 0x30...0x39: value = value << 4 | UInt16(byte - 0x30)
            case 0x41...0x46: value = value << 4 | UInt16(byte - 0x37)
            case 0x61...0x66: value = value << 4 | UInt16(byte - 0x57)
            default: return 0xFFFD
            }
        }
        return value
    }
}
