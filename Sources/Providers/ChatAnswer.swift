/// Translates the whole answer of a messages API into a chat completion.
public enum ChatAnswer {
    /// The blocks of an answer, by what becomes of them.
    private struct Blocks {
        var texts: [JSONValue] = []
        var thoughts: [JSONValue] = []
        var calls: [JSONValue] = []
        /// The input of the tool that stands for `response_format`.
        var formed: JSONValue?
    }

    /// Translates an answer to a request of `shape`; `created` is the time in seconds since 1970.
    public static func translate(
        _ document: JSONDocument, _ shape: AnswerShape, created: Int
    ) throws(AnswerFault) -> AnswerTranslation {
        let root = document.root
        guard root["type"]?.isText("message") == true, let content = root["content"],
            content.kind == .list
        else { throw AnswerFault("the provider's answer is no message") }
        var losses = LossList()
        let blocks = read(content, shape, &losses)
        let usage = TokenUsage(root["usage"])
        var reason = FinishReason(messages: root["stop_reason"])
        if blocks.formed != nil, blocks.calls.isEmpty, reason == .toolCalls { reason = .stop }
        var writer = JSONWriter(capacity: document.bytes.count + 512)
        writer.object { writer in
            writer.name("id")
            ChatID.write(root["id"], to: &writer)
            writer.member("object", "chat.completion")
            writer.member("created", created)
            writer.name("model")
            if let model = root["model"], model.kind == .string {
                writer.value(model)
            } else {
                writer.value("")
            }
            writer.list("choices") { list in
                list.object { choice in
                    choice.member("index", 0)
                    write(blocks, shape, to: &choice)
                    choice.null("logprobs")
                    choice.member("finish_reason", reason.chat)
                }
            }
            if let usage { usage.writeChat("usage", to: &writer) }
        }
        return AnswerTranslation(body: writer.bytes, losses: losses.all, usage: usage)
    }

    private static func read(
        _ content: JSONValue, _ shape: AnswerShape, _ losses: inout LossList
    ) -> Blocks {
        var blocks = Blocks()
        for block in content.elements {
            switch block["type"]?.string {
            case "text":
                if let text = block["text"], text.kind == .string { blocks.texts.append(text) }
                if (block["citations"]?.count ?? 0) > 0 {
                    losses.add(.dropped, "content.text.citations")
                }
            case "thinking":
                if let text = block["thinking"], text.kind == .string {
                    blocks.thoughts.append(text)
                }
            case "tool_use":
                if let tool = shape.schemaTool, block["name"]?.string == tool {
                    blocks.formed = block["input"]
                } else if blocks.calls.count < Limits.blocksMax {
                    blocks.calls.append(block)
                }
            case let type: losses.add(.dropped, "content.\(type ?? "")")
            }
        }
        return blocks
    }

    private static func write(
        _ blocks: Blocks, _ shape: AnswerShape, to writer: inout JSONWriter
    ) {
        writer.object("message") { message in
            message.member("role", "assistant")
            message.name("content")
            if let formed = blocks.formed {
                formed.raw.withUnsafeBytes { message.value(text: $0) }
            } else if blocks.texts.isEmpty, !blocks.calls.isEmpty {
                message.null()
            } else {
                message.value(joining: blocks.texts)
            }
            message.null("refusal")
            if !blocks.thoughts.isEmpty {
                message.name("reasoning_content")
                message.value(joining: blocks.thoughts)
            }
            guard !blocks.calls.isEmpty else { return }
            message.list("tool_calls") { list in
                for call in blocks.calls {
                    list.object { write(call, shape, to: &$0) }
                }
            }
        }
    }

    private static func write(
        _ call: JSONValue, _ shape: AnswerShape, to writer: inout JSONWriter
    ) {
        writer.member("id", call["id"]?.string ?? "")
        writer.member("type", "function")
        writer.object("function") { function in
            function.name("name")
            ChatID.writeToolName(call["name"], shape, to: &function)
            function.name("arguments")
            if let input = call["input"], input.kind == .object {
                input.raw.withUnsafeBytes { function.value(text: $0) }
            } else {
                function.value("{}")
            }
        }
    }
}

/// Names and ids on their way to a chat client.
enum ChatID {
    /// An id in the form that chat completions have.
    static func write(_ id: JSONValue?, to writer: inout JSONWriter) {
        let text = id?.string ?? ""
        let tail = text.hasPrefix("msg_") ? String(text.dropFirst(4)) : text
        writer.value("chatcmpl-\(tail)")
    }

    /// The name that the client gave the tool.
    static func writeToolName(
        _ name: JSONValue?, _ shape: AnswerShape, to writer: inout JSONWriter
    ) {
        guard let name, name.kind == .string else { return writer.value("") }
        if !shape.toolNames.isEmpty, let text = name.string, let own = shape.toolNames[text] {
            writer.value(own)
        } else {
            writer.value(name)
        }
    }
}
