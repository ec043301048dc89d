/// Translates a chat completion into the answer of a messages API.
public enum MessagesAnswer {
    /// Translates an answer to a request of `shape`.
    public static func translate(
        _ document: JSONDocument, _ shape: AnswerShape
    ) throws(AnswerFault) -> AnswerTranslation {
        let root = document.root
        guard let choices = root["choices"], choices.kind == .list,
            let choice = choices.elements.first(where: { _ in true }),
            let message = choice["message"], message.kind == .object
        else { throw AnswerFault("the provider's answer is no chat completion") }
        var losses = LossList()
        if choices.count > 1 { losses.add(.dropped, "choices") }
        for name in ["reasoning_content", "audio", "annotations"] {
            guard let value = message[named: name], !value.isNull else { continue }
            if value.kind == .list, value.count == 0 { continue }
            losses.add(.dropped, "message.\(name)")
        }
        let usage = TokenUsage(root["usage"])
        let refusal = message.present("refusal")
        let calls = message.present("tool_calls").map { Array($0.elements) } ?? []
        if calls.count > Limits.blocksMax {
            throw AnswerFault("the provider's answer calls too many tools")
        }
        var writer = JSONWriter(capacity: document.bytes.count + 512)
        writer.object { writer in
            writer.name("id")
            MessageID.write(root["id"], to: &writer)
            writer.member("type", "message")
            writer.member("role", "assistant")
            writer.member("model", root["model"]?.string ?? "")
            writer.list("content") { list in
                for text in [message.present("content"), refusal] {
                    guard let text, text.kind == .string, !text.isEmptyText else { continue }
                    list.object { block in
                        block.member("type", "text")
                        block.member("text", raw: text)
                    }
                }
                for call in calls where call["function"] != nil {
                    list.object { write(call, shape, &losses, to: &$0) }
                }
            }
            let reason = FinishReason(chat: choice["finish_reason"])
            writer.member("stop_reason", refusal == nil ? reason.messages : "refusal")
            writer.null("stop_sequence")
            (usage ?? TokenUsage()).writeMessages("usage", to: &writer)
        }
        return AnswerTranslation(body: writer.bytes, losses: losses.all, usage: usage)
    }

    private static func write(
        _ call: JSONValue, _ shape: AnswerShape, _ losses: inout LossList,
        to writer: inout JSONWriter
    ) {
        writer.member("type", "tool_use")
        writer.member("id", call["id"]?.string ?? "")
        writer.name("name")
        ChatID.writeToolName(call["function"]?["name"], shape, to: &writer)
        writer.name("input")
        if !Arguments.write(call["function"]?["arguments"], to: &writer) {
            losses.add(.changed, "message.tool_calls.function.arguments")
        }
    }
}

/// Ids on their way to a messages client.
enum MessageID {
    /// An id in the form that messages have.
    static func write(_ id: JSONValue?, to writer: inout JSONWriter) {
        let text = id?.string ?? ""
        let tail = text.hasPrefix("chatcmpl-") ? String(text.dropFirst(9)) : text
        writer.value("msg_\(tail)")
    }
}
