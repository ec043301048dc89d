/// Trailer sections (RFC 9112 §7.1.2).
public enum TrailerParser {
    /// Parses a whole trailer section, as the `.trailer` steps of a `ChunkedReader` gave it: field
    /// lines with their CRLFs, without the closing empty line. An empty section is complete.
    ///
    /// Fields that may not stand in trailers (RFC 9110 §6.5.1: framing, routing, authentication,
    /// request modifiers, control data, content format) are marked hop-by-hop, so that what drops
    /// those drops these. `.incomplete` means that the last line has no end.
    public static func parse(
        _ bytes: UnsafeRawBufferPointer, into list: borrowing FieldList,
        limits: HeadLimits = HeadLimits()
    ) -> HeadOutcome {
        guard bytes.count <= limits.headBytesMax else { return .invalid(.trailersTooLarge) }
        guard let base = bytes.baseAddress, bytes.count > 0 else {
            list.removeAll()
            return .complete(headBytes: 0)
        }
        let visible = Bytes(base: base, count: bytes.count)
        let outcome = FieldLines(visible, .trailers).parse(from: 0, into: list)
        guard case .complete = outcome else { return outcome }
        guard list.count <= limits.fieldsMax else { return .invalid(.tooManyFields) }
        for position in 0..<list.count where isForbidden(visible, list[position]) {
            list.markHopByHop(position)
        }
        return outcome
    }

    /// True where a field says something that must be known before the content, or that a recipient
    /// that merges trailers into the head would take for the head's own.
    static func isForbidden(_ bytes: Bytes, _ field: Field) -> Bool {
        switch field.known {
        case .other: isForbiddenName(bytes, field.name)
        case .traceparent, .userAgent: false
        default: true
        }
    }

    private static func isForbiddenName(_ bytes: Bytes, _ name: ByteRange) -> Bool {
        // If-Match and its kin: conditions come before what they decide on.
        if name.count >= 3,
            bytes.equalsIgnoringCase(ByteRange(found: name.start, name.start + 3), "if-")
        {
            return true
        }
        let forbidden = Self.forbidden
        for index in forbidden.indices where bytes.isName(name, forbidden[index]) {
            return true
        }
        return false
    }

    private static var forbidden: InlineArray<22, StaticString> {
        [
            "age", "cache-control", "content-encoding", "content-language", "content-location",
            "content-range", "expires", "location", "pragma", "range", "vary", "warning",
            "www-authenticate", "x-real-ip", "x-forwarded-port", "x-original-url",
            "x-rewrite-url", "x-http-method-override", "x-forwarded-server", "x-forwarded-prefix",
            "strict-transport-security", "set-cookie2",
        ]
    }
}
