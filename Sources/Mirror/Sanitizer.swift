public import HTTP
public import Providers
public import Upstream

/// How the end of a copy's content is said.
public enum CopyFraming: Equatable, Sendable {
    /// No content.
    case none
    case length(Int)
    /// Chunked, as the copy has trailers.
    case chunked
}

/// Writes the head and trailers of a copy as one shadow may see them.
///
/// The request line and the fields stay as the primary got them and in their order, but for:
/// credentials and their like (`SecretNames`), what makes a copy act twice, fields of the
/// connection, and framing, which is written anew. What is written depends on the arguments alone,
/// so that a copy that was sent in part is written again instead of being kept.
///
/// Allocates in `init` only. Not for use by two threads.
public final class Sanitizer {
    private let request: RequestHead
    private let trailers: FieldList
    private let strip: NameSet
    private let allow: NameSet
    private let words: WordTable
    private let text: SecretText
    private let name: UnsafeMutableRawBufferPointer
    private let folded: UnsafeMutableRawBufferPointer
    private let pathPrefix: [UInt8]
    private let authority: [UInt8]
    /// The shadow has a name of its own, and a key.
    private let ownsHost: Bool
    private let keyLine: [UInt8]
    /// Of a shadow that is an Azure deployment: what stands around the name of what a copy asks a
    /// model for.
    private let azure: (start: [UInt8], query: [UInt8])?
    /// Names that are written anew or never go, as bits.
    private let leftOut: UInt64
    private let verdicts = NameVerdicts()

    /// - Parameters:
    ///   - pathPrefix: put before each target, without its closing slash.
    ///   - authority: the value of Host for copies that have none (HTTP/1.0).
    ///   - provider: how the shadow is spoken to where it is an LLM provider's: by its own name,
    ///     whatever the client called the primary, and with its own key.
    public init(
        settings: ShadowSettings, pathPrefix: String, authority: String,
        provider: ProviderSettings? = nil
    ) {
        ownsHost = provider != nil
        keyLine = Array((provider?.keyLine ?? "").utf8)
        azure = provider?.azure.map { (Array($0.pathStart.utf8), Array($0.query.utf8)) }
        var names: [FieldName] = [
            .contentLength, .transferEncoding, .expect, .umbraShadow, .traceparent, .tracestate,
        ]
        if provider != nil {
            // Where a client comes from is not the provider's to know.
            names += [.host, .forwarded, .xForwardedFor, .xForwardedProto, .xForwardedHost]
        }
        leftOut = names.reduce(0) { $0 | $1.bit }
        let limits = HeadLimits(
            headBytesMax: ShadowLimits.copyHeadBytesMax,
            fieldsMax: ShadowLimits.copyFieldsMax,
            targetBytesMax: ShadowLimits.copyHeadBytesMax)
        request = RequestHead(limits: limits)
        trailers = FieldList(capacity: ShadowLimits.copyFieldsMax)
        strip = NameSet(settings.stripFields, folding: true)
        allow = NameSet(settings.allowFields, folding: false)
        words = WordTable(SecretNames.fieldWords)
        text = SecretText(strip: settings.stripQuery)
        name = .allocate(byteCount: ShadowLimits.fieldNameBytesMax, alignment: 1)
        folded = .allocate(byteCount: ShadowLimits.fieldNameBytesMax, alignment: 1)
        self.pathPrefix = Array(pathPrefix.utf8)
        self.authority = Array(authority.utf8)
    }

    deinit {
        name.deallocate()
        folded.deallocate()
    }

    /// Whether the head written last was that of a HEAD request, whose answer has no content.
    public var isHead: Bool { request.method == .head }

    /// Whether a request that asks no model changes nothing at an LLM provider. A head that is not
    /// well-formed changes nothing either: it is not written.
    func isReading(_ head: UnsafeRawBufferPointer) -> Bool {
        guard request.parse(head) == .complete(headBytes: head.count) else { return true }
        return switch request.method {
        case .get, .head, .options: true
        case .post: Inference.isReading(path: request.path.bytes(in: head))
        default: false
        }
    }

    /// What a request asks a model, and whether its body is as it says: not compressed. Nil where
    /// `head` is no well-formed one, or asks no model.
    public func inference(head: UnsafeRawBufferPointer) -> (kind: Inference, isPlain: Bool)? {
        guard request.parse(head) == .complete(headBytes: head.count), request.method == .post,
            let start = head.baseAddress, let kind = Inference(request, start)
        else { return nil }
        for index in 0..<request.fields.count where request.fields[index].known == .other {
            let name = FieldText(request.fields[index].name.bytes(in: head))
            if name.equals("content-encoding") { return (kind, false) }
        }
        return (kind, true)
    }

    /// Appends the copy's head, its closing empty line included. False where `head` is not exactly
    /// one well-formed head, or does not fit.
    public func write(
        head: UnsafeRawBufferPointer, framing: CopyFraming, id: ShadowID,
        primaryPrefixBytes: Int = 0, rewrite: CopyRewrite = .none, to writer: inout HeadWriter
    ) -> Bool {
        guard request.parse(head) == .complete(headBytes: head.count),
            request.method != .connect
        else { return false }
        writer.append(request.methodRange.bytes(in: head))
        writer.append(byte: 0x20)
        writeTarget(head, leavingOut: primaryPrefixBytes, rewrite, to: &writer)
        writer.append(" HTTP/1.1\r\n")
        if !request.hasHost || ownsHost {
            writer.append("Host: ")
            authority.withUnsafeBytes { writer.append($0) }
            writer.append("\r\n")
        }
        write(request.fields, of: head, keepsTrailer: framing == .chunked, rewrite, to: &writer)
        rewrite.write(to: &writer)
        keyLine.withUnsafeBytes { writer.append($0) }
        switch framing {
        case .none: break
        case .length(let length):
            writer.append("Content-Length: ")
            writer.append(decimal: UInt64(length))
            writer.append("\r\n")
        case .chunked: writer.append("Transfer-Encoding: chunked\r\n")
        }
        writeTrace(head, id, to: &writer)
        writer.append("X-Umbra-Shadow: true\r\nX-Umbra-Shadow-Id: ")
        id.append(to: &writer)
        writer.append("\r\n\r\n")
        return !writer.overflowed
    }

    /// Gives the copy a span of its own in the request's trace, marked as a shadow's: beside the
    /// primary's, the two could not be told apart. What is no valid trace goes with no copy.
    private func writeTrace(
        _ head: UnsafeRawBufferPointer, _ id: ShadowID, to writer: inout HeadWriter
    ) {
        let base = head.baseAddress!
        guard request.fields.contains(.traceparent),
            var trace = TraceParent(request.fields, base),
            !isStripped("traceparent")
        else { return }
        // Random enough, and the same each time this copy is written.
        trace.span = id.spanID
        writer.append("traceparent: ")
        trace.append(to: &writer)
        writer.append("\r\n")
        guard !isStripped("tracestate") else { return }
        writer.append("tracestate: ")
        TraceState.appendMarked(request.fields, base, to: &writer)
        writer.append("\r\n")
    }

    private func isStripped(_ name: StaticString) -> Bool {
        strip.contains(
            UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
    }

    /// Appends the trailer section's field lines, without the closing empty line. False where
    /// `section` is malformed or does not fit.
    public func write(trailers section: UnsafeRawBufferPointer, to writer: inout HeadWriter) -> Bool
    {
        let outcome = TrailerParser.parse(section, into: trailers, limits: request.limits)
        guard outcome == .complete(headBytes: section.count) else { return false }
        write(trailers, of: section, keepsTrailer: false, .none, to: &writer)
        return !writer.overflowed
    }

    private func writeTarget(
        _ head: UnsafeRawBufferPointer, leavingOut: Int, _ rewrite: CopyRewrite,
        to writer: inout HeadWriter
    ) {
        var path = request.path.bytes(in: head)
        // OPTIONS * asks about the server, not about a path.
        if path.count == 1, path[0] == 0x2A { return writer.append(byte: 0x2A) }
        if path.isEmpty, request.method == .options { return writer.append(byte: 0x2A) }
        path = UnsafeRawBufferPointer(rebasing: path.dropFirst(leavingOut))
        pathPrefix.withUnsafeBytes { writer.append($0) }
        if ownsHost, let asked = rewrite.asked, azure != nil || rewrite.primary == .azure {
            return writeModelPath(asked, to: &writer)
        }
        if path.isEmpty || request.pathNeedsSlash { writer.append(byte: 0x2F) }
        guard rewrite.isTranslated, let (start, end) = rewrite.path(path) else {
            return text.write(target: path, to: &writer)
        }
        text.write(target: start, to: &writer)
        writer.append(end)
    }

    /// The path of a request to a deployment, or of one that went to a deployment and now goes
    /// elsewhere. Nothing of the client's is in it.
    private func writeModelPath(_ asked: Inference, to writer: inout HeadWriter) {
        guard let azure else {
            writer.append("/v1")
            return writer.append(asked.pathEnd)
        }
        azure.start.withUnsafeBytes { start in
            azure.query.withUnsafeBytes { query in
                AzureSettings.write(asked, pathStart: start, query: query, to: &writer)
            }
        }
    }

    private func write(
        _ fields: borrowing FieldList, of bytes: UnsafeRawBufferPointer, keepsTrailer: Bool,
        _ rewrite: CopyRewrite, to writer: inout HeadWriter
    ) {
        // Most copies ask no model: the loop is to cost them nothing for those that do.
        if rewrite.inference != nil {
            return writeEach(fields, of: bytes, keepsTrailer: keepsTrailer, rewrite, to: &writer)
        }
        guard let base = bytes.baseAddress else { return }
        let mayHoldQuery = SecretText.mayHoldQuery(bytes)
        // Lines that stay as they are and follow each other go in one piece.
        var run = ByteRange.empty
        for index in 0..<fields.count {
            let field = fields[index]
            guard keeps(field, base, keepsTrailer) else { continue }
            let value = field.value.bytes(from: base)
            let line = field.line
            if SecretText.needsCleaning(value, mayHoldQuery: mayHoldQuery) {
                writer.append(run.bytes(from: base))
                run = .empty
                writer.append(field.name.bytes(from: base))
                writer.append(": ")
                text.write(value: value, to: &writer)
                writer.append("\r\n")
            } else if run.end == line.start {
                run.count += line.count
            } else {
                writer.append(run.bytes(from: base))
                run = line
            }
        }
        writer.append(run.bytes(from: base))
    }

    /// As above, line by line, of a copy that asks a model.
    private func writeEach(
        _ fields: borrowing FieldList, of bytes: UnsafeRawBufferPointer, keepsTrailer: Bool,
        _ rewrite: CopyRewrite, to writer: inout HeadWriter
    ) {
        guard let base = bytes.baseAddress else { return }
        for index in 0..<fields.count {
            let field = fields[index]
            let name = field.name.bytes(from: base)
            guard keeps(field, base, keepsTrailer),
                !rewrite.drops(name, hasOwnKey: !keyLine.isEmpty)
            else { continue }
            let value = field.value.bytes(from: base)
            guard SecretText.needsCleaning(value, mayHoldQuery: true) else {
                writer.append(field.line.bytes(from: base))
                continue
            }
            writer.append(name)
            writer.append(": ")
            text.write(value: value, to: &writer)
            writer.append("\r\n")
        }
    }

    @inline(__always)
    private func keeps(_ field: Field, _ bytes: UnsafeRawPointer, _ keepsTrailer: Bool) -> Bool {
        if field.isHopByHop || field.known.bit & leftOut != 0 { return false }
        switch field.known {
        case .host: return true
        case .trailer: return keepsTrailer
        case .other, .authorization, .cookie, .setCookie: return keepsByName(field, bytes, false)
        // Known not to be secret: the settings alone may want them away.
        default: return strip.isEmpty || keepsByName(field, bytes, true)
        }
    }

    @inline(__always)
    private func keepsByName(
        _ field: Field, _ bytes: UnsafeRawPointer, _ isHarmless: Bool
    ) -> Bool {
        let source = field.name.bytes(from: bytes)
        // The same names come with every request: judging one anew costs 1,000 instructions.
        let verdict: NameVerdict
        if isHarmless {
            verdict = judge(source, isHarmless: true)
        } else if let known = verdicts.find(source.baseAddress!, source.count) {
            verdict = known
        } else {
            verdict = judge(source, isHarmless: false)
            verdicts.keep(verdict, for: source.baseAddress!, source.count)
        }
        switch verdict {
        case .drop: return false
        case .keep: return true
        case .keepUnlessBearer: return !Self.isBearer(field.value.bytes(from: bytes))
        }
    }

    @inline(never)
    private func judge(_ source: UnsafeRawBufferPointer, isHarmless: Bool) -> NameVerdict {
        // Nobody has such a name but one who hopes that nobody reads it to its end.
        guard source.count <= ShadowLimits.fieldNameBytesMax else { return .drop }
        for index in source.indices {
            let byte = source[index]
            let lower = byte &- 0x41 < 26 ? byte | 0x20 : byte
            name[index] = lower
            folded[index] = lower == 0x5F ? 0x2D : lower
        }
        let plain = UnsafeRawBufferPointer(rebasing: name[..<source.count])
        let word = SecretNames.Name(
            bytes: UnsafeRawBufferPointer(rebasing: folded[..<source.count]))
        if strip.contains(word.bytes) { return .drop }
        if isHarmless { return .keep }
        // Ours alone, in whatever spelling: a client may not write them.
        if word.hasPrefix("x-umbra-shadow") { return .drop }
        // Other spellings of the fields that frame the message: some server reads them as these.
        if word.equals("content-length") || word.equals("transfer-encoding") { return .drop }
        // Beside its own key another would be sent, or taken for it.
        if !keyLine.isEmpty, FieldText(word.bytes).namesProviderKey { return .drop }
        if allow.contains(plain) { return .keep }
        let isSecret =
            words.occurs(in: word.bytes) || SecretNames.isSecretField(word)
            || SecretNames.isSideEffectField(word)
        return isSecret ? .drop : .keepUnlessBearer
    }

    /// Whether a value is a bearer token, whatever the field is called.
    private static func isBearer(_ value: UnsafeRawBufferPointer) -> Bool {
        let scheme: StaticString = "bearer "
        guard value.count > scheme.utf8CodeUnitCount, value[0] | 0x20 == 0x62 else { return false }
        for index in 0..<scheme.utf8CodeUnitCount
        where value[index] | 0x20 != scheme.utf8Start[index] | 0x20 {
            return false
        }
        return true
    }
}
