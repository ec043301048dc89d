import CoreLoop
import Providers

/// Reads chat and responses requests as strictly as OpenAI does.
enum OpenAIQuestion {
    /// A chat completions request.
    static func read(_ root: JSONValue) throws(RequestFault) -> MockQuestion {
        var question = MockQuestion()
        question.model = root["model"]?.string ?? ""
        guard let messages = root["messages"], messages.kind == .list, messages.count > 0 else {
            throw RequestFault("Invalid 'messages': must be a non-empty list.", param: "messages")
        }
        try readMessages(messages, &question)
        try readSampling(root, &question)
        try readTools(root, &question, isNested: true)
        readFormat(root["response_format"], root["response_format"]?["json_schema"], &question)
        return question
    }

    private static func readMessages(
        _ messages: JSONValue, _ question: inout MockQuestion
    ) throws(RequestFault) {
        // Calls that the messages before have made and nobody has answered.
        var pending: Set<String> = []
        for (index, message) in messages.elements.enumerated() {
            let role = message["role"]?.string
            let place = "messages.[\(index)]"
            if role == "tool" {
                guard let id = message["tool_call_id"]?.string, pending.remove(id) != nil else {
                    throw RequestFault(
                        "Invalid parameter: messages with role 'tool' must be a response to a "
                            + "preceding message with 'tool_calls'.", param: "\(place).role")
                }
                question.lastResult = try text(message["content"], place, &question)
                continue
            }
            guard pending.isEmpty else {
                throw RequestFault(
                    "An assistant message with 'tool_calls' must be followed by tool messages "
                        + "responding to each 'tool_call_id'.", param: "messages")
            }
            switch role {
            case "system", "developer": _ = try text(message["content"], place, &question)
            case "user":
                guard message.present("content") != nil else {
                    throw RequestFault(
                        "Invalid value for 'content': expected a string, got null.",
                        param: "\(place).content")
                }
                question.lastText = try text(message["content"], place, &question)
                question.lastResult = nil
            case "assistant":
                let said = try text(message["content"], place, &question)
                for call in MockJSON.list(message.present("tool_calls")) {
                    guard let id = call["id"]?.string, call["function"]?["name"]?.string != nil,
                        call["function"]?["arguments"]?.string != nil
                    else {
                        throw RequestFault(
                            "Missing required parameter in 'tool_calls'.",
                            param: "\(place).tool_calls")
                    }
                    pending.insert(id)
                }
                guard !said.isEmpty || !pending.isEmpty || message.present("refusal") != nil else {
                    throw RequestFault(
                        "Invalid value for 'content': expected a string.", param: "\(place).content"
                    )
                }
            default:
                throw RequestFault(
                    "Invalid value: '\(role ?? "")'. Supported values are: 'system', 'assistant', "
                        + "'user', 'function', 'tool', and 'developer'.", param: "\(place).role")
            }
        }
        guard pending.isEmpty else {
            throw RequestFault("'tool_calls' must be answered.", param: "messages")
        }
    }

    /// The texts of a content, its other parts noted.
    private static func text(
        _ content: JSONValue?, _ place: String, _ question: inout MockQuestion
    ) throws(RequestFault) -> String {
        guard let content, !content.isNull else { return "" }
        if let text = content.string {
            question.promptBytes += text.utf8.count
            return text
        }
        guard content.kind == .list else {
            throw RequestFault("Invalid type for 'content'.", param: "\(place).content")
        }
        var joined = ""
        for part in content.elements {
            switch part["type"]?.string {
            case "text", "input_text", "output_text", "refusal":
                guard let text = part["text"]?.string ?? part["refusal"]?.string else {
                    throw RequestFault("Missing 'text'.", param: "\(place).content")
                }
                question.promptBytes += text.utf8.count
                joined += text
            case "image_url", "input_image":
                let url = part["image_url"]?["url"]?.string ?? part["image_url"]?.string ?? ""
                guard url.hasPrefix("data:") || url.hasPrefix("http") else {
                    throw RequestFault("Invalid 'image_url'.", param: "\(place).content")
                }
                question.media.append(
                    url.hasPrefix("data:")
                        ? String(url.dropFirst(5).prefix { $0 != ";" && $0 != "," })
                        : "image by URL")
                question.promptBytes += 85 * 4
            case "file", "input_file": question.media.append("a file")
            case "input_audio": question.media.append("audio")
            default:
                throw RequestFault(
                    "Invalid value: '\(part["type"]?.string ?? "")'.",
                    param: "\(place).content.type")
            }
        }
        return joined
    }

    private static func readSampling(
        _ root: JSONValue, _ question: inout MockQuestion
    ) throws(RequestFault) {
        try check(root, "temperature", 0, 2)
        try check(root, "top_p", 0, 1)
        try check(root, "presence_penalty", -2, 2)
        try check(root, "frequency_penalty", -2, 2)
        try check(root, "n", 1, Double(MockLimits.choicesMax))
        question.choices = root.present("n")?.integer ?? 1
        for name in ["max_completion_tokens", "max_tokens"] {
            guard let most = root[named: name], !most.isNull else { continue }
            guard let count = most.integer, count >= 1 else {
                throw RequestFault("Invalid '\(name)': integer below minimum value.", param: name)
            }
            question.maxTokens = question.maxTokens ?? count
        }
        if let stop = root.present("stop") {
            question.stop = stop.string.map { [$0] } ?? stop.elements.compactMap(\.string)
            guard question.stop.count <= MockLimits.stopSequencesMax else {
                throw RequestFault("Invalid 'stop': array too long.", param: "stop")
            }
        }
        if let stream = root.present("stream") {
            guard let flag = stream.flag else {
                throw RequestFault("Invalid type for 'stream'.", param: "stream")
            }
            question.streams = flag
        }
        if root.present("stream_options") != nil, !question.streams {
            throw RequestFault(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param: "stream_options")
        }
        question.includesUsage = root["stream_options"]?["include_usage"]?.flag == true
        question.seed = UInt64(bitPattern: Int64(root.present("seed")?.integer ?? 0))
    }

    private static func check(
        _ root: JSONValue, _ name: String, _ least: Double, _ most: Double
    ) throws(RequestFault) {
        guard let value = root[named: name], !value.isNull else { return }
        guard let number = value.number, number >= least, number <= most else {
            throw RequestFault("Invalid '\(name)': out of range.", param: name)
        }
    }

    /// Tools of chat stand below `function`, those of responses do not.
    private static func readTools(
        _ root: JSONValue, _ question: inout MockQuestion, isNested: Bool
    ) throws(RequestFault) {
        for tool in MockJSON.list(root.present("tools"))
        where tool["type"]?.isText("function") == true {
            let function = isNested ? tool["function"] : tool
            guard let name = function?["name"]?.string, MockName.fits(name, bytesMax: 64) else {
                throw RequestFault(
                    "Invalid 'tools[0].function.name': string does not match pattern. Expected a "
                        + "string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
                    param: "tools[0].function.name")
            }
            question.tools.append((name, function?.present("parameters")))
            question.promptBytes += tool.raw.count
        }
        question.isParallel = root["parallel_tool_calls"]?.flag ?? true
        guard let choice = root.present("tool_choice") else { return }
        guard !question.tools.isEmpty else {
            throw RequestFault(
                "'tool_choice' is only allowed when 'tools' are specified.", param: "tool_choice")
        }
        switch choice.string {
        case "auto": question.toolChoice = .auto
        case "none": question.toolChoice = .none
        case "required": question.toolChoice = .required
        default:
            guard let name = choice["function"]?["name"]?.string ?? choice["name"]?.string,
                question.tools.contains(where: { $0.name == name })
            else { throw RequestFault("Invalid 'tool_choice'.", param: "tool_choice") }
            question.toolChoice = .named(name)
        }
    }

    private static func readFormat(
        _ format: JSONValue?, _ described: JSONValue?, _ question: inout MockQuestion
    ) {
        question.isJSON = format?["type"]?.isText("json_object") == true
        if format?["type"]?.isText("json_schema") == true { question.schema = described?["schema"] }
    }

    // MARK: Responses

    /// A request of `/v1/responses`.
    static func readResponses(_ root: JSONValue) throws(RequestFault) -> MockQuestion {
        var question = MockQuestion()
        question.model = root["model"]?.string ?? ""
        guard let input = root["input"], input.kind == .string || input.kind == .list else {
            throw RequestFault("Missing required parameter: 'input'.", param: "input")
        }
        if let text = input.string {
            question.lastText = text
            question.promptBytes += text.utf8.count
        }
        for item in input.elements {
            if item["type"]?.isText("function_call_output") == true {
                question.lastResult = item["output"]?.string ?? ""
            } else if item["role"]?.isText("user") == true {
                question.lastText = try text(item["content"], "input", &question)
                question.lastResult = nil
            } else if item["role"] != nil {
                _ = try text(item["content"], "input", &question)
            }
        }
        question.promptBytes += root.present("instructions")?.raw.count ?? 0
        try check(root, "temperature", 0, 2)
        question.maxTokens = root.present("max_output_tokens")?.integer
        question.streams = root["stream"]?.flag == true
        try readTools(root, &question, isNested: false)
        readFormat(root["text"]?["format"], root["text"]?["format"], &question)
        return question
    }
}

/// Lists that may not be there.
enum MockJSON {
    /// The elements of a list; none for anything else.
    static func list(_ value: JSONValue?) -> [JSONValue] { value.map { Array($0.elements) } ?? [] }
}

/// Names of tools.
enum MockName {
    /// Letters, digits, `_` and `-`, at least one and `bytesMax` at most.
    static func fits(_ name: String, bytesMax: Int) -> Bool {
        !name.isEmpty && name.utf8.count <= bytesMax
            && name.utf8.allSatisfy { byte in
                (byte >= 0x30 && byte <= 0x39) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A)
                    || byte == 0x5F || byte == 0x2D
            }
    }
}
