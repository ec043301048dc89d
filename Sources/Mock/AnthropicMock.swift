import CoreLoop
import HTTP
import Providers

/// Anthropic's API: messages, their tokens, models.
struct AnthropicMock {
    let seed: UInt64

    /// The answer to a request for a known path; nil for any other.
    func answer(_ request: MockRequest, _ context: inout OpenAIMock.Context) -> MockReply? {
        switch (request.method, request.path) {
        case ("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"):
            guard request.field("anthropic-version") != nil else {
                return Self.failure(400, "anthropic-version: header is required")
            }
            do throws(RequestFault) {
                guard let document = try? JSONDocument(request.body),
                    document.root.kind == .object
                else { throw RequestFault("The request body is not valid JSON") }
                let counts = request.path.hasSuffix("count_tokens")
                let question = try AnthropicQuestion.read(document.root, needsMaxTokens: !counts)
                if counts { return Self.count(question) }
                let answer = MockAnswer(question, seed: seed &+ 7, idPrefix: "toolu_01")
                return AnthropicMessage(
                    question: question, answer: answer,
                    id: "msg_01\(MockText.id(22, &context.random))"
                ).reply
            } catch {
                return Self.failure(400, error.message)
            }
        case ("GET", "/v1/models"): return Self.models()
        default: return nil
        }
    }

    /// An error as Anthropic tells it.
    static func failure(_ status: Int, _ message: String) -> MockReply {
        MockReply(
            status: status,
            body: ErrorBody.write(.anthropic, status: status, message: message, code: ""))
    }

    private static func count(_ question: MockQuestion) -> MockReply {
        MockReply(
            body: JSONWriter.write { writer in
                writer.object { $0.member("input_tokens", question.inputTokens) }
            })
    }

    private static func models() -> MockReply {
        let names = ["claude-opus-4-20250514", "claude-sonnet-4-20250514"]
        return MockReply(
            body: JSONWriter.write { writer in
                writer.object { writer in
                    writer.list("data") { list in
                        for name in names {
                            list.object { model in
                                model.member("type", "model")
                                model.member("id", name)
                                model.member("display_name", name)
                                model.member("created_at", "2025-05-14T00:00:00Z")
                            }
                        }
                    }
                    writer.member("has_more", false)
                    writer.member("first_id", names[0])
                    writer.member("last_id", names[1])
                }
            })
    }
}

/// Reads messages requests as strictly as Anthropic does.
enum AnthropicQuestion {
    static func read(
        _ root: JSONValue, needsMaxTokens: Bool
    ) throws(RequestFault) -> MockQuestion {
        var question = MockQuestion()
        guard let model = root["model"]?.string else {
            throw RequestFault("model: Field required")
        }
        question.model = model
        question.maxTokens = root["max_tokens"]?.integer
        if needsMaxTokens {
            guard let most = question.maxTokens else {
                throw RequestFault("max_tokens: Field required")
            }
            guard most >= 1 else {
                throw RequestFault("max_tokens: must be greater than or equal to 1")
            }
        }
        if let system = root.present("system") { try readSystem(system, &question) }
        try readMessages(root["messages"], &question)
        try readTools(root, &question)
        if let value = root.present("temperature") {
            guard let number = value.number, number >= 0, number <= 1 else {
                throw RequestFault("temperature: range: 0..1")
            }
        }
        question.stop = MockJSON.list(root["stop_sequences"]).compactMap(\.string)
        guard question.stop.allSatisfy({ $0.contains { !$0.isWhitespace } }) else {
            throw RequestFault("stop_sequences: each stop sequence must contain non-whitespace")
        }
        question.streams = root["stream"]?.flag == true
        return question
    }

    private static func readSystem(
        _ system: JSONValue, _ question: inout MockQuestion
    ) throws(RequestFault) {
        if let text = system.string {
            question.promptBytes += text.utf8.count
            return
        }
        for block in system.elements {
            guard block["type"]?.isText("text") == true, let text = block["text"], !text.isBlank
            else { throw RequestFault("system: text content blocks must be non-empty") }
            question.promptBytes += text.raw.count
        }
    }

    private static func readMessages(
        _ messages: JSONValue?, _ question: inout MockQuestion
    ) throws(RequestFault) {
        let turns = MockJSON.list(messages)
        guard !turns.isEmpty else {
            throw RequestFault("messages: at least one message is required")
        }
        guard turns[0]["role"]?.isText("user") == true else {
            throw RequestFault("messages: first message must use the \"user\" role")
        }
        var calls: Set<String> = []
        for (index, turn) in turns.enumerated() {
            let isUser = turn["role"]?.isText("user") == true
            guard isUser || turn["role"]?.isText("assistant") == true else {
                throw RequestFault("messages.\(index).role: must be user or assistant")
            }
            if isUser {
                question.lastText = ""
                question.lastResult = nil
            }
            let asked = calls
            calls = []
            if let text = turn["content"]?.string {
                guard !text.isEmpty else {
                    throw RequestFault(
                        "messages.\(index): all messages must have non-empty content")
                }
                try readText(text, isUser, index == turns.count - 1, &question)
            } else {
                let blocks = MockJSON.list(turn["content"])
                guard !blocks.isEmpty else {
                    throw RequestFault(
                        "messages.\(index): all messages must have non-empty content")
                }
                for (place, block) in blocks.enumerated() {
                    let isLast = index == turns.count - 1 && place == blocks.count - 1
                    try read(block, isUser, isLast, asked, &calls, &question)
                }
            }
            guard isUser ? answered(turn, asked) : true else {
                throw RequestFault(
                    "messages.\(index): `tool_use` ids were found without `tool_result` blocks "
                        + "immediately after")
            }
        }
    }

    private static func answered(_ turn: JSONValue, _ asked: Set<String>) -> Bool {
        let given = MockJSON.list(turn["content"]).compactMap { $0["tool_use_id"]?.string }
        return asked.isSubset(of: given)
    }

    private static func readText(
        _ text: String, _ isUser: Bool, _ isLast: Bool, _ question: inout MockQuestion
    ) throws(RequestFault) {
        question.promptBytes += text.utf8.count
        if isUser {
            question.lastText += text
        } else if isLast, text.last?.isWhitespace == true {
            throw RequestFault(
                "messages: final assistant content cannot end with trailing whitespace")
        }
    }

    private static func read(
        _ block: JSONValue, _ isUser: Bool, _ isLast: Bool, _ asked: Set<String>,
        _ calls: inout Set<String>, _ question: inout MockQuestion
    ) throws(RequestFault) {
        switch block["type"]?.string {
        case "text":
            guard let text = block["text"]?.string, text.contains(where: { !$0.isWhitespace })
            else { throw RequestFault("messages: text content blocks must be non-empty") }
            try readText(text, isUser, isLast, &question)
        case "image" where isUser, "document" where isUser:
            let source = block["source"]
            switch source?["type"]?.string {
            case "base64":
                guard let type = source?["media_type"]?.string, source?["data"]?.string != nil
                else {
                    throw RequestFault("messages: source.media_type: Field required")
                }
                question.media.append(type)
            case "url":
                guard source?["url"]?.string?.hasPrefix("https://") == true else {
                    throw RequestFault("messages: source.url: Only HTTPS URLs are supported.")
                }
                question.media.append("image by URL")
            case "text": question.lastText += source?["data"]?.string ?? ""
            default: throw RequestFault("messages: source.type: unknown")
            }
            question.promptBytes += 85 * 4
        case "tool_use" where !isUser:
            guard let id = block["id"]?.string, MockName.fits(id, bytesMax: 256),
                let name = block["name"]?.string, MockName.fits(name, bytesMax: 128),
                block["input"]?.kind == .object
            else {
                throw RequestFault(
                    "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            }
            calls.insert(id)
        case "tool_result" where isUser:
            guard let id = block["tool_use_id"]?.string, asked.contains(id) else {
                throw RequestFault(
                    "messages: unexpected `tool_use_id` found in `tool_result` blocks. Each "
                        + "`tool_result` block must have a corresponding `tool_use` block in the "
                        + "previous message.")
            }
            let text =
                block["content"]?.string
                ?? MockJSON.list(block["content"]).compactMap { $0["text"]?.string }.joined()
            question.lastResult = text
            question.promptBytes += text.utf8.count
        case "thinking" where !isUser, "redacted_thinking" where !isUser: break
        default: throw RequestFault("messages: content: unexpected block type")
        }
    }

    private static func readTools(
        _ root: JSONValue, _ question: inout MockQuestion
    ) throws(RequestFault) {
        for (index, tool) in MockJSON.list(root.present("tools")).enumerated() {
            guard let name = tool["name"]?.string, MockName.fits(name, bytesMax: 128) else {
                throw RequestFault(
                    "tools.\(index).name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
            }
            guard tool["input_schema"]?["type"]?.isText("object") == true else {
                throw RequestFault("tools.\(index).input_schema.type: Field required")
            }
            guard !question.tools.contains(where: { $0.name == name }) else {
                throw RequestFault("tools: Tool names must be unique.")
            }
            question.tools.append((name, tool["input_schema"]))
            question.promptBytes += tool.raw.count
        }
        guard let choice = root.present("tool_choice") else { return }
        guard !question.tools.isEmpty else {
            throw RequestFault("tool_choice: may only be specified while providing tools")
        }
        question.isParallel = choice["disable_parallel_tool_use"]?.flag != true
        switch choice["type"]?.string {
        case "auto": question.toolChoice = .auto
        case "any": question.toolChoice = .required
        case "none": question.toolChoice = .none
        case "tool":
            guard let name = choice["name"]?.string,
                question.tools.contains(where: { $0.name == name })
            else { throw RequestFault("tool_choice: Tool not found in provided tools") }
            question.toolChoice = .named(name)
        default: throw RequestFault("tool_choice.type: unknown")
        }
    }
}
