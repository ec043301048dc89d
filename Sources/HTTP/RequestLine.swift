/// The four forms of a request target (RFC 9112 §3.2).
public enum TargetForm: UInt8, Sendable { case origin, absolute, asterisk, authority }

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3), judged in the order of its bytes.
struct RequestLine {
    var method = Method.other
    var methodRange = ByteRange.empty
    var target = ByteRange.empty
    var targetForm = TargetForm.origin
    var path = ByteRange.empty
    /// Of an absolute-form or authority-form target; empty otherwise.
    var authority = ByteRange.empty
    var versionMinor: UInt8 = 1

    enum Outcome {
        case complete(next: Int)
        case incomplete
        case invalid(HeadFault)
    }

    @inline(__always)
    mutating func parse(_ bytes: Bytes, targetBytesMax: Int) -> Outcome {
        var start = 0
        if bytes[0] == 0x0D || bytes[0] == 0x0A {
            switch Self.skipEmptyLines(bytes) {
            case .complete(let next): start = next
            case let other: return other
            }
        }
        switch parseMethod(bytes, from: start) {
        case .complete(let next): start = next
        case let other: return other
        }
        let end = bytes.firstNotTarget(from: start)
        guard end &- start <= targetBytesMax else { return .invalid(.targetTooLong) }
        guard end < bytes.count else { return .incomplete }
        guard bytes[end] == 0x20, end > start else {
            // CR: a request line of HTTP/0.9, without a version.
            let isLine = bytes[end] == 0x20 || bytes[end] == 0x0D || bytes[end] == 0x0A
            return .invalid(isLine ? .badRequestLine : .badTarget)
        }
        target = ByteRange(found: start, end)
        let next: Int
        switch HTTPVersion.parse(bytes, at: end &+ 1, closingByte: 0x0D) {
        case .complete(let minor, let closing):
            versionMinor = minor
            guard closing &+ 1 < bytes.count else { return .incomplete }
            guard bytes[closing &+ 1] == 0x0A else { return .invalid(.bareCR) }
            next = closing &+ 2
        case .incomplete: return .incomplete
        case .invalid(let fault): return .invalid(fault)
        }
        if bytes[start] == 0x2F, method != .connect {
            targetForm = .origin
            path = target
            return .complete(next: next)
        }
        if let fault = parseRareTarget(bytes) { return .invalid(fault) }
        return .complete(next: next)
    }

    // RFC 9112 §2.2 asks a server to ignore at least one empty line before a request line: old
    // clients put one behind a POST's body.
    @inline(never)
    private static func skipEmptyLines(_ bytes: Bytes) -> Outcome {
        var start = 0
        while start < bytes.count, bytes[start] == 0x0D || bytes[start] == 0x0A {
            guard bytes[start] == 0x0D else { return .invalid(.bareLF) }
            guard start + 1 < bytes.count else { return .incomplete }
            guard bytes[start + 1] == 0x0A else { return .invalid(.bareCR) }
            start += 2
            guard start <= 2 * Limits.leadingLinesMax else { return .invalid(.leadingLines) }
        }
        return start < bytes.count ? .complete(next: start) : .incomplete
    }

    /// Sets method and methodRange; the outcome's position is the target's first byte.
    @inline(__always)
    private mutating func parseMethod(_ bytes: Bytes, from start: Int) -> Outcome {
        if start &+ 4 <= bytes.count, bytes.word(at: start, as: UInt32.self) == 0x2054_4547 {
            method = .get  // "GET " in memory's order
            methodRange = ByteRange(found: start, start &+ 3)
            return .complete(next: start &+ 4)
        }
        return parseAnyMethod(bytes, from: start)
    }

    @inline(never)
    private mutating func parseAnyMethod(_ bytes: Bytes, from start: Int) -> Outcome {
        var end = start
        while end < bytes.count, Bytes.isToken(bytes[end]) {
            end += 1
            guard end - start <= Limits.methodBytesMax else { return .invalid(.methodTooLong) }
        }
        guard end < bytes.count else { return .incomplete }
        guard bytes[end] == 0x20, end > start else {
            let isLine = bytes[end] == 0x0D || bytes[end] == 0x0A
            return .invalid(isLine ? .badRequestLine : .badMethod)
        }
        methodRange = ByteRange(found: start, end)
        method = bytes.method(methodRange)
        return .complete(next: end + 1)
    }

    /// Every target but a path: `*`, the authority of CONNECT, an absolute URI.
    @inline(never)
    private mutating func parseRareTarget(_ bytes: Bytes) -> HeadFault? {
        if method == .connect {
            targetForm = .authority
            authority = target
            path = .empty
            return Authority.isValidWithPort(bytes, target) ? nil : .badAuthority
        }
        if target.count == 1, bytes[target.start] == 0x2A {
            targetForm = .asterisk
            path = target
            return method == .options ? nil : .asteriskWithoutOptions
        }
        guard let start = Self.authorityStart(bytes, target) else { return .badTarget }
        var end = start
        while end < target.end, bytes[end] != 0x2F, bytes[end] != 0x3F { end += 1 }
        targetForm = .absolute
        authority = ByteRange(found: start, end)
        path = ByteRange(found: end, target.end)
        return Authority.isValid(bytes, authority) ? nil : .badAuthority
    }

    /// The position behind `http://` or `https://`; nil where the target starts with neither.
    private static func authorityStart(_ bytes: Bytes, _ target: ByteRange) -> Int? {
        let start = target.start
        if target.count >= 7,
            bytes.equalsIgnoringCase(ByteRange(found: start, start + 7), "http://")
        {
            return start + 7
        }
        if target.count >= 8,
            bytes.equalsIgnoringCase(ByteRange(found: start, start + 8), "https://")
        {
            return start + 8
        }
        return nil
    }
}

/// `HTTP/1.1` and its kin (RFC 9112 §2.3).
enum HTTPVersion {
    enum Outcome {
        /// 0 or 1, and the position of the closing byte.
        case complete(minor: UInt8, closing: Int)
        case incomplete
        case invalid(HeadFault)
    }

    /// Reads the version at `start`; `closingByte` must stand behind it. Minor versions above 1 are
    /// read as 1, which they promise to be compatible with (RFC 9110 §2.5).
    @inline(__always)
    static func parse(_ bytes: Bytes, at start: Int, closingByte: UInt8) -> Outcome {
        // "HTTP/1.1" in memory's order.
        if start &+ 9 <= bytes.count,
            bytes.word(at: start, as: UInt64.self) == 0x312E_312F_5054_5448,
            bytes[start &+ 8] == closingByte
        {
            return .complete(minor: 1, closing: start &+ 8)
        }
        return parseAny(bytes, at: start, closingByte: closingByte)
    }

    @inline(never)
    private static func parseAny(_ bytes: Bytes, at start: Int, closingByte: UInt8) -> Outcome {
        let name: StaticString = "HTTP/"
        for index in 0..<8 {
            guard start + index < bytes.count else { return .incomplete }
            let byte = bytes[start + index]
            let allowed =
                switch index {
                case 0..<5: byte == name.utf8Start[index]
                case 6: byte == 0x2E
                default: Bytes.isDigit(byte)
                }
            guard allowed else { return .invalid(.badVersion) }
        }
        guard start + 8 < bytes.count else { return .incomplete }
        guard bytes[start + 8] == closingByte else {
            return .invalid(bytes[start + 8] == 0x0A ? .bareLF : .badVersion)
        }
        guard bytes[start + 5] == 0x31 else { return .invalid(.unsupportedVersion) }
        return .complete(minor: bytes[start + 7] == 0x30 ? 0 : 1, closing: start + 8)
    }
}
