/// How the end of a message's content is found (RFC 9112 §6.3).
public enum BodyFraming: Sendable, Equatable {
    /// There is no content, whatever the fields say.
    case none
    /// Exactly so many bytes; at most `Limits.bodyBytesMax`.
    case length(UInt64)
    /// Chunked transfer coding, to be read by `ChunkedReader`.
    case chunked
    /// Everything until the connection closes. Answers only.
    case untilClose
}

/// What Content-Length and Transfer-Encoding say, or why they are refused.
enum FramingFields {
    case neither
    case length(UInt64)
    case chunked
    case invalid(HeadFault)

    /// Reads both fields of a complete head. One field, one value, one reading: repetition is
    /// refused even where the values agree, as are both fields together (RFC 9112 §6.1, §11.2).
    @inline(__always)
    static func read(
        _ bytes: Bytes, _ list: borrowing FieldList, versionMinor: UInt8
    ) -> FramingFields {
        let both = FieldName.contentLength.bit | FieldName.transferEncoding.bit
        guard list.present & both != 0 else { return .neither }
        return readPresent(bytes, list, versionMinor: versionMinor)
    }

    @inline(never)
    private static func readPresent(
        _ bytes: Bytes, _ list: borrowing FieldList, versionMinor: UInt8
    ) -> FramingFields {
        if let position = list.first(.transferEncoding) {
            guard versionMinor >= 1 else { return .invalid(.transferEncodingInHTTP10) }
            guard !list.contains(.contentLength) else {
                return .invalid(.lengthAndTransferEncoding)
            }
            guard list.repeated & FieldName.transferEncoding.bit == 0 else {
                return .invalid(.repeatedTransferEncoding)
            }
            let value = list[position].value
            if bytes.equalsIgnoringCase(value, "chunked") { return .chunked }
            return .invalid(
                isCleanCodingList(bytes, value) ? .unknownTransferCoding : .badTransferEncoding)
        }
        guard list.repeated & FieldName.contentLength.bit == 0 else {
            return .invalid(.repeatedContentLength)
        }
        guard let position = list.first(.contentLength),
            let length = contentLength(bytes, list[position].value)
        else { return .invalid(.badContentLength) }
        return .length(length)
    }

    /// 1*DIGIT without leading zeros, as a peer might take those for octal; nil where it is
    /// anything else or more than `Limits.bodyBytesMax`.
    static func contentLength(_ bytes: Bytes, _ value: ByteRange) -> UInt64? {
        guard !value.isEmpty, Int(value.count) <= Limits.contentLengthDigitsMax else { return nil }
        if value.count > 1, bytes[value.start] == 0x30 { return nil }
        var length: UInt64 = 0
        for index in value.start..<value.end {
            guard Bytes.isDigit(bytes[index]) else { return nil }
            length = length * 10 + UInt64(bytes[index] - 0x30)
        }
        return length <= Limits.bodyBytesMax ? length : nil
    }

    /// True where the value is a list of registered codings (RFC 9112 §7), `chunked` at most once
    /// and last: a request that we understand and do not support. Everything else is a disguise of
    /// `chunked` or a mistake, and no peer can be trusted to read it as we would.
    private static func isCleanCodingList(_ bytes: Bytes, _ value: ByteRange) -> Bool {
        var start = value.start
        var sawChunked = false
        var sawOther = false
        while true {
            var comma = start
            while comma < value.end, bytes[comma] != 0x2C { comma += 1 }
            let coding = bytes.trimmed(ByteRange(found: start, comma))
            guard !sawChunked else { return false }
            if bytes.equalsIgnoringCase(coding, "chunked") {
                sawChunked = true
            } else if isRegisteredCoding(bytes, coding) {
                sawOther = true
            } else {
                return false
            }
            guard comma < value.end else { return sawOther }
            start = comma + 1
        }
    }

    private static func isRegisteredCoding(_ bytes: Bytes, _ coding: ByteRange) -> Bool {
        bytes.equalsIgnoringCase(coding, "gzip") || bytes.equalsIgnoringCase(coding, "x-gzip")
            || bytes.equalsIgnoringCase(coding, "deflate")
            || bytes.equalsIgnoringCase(coding, "compress")
            || bytes.equalsIgnoringCase(coding, "x-compress")
    }
}
