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
