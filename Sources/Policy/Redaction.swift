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
        var redaction = Redaction()
        var candidates = Limits.candidatesMax
        document.forEachString { value in
            _ = value.withText { text in
                guard !EncodedText.holds(text) else { return }
                let (findings, end) = PIIScanner.find(text, kinds, &candidates)
                if end < text.count { redaction.isUndecided = true }
                guard !findings.isEmpty else { return }
                for finding in findings { redaction.kinds.formUnion(finding.kind) }
                guard redaction.replacements.count < Limits.replacementsMax else {
                    redaction.isUndecided = true
                    return
                }
                let clean = replace(findings, in: text)
                let raw = value.raw
                redaction.replacements.append(
                    (
                        raw.startIndex..<raw.endIndex,
                        clean.withUnsafeBytes { bytes in JSONWriter.write { $0.value(text: bytes) }
                        }
                    ))
            }
            return !redaction.isUndecided
        }
        return redaction
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

/// Tells pictures and sound from texts.
enum EncodedText {
    /// Whether a text is base64 and nothing else, with or without `data:…;base64,` in front, and
    /// longer than anything that somebody writes.
    static func holds(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= Limits.encodedBytesMin else { return false }
        var start = 0
        if text.starts(with: "data:".utf8) {
            guard let comma = text.prefix(256).firstIndex(of: UInt8(ascii: ",")) else {
                return false
            }
            start = comma + 1
        }
        return text[start...].allSatisfy { byte in
            byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "+")
                || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "=")
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
        }
    }
}
