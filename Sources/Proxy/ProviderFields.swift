import HTTP
import Mirror
import Providers
import Upstream

/// What an LLM provider gets of a request's fields: its own Host and key, and nothing that proves
/// who the client is or where it comes from.
struct ProviderFields {
    /// `Host: …` with its CRLF.
    let hostLine: PreparedBytes
    /// The API that the target speaks.
    let dialect: Dialect
    /// What copies of what it gets are told that it is.
    let copyPrimary: CopyPrimary
    /// What a translated request asks for where the client's sets no bound. A number and no more:
    /// with anything that has references each look at a target would copy it.
    let maxTokens: Int
    /// The line with the target's key; empty where the client's own passes.
    let keyLine: PreparedBytes
    /// The member that chat answers get; empty for none.
    let annotation: PreparedBytes
    /// Of an Azure deployment: what stands around the name of what is asked; empty for all others.
    let azureStart: PreparedBytes
    let azureQuery: PreparedBytes
    /// Nothing can be sent: the key that is asked for is not there.
    let lacksKey: Bool
    /// Answers are read for events.
    private let hasEvents: Bool

    /// Nil for a target that is no provider.
    init?(_ target: TargetSettings, hasEvents: Bool = false) {
        guard let provider = target.provider else { return nil }
        dialect = provider.dialect
        copyPrimary = CopyPrimary(provider)
        maxTokens = provider.maxTokens
        hostLine = PreparedBytes("Host: \(target.plainAuthority)\r\n")
        keyLine = PreparedBytes(provider.keyLine)
        annotation = PreparedBytes(
            provider.annotates ? ProviderAnnotation.member(provider.name) : "")
        azureStart = PreparedBytes(provider.azure?.pathStart ?? "")
        azureQuery = PreparedBytes(provider.azure?.query ?? "")
        lacksKey = provider.lacksKey
        self.hasEvents = hasEvents
    }

    /// Cookies are for the gateway's own name, and where a client comes from is not the provider's
    /// to know.
    static let leftOut =
        FieldName.host.bit | FieldName.cookie.bit | FieldName.forwarded.bit
        | FieldName.xForwardedFor.bit | FieldName.xForwardedProto.bit
        | FieldName.xForwardedHost.bit

    /// Copies the lines that pass. With a key of the target's own, none of the client's does.
    func copyFields(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, leavingOut: UInt64,
        _ transport: TransportFields, _ keys: ClientKeys?, leavingOutEncoding: Bool,
        _ writer: inout HeadWriter
    ) {
        let hasKey = keyLine.count > 0
        let left = leavingOut | Self.leftOut | (hasKey ? FieldName.authorization.bit : 0)
        for index in 0..<fields.count {
            let field = fields[index]
            let name = bytes + field.name.start
            guard !field.isHopByHop, field.known.bit & left == 0,
                !(hasKey && Self.carriesKey(name, Int(field.name.count))),
                !(leavingOutEncoding
                    && Self.isName(name, Int(field.name.count), "accept-encoding")),
                !transport.isSubject(name, Int(field.name.count)),
                keys?.carriesKey(field, bytes) != true
            else { continue }
            writer.append(
                UnsafeRawBufferPointer(
                    start: bytes + field.line.start, count: Int(field.line.count)))
        }
        writer.append(keyLine.buffer)
    }

    /// Whether a field's name is one that providers read a key from, `_` read as `-`.
    static func carriesKey(_ start: UnsafeRawPointer, _ count: Int) -> Bool {
        FieldText(UnsafeRawBufferPointer(start: start, count: count)).namesProviderKey
    }

    /// Whether a name is `name`, without case, `_` read as `-`.
    static func isName(_ start: UnsafeRawPointer, _ count: Int, _ name: StaticString) -> Bool {
        FieldText(UnsafeRawBufferPointer(start: start, count: count)).equalsFolded(name)
    }

    /// The key that a field carries as clients of the two APIs send it: behind `Bearer`, as
    /// `x-api-key`, or, to Azure, as `api-key`. Nil for all other fields.
    static func key(in field: Field, _ bytes: UnsafeRawPointer) -> UnsafeRawBufferPointer? {
        let value = FieldText(field.value, of: bytes)
        guard field.known == .authorization else {
            let name = FieldText(field.name, of: bytes)
            let carries = name.equalsFolded("x-api-key") || name.equalsFolded("api-key")
            return carries ? value.bytes : nil
        }
        let scheme: StaticString = "bearer "
        guard value.bytes.count > scheme.utf8CodeUnitCount, value.hasPrefix(scheme) else {
            return nil
        }
        return UnsafeRawBufferPointer(
            rebasing: value.bytes.dropFirst(scheme.utf8CodeUnitCount))
    }

    /// Whether a request is a chat whose answer gets the member.
    func annotates(_ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        annotation.count > 0 && head.method == .post && Inference(head, bytes) == .chat
    }

    /// Whether a request's answer is read on its way: what comes compressed could not be.
    func readsAnswer(_ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        if annotates(head, bytes) { return true }
        return hasEvents && head.method == .post && Inference(head, bytes) != nil
    }

    /// What a request asks of the target.
    func ask(_ head: RequestHead, _ bytes: UnsafeRawPointer) -> ProviderAsk {
        let inference = Inference(head, bytes)
        let isPost = head.method == .post
        var ask = ProviderAsk(dialect: dialect)
        if let inference {
            ask.dialect = inference.dialect
        } else if Self.namesVersion(head.fields, bytes) {
            ask.dialect = .anthropic
        }
        ask.isInference = isPost && inference != nil
        ask.isTranslated =
            isPost && inference?.counterpart != nil && inference?.dialect != dialect
        ask.isAnnotated = isPost && inference == .chat && annotation.count > 0
        return ask
    }

    /// Whether the client says which version of Anthropic's API it knows: no other's does.
    private static func namesVersion(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer
    ) -> Bool {
        for index in 0..<fields.count {
            let name = fields[index].name
            if isName(bytes + name.start, Int(name.count), "anthropic-version") { return true }
        }
        return false
    }
}

/// What a request asks of an LLM target.
struct ProviderAsk {
    /// The language that the client speaks.
    var dialect: Dialect
    /// Its body is a prompt or the like: what policies read.
    var isInference = false
    /// The target speaks another language, into which it can be translated.
    var isTranslated = false
    /// Its answer is to tell who gave it.
    var isAnnotated = false
}
