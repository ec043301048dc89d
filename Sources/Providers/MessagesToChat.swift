/// Translates a messages request into a chat completions request: the way back of
/// `ChatToMessages`, with the same promises.
public struct MessagesToChat {
    let root: JSONValue
    let settings: TranslationSettings
    var writer: JSONWriter
    var losses = LossList()
    var names = ToolNames(bytesMax: Limits.chatToolNameBytesMax)
    private var shape = AnswerShape()

    /// Translates a request; takes time linear in it.
    public static func translate(
        _ document: JSONDocument, _ settings: TranslationSettings
    ) throws(RequestFault) -> RequestTranslation {
        var translation = MessagesToChat(
            root: document.root, settings: settings,
            writer: JSONWriter(capacity: document.bytes.count + 512))
        try translation.run()
        return RequestTranslation(
            body: translation.writer.bytes, losses: translation.losses.all,
            shape: translation.shape)
    }

    private init(root: JSONValue, settings: TranslationSettings, writer: JSONWriter) {
        self.root = root
        self.settings = settings
        self.writer = writer
    }

    private mutating func run() throws(RequestFault) {
        guard root.kind == .object else { throw RequestFault("the body is no JSON object") }
        guard let model = root["model"], model.kind == .string else {
            throw RequestFault("model: Field required", param: "model")
        }
        guard let messages = root["messages"], messages.kind == .list, messages.count > 0 else {
            throw RequestFault("messages: at least one message is required", param: "messages")
        }
        guard let tokens = root["max_tokens"], let count = tokens.integer, count >= 1 else {
            throw RequestFault(
                "max_tokens: a whole number of at least 1 is required", param: "max_tokens")
        }
        names.prepare((root.present("tools")?.elements).map { $0.compactMap { $0["name"] } } ?? [])
        writer.beginObject()
        writer.name("model")
        if let name = settings.model { writer.value(name) } else { writer.value(model) }
        writer.member(
            settings.usesOlderMaxTokens ? "max_tokens" : "max_completion_tokens", raw: tokens)
        writer.name("messages")
        writer.beginList()
        try writeSystem()
        for message in messages.elements { try writeMessage(message) }
        writer.endList()
        try writeTools()
        try writeToolChoice()
        try writeSampling()
        try writeStream()
        writer.endObject()
        shape.toolNames = names.originals
        listUnknownMembers()
    }

    // MARK: Plain members

    private mutating func writeSampling() throws(RequestFault) {
        for name in ["temperature", "top_p"] {
            guard let value = root[named: name], !value.isNull else { continue }
            guard value.number != nil else {
                throw RequestFault("\(name): a number is required", param: name)
            }
            writer.member(name, raw: value)
        }
        if let stop = root.present("stop_sequences") {
            guard stop.kind == .list, stop.elements.allSatisfy({ $0.kind == .string }) else {
                throw RequestFault(
                    "stop_sequences: a list of strings is required", param: "stop_sequences")
            }
            if stop.count > Limits.stopSequencesMax { losses.add(.clamped, "stop_sequences") }
            if stop.count > 0 {
                writer.list("stop") { list in
                    for sequence in stop.elements.prefix(Limits.stopSequencesMax) {
                        list.value(sequence)
                    }
                }
            }
        }
        if let user = root["metadata"]?.present("user_id"), user.kind == .string {
            writer.member("user", raw: user)
        }
    }

    private mutating func writeStream() throws(RequestFault) {
        guard let stream = root.present("stream") else { return }
        guard let flag = stream.flag else {
            throw RequestFault("stream: true or false is required", param: "stream")
        }
        guard flag else { return }
        shape.streams = true
        shape.includesUsage = true
        writer.member("stream", true)
        // A messages stream always ends with the usage.
        writer.object("stream_options") { $0.member("include_usage", true) }
    }

    private mutating func listUnknownMembers() {
        for (name, value) in root.members where !value.isNull {
            switch name {
            case "model", "messages", "max_tokens", "system", "temperature", "top_p",
                "stop_sequences", "stream", "tools", "tool_choice":
                continue
            case "metadata":
                for (inner, _) in value.members where inner != "user_id" {
                    losses.add(.dropped, "metadata.\(inner)")
                }
                continue
            case "service_tier": if value.isText("auto") { continue }
            case "thinking": if value["type"]?.isText("disabled") == true { continue }
            default: break
            }
            losses.add(.dropped, name)
        }
    }

    // MARK: Tools

    private mutating func writeTools() throws(RequestFault) {
        guard let tools = root.present("tools") else { return }
        guard tools.kind == .list else {
            throw RequestFault("tools: a list is required", param: "tools")
        }
        var isOpen = false
        for tool in tools.elements {
            // Those that the provider itself would run have a type of their own.
            if let type = tool.present("type"), !type.isText("custom") {
                losses.add(.dropped, "tools.\(type.string ?? "")")
                continue
            }
            guard let name = tool["name"], name.kind == .string else {
                throw RequestFault("tools.name: a string is required", param: "tools")
            }
            noteCacheControl(tool, "tools")
            if !isOpen {
                writer.name("tools")
                writer.beginList()
                isOpen = true
            }
            writer.beginObject()
            writer.member("type", "function")
            writer.name("function")
            writer.beginObject()
            writer.name("name")
            names.write(name, to: &writer)
            if let text = tool.present("description"), text.kind == .string {
                writer.member("description", raw: text)
            }
            if let schema = tool.present("input_schema") {
                writer.member("parameters", raw: schema)
            }
            writer.endObject()
            writer.endObject()
        }
        if isOpen { writer.endList() }
    }

    private mutating func writeToolChoice() throws(RequestFault) {
        guard let choice = root.present("tool_choice") else { return }
        guard (root.present("tools")?.count ?? 0) > 0 else {
            return losses.add(.dropped, "tool_choice")
        }
        switch choice["type"]?.string {
        case "auto": writer.member("tool_choice", "auto")
        case "any": writer.member("tool_choice", "required")
        case "none": writer.member("tool_choice", "none")
        case "tool":
            guard let name = choice["name"], name.kind == .string else {
                throw RequestFault("tool_choice.name: a string is required", param: "tool_choice")
            }
            writer.name("tool_choice")
            writer.beginObject()
            writer.member("type", "function")
            writer.name("function")
            writer.beginObject()
            writer.name("name")
            names.write(name, to: &writer)
            writer.endObject()
            writer.endObject()
        default:
            throw RequestFault("tool_choice.type: unknown", param: "tool_choice")
        }
        if choice["disable_parallel_tool_use"]?.flag == true {
            writer.member("parallel_tool_calls", false)
        }
    }

    /// The other side caches by itself or not at all.
    mutating func noteCacheControl(_ value: JSONValue, _ place: String) {
        if value.present("cache_control") != nil { losses.add(.dropped, "\(place).cache_control") }
    }
}
