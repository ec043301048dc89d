/// Translates a chat completions request into a messages request.
///
/// Strings and numbers that are passed on keep their spelling. What the other side has no place
/// for is listed among the losses; what is no chat request at all is a `RequestFault`.
public struct ChatToMessages {
    let root: JSONValue
    let settings: TranslationSettings
    var writer: JSONWriter
    var losses = LossList()
    var names = ToolNames(bytesMax: Limits.messagesToolNameBytesMax)
    var shape = AnswerShape()
    /// The turn that is open.
    var turn: Turn?
    /// What the assistant's tool calls are answered by, and what may use tools.
    private var toolCount = 0
    private var schema: JSONValue?

    enum Turn { case user, assistant }

    /// Translates a request; takes time linear in it.
    public static func translate(
        _ document: JSONDocument, _ settings: TranslationSettings
    ) throws(RequestFault) -> RequestTranslation {
        var translation = ChatToMessages(
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
            throw RequestFault("you must provide a model parameter", param: "model")
        }
        guard let messages = root["messages"], messages.kind == .list, messages.count > 0 else {
            throw RequestFault("'messages' must be a list of at least one", param: "messages")
        }
        try prepareTools(messages)
        writer.beginObject()
        writer.name("model")
        if let name = settings.model { writer.value(name) } else { writer.value(model) }
        try writeMaxTokens()
        try writeSystem(messages)
        try writeTurns(messages)
        try writeTools()
        writeToolChoice()
        try writeSampling()
        try writeStop()
        try writeStream()
        writeUser()
        writer.endObject()
        listUnknownMembers()
    }

    // MARK: Plain members

    private mutating func writeMaxTokens() throws(RequestFault) {
        let given = root.present("max_completion_tokens") ?? root.present("max_tokens")
        writer.name("max_tokens")
        guard let given else {
            losses.add(.defaulted, "max_tokens")
            return writer.value(settings.maxTokens)
        }
        guard let count = given.integer, count >= 1 else {
            throw RequestFault(
                "'max_tokens' must be a whole number of at least 1", param: "max_tokens")
        }
        writer.value(given)
    }

    private mutating func writeSampling() throws(RequestFault) {
        if let value = root.present("temperature") {
            guard let number = value.number else {
                throw RequestFault("'temperature' must be a number", param: "temperature")
            }
            writer.name("temperature")
            if number > 1 || number < 0 {
                losses.add(.clamped, "temperature")
                writer.value(number > 1 ? 1 : 0)
            } else {
                writer.value(value)
            }
        }
        if let value = root.present("top_p") {
            guard value.number != nil else {
                throw RequestFault("'top_p' must be a number", param: "top_p")
            }
            writer.member("top_p", raw: value)
        }
    }

    private mutating func writeStop() throws(RequestFault) {
        guard let stop = root.present("stop") else { return }
        let sequences = stop.kind == .string ? [stop] : Array(stop.elements)
        guard stop.kind == .string || stop.kind == .list,
            sequences.allSatisfy({ $0.kind == .string })
        else { throw RequestFault("'stop' must be a string or a list of them", param: "stop") }
        let kept = sequences.filter { !$0.isBlank }
        if kept.count < sequences.count { losses.add(.dropped, "stop") }
        guard !kept.isEmpty else { return }
        writer.list("stop_sequences") { list in
            for sequence in kept { list.value(sequence) }
        }
    }

    private mutating func writeStream() throws(RequestFault) {
        if let stream = root.present("stream") {
            guard let flag = stream.flag else {
                throw RequestFault("'stream' must be true or false", param: "stream")
            }
            shape.streams = flag
            if flag { writer.member("stream", true) }
        }
        shape.includesUsage =
            shape.streams && root["stream_options"]?["include_usage"]?.flag == true
    }

    /// An address or a number would tell the provider more than the client's code meant to.
    private mutating func writeUser() {
        guard let user = root.present("user") else { return }
        let isPlain =
            user.withText { text in
                !text.isEmpty && text.count <= Limits.userIDBytesMax && !Self.isPersonal(text)
            } ?? false
        guard isPlain else { return losses.add(.dropped, "user") }
        writer.object("metadata") { $0.member("user_id", raw: user) }
    }

    /// Whether a text looks like an e-mail address or a phone number.
    private static func isPersonal(_ text: UnsafeRawBufferPointer) -> Bool {
        if text.contains(UInt8(ascii: "@")) { return true }
        var digits = 0
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digits += 1
            case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "("), UInt8(ascii: ")"),
                UInt8(ascii: " "), UInt8(ascii: "."), UInt8(ascii: "/"):
                break
            default: return false
            }
        }
        return digits >= 7 && digits <= 15
    }

    /// Members that have no place on the other side, where they ask for something.
    private mutating func listUnknownMembers() {
        for (name, value) in root.members where !value.isNull {
            switch name {
            case "model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p",
                "stop", "stream", "user", "tools", "tool_choice", "parallel_tool_calls",
                "response_format":
                continue
            case "stream_options":
                if value["include_obfuscation"]?.flag == true {
                    losses.add(.dropped, "stream_options.include_obfuscation")
                }
                continue
            // What asks for what comes anyway is no loss.
            case "n" where value.integer == 1: continue
            case "presence_penalty", "frequency_penalty", "top_logprobs":
                if value.number == 0 { continue }
            case "logprobs", "store": if value.flag == false { continue }
            case "logit_bias", "metadata": if value.kind == .object, value.count == 0 { continue }
            case "modalities":
                if value.elements.allSatisfy({ $0.isText("text") }) { continue }
            case "service_tier": if value.isText("auto") { continue }
            default: break
            }
            losses.add(.dropped, name)
        }
    }

    // MARK: Tools

    private mutating func prepareTools(_ messages: JSONValue) throws(RequestFault) {
        if let tools = root.present("tools") {
            guard tools.kind == .list else {
                throw RequestFault("'tools' must be a list", param: "tools")
            }
            for tool in tools.elements where tool["type"]?.isText("function") == true {
                guard tool["function"]?["name"]?.kind == .string else {
                    throw RequestFault("a tool has no function name", param: "tools")
                }
                toolCount += 1
            }
        }
        names.prepare(toolNames)
        guard let format = root.present("response_format") else { return }
        guard format.kind == .object, let type = format["type"], type.kind == .string else {
            throw RequestFault("'response_format' must have a type", param: "response_format")
        }
        if type.isText("text") { return }
        let described = format["json_schema"]
        let wanted = described?["schema"]
        // The input of a tool is an object; another schema has no tool that could stand for it.
        guard type.isText("json_schema"), let described, described.kind == .object,
            wanted == nil || wanted?["type"]?.isText("object") == true,
            root["tool_choice"]?["function"]?["name"] == nil
        else { return losses.add(.dropped, "response_format") }
        if described["strict"]?.flag == true {
            losses.add(.dropped, "response_format.json_schema.strict")
        }
        shape.schemaTool = names.add(
            described["name"]?.string ?? "answer", besides: toolNames)
        schema = described
    }

    private var toolNames: [JSONValue] {
        guard let tools = root.present("tools") else { return [] }
        return tools.elements.compactMap { $0["function"]?["name"] }
    }

    private mutating func writeTools() throws(RequestFault) {
        let tools = root.present("tools")
        if let tools, tools.count > toolCount { losses.add(.dropped, "tools") }
        defer { shape.toolNames = names.originals }
        guard toolCount > 0 || schema != nil else { return }
        writer.name("tools")
        writer.beginList()
        if let tools {
            for tool in tools.elements where tool["type"]?.isText("function") == true {
                if let function = tool["function"] { try writeTool(function) }
            }
        }
        if let name = shape.schemaTool {
            writer.beginObject()
            writer.member("name", name)
            if let text = schema?.present("description"), text.kind == .string {
                writer.member("description", raw: text)
            } else {
                writer.member("description", "Gives the answer in the form that was asked for.")
            }
            writer.name("input_schema")
            writeSchema(schema?["schema"])
            writer.endObject()
        }
        writer.endList()
    }

    private mutating func writeTool(_ function: JSONValue) throws(RequestFault) {
        guard let name = function["name"] else { return }
        let parameters = function.present("parameters")
        if let parameters, parameters.kind != .object {
            throw RequestFault("a tool's 'parameters' must be an object", param: "tools")
        }
        if function["strict"]?.flag == true { losses.add(.dropped, "tools.function.strict") }
        writer.beginObject()
        writer.name("name")
        names.write(name, to: &writer)
        if let text = function.present("description"), text.kind == .string {
            writer.member("description", raw: text)
        }
        writer.name("input_schema")
        writeSchema(parameters)
        writer.endObject()
    }

    /// A schema whose type is `object`, as the other side wants each to be.
    private mutating func writeSchema(_ schema: JSONValue?) {
        if let schema, schema["type"] != nil { return writer.value(schema) }
        writer.object { writer in
            writer.member("type", "object")
            if let schema {
                for (name, value) in schema.members { writer.member(name, raw: value) }
            }
            if schema?["properties"] == nil { writer.object("properties") { _ in } }
        }
    }

    private mutating func writeToolChoice() {
        let choice = root.present("tool_choice")
        let isParallel = root["parallel_tool_calls"]?.flag ?? true
        guard toolCount > 0 || schema != nil else {
            if let choice, !choice.isText("auto"), !choice.isText("none") {
                losses.add(.dropped, "tool_choice")
            }
            return
        }
        var type = "auto"
        var name: JSONValue?
        if let choice {
            if choice.isText("required") {
                type = "any"
            } else if choice.isText("none") {
                type = "none"
            } else if let named = choice["function"]?["name"], named.kind == .string {
                (type, name) = ("tool", named)
            } else if !choice.isText("auto") {
                losses.add(.changed, "tool_choice")
            }
        }
        if shape.schemaTool != nil {
            // Text would not be in the form that was asked for: a tool must be called.
            if toolCount > 0, type == "auto" {
                losses.add(.changed, "tool_choice")
                type = "any"
            } else if toolCount == 0 || type == "none" {
                type = "tool"
            }
        }
        guard choice != nil || shape.schemaTool != nil || !isParallel else { return }
        writer.name("tool_choice")
        writer.beginObject()
        writer.member("type", type)
        if type == "tool" {
            writer.name("name")
            if let name {
                names.write(name, to: &writer)
                shape.toolNames = names.originals
            } else {
                writer.value(shape.schemaTool ?? "")
            }
        }
        if !isParallel, type != "none" { writer.member("disable_parallel_tool_use", true) }
        writer.endObject()
    }
}
