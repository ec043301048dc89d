/// One call of a tool in an answer.
public struct ToolCall: Equatable, Sendable {
    /// The tool's name.
    public var name: String
    /// Its arguments, as JSON text.
    public var arguments: String
}

/// An answer in the form in which answers of all dialects are compared: what was said, which tools
/// were called, why it ended, and what it took.
///
/// Bounded by `Limits.summary…`: what is longer is cut, and `isCut` says so.
public struct AnswerSummary: Equatable, Sendable {
    /// The model's name, as the provider tells it.
    public var model = ""
    /// What pins the model's version (`system_fingerprint`), where it is told.
    public var fingerprint: String?
    /// The text, all parts joined.
    public var text = ""
    /// The reasoning that came with it.
    public var reasoning = ""
    /// True where the model declined.
    public var isRefusal = false
    /// The calls of tools, in order.
    public var toolCalls: [ToolCall] = []
    /// Why it ended; nil where it did not say.
    public var finishReason: FinishReason?
    /// The tokens, where the provider counted them.
    public var usage: TokenUsage?
    /// The provider's error, where it told one within the answer.
    public var error: String?
    /// Something was longer than is kept.
    public var isCut = false

    /// An empty summary.
    public init() {}

    /// Reads a whole answer: a chat or legacy completion, a response, a message, embeddings (whose
    /// usage and model alone count). Nil where it is none of them, and no error object.
    public init?(_ document: JSONDocument) {
        let root = document.root
        guard root.kind == .object else { return nil }
        self.init()
        model = root["model"]?.string ?? ""
        fingerprint = root["system_fingerprint"]?.string
        usage = TokenUsage(root["usage"])
        if let error = root.present("error") {
            self.error = error["type"]?.string ?? error["code"]?.string ?? "error"
            return
        }
        if let choices = root["choices"], choices.kind == .list {
            readChoice(choices.elements.first { _ in true })
        } else if root["type"]?.isText("message") == true, let content = root["content"] {
            readMessage(root, content)
        } else if root["object"]?.isText("response") == true {
            readResponse(root)
        } else if root["data"]?.kind != .list {
            return nil
        }
    }

    private mutating func readChoice(_ choice: JSONValue?) {
        guard let choice else { return }
        finishReason = choice.present("finish_reason").map { FinishReason(chat: $0) }
        if let text = choice["text"]?.string { add(text: text) }
        guard let message = choice["message"] else { return }
        add(text: message["content"]?.string ?? "")
        for part in Self.some(message["content"]) {
            add(text: part["text"]?.string ?? "")
        }
        add(reasoning: message["reasoning_content"]?.string ?? "")
        if let refusal = message["refusal"]?.string { add(refusal: refusal) }
        for call in Self.some(message["tool_calls"]) {
            let function = call["function"]
            add(call: function?["name"]?.string ?? "")
            add(arguments: function?["arguments"]?.string ?? "", toCall: toolCalls.count - 1)
        }
    }

    private mutating func readMessage(_ root: JSONValue, _ content: JSONValue) {
        finishReason = root.present("stop_reason").map { FinishReason(messages: $0) }
        isRefusal = finishReason == .contentFilter
        for block in Self.some(content) {
            switch block["type"]?.string {
            case "text": add(text: block["text"]?.string ?? "")
            case "thinking": add(reasoning: block["thinking"]?.string ?? "")
            case "tool_use":
                add(call: block["name"]?.string ?? "")
                let input = block["input"].map { String(decoding: $0.raw, as: UTF8.self) }
                add(arguments: input ?? "{}", toCall: toolCalls.count - 1)
            default: break
            }
        }
    }

    /// Reads a response of `/v1/responses`.
    mutating func readResponse(_ root: JSONValue) {
        model = root["model"]?.string ?? model
        usage = TokenUsage(root["usage"]) ?? usage
        if let error = root.present("error") { self.error = error["code"]?.string ?? "error" }
        text = ""
        toolCalls = []
        finishReason =
            switch root["status"]?.string {
            case "completed": .stop
            case "incomplete":
                root["incomplete_details"]?["reason"]?.isText("content_filter") == true
                    ? .contentFilter : .length
            default: nil
            }
        for item in Self.some(root["output"]) {
            if item["type"]?.isText("function_call") == true {
                add(call: item["name"]?.string ?? "")
                add(arguments: item["arguments"]?.string ?? "", toCall: toolCalls.count - 1)
            }
            for part in Self.some(item["content"]) {
                add(text: part["text"]?.string ?? "")
                if let refusal = part["refusal"]?.string { add(refusal: refusal) }
            }
        }
        if finishReason == .stop, !toolCalls.isEmpty { finishReason = .toolCalls }
    }

    private static func some(_ list: JSONValue?) -> [JSONValue] {
        list.map { Array($0.elements.prefix(Limits.blocksMax)) } ?? []
    }

    // MARK: Bounded additions

    mutating func add(text added: String) {
        Self.append(added, to: &text, &isCut, within: Limits.summaryTextBytesMax)
    }

    mutating func add(reasoning added: String) {
        Self.append(added, to: &reasoning, &isCut, within: Limits.summaryTextBytesMax)
    }

    mutating func add(refusal added: String) {
        if !added.isEmpty { isRefusal = true }
        add(text: added)
    }

    mutating func add(call name: String) {
        guard toolCalls.count < Limits.summaryCallsMax else {
            isCut = true
            return
        }
        toolCalls.append(ToolCall(name: name, arguments: ""))
    }

    mutating func add(arguments added: String, toCall index: Int) {
        guard toolCalls.indices.contains(index) else { return }
        let others = toolCalls.reduce(0) { $0 + $1.arguments.utf8.count }
        let room = Limits.summaryArgumentBytesMax - others
        let bytesMax = toolCalls[index].arguments.utf8.count + max(0, room)
        Self.append(added, to: &toolCalls[index].arguments, &isCut, within: bytesMax)
    }

    private static func append(
        _ added: String, to text: inout String, _ isCut: inout Bool, within bytesMax: Int
    ) {
        let room = bytesMax - text.utf8.count
        if added.utf8.count <= room {
            text += added
            return
        }
        isCut = true
        // At a character's boundary.
        var end = added.utf8.index(added.utf8.startIndex, offsetBy: max(0, room))
        while end > added.startIndex, String.Index(end, within: added) == nil {
            end = added.utf8.index(before: end)
        }
        text += added[..<end]
    }
}
