import Providers

/// Writes messages, whole and streamed.
struct AnthropicMessage {
    let question: MockQuestion
    let answer: MockAnswer
    let id: String

    var reply: MockReply {
        var reply = MockReply()
        reply.tokenCount = answer.outputTokens
        if question.streams {
            reply.streams = true
            reply.contentType = "text/event-stream; charset=utf-8"
            reply.events = events
        } else {
            reply.body = JSONWriter.write { message(isWhole: true, &$0) }
        }
        return reply
    }

    private var stopReason: String {
        switch answer.reason {
        case .stop: "end_turn"
        case .stopSequence: "stop_sequence"
        case .length: "max_tokens"
        case .toolCalls: "tool_use"
        case .refusal: "refusal"
        }
    }

    private var stopSequence: String? {
        if case .stopSequence(let sequence) = answer.reason { return sequence }
        return nil
    }

    private func message(isWhole: Bool, _ writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", id)
            writer.member("type", "message")
            writer.member("role", "assistant")
            writer.member("model", question.model)
            writer.list("content") { list in
                guard isWhole else { return }
                if !answer.tokens.isEmpty {
                    list.object { block in
                        block.member("type", "text")
                        block.member("text", answer.text)
                    }
                }
                for call in answer.calls {
                    list.object { block in
                        begin(call, &block)
                        block.name("input")
                        block.value(document: Array(call.arguments.utf8))
                    }
                }
            }
            writer.member("stop_reason", isWhole ? stopReason : nil)
            writer.member("stop_sequence", isWhole ? stopSequence : nil)
            writer.object("usage") { usage in
                usage.member("input_tokens", question.inputTokens)
                usage.member("cache_creation_input_tokens", 0)
                usage.member("cache_read_input_tokens", 0)
                usage.member("output_tokens", isWhole ? answer.outputTokens : 1)
                usage.member("service_tier", "standard")
            }
        }
    }

    private func begin(
        _ call: (id: String, name: String, arguments: String), _ writer: inout JSONWriter
    ) {
        writer.member("type", "tool_use")
        writer.member("id", call.id)
        writer.member("name", call.name)
    }

    // MARK: Streamed

    private var events: [[UInt8]] {
        var events: [[UInt8]] = []
        var lead = event("message_start") { event in
            event.name("message")
            message(isWhole: false, &event)
        }
        var blocks = 0
        if !answer.tokens.isEmpty {
            lead += begin(block: 0) { block in
                block.member("type", "text")
                block.member("text", "")
            }
            lead += event("ping") { _ in }
            for token in answer.tokens {
                lead += delta(0) { delta in
                    delta.member("type", "text_delta")
                    delta.member("text", token)
                }
                events.append(lead)
                lead = []
            }
            lead += end(block: 0)
            blocks = 1
        }
        for call in answer.calls {
            let index = blocks
            blocks += 1
            lead += begin(block: index) { block in
                begin(call, &block)
                block.object("input") { _ in }
            }
            // An empty piece first, as the API sends it; nothing more for no arguments.
            let pieces = call.arguments == "{}" ? [""] : [""] + MockText.tokens(call.arguments)
            for piece in pieces {
                lead += delta(index) { delta in
                    delta.member("type", "input_json_delta")
                    delta.member("partial_json", piece)
                }
                events.append(lead)
                lead = []
            }
            lead += end(block: index)
        }
        lead += event("message_delta") { event in
            event.object("delta") { delta in
                delta.member("stop_reason", stopReason)
                delta.member("stop_sequence", stopSequence)
            }
            event.object("usage") { $0.member("output_tokens", answer.outputTokens) }
        }
        lead += event("message_stop") { _ in }
        if events.isEmpty { events.append(lead) } else { events[events.count - 1] += lead }
        return events
    }

    private func begin(block index: Int, _ body: (inout JSONWriter) -> Void) -> [UInt8] {
        event("content_block_start") { event in
            event.member("index", index)
            event.object("content_block", body)
        }
    }

    private func delta(_ index: Int, _ body: (inout JSONWriter) -> Void) -> [UInt8] {
        event("content_block_delta") { event in
            event.member("index", index)
            event.object("delta", body)
        }
    }

    private func end(block index: Int) -> [UInt8] {
        event("content_block_stop") { $0.member("index", index) }
    }

    private func event(_ type: String, _ body: (inout JSONWriter) -> Void) -> [UInt8] {
        let data = JSONWriter.write { writer in
            writer.object { event in
                event.member("type", type)
                body(&event)
            }
        }
        var bytes: [UInt8] = []
        EventStream.append(event: type, data: data, to: &bytes)
        return bytes
    }
}
