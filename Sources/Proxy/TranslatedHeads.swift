import HTTP
import Providers
import Upstream

/// The heads of exchanges whose client and target speak different languages.
extension Forwarding {
    /// Method and path for the target's API: what stands before the name of the client's stays, a
    /// query is for that API alone.
    func writeTranslatedLine(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, _ target: Target, _ rewrite: Rewrite?,
        _ writer: inout HeadWriter
    ) {
        append(bytes, head.methodRange, &writer)
        writer.append(byte: 0x20)
        writer.append(target.pathPrefix.buffer)
        guard let inference = Inference(head, bytes), let other = inference.counterpart else {
            preconditionFailure("only what both APIs have is translated")
        }
        if let provider = target.provider, provider.azureStart.count > 0 {
            return provider.writeAzureTarget(other, &writer)
        }
        let path = UnsafeRawBufferPointer(
            start: bytes + head.path.start, count: Int(head.path.count))
        let plainEnd = path.firstIndex(of: UInt8(ascii: "?")) ?? path.count
        var before = head.path
        before.count = UInt32(plainEnd - inference.pathEnd.utf8CodeUnitCount)
        if let rewrite {
            let matched = min(UInt32(rewrite.matched), before.count)
            before.offset += matched
            before.count -= matched
            // The API's name, which may come next, begins with a slash.
            let restHasSlash =
                before.isEmpty
                || bytes.load(fromByteOffset: before.start, as: UInt8.self) == 0x2F
            writer.append(
                UnsafeRawBufferPointer(
                    rebasing: rewrite.replacement.buffer.dropLast(
                        rewrite.endsInSlash && restHasSlash ? 1 : 0)))
        }
        append(bytes, before, &writer)
        writer.append(other.pathEnd)
        writer.append(" HTTP/1.1\r\n")
    }

    /// Writes the head of a translated answer, or of a translated stream where the form has no
    /// length. `fields` are lines that pass.
    func writeTranslatedAnswer(
        status: Int, _ fields: [UInt8], _ form: AnswerForm, into writer: inout HeadWriter
    ) {
        writer.append("HTTP/1.1 ")
        writer.append(decimal: UInt64(status))
        writer.append(byte: 0x20)
        writer.append(ReasonPhrase.text(status))
        writer.append("\r\n")
        writeDate(form.wallMs, &writer)
        writePolicy(secureEntry: form.secureEntry, &writer)
        if let length = form.contentLength {
            writer.append("Content-Type: application/json\r\nContent-Length: ")
            writer.append(decimal: length)
            writer.append("\r\n")
        } else {
            writer.append("Content-Type: text/event-stream; charset=utf-8\r\n")
            writer.append("Cache-Control: no-cache\r\n")
        }
        if form.isChunked { writer.append("Transfer-Encoding: chunked\r\n") }
        fields.withUnsafeBytes { writer.append($0) }
        if form.closes {
            writer.append("Connection: close\r\n")
        } else if form.keepsHTTP10 {
            writer.append("Connection: keep-alive\r\n")
        }
        writer.append(viaLine.buffer)
        writer.append("\r\n")
    }
}

extension ProviderFields {
    /// The end of the request line to an Azure deployment: nothing of the client's path and query
    /// is in it.
    func writeAzureTarget(_ asked: Inference, _ writer: inout HeadWriter) {
        AzureSettings.write(
            asked, pathStart: azureStart.buffer, query: azureQuery.buffer, to: &writer)
        writer.append(" HTTP/1.1\r\n")
    }

    /// Copies the lines that pass to a target of another language, and adds what that wants. The
    /// client's key goes where the target looks for it, unless the target has its own.
    func copyTranslatedFields(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, leavingOut: UInt64,
        _ transport: TransportFields, _ keys: ClientKeys?, _ writer: inout HeadWriter
    ) {
        let left = leavingOut | Self.leftOut | FieldName.contentType.bit
        for index in 0..<fields.count {
            let field = fields[index]
            let name = bytes + field.name.start
            let count = Int(field.name.count)
            guard !field.isHopByHop, field.known.bit & left == 0,
                !Self.carriesKey(name, count), !Self.belongsToAPI(name, count),
                !transport.isSubject(name, count)
            else { continue }
            writer.append(
                UnsafeRawBufferPointer(
                    start: bytes + field.line.start, count: Int(field.line.count)))
        }
        if keyLine.count > 0 {
            writer.append(keyLine.buffer)
        } else {
            writeClientsKey(fields, bytes, keys, &writer)
        }
        writer.append("Content-Type: application/json\r\n")
        if dialect == .anthropic { writer.append("anthropic-version: 2023-06-01\r\n") }
    }

    /// Whether a field says something of the client's API, or of how its body or the answer's is
    /// packed.
    private static func belongsToAPI(_ start: UnsafeRawPointer, _ count: Int) -> Bool {
        let names: [StaticString] = [
            "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access",
            "openai-organization", "openai-project", "openai-beta", "accept-encoding",
            "content-encoding",
        ]
        return names.contains { isName(start, count, $0) }
    }

    /// Writes the client's own key for the target, which is none of the gateway's. What comes as a
    /// bearer token goes to Azure as one: there it is no key.
    private func writeClientsKey(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, _ keys: ClientKeys?,
        _ writer: inout HeadWriter
    ) {
        var key = UnsafeRawBufferPointer(start: nil, count: 0)
        var isToken = false
        for index in 0..<fields.count {
            let field = fields[index]
            guard let own = Self.key(in: field, bytes), keys?.carriesKey(field, bytes) != true
            else { continue }
            key = own
            isToken = field.known == .authorization
            if !isToken { break }
        }
        guard key.count > 0 else { return }
        switch dialect {
        case .openAI where azureStart.count > 0 && !isToken: writer.append("api-key: ")
        case .openAI: writer.append("Authorization: Bearer ")
        case .anthropic: writer.append("x-api-key: ")
        }
        writer.append(key)
        writer.append("\r\n")
    }
}

/// Fields of a target's answer that have a meaning in the client's language.
enum TranslatedFields {
    /// One name and what the other language calls it; the same where both know it.
    private static let pairs: [(anthropic: StaticString, openAI: StaticString)] = [
        ("request-id", "x-request-id"),
        ("retry-after", "retry-after"),
        ("retry-after-ms", "retry-after-ms"),
        ("x-should-retry", "x-should-retry"),
        ("anthropic-ratelimit-requests-limit", "x-ratelimit-limit-requests"),
        ("anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining-requests"),
        ("anthropic-ratelimit-tokens-limit", "x-ratelimit-limit-tokens"),
        ("anthropic-ratelimit-tokens-remaining", "x-ratelimit-remaining-tokens"),
    ]
    /// As above, for those whose values are written in another way.
    private static let resets: [(anthropic: StaticString, openAI: StaticString)] = [
        ("anthropic-ratelimit-requests-reset", "x-ratelimit-reset-requests"),
        ("anthropic-ratelimit-tokens-reset", "x-ratelimit-reset-tokens"),
    ]

    /// The lines that a client of `dialect` gets, at most `ProxyLimits.translatedFieldBytesMax`
    /// bytes; those that do not fit are left out.
    static func kept(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, for dialect: Dialect,
        wallMs: UInt64
    ) -> [UInt8] {
        let bytesMax = ProxyLimits.translatedFieldBytesMax
        return withUnsafeTemporaryAllocation(byteCount: bytesMax, alignment: 8) { memory in
            var writer = HeadWriter(memory)
            for index in 0..<fields.count {
                let field = fields[index]
                let value = UnsafeRawBufferPointer(
                    start: bytes + field.value.start, count: Int(field.value.count))
                if let own = own(field, bytes, pairs, dialect) {
                    append(own, value, &writer, bytesMax)
                } else if let own = own(field, bytes, resets, dialect),
                    var text = RateLimitReset.translated(
                        value, isMoment: dialect == .openAI, wallMs: wallMs)
                {
                    text.withUTF8 { append(own, UnsafeRawBufferPointer($0), &writer, bytesMax) }
                }
            }
            return Array(writer.written)
        }
    }

    /// What the client's language calls a field of the target's; nil where it has no name for it.
    private static func own(
        _ field: Field, _ bytes: UnsafeRawPointer,
        _ names: [(anthropic: StaticString, openAI: StaticString)], _ dialect: Dialect
    ) -> StaticString? {
        let name = bytes + field.name.start
        for (anthropic, openAI) in names {
            let (theirs, own) = dialect == .openAI ? (anthropic, openAI) : (openAI, anthropic)
            if ProviderFields.isName(name, Int(field.name.count), theirs) { return own }
        }
        return nil
    }

    private static func append(
        _ name: StaticString, _ value: UnsafeRawBufferPointer, _ writer: inout HeadWriter,
        _ bytesMax: Int
    ) {
        guard writer.count + name.utf8CodeUnitCount + value.count + 4 <= bytesMax else { return }
        writer.append(name)
        writer.append(": ")
        writer.append(value)
        writer.append("\r\n")
    }
}
