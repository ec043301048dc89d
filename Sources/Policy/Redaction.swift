import Providers

/// What a detector found in the strings of a document, and the document without it.
struct Redaction {
    /// The kinds that were found.
    private(set) var kinds: PIIKinds = []
    /// What stands in the place of which bytes, in order.
    private var replacements: [(range: Range<Int>, bytes: [UInt8])] = []
    /// There was more to look at, or to replace, than one request may have.
    private(set) var isUndecided = false

    static func find(_ document: JSONDocument, _ kinds: PIIKinds) -> Redaction {
        var candidates = Limits.candidatesMax
        return find(document, kinds, &candidates, depth: 0)
    }

    private static func find(
        _ document: JSONDocument, _ kinds: PIIKinds, _ candidates: inout Int, depth: Int
    ) -> Redaction {
        var redaction = Redaction()
        document.forEachString { value in
            let clean = value.withText { redaction.look(at: $0, kinds, &candidates, depth: depth) }
            guard let clean = clean ?? nil else { return !redaction.isUndecided }
            guard redaction.replacements.count < Limits.replacementsMax else {
                redaction.isUndecided = true
                return false
            }
            let raw = value.raw
            redaction.replacements.append(
                (
                    raw.startIndex..<raw.endIndex,
                    clean.withUnsafeBytes { bytes in JSONWriter.write { $0.value(text: bytes) } }
                ))
            return !redaction.isUndecided
        }
        return redaction
    }

    /// A text without what is found in it; nil where nothing is.
    private mutating func look(
        at text: UnsafeRawBufferPointer, _ kinds: PIIKinds, _ candidates: inout Int, depth: Int
    ) -> [UInt8]? {
        guard !EncodedText.holds(text) else { return nil }
        if let inner = NestedText.document(text, depth: depth) {
            let nested = Self.find(inner, kinds, &candidates, depth: depth + 1)
            if nested.isUndecided { isUndecided = true }
            if !nested.kinds.isEmpty {
                self.kinds.formUnion(nested.kinds)
                let clean = nested.replaced(inner)
                // What is no string in it, a number say, is only seen in its text.
                return clean.withUnsafeBytes { scan($0, kinds, &candidates) } ?? clean
            }
        }
        return scan(text, kinds, &candidates)
    }

    private mutating func scan(
        _ text: UnsafeRawBufferPointer, _ kinds: PIIKinds, _ candidates: inout Int
    ) -> [UInt8]? {
        let (findings, end) = PIIScanner.find(text, kinds, &candidates)
        if end < text.count { isUndecided = true }
        guard !findings.isEmpty else { return nil }
        for finding in findings { self.kinds.formUnion(finding.kind) }
        return Self.replace(findings, in: text)
    }

    /// The document's bytes with all that was found replaced, everything else as it is spelt.
    func replaced(_ document: JSONDocument) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(document.bytes.count)
        var start = 0
        for (range, bytes) in replacements {
            result += document.bytes[start..<range.lowerBound]
            result += bytes
            start = range.upperBound
        }
        result += document.bytes[start...]
        return result
    }

    /// A text with placeholders in the place of what was found.
    static func replace(
        _ findings: [PIIScanner.Finding], in text: UnsafeRawBufferPointer
    ) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var start = 0
        for finding in findings {
            result += text[start..<finding.range.lowerBound]
            let placeholder = PIIScanner.placeholder(finding.kind)
            result += UnsafeBufferPointer(
                start: placeholder.utf8Start, count: placeholder.utf8CodeUnitCount)
            start = finding.range.upperBound
        }
        result += text[start...]
        return result
    }
}

/// Tells JSON that stands in a string: the arguments of a tool's call, its result.
enum NestedText {
    /// The document in a text that spells some of its strings with escapes, which hide what they
    /// say from whoever reads the text alone. Nil for any other text, and at
    /// `Limits.nestedTextsMax` documents within each other.
    static func document(_ text: UnsafeRawBufferPointer, depth: Int) -> JSONDocument? {
        guard depth < Limits.nestedTextsMax,
            let first = text.first(where: { $0 != 0x20 && $0 != 0x0A && $0 != 0x09 && $0 != 0x0D }),
            "{[\"".utf8.contains(first),
            text.contains(UInt8(ascii: "\\"))
        else { return nil }
        return try? JSONDocument(Array(text))
    }
}

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

/// Tells pictures, sound and files from texts.
public enum EncodedText {
    /// Whether a text is base64 and nothing else, with or without `data:…;base64,` in front, and
    /// longer than anything that somebody writes.
    static func holds(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= Limits.encodedBytesMin else { return false }
        return isBase64(UnsafeRawBufferPointer(rebasing: text[(dataURLContent(text) ?? 0)...]))
    }

    /// Whether a text is a `data:` URL (RFC 2397) whose content is said to be base64.
    public static func isDataURL(_ text: UnsafeRawBufferPointer) -> Bool {
        dataURLContent(text) != nil
    }

    /// Where such a URL's content begins.
    private static func dataURLContent(_ text: UnsafeRawBufferPointer) -> Int? {
        let head = text.prefix(Limits.dataURLHeadBytesMax)
        guard isWord("data:", head.prefix(5)),
            let comma = head.firstIndex(of: UInt8(ascii: ",")),
            isWord(";base64", head[..<comma].suffix(7))
        else { return nil }
        return comma + 1
    }

    /// Whether some bytes are `word`, in letters of either case.
    private static func isWord(_ word: StaticString, _ bytes: Slice<UnsafeRawBufferPointer>) -> Bool
    {
        let wanted = UnsafeRawBufferPointer(
            start: word.utf8Start, count: word.utf8CodeUnitCount)
        return bytes.count == wanted.count
            && zip(bytes, wanted).allSatisfy { $0 == $1 || ($0 | 0x20 == $1 && $1 >= 0x61) }
    }

    /// Whether a text has base64's letters alone.
    public static func isBase64(_ text: UnsafeRawBufferPointer) -> Bool {
        text.allSatisfy { byte in
            byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "+")
                || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "=")
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
        }
    }
}
