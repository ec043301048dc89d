import Providers

/// Writes chat completions, whole and streamed.
struct OpenAIChat {
    let question: MockQuestion
    /// One for each choice.
    let answers: [MockAnswer]
    let id: String
    let createdSeconds: Int
    let hasLogprobs: Bool

    var reply: MockReply {
        var reply = MockReply()
        if question.streams {
            reply.streams = true
            reply.contentType = "text/event-stream; charset=utf-8"
            reply.events = events
        } else {
            reply.body = whole
        }
        reply.tokenCount = answers.reduce(0) { $0 + $1.outputTokens }
        return reply
    }

    static func finishReason(_ answer: MockAnswer) -> String {
        switch answer.reason {
        case .stop, .stopSequence, .refusal: "stop"
        case .length: "length"
        case .toolCalls: "tool_calls"
        }
    }

    private var whole: [UInt8] {
        JSONWriter.write { writer in
            writer.object { writer in
                begin("chat.completion", &writer)
                writer.list("choices") { list in
                    for (index, answer) in answers.enumerated() {
                        list.object { choice in
                            choice.member("index", index)
                            choice.object("message") { write(answer, to: &$0) }
                            logprobs(answer.tokens, &choice)
                            choice.member("finish_reason", Self.finishReason(answer))
                        }
                    }
                }
                usage("usage", &writer)
                writer.member("service_tier", "default")
                writer.member("system_fingerprint", "fp_mock")
            }
        }
    }

    private func begin(_ object: String, _ writer: inout JSONWriter) {
        writer.member("id", id)
        writer.member("object", object)
        writer.member("created", createdSeconds)
        writer.member("model", question.model)
    }

    private func write(_ answer: MockAnswer, to writer: inout JSONWriter) {
        writer.member("role", "assistant")
        if case .refusal = answer.reason {
            writer.null("content")
            writer.member("refusal", answer.text)
        } else {
            writer.member("content", answer.calls.isEmpty ? answer.text : nil)
            writer.null("refusal")
        }
        writer.list("annotations") { _ in }
        guard !answer.calls.isEmpty else { return }
        writer.list("tool_calls") { list in
            for call in answer.calls {
                list.object { item in
                    item.member("id", call.id)
                    item.member("type", "function")
                    item.object("function") { function in
                        function.member("name", call.name)
                        function.member("arguments", call.arguments)
                    }
                }
            }
        }
    }

    private func logprobs(_ tokens: [String], _ writer: inout JSONWriter) {
        guard hasLogprobs else { return writer.null("logprobs") }
        writer.object("logprobs") { logprobs in
            logprobs.list("content") { list in
                for token in tokens {
                    list.object { item in
                        item.member("token", token)
                        item.member("logprob", number: -0.25)
                        item.list("bytes") { bytes in
                            for byte in token.utf8 { bytes.value(Int(byte)) }
                        }
                        item.list("top_logprobs") { _ in }
                    }
                }
            }
            logprobs.null("refusal")
        }
    }

    private func usage(_ name: String, _ writer: inout JSONWriter) {
        let output = answers.reduce(0) { $0 + $1.outputTokens }
        writer.object(name) { usage in
            usage.member("prompt_tokens", question.inputTokens)
            usage.member("completion_tokens", output)
            usage.member("total_tokens", question.inputTokens + output)
            usage.object("prompt_tokens_details") { details in
                details.member("cached_tokens", 0)
                details.member("audio_tokens", 0)
            }
            usage.object("completion_tokens_details") { details in
                details.member("reasoning_tokens", 0)
                details.member("audio_tokens", 0)
                details.member("accepted_prediction_tokens", 0)
                details.member("rejected_prediction_tokens", 0)
            }
        }
    }

    // MARK: Streamed

    private var events: [[UInt8]] {
        var events: [[UInt8]] = []
        for (index, answer) in answers.enumerated() {
            var lead = chunk(index) { delta in
                delta.member("role", "assistant")
                delta.member("content", answer.calls.isEmpty ? "" : nil)
                delta.null("refusal")
            }
            let name: String
            if case .refusal = answer.reason { name = "refusal" } else { name = "content" }
            for token in answer.tokens {
                lead += chunk(index, tokens: [token]) { $0.member(name, token) }
                events.append(lead)
                lead = []
            }
            for (place, call) in answer.calls.enumerated() {
                lead += callChunk(index, place) { item in
                    item.member("id", call.id)
                    item.member("type", "function")
                    item.object("function") { function in
                        function.member("name", call.name)
                        function.member("arguments", "")
                    }
                }
                for piece in MockText.tokens(call.arguments) {
                    lead += callChunk(index, place) { item in
                        item.object("function") { $0.member("arguments", piece) }
                    }
                    events.append(lead)
                    lead = []
                }
            }
            lead += chunk(index, finish: Self.finishReason(answer)) { _ in }
            if events.isEmpty { events.append(lead) } else { events[events.count - 1] += lead }
        }
        var tail: [UInt8] = []
        if question.includesUsage {
            let data = JSONWriter.write { writer in
                writer.object { writer in
                    begin("chat.completion.chunk", &writer)
                    writer.member("system_fingerprint", "fp_mock")
                    writer.list("choices") { _ in }
                    usage("usage", &writer)
                }
            }
            EventStream.append(data: data, to: &tail)
        }
        EventStream.append(data: "[DONE]".utf8, to: &tail)
        events[events.count - 1] += tail
        return events
    }

    private func callChunk(
        _ index: Int, _ place: Int, _ body: (inout JSONWriter) -> Void
    ) -> [UInt8] {
        chunk(index) { delta in
            delta.list("tool_calls") { list in
                list.object { item in
                    item.member("index", place)
                    body(&item)
                }
            }
        }
    }

    private func chunk(
        _ index: Int, tokens: [String] = [], finish: String? = nil,
        _ delta: (inout JSONWriter) -> Void
    ) -> [UInt8] {
        let data = JSONWriter.write { writer in
            writer.object { writer in
                begin("chat.completion.chunk", &writer)
                writer.member("service_tier", "default")
                writer.member("system_fingerprint", "fp_mock")
                writer.list("choices") { list in
                    list.object { choice in
                        choice.member("index", index)
                        choice.object("delta", delta)
                        if tokens.isEmpty {
                            choice.null("logprobs")
                        } else {
                            logprobs(tokens, &choice)
                        }
                        choice.member("finish_reason", finish)
                    }
                }
                if question.includesUsage { writer.null("usage") }
            }
        }
        var event: [UInt8] = []
        EventStream.append(data: data, to: &event)
        return event
    }
}

/// Writes legacy completions.
struct OpenAICompletion {
    let question: MockQuestion
    let answer: MockAnswer
    let id: String
    let createdSeconds: Int

    var reply: MockReply {
        var reply = MockReply()
        reply.tokenCount = answer.outputTokens
        let finish = OpenAIChat.finishReason(answer)
        guard question.streams else {
            reply.body = object(answer.text, finish, hasUsage: true)
            return reply
        }
        reply.streams = true
        reply.contentType = "text/event-stream; charset=utf-8"
        for token in answer.tokens {
            var event: [UInt8] = []
            EventStream.append(data: object(token, nil, hasUsage: false), to: &event)
            reply.events.append(event)
        }
        var tail: [UInt8] = []
        EventStream.append(data: object("", finish, hasUsage: false), to: &tail)
        if question.includesUsage {
            EventStream.append(data: object(nil, nil, hasUsage: true), to: &tail)
        }
        EventStream.append(data: "[DONE]".utf8, to: &tail)
        reply.events.append(tail)
        return reply
    }

    private func object(_ text: String?, _ finish: String?, hasUsage: Bool) -> [UInt8] {
        JSONWriter.write { writer in
            writer.object { writer in
                writer.member("id", id)
                writer.member("object", "text_completion")
                writer.member("created", createdSeconds)
                writer.member("model", question.model)
                writer.list("choices") { list in
                    guard let text else { return }
                    list.object { choice in
                        choice.member("text", text)
                        choice.member("index", 0)
                        choice.null("logprobs")
                        choice.member("finish_reason", finish)
                    }
                }
                guard hasUsage else { return }
                writer.object("usage") { usage in
                    usage.member("prompt_tokens", question.inputTokens)
                    usage.member("completion_tokens", answer.outputTokens)
                    usage.member("total_tokens", question.inputTokens + answer.outputTokens)
                }
            }
        }
    }
}
