/// Finds personal data and secrets in texts, in one pass, by their forms and check digits.
public enum PIIScanner {
    /// Something that was found.
    public struct Finding: Equatable, Sendable {
        /// Where it stands, in bytes.
        public var range: Range<Int>
        /// What it is.
        public var kind: PIIKinds
    }

    /// All of `kinds` in `text`, which is UTF-8; in order, none in another. Nothing behind the
    /// first `Limits.candidatesMax` places that could be one.
    public static func find(_ text: UnsafeRawBufferPointer, _ kinds: PIIKinds) -> [Finding] {
        var candidates = Limits.candidatesMax
        return find(text, kinds, &candidates).findings
    }

    /// The same within what is left of a request's candidates: how far it came as well.
    static func find(
        _ text: UnsafeRawBufferPointer, _ kinds: PIIKinds, _ candidates: inout Int
    ) -> (findings: [Finding], end: Int) {
        var scan = Scan(text: TextBytes(bytes: text), kinds: kinds, candidates: candidates)
        scan.run()
        candidates = scan.candidates
        return (scan.findings, scan.end)
    }

    /// What stands in the place of data that were found.
    public static func placeholder(_ kind: PIIKinds) -> StaticString {
        switch kind {
        case .email: "[EMAIL]"
        case .phone: "[PHONE]"
        case .card: "[CARD]"
        case .iban: "[IBAN]"
        case .ipv4: "[IP]"
        default: "[SECRET]"
        }
    }
}

private struct Scan {
    let text: TextBytes
    let kinds: PIIKinds
    var findings: [PIIScanner.Finding] = []
    private var place = 0
    /// Behind the last finding.
    private var floor = 0
    /// How many more places may be looked at.
    private(set) var candidates: Int

    init(text: TextBytes, kinds: PIIKinds, candidates: Int) {
        self.text = text
        self.kinds = kinds
        self.candidates = candidates
    }

    /// Up to where the text was looked at.
    var end: Int { min(place, text.count) }

    mutating func run() {
        while place < text.count, candidates > 0 {
            switch text[place] {
            case UInt8(ascii: "@"): at()
            case UInt8(ascii: "-"): hyphen()
            case UInt8(ascii: "+"), UInt8(ascii: "("): number()
            case 0x30...0x39: isWordStart ? number() : skipWord()
            case 0x41...0x5A, 0x61...0x7A: isWordStart ? word() : skipWord()
            default: place += 1
            }
        }
    }

    private var isWordStart: Bool {
        let before = text[place - 1]
        return !text.isAlphanumeric(place - 1) && before != 0x5F
    }

    private mutating func skipWord() {
        repeat { place += 1 } while text.isAlphanumeric(place) || text[place] == 0x5F
    }

    private mutating func found(_ range: Range<Int>, _ kind: PIIKinds) {
        findings.append(PIIScanner.Finding(range: range, kind: kind))
        place = range.upperBound
        floor = place
    }

    private mutating func word() {
        // Most words end where a sentence's do: no key and no account number looks like them.
        var end = place + 1
        while text.isLetter(end) { end += 1 }
        guard
            text.isDigit(end) || "-_.".utf8.contains(text[end])
                || (end - place == 6 && text[end] == 0x20)
        else {
            place = end
            return
        }
        var next = place
        if kinds.contains(.secret), let range = SecretForms.find(text, at: place, next: &next) {
            return found(range, .secret)
        }
        if kinds.contains(.iban), text.isDigit(place + 2), text.isDigit(place + 3) {
            candidates -= 1
            if let end = AccountForm.find(text, at: place) { return found(place..<end, .iban) }
        }
        skipWord()
        place = max(place, next)
    }

    private mutating func hyphen() {
        if kinds.contains(.secret), let range = SecretForms.privateKey(text, at: place) {
            return found(range, .secret)
        }
        while text[place] == UInt8(ascii: "-") { place += 1 }
    }

    private mutating func number() {
        if isPlainNumber() { return }
        candidates -= 1
        let form = NumberForm(text, at: place)
        guard !form.groups.isEmpty else {
            place += 1
            return
        }
        if kinds.contains(.card), let end = form.card() { return found(place..<end, .card) }
        if kinds.contains(.ipv4), let end = form.address() { return found(place..<end, .ipv4) }
        if kinds.contains(.phone), let end = form.phone(isNamed: isNamedPhone) {
            return found(place..<end, .phone)
        }
        place = max(place + 1, form.groups[0].upperBound)
    }

    /// Passes over a short number that stands alone, as most do: it is nothing.
    private mutating func isPlainNumber() -> Bool {
        guard text.isDigit(place) else { return false }
        var end = place
        while text.isDigit(end) { end += 1 }
        // A gap begins with one of these bytes.
        let gap = text[end]
        let isAlone =
            !" -./()".utf8.contains(gap) && gap < 0x80
            || (gap == 0x20 && !text.isDigit(end + 1) && text[end + 1] != UInt8(ascii: "("))
        guard isAlone, end - place < 7 else { return false }
        place = end
        return true
    }

    // MARK: Telephones

    /// Whether a word close in front says that a telephone number comes.
    private var isNamedPhone: Bool {
        var at = place - 1
        let first = max(0, place - Limits.contextBytesMax)
        while at >= first {
            // Another number in between is what the word is about.
            if text.isDigit(at) { return false }
            if text.isLetter(at) || text[at] >= 0x80 {
                let end = at + 1
                while at >= 0, text.isLetter(at) || text[at] >= 0x80 { at -= 1 }
                if isPhoneWord(at + 1, end) { return true }
                continue
            }
            at -= 1
        }
        return false
    }

    private func isPhoneWord(_ start: Int, _ end: Int) -> Bool {
        let words: [StaticString] = [
            "phone", "telephone", "tel", "mobile", "cell", "cellphone", "fax", "whatsapp", "sms",
            "call", "telefon", "telefonnummer", "handy", "handynummer", "mobil", "rufnummer",
            "telefono", "teléfono", "telefone", "tél", "téléphone", "portable", "mobilnummer",
        ]
        return words.contains { $0.utf8CodeUnitCount == end - start && text.has($0, at: start) }
    }

    // MARK: Mail

    private mutating func at() {
        candidates -= 1
        if kinds.contains(.secret), let range = SecretForms.password(text, at: place),
            range.lowerBound >= floor
        {
            return found(range, .secret)
        }
        if kinds.contains(.email), let range = mailbox() { return found(range, .email) }
        place += 1
    }

    /// The mail address (RFC 5321, section 4.1.2, less quoted local parts) whose `@` is here.
    private func mailbox() -> Range<Int>? {
        var start = place
        while place - start < Limits.localPartBytesMax, let count = localPartStep(start) {
            start -= count
        }
        // Marks in front belong to the sentence.
        while start < place, !text.isAlphanumeric(start), text[start] < 0x80, text[start] != 0x5F {
            start += 1
        }
        guard start < place, text[place - 1] != UInt8(ascii: "."), let end = domainEnd() else {
            return nil
        }
        return start..<end
    }

    /// Bytes of the character in front of `start`, where a local part may have it.
    private func localPartStep(_ start: Int) -> Int? {
        guard start > floor else { return nil }
        let byte = text[start - 1]
        if text.isAlphanumeric(start - 1) || "._%+'-&=~!#$*/?^`{|}".utf8.contains(byte) {
            return byte == UInt8(ascii: "/") || byte == UInt8(ascii: "=") ? nil : 1
        }
        return isLatin(start - 2) && start - 2 >= floor ? 2 : nil
    }

    /// A letter from U+00C0 to U+024F, two bytes long.
    private func isLatin(_ place: Int) -> Bool {
        (0xC3...0xC9).contains(text[place]) && text[place + 1] & 0xC0 == 0x80
    }

    private func domainEnd() -> Int? {
        var at = place + 1
        var end: Int?
        while at - place < Limits.domainBytesMax {
            let start = at
            var letters = 0
            while true {
                if text.isAlphanumeric(at) {
                    if text.isLetter(at) { letters += 1 }
                    at += 1
                } else if text[at] == UInt8(ascii: "-"), at > start {
                    at += 1
                } else if isLatin(at) {
                    letters += 1
                    at += 2
                } else {
                    break
                }
            }
            guard at > start, text[at - 1] != UInt8(ascii: "-") else { return end }
            // The last part is a word, or one in Punycode.
            if start > place + 1, letters >= 2 { end = at }
            guard text[at] == UInt8(ascii: ".") else { return end }
            at += 1
        }
        return end
    }
}
