/// What one step of `ChunkedReader.next` went over: the bytes from the old position to the new one.
public enum ChunkedStep: Sendable, Equatable {
    /// Size lines and the CRLFs behind data: may be passed on as they are.
    case framing
    /// Payload: may be passed on as it is.
    case data
    /// Valid bytes that are to be left out: a chunk extension, with the white space before it, or
    /// the CR of the closing CRLF where the LF is not there yet.
    case cut
    /// Bytes of the trailer section: field lines with their CRLFs, neither the last chunk's line
    /// nor the closing CRLF. `TrailerParser` reads them once all are there.
    case trailer
    /// The message is over, its closing CRLF consumed. These bytes may be the LF alone: whoever
    /// passes the body on writes CRLF itself.
    case end
    /// Everything was consumed, and the message is not over.
    case needMore
    /// Refused; nothing further can be read.
    case invalid(HeadFault)
}

/// An incremental decoder of the chunked transfer coding (RFC 9112 §7.1).
///
/// Strict: CRLF and nothing else ends a line, a size is 1 to 16 hex digits and stands first on its
/// line, extensions follow their grammar, and data is followed by CRLF. Extensions and trailers are
/// bounded (`Limits`). Costs time linear in the bytes, however small the chunks.
///
/// Passing on `.framing` and `.data`, then trailers of one's own and CRLF at `.end`, yields a valid
/// chunked body of the same payload. `.data` is never empty, and every step but `.needMore`, `.end`
/// after the end, and `.invalid` consumes at least one byte.
public struct ChunkedReader: Sendable {
    // Of the chunk that is being read: its size while the line is read, then what is left of it.
    private var remaining: UInt64 = 0
    private var extensionsBytes: UInt16 = 0
    private var chunkExtensionBytes: UInt16 = 0
    private var trailerBytes: UInt16 = 0
    private var digits: UInt8 = 0
    private var state = State.size
    private var fault = HeadFault.badChunkSize

    private enum State: UInt8 {
        case size, sizeMore, lineLF
        case data, dataCR, dataLF
        case extensionSpace, extensionName, extensionNameMore, extensionNameSpace
        case extensionValue, extensionToken, extensionQuoted, extensionEscape, extensionBehind
        case trailerStart, trailerLine, trailerLF, endLF
        case done, failed
    }

    /// A reader that stands at a body's first byte.
    public init() {}

    /// True once `.end` was returned.
    public var isDone: Bool { state == .done }

    /// Goes over one step of `bytes` from `position` on and advances `position` behind it.
    ///
    /// Traps unless `0 <= position <= bytes.count`.
    public mutating func next(
        _ bytes: UnsafeRawBufferPointer, _ position: inout Int
    ) -> ChunkedStep {
        precondition(position >= 0 && position <= bytes.count)
        if state == .done { return .end }
        if state == .failed { return .invalid(fault) }
        guard position < bytes.count, let base = bytes.baseAddress else { return .needMore }
        let bytes = Bytes(base: base, count: bytes.count)
        switch state {
        case .data: return readData(bytes, &position)
        case .size, .dataCR:
            return readPlainLine(bytes, &position) ? .framing : readFraming(bytes, &position)
        case .sizeMore, .lineLF, .dataLF: return readFraming(bytes, &position)
        case .trailerStart, .trailerLine, .trailerLF, .endLF:
            return readTrailer(bytes, &position)
        default: return readExtension(bytes, &position)
        }
    }

    private mutating func refuse(_ reason: HeadFault) -> ChunkedStep {
        state = .failed
        fault = reason
        return .invalid(reason)
    }

    private mutating func readData(_ bytes: Bytes, _ position: inout Int) -> ChunkedStep {
        let step = min(remaining, UInt64(bytes.count - position))
        position += Int(step)
        remaining -= step
        if remaining == 0 { state = .dataCR }
        return .data
    }

    /// A size line of up to 8 digits without extension, with the CRLF behind the data before it,
    /// where all of it is there: what nearly every chunk looks like. False, and nothing has
    /// changed, where it is anything else.
    private mutating func readPlainLine(_ bytes: Bytes, _ position: inout Int) -> Bool {
        var index = position
        if state == .dataCR {
            guard index &+ 2 <= bytes.count, bytes.word(at: index, as: UInt16.self) == 0x0A0D else {
                return false
            }
            index &+= 2
        }
        let first = index
        var size: UInt64 = 0
        while index < bytes.count, let digit = Self.hexDigit(bytes[index]) {
            size = size &<< 4 | digit
            index &+= 1
        }
        guard index > first, index &- first <= 8, index &+ 2 <= bytes.count,
            bytes.word(at: index, as: UInt16.self) == 0x0A0D
        else { return false }
        remaining = size
        state = size == 0 ? .trailerStart : .data
        position = index &+ 2
        return true
    }

    /// Up to the next payload, extension, trailer section, or the end of `bytes`.
    private mutating func readFraming(_ bytes: Bytes, _ position: inout Int) -> ChunkedStep {
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            switch state {
            case .dataCR:
                guard byte == 0x0D else { return refuse(.badChunkEnd) }
                state = .dataLF
            case .dataLF:
                guard byte == 0x0A else { return refuse(.badChunkEnd) }
                state = .size
            case .size:
                guard let digit = Self.hexDigit(byte) else { return refuse(.badChunkSize) }
                remaining = digit
                digits = 1
                chunkExtensionBytes = 0
                state = .sizeMore
            case .sizeMore:
                if let digit = Self.hexDigit(byte) {
                    guard digits < Limits.chunkSizeDigitsMax else { return refuse(.chunkTooLarge) }
                    remaining = remaining &<< 4 | digit
                    digits += 1
                    break
                }
                guard remaining <= Limits.bodyBytesMax else { return refuse(.chunkTooLarge) }
                if byte == 0x0D {
                    state = .lineLF
                } else if byte == 0x3B || Bytes.isSpace(byte) {
                    state = .extensionSpace
                    // A step is never empty: the size may have ended with the buffer before.
                    return position > start ? .framing : readExtension(bytes, &position)
                } else {
                    return refuse(byte == 0x0A ? .badChunkLine : .badChunkSize)
                }
            default:  // lineLF
                guard byte == 0x0A else { return refuse(.badChunkLine) }
                position += 1
                state = remaining == 0 ? .trailerStart : .data
                return .framing
            }
            position += 1
        }
        return .framing
    }

    @inline(__always)
    private static func hexDigit(_ byte: UInt8) -> UInt64? {
        if Bytes.isDigit(byte) { return UInt64(byte &- 0x30) }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? UInt64(letter &+ 10) : nil
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, up to the CR that ends
    /// the line, which is framing.
    private mutating func readExtension(_ bytes: Bytes, _ position: inout Int) -> ChunkedStep {
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            if byte == 0x0D {
                // Behind a name or a value only: `5;` and `5 ` are no extensions.
                switch state {
                case .extensionNameMore, .extensionToken, .extensionBehind: break
                default: return refuse(.badChunkExtension)
                }
                if position > start { return .cut }
                state = .lineLF
                position += 1
                return readFraming(bytes, &position)
            }
            guard let next = Self.extensionState(after: state, byte) else {
                return refuse(.badChunkExtension)
            }
            guard chunkExtensionBytes < Limits.chunkExtensionBytesMax else {
                return refuse(.chunkExtensionTooLong)
            }
            guard extensionsBytes < Limits.chunkExtensionsBytesMax else {
                return refuse(.chunkExtensionsFlood)
            }
            chunkExtensionBytes += 1
            extensionsBytes += 1
            state = next
            position += 1
        }
        return .cut
    }

    /// The state after `byte`, which is no CR; nil where it may not stand there.
    private static func extensionState(after state: State, _ byte: UInt8) -> State? {
        let isSpace = Bytes.isSpace(byte)
        switch state {
        case .extensionSpace:
            if byte == 0x3B { return .extensionName }
            return isSpace ? .extensionSpace : nil
        case .extensionName:
            if isSpace { return .extensionName }
            return Bytes.isToken(byte) ? .extensionNameMore : nil
        case .extensionNameMore, .extensionNameSpace:
            if byte == 0x3D { return .extensionValue }
            if byte == 0x3B { return .extensionName }
            if isSpace { return .extensionNameSpace }
            return state == .extensionNameMore && Bytes.isToken(byte) ? .extensionNameMore : nil
        case .extensionValue:
            if isSpace { return .extensionValue }
            if byte == 0x22 { return .extensionQuoted }
            return Bytes.isToken(byte) ? .extensionToken : nil
        case .extensionToken:
            if Bytes.isToken(byte) { return .extensionToken }
            if byte == 0x3B { return .extensionName }
            return isSpace ? .extensionSpace : nil
        case .extensionQuoted:
            if byte == 0x22 { return .extensionBehind }
            if byte == 0x5C { return .extensionEscape }
            return isText(byte) ? .extensionQuoted : nil
        case .extensionEscape: return isText(byte) ? .extensionQuoted : nil
        case .extensionBehind:
            if byte == 0x3B { return .extensionName }
            return isSpace ? .extensionSpace : nil
        default: return nil
        }
    }

    // HTAB, SP, VCHAR and obs-text.
    private static func isText(_ byte: UInt8) -> Bool {
        byte == 0x09 || (byte >= 0x20 && byte != 0x7F)
    }

    /// Field lines up to the closing CRLF. Only their ends are judged here; `TrailerParser` judges
    /// what they say.
    private mutating func readTrailer(_ bytes: Bytes, _ position: inout Int) -> ChunkedStep {
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            switch state {
            case .trailerStart:
                if byte == 0x0D {
                    if position > start { return .trailer }
                    return readEnd(bytes, &position)
                }
                guard Bytes.isToken(byte) else { return refuse(.badTrailer) }
                state = .trailerLine
            case .trailerLine:
                if byte == 0x0D {
                    state = .trailerLF
                } else if !Self.isText(byte) {
                    return refuse(.badTrailer)
                }
            case .trailerLF:
                guard byte == 0x0A else { return refuse(.badTrailer) }
                state = .trailerStart
            default:
                return readEnd(bytes, &position)
            }
            guard trailerBytes < Limits.trailerBytesMax else { return refuse(.trailersTooLarge) }
            trailerBytes += 1
            position += 1
        }
        return .trailer
    }

    private mutating func readEnd(_ bytes: Bytes, _ position: inout Int) -> ChunkedStep {
        if state == .trailerStart {
            position += 1
            state = .endLF
            guard position < bytes.count else { return .cut }
        }
        guard bytes[position] == 0x0A else { return refuse(.badTrailer) }
        position += 1
        state = .done
        return .end
    }
}
