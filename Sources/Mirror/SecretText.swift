import CLinux
public import HTTP

/// Writes targets and field values without the secrets in their URLs: values of secret query
/// members and path parameters (the name stays, so that the copy takes the same way through the
/// shadow), and user names and passwords before a host.
///
/// Separators count in their percent-encoded form too: a URL inside a query is cleaned as well.
/// Costs time linear in the text.
public struct SecretText: ~Copyable {
    /// Longer member names are taken for secrets unread.
    static let nameBytesMax = 256

    private enum Place { case prose, path, query }

    private let plain: UnsafeMutableRawBufferPointer
    private let folded: UnsafeMutableRawBufferPointer
    private let stripped: NameSet
    private let members: NameSet
    private let words: WordTable

    /// - Parameter strip: names of members, lower case, that are secret besides the built-in ones.
    public init(strip: [String] = []) {
        stripped = NameSet(strip, folding: false)
        members = NameSet(SecretNames.members, folding: false)
        words = WordTable(SecretNames.words)
        plain = .allocate(byteCount: Self.nameBytesMax, alignment: 1)
        // A hyphen may be put between each two letters.
        folded = .allocate(byteCount: Self.nameBytesMax * 2, alignment: 1)
    }

    deinit {
        plain.deallocate()
        folded.deallocate()
    }

    /// False where nothing in a section of field lines begins a query or a fragment: then no value
    /// of it has to be searched for one.
    static func mayHoldQuery(_ section: UnsafeRawBufferPointer) -> Bool {
        guard let start = section.baseAddress else { return false }
        // `memchr` looks at 32 bytes at once; a loop here was a fifth of a copy's cost.
        return memchr(start, 0x3F, section.count) != nil
            || memchr(start, 0x23, section.count) != nil
    }

    /// True where a field's value may hold a URL with something to clean; others are copied as they
    /// are.
    static func needsCleaning(_ value: UnsafeRawBufferPointer, mayHoldQuery: Bool) -> Bool {
        guard let start = value.baseAddress, value.count > 0 else { return false }
        if value[0] == 0x2F || mayHoldQuery && Self.mayHoldQuery(value) { return true }
        var from = 0
        while let colon = memchr(start + from, 0x3A, value.count - from) {
            from = UnsafeRawPointer(colon) - start + 1
            if authorityStart(value, from) != nil { return true }
        }
        return false
    }

    /// Appends a target in origin-form; never more bytes than it has.
    public func write(target: UnsafeRawBufferPointer, to writer: inout HeadWriter) {
        write(target, .path, to: &writer)
    }

    /// Appends a field's value.
    func write(value: UnsafeRawBufferPointer, to writer: inout HeadWriter) {
        write(value, value.first == 0x2F ? .path : .prose, to: &writer)
    }

    private func write(
        _ text: UnsafeRawBufferPointer, _ start: Place, to writer: inout HeadWriter
    ) {
        var place = start
        var copied = 0
        var index = Self.skip(text, 0, to: Self.marks)
        while index < text.count {
            let (byte, width) = place == .prose ? (text[index], 1) : Self.unit(text, index)
            var next = index + width
            switch byte {
            case 0x3F, 0x23:  // ? #
                place = .query
                next = skipMember(text, next, place, &copied, &writer)
            case 0x26 where place == .query, 0x3B where place != .prose:  // & ;
                next = skipMember(text, next, place, &copied, &writer)
            case 0x3A:
                guard let authority = Self.authorityStart(text, next) else { break }
                next = skipUserInformation(text, authority, &copied, &writer)
                if place == .prose { place = .path }
            case _ where width == 1 && Self.endsURL(byte):
                place = .prose
            default: break
            }
            index = Self.skip(text, next, to: Self.marks)
        }
        writer.append(UnsafeRawBufferPointer(rebasing: text[copied...]))
    }

    /// What `write` may stop at: HTAB, space, `" # % & : ; < > ?`, a bit for each. All other bytes
    /// are copied.
    private static var marks: UInt64 { 0xDC00_006D_0000_0200 }

    /// What ends an authority or may hide it: HTAB, space, `" # % / < > ?`.
    private static var authorityMarks: UInt64 { 0xD000_802D_0000_0200 }

    /// The first index from `start` on whose byte is one of `marks`, or `@`.
    @inline(__always)
    private static func skip(
        _ text: UnsafeRawBufferPointer, _ start: Int, to marks: UInt64
    ) -> Int {
        guard let base = text.baseAddress else { return start }
        var index = start
        while index < text.count {
            let byte = base.load(fromByteOffset: index, as: UInt8.self)
            if byte <= 0x40, byte == 0x40 || marks &>> UInt64(byte) & 1 != 0 { break }
            index &+= 1
        }
        return index
    }

    /// Where to go on behind the separator before `start`: there, or behind the value of a secret
    /// member, which is then left out.
    private func skipMember(
        _ text: UnsafeRawBufferPointer, _ start: Int, _ place: Place, _ copied: inout Int,
        _ writer: inout HeadWriter
    ) -> Int {
        var index = start
        while index < text.count {
            let (byte, width) = Self.unit(text, index)
            if byte == 0x3D {
                guard isSecret(UnsafeRawBufferPointer(rebasing: text[start..<index])) else { break }
                writer.append(UnsafeRawBufferPointer(rebasing: text[copied..<(index + width)]))
                copied = Self.valueEnd(text, index + width, place)
                return copied
            }
            if Self.endsName(byte, place) || (width == 1 && Self.endsURL(byte)) { break }
            index += width
        }
        return start
    }

    private func skipUserInformation(
        _ text: UnsafeRawBufferPointer, _ start: Int, _ copied: inout Int,
        _ writer: inout HeadWriter
    ) -> Int {
        var index = Self.skip(text, start, to: Self.authorityMarks)
        var host = start
        while index < text.count {
            let (byte, width) = Self.unit(text, index)
            if byte == 0x2F || byte == 0x3F || byte == 0x23 || Self.endsURL(byte) { break }
            if byte == 0x40 { host = index + width }
            index = Self.skip(text, index + width, to: Self.authorityMarks)
        }
        guard host > start else { return start }
        writer.append(UnsafeRawBufferPointer(rebasing: text[copied..<start]))
        copied = host
        return host
    }

    /// The end of a secret's value. A semicolon does not end it: to most servers it is part of it.
    private static func valueEnd(
        _ text: UnsafeRawBufferPointer, _ start: Int, _ place: Place
    ) -> Int {
        var index = start
        while index < text.count {
            let (byte, width) = unit(text, index)
            if width == 1 && endsURL(byte) { break }
            if byte == 0x23 || (place == .query && byte == 0x26) { break }
            if place == .path && (byte == 0x2F || byte == 0x3F) && width == 1 { break }
            index += width
        }
        return index
    }

    /// Whether the member's name, percent-encoded as it stands there, is one of a secret.
    private func isSecret(_ name: UnsafeRawBufferPointer) -> Bool {
        var plainCount = 0
        var foldedCount = 0
        var previous: UInt8 = 0
        var index = 0
        while index < name.count {
            let (byte, width) = Self.unit(name, index)
            index += width
            guard plainCount < Self.nameBytesMax else { return true }
            let isCapital = byte &- 0x41 < 26
            let lower = isCapital ? byte | 0x20 : byte
            plain[plainCount] = lower
            plainCount += 1
            // accessToken is access-token, user[api_key] is user-api-key.
            if isCapital && (previous &- 0x61 < 26 || previous &- 0x30 < 10) {
                folded[foldedCount] = 0x2D
                foldedCount += 1
            }
            folded[foldedCount] = Self.isMark(lower) ? 0x2D : lower
            foldedCount += 1
            previous = byte
        }
        if stripped.contains(UnsafeRawBufferPointer(rebasing: plain[..<plainCount])) { return true }
        var start = 0
        while start < foldedCount, folded[start] == 0x2D { start += 1 }
        while foldedCount > start, folded[foldedCount - 1] == 0x2D { foldedCount -= 1 }
        let core = UnsafeRawBufferPointer(rebasing: folded[start..<foldedCount])
        return members.contains(core) || words.occurs(in: core)
            || SecretNames.isSecretMember(SecretNames.Name(bytes: core))
    }

    /// The byte at `index`, percent-decoded, and how many bytes it takes.
    @inline(__always)
    private static func unit(_ text: UnsafeRawBufferPointer, _ index: Int) -> (UInt8, Int) {
        let byte = text[index]
        guard byte == 0x25, index + 2 < text.count, let high = hexDigit(text[index + 1]),
            let low = hexDigit(text[index + 2])
        else { return (byte, 1) }
        return (high << 4 | low, 3)
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        if byte &- 0x30 < 10 { return byte &- 0x30 }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter + 10 : nil
    }

    /// `_ . [ ] : + -` and space: what joins the words of a name.
    private static func isMark(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x5F, 0x2E, 0x5B, 0x5D, 0x3A, 0x2B, 0x2D, 0x20: true
        default: false
        }
    }

    private static func endsName(_ byte: UInt8, _ place: Place) -> Bool {
        switch byte {
        case 0x26, 0x3B, 0x3F, 0x23: true  // & ; ? #
        case 0x2F: place == .path
        default: false
        }
    }

    /// Space, HTAB, quotation mark, angle brackets: what stands around a URL in a field's value.
    private static func endsURL(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x22 || byte == 0x3C || byte == 0x3E
    }

    /// Where the authority begins if `//` stands at `index`, behind a colon.
    private static func authorityStart(_ text: UnsafeRawBufferPointer, _ index: Int) -> Int? {
        guard index < text.count else { return nil }
        let (first, firstWidth) = unit(text, index)
        let second = index + firstWidth
        guard first == 0x2F, second < text.count else { return nil }
        let (slash, width) = unit(text, second)
        return slash == 0x2F ? second + width : nil
    }
}
