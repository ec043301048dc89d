import Providers

/// Writes answers of `/v1/responses`, whole and streamed.
struct OpenAIResponses {
    let question: MockQuestion
    let answer: MockAnswer
    let id: String
    let createdSeconds: Int

    private enum Status: String { case inProgress = "in_progress", completed, incomplete }

    var reply: MockReply {
        var reply = MockReply()
        reply.tokenCount = answer.outputTokens
        guard question.streams else {
            reply.body = JSONWriter.write { response(finalStatus, hasOutput: true, &$0) }
            return reply
        }
        reply.streams = true
        reply.contentType = "text/event-stream; charset=utf-8"
        reply.events = events
        return reply
    }

    private var finalStatus: Status {
        if case .length = answer.reason { return .incomplete }
        return .completed
    }

    private func response(_ status: Status, hasOutput: Bool, _ writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", "resp_\(id)")
            writer.member("object", "response")
            writer.member("created_at", createdSeconds)
            writer.member("status", status.rawValue)
            writer.null("error")
            if status == .incomplete {
                writer.object("incomplete_details") { $0.member("reason", "max_output_tokens") }
            } else {
                writer.null("incomplete_details")
            }
            writer.null("instructions")
            writer.object("metadata") { _ in }
            writer.member("model", question.model)
            writer.list("output") { list in
                guard hasOutput else { return }
                for place in 0..<max(1, answer.calls.count) {
                    list.object { item(place, isWhole: true, &$0) }
                }
            }
            writer.member("parallel_tool_calls", question.isParallel)
            writer.member("temperature", number: 1)
            writer.member("tool_choice", "auto")
            writer.list("tools") { _ in }
            writer.member("top_p", number: 1)
            guard hasOutput else { return writer.null("usage") }
            writer.object("usage") { usage in
                usage.member("input_tokens", question.inputTokens)
                usage.object("input_tokens_details") { $0.member("cached_tokens", 0) }
                usage.member("output_tokens", answer.outputTokens)
                usage.object("output_tokens_details") { $0.member("reasoning_tokens", 0) }
                usage.member("total_tokens", question.inputTokens + answer.outputTokens)
            }
        }
    }

    /// The members of one item of the output: a call, or the message.
    private func item(_ place: Int, isWhole: Bool, _ writer: inout JSONWriter) {
        let status = isWhole ? finalStatus : .inProgress
        if answer.calls.isEmpty {
            writer.member("type", "message")
            writer.member("id", "msg_\(id)")
            writer.member("status", status.rawValue)
            writer.member("role", "assistant")
            writer.list("content") { list in
                if isWhole { list.object { part(answer.text, &$0) } }
            }
        } else {
            let call = answer.calls[place]
            writer.member("type", "function_call")
            writer.member("id", "fc_\(id)_\(place)")
            writer.member("status", status.rawValue)
            writer.member("call_id", call.id)
            writer.member("name", call.name)
            writer.member("arguments", isWhole ? call.arguments : "")
        }
    }

    private func part(_ text: String, _ writer: inout JSONWriter) {
        if case .refusal = answer.reason {
            writer.member("type", "refusal")
            writer.member("refusal", text)
        } else {
            writer.member("type", "output_text")
            writer.member("text", text)
            writer.list("annotations") { _ in }
            writer.list("logprobs") { _ in }
        }
    }

    // MARK: Streamed

    private var events: [[UInt8]] {
        var writer = ResponseEvents()
        for type in ["response.created", "response.in_progress"] {
            writer.add(type) { event in
                event.name("response")
                response(.inProgress, hasOutput: false, &event)
            }
        }
        for place in 0..<max(1, answer.calls.count) {
            writer.add("response.output_item.added") { event in
                event.member("output_index", place)
                event.object("item") { item(place, isWhole: false, &$0) }
            }
            if answer.calls.isEmpty {
                addText(&writer)
            } else {
                addArguments(place, &writer)
            }
            writer.add("response.output_item.done") { event in
                event.member("output_index", place)
                event.object("item") { item(place, isWhole: true, &$0) }
            }
        }
        writer.add("response.\(finalStatus.rawValue)") { event in
            event.name("response")
            response(finalStatus, hasOutput: true, &event)
        }
        writer.endEvent()
        return writer.events
    }

    private func addText(_ writer: inout ResponseEvents) {
        let isRefusal: Bool
        if case .refusal = answer.reason { isRefusal = true } else { isRefusal = false }
        let kind = isRefusal ? "refusal" : "output_text"
        func place(_ event: inout JSONWriter) {
            event.member("item_id", "msg_\(id)")
            event.member("output_index", 0)
            event.member("content_index", 0)
        }
        writer.add("response.content_part.added") { event in
            place(&event)
            event.object("part") { part("", &$0) }
        }
        for token in answer.tokens {
            writer.add("response.\(kind).delta") { event in
                place(&event)
                event.member("delta", token)
                event.list("logprobs") { _ in }
            }
            writer.endEvent()
        }
        writer.add("response.\(kind).done") { event in
            place(&event)
            event.member(isRefusal ? "refusal" : "text", answer.text)
            event.list("logprobs") { _ in }
        }
        writer.add("response.content_part.done") { event in
            place(&event)
            event.object("part") { part(answer.text, &$0) }
        }
    }

    private func addArguments(_ place: Int, _ writer: inout ResponseEvents) {
        let call = answer.calls[place]
        for piece in MockText.tokens(call.arguments) {
            writer.add("response.function_call_arguments.delta") { event in
                event.member("item_id", "fc_\(id)_\(place)")
                event.member("output_index", place)
                event.member("delta", piece)
            }
            writer.endEvent()
        }
        writer.add("response.function_call_arguments.done") { event in
            event.member("item_id", "fc_\(id)_\(place)")
            event.member("output_index", place)
            event.member("name", call.name)
            event.member("arguments", call.arguments)
        }
    }
}

/// The numbered events of one stream, several of which may be sent at once.
private struct ResponseEvents {
    var events: [[UInt8]] = []
    private var pending: [UInt8] = []
    private var number = 0

    mutating func add(_ type: String, _ body: (inout JSONWriter) -> Void) {
        let number = number
        let data = JSONWriter.write { writer in
            writer.object { event in
                event.member("type", type)
                event.member("sequence_number", number)
                body(&event)
            }
        }
        self.number += 1
        EventStream.append(event: type, data: data, to: &pending)
    }

    /// Ends what is sent together.
    mutating func endEvent() {
        events.append(pending)
        pending = []
    }
}
