/// A text with the escapes of JSON in it read, those within each other too, and where each byte
/// comes from. For texts that hold JSON and are none: cut off, or with words around it, where a
/// `\n` in front of a word would look like a part of it.
struct UnescapedText {
    /// What the text says.
    private(set) var bytes: [UInt8] = []
    /// By byte: where it begins in the text; behind the last one the text's end.
    private var origins: [UInt32] = []

    /// Nil for a text without a backslash, and for one of 4 GiB.
    init?(_ text: UnsafeRawBufferPointer) {
        guard text.contains(0x5C), text.count < Int(UInt32.max) else { return nil }
        bytes.reserveCapacity(text.count)
        origins.reserveCapacity(text.count + 1)
        var at = 0
        while at < text.count {
            let start = at
            while at < text.count, text[at] == 0x5C { at += 1 }
            guard at > start else {
                append(text[at], start)
                at += 1
                continue
            }
            at += escape(text, at, from: start)
        }
        origins.append(UInt32(text.count))
    }

    /// Reads what stands behind backslashes; returns its length. As many as there are count as one:
    /// each text within another doubles them.
    private mutating func escape(
        _ text: UnsafeRawBufferPointer, _ place: Int, from start: Int
    ) -> Int {
        switch place < text.count ? text[place] : 0 {
        case UInt8(ascii: "n"): append(0x0A, start)
        case UInt8(ascii: "r"): append(0x0D, start)
        case UInt8(ascii: "t"): append(0x09, start)
        case UInt8(ascii: "b"), UInt8(ascii: "f"): append(0x20, start)
        case UInt8(ascii: "/"), UInt8(ascii: "\""): append(text[place], start)
        case UInt8(ascii: "u"):
            guard let scalar = Self.scalar(text, place + 1) else { fallthrough }
            for byte in String(scalar).utf8 { append(byte, start) }
            return 5
        default:
            append(0x5C, start)
            return 0
        }
        return 1
    }

    private mutating func append(_ byte: UInt8, _ origin: Int) {
        bytes.append(byte)
        origins.append(UInt32(origin))
    }

    /// The character of four hexadecimal digits; half of a pair counts as U+FFFD.
    private static func scalar(_ text: UnsafeRawBufferPointer, _ place: Int) -> Unicode.Scalar? {
        guard place + 4 <= text.count else { return nil }
        var value: UInt32 = 0
        for byte in text[place..<place + 4] {
            switch byte {
            case 0x30...0x39: value = value << 4 | UInt32(byte - 0x30)
            case 0x41...0x46, 0x61...0x66: value = value << 4 | UInt32((byte | 0x20) - 0x57)
            default: return nil
            }
        }
        return Unicode.Scalar(value) ?? "\u{FFFD}"
    }

    /// What a range of `bytes` is in the text.
    func source(_ range: Range<Int>) -> Range<Int> {
        Int(origins[range.lowerBound])..<Int(origins[range.upperBound])
    }
}
