/// Field lines, from the first to the empty line that ends a head, or to the end of a trailer
/// section (RFC 9112 §5).
///
/// Lines end in CRLF and in nothing else, names are tokens with their colon directly behind, values
/// hold no control byte but HTAB, and nothing is folded: whatever another parser might read
/// differently is refused here.
struct FieldLines {
    enum Section { case head, trailers }

    let bytes: Bytes
    let section: Section

    @inline(__always)
    init(_ bytes: Bytes, _ section: Section) {
        self.bytes = bytes
        self.section = section
    }

    /// Fills `list` with the lines from `start` on. On any outcome but `.complete` the list is
    /// empty.
    func parse(from start: Int, into list: borrowing FieldList) -> HeadOutcome {
        list.removeAll()
        var line = start
        var count = 0
        var present: UInt64 = 0
        var repeated: UInt64 = 0
        while true {
            var colon = bytes.firstNotName(from: line)
            var valueStart = colon &+ 2
            // Nearly every line is a name, a colon, one space and a value.
            if valueStart >= bytes.count || bytes.word(at: colon, as: UInt16.self) != 0x203A
                || bytes[valueStart] <= 0x20
                || UInt(bitPattern: colon &- line &- 1) >= UInt(Limits.fieldNameBytesMax)
            {
                switch lineStart(line, isFirst: line == start, stop: colon) {
                case .field(let found):
                    colon = found
                    valueStart = bytes.skipSpaces(from: colon &+ 1)
                case .end(let next):
                    // `other` is no name of its own: its bit would say nothing.
                    list.index.pointee.count = count
                    list.index.pointee.present = present & ~FieldName.other.bit
                    list.index.pointee.repeated = repeated & ~FieldName.other.bit
                    return .complete(headBytes: next)
                case .incomplete: return .incomplete
                case .invalid(let fault): return .invalid(fault)
                }
            }
            var end = bytes.firstControlOrHigh(from: valueStart)
            if end &+ 1 >= bytes.count || bytes.word(at: end, as: UInt16.self) != 0x0A0D {
                switch valueEnd(end) {
                case .field(let found): end = found
                case .end: preconditionFailure("a value ends no head")
                case .incomplete: return .incomplete
                case .invalid(let fault): return .invalid(fault)
                }
            }
            guard count < list.capacity else { return .invalid(.tooManyFields) }
            let known = bytes.fieldName(at: line, count: colon &- line)
            repeated |= present & known.bit
            present |= known.bit
            list.positions[Int(known.rawValue)] = UInt16(truncatingIfNeeded: count)
            (list.storage + count).initialize(
                to: Field(
                    line: line, colon: colon, valueStart: valueStart,
                    valueEnd: bytes.trimEnd(valueStart, end), lineEnd: end &+ 2, known: known))
            count &+= 1
            line = end &+ 2
        }
    }

    enum Step {
        /// A position: of the colon, or of the CR behind a value.
        case field(Int)
        /// The section ends here; what follows it starts at this position.
        case end(next: Int)
        case incomplete
        case invalid(HeadFault)
    }

    /// Judges a line whose name did not end in a colon at the first byte that is no letter or
    /// hyphen.
    @inline(never)
    private func lineStart(_ line: Int, isFirst: Bool, stop: Int) -> Step {
        guard line < bytes.count else {
            return section == .trailers ? .end(next: line) : .incomplete
        }
        switch bytes[line] {
        case 0x0D:
            guard line + 1 < bytes.count else { return .incomplete }
            guard bytes[line + 1] == 0x0A else { return .invalid(.bareCR) }
            // The trailer section comes without the empty line behind it.
            return section == .trailers ? .invalid(.badTrailer) : .end(next: line + 2)
        case 0x0A: return .invalid(.bareLF)
        case 0x20, 0x09: return .invalid(isFirst ? .leadingSpace : .foldedLine)
        case 0x3A: return .invalid(.emptyFieldName)
        default: break
        }
        var end = stop
        var hasUnderscore = false
        while end < bytes.count, Bytes.isToken(bytes[end]) {
            if bytes[end] == 0x5F { hasUnderscore = true }
            end += 1
        }
        guard end - line <= Limits.fieldNameBytesMax else { return .invalid(.fieldNameTooLong) }
        guard end < bytes.count else { return .incomplete }
        switch bytes[end] {
        case 0x3A: break
        case 0x20, 0x09: return spaceBehindName(end)
        case 0x0D:
            guard end + 1 < bytes.count else { return .incomplete }
            return .invalid(bytes[end + 1] == 0x0A ? .missingColon : .bareCR)
        case 0x0A: return .invalid(.bareLF)
        default: return .invalid(.badFieldName)
        }
        // A gateway interface (CGI, WSGI, Rack) reads `_` as `-`: such a name would frame the
        // message for the application behind us and not for us.
        if hasUnderscore, isDisguisedFraming(ByteRange(found: line, end)) {
            return .invalid(.disguisedFramingField)
        }
        return .field(end)
    }

    // `Name : value` is the attack, `Name value` a line without colon: the same refusal, but the
    // sentence should be true.
    private func spaceBehindName(_ end: Int) -> Step {
        let next = bytes.skipSpaces(from: end)
        guard next < bytes.count else { return .incomplete }
        return .invalid(bytes[next] == 0x3A ? .spaceBeforeColon : .badFieldName)
    }

    private func isDisguisedFraming(_ name: ByteRange) -> Bool {
        isDisguise(name, of: "content-length") || isDisguise(name, of: "transfer-encoding")
    }

    private func isDisguise(_ name: ByteRange, of text: StaticString) -> Bool {
        guard Int(name.count) == text.utf8CodeUnitCount else { return false }
        for index in 0..<text.utf8CodeUnitCount {
            let byte = bytes[name.start + index]
            let read = byte == 0x5F ? 0x2D : Bytes.lower(byte)
            if read != text.utf8Start[index] { return false }
        }
        return true
    }

    /// The CR behind a value that has a byte of its own at `stop`, tabs and obs-text passed over.
    @inline(never)
    private func valueEnd(_ stop: Int) -> Step {
        var end = stop
        while end < bytes.count, bytes[end] == 0x09 || bytes[end] >= 0x80 {
            end = bytes.firstControl(from: end + 1)
        }
        guard end < bytes.count else { return .incomplete }
        switch bytes[end] {
        case 0x0D:
            guard end + 1 < bytes.count else { return .incomplete }
            return bytes[end + 1] == 0x0A ? .field(end) : .invalid(.bareCR)
        case 0x0A: return .invalid(.bareLF)
        default: return .invalid(.controlByte)
        }
    }
}

extension Bytes {
    /// The first index from `start` on whose byte is neither SP nor HTAB.
    @inline(__always)
    func skipSpaces(from start: Int) -> Int {
        var index = start
        while index < count, Self.isSpace(self[index]) { index &+= 1 }
        return index
    }

    /// The end of `start..<end` without the spaces and tabs at its end.
    @inline(__always)
    func trimEnd(_ start: Int, _ end: Int) -> Int {
        if end > start, self[end &- 1] > 0x20 { return end }
        var end = end
        while end > start, Self.isSpace(self[end &- 1]) { end &-= 1 }
        return end
    }
}
