import Testing

@testable import Providers

/// The common form: the same answer in each dialect, whole and streamed, is the same summary.
@Suite struct AnswerSummaryTests {
    static let wanted: AnswerSummary = {
        var summary = AnswerSummary()
        summary.model = "m"
        summary.text = "é and more"
        summary.reasoning = "why"
        summary.toolCalls = [
            ToolCall(name: "f", arguments: #"{"x":1}"#), ToolCall(name: "g", arguments: "{}"),
        ]
        summary.finishReason = .toolCalls
        summary.usage = TokenUsage(input: 10, output: 7)
        summary.usage?.cacheRead = 3
        return summary
    }()

    @Test func chat() throws {
        let document = try JSONDocument(
            #"{"object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"\u00e9 and more","reasoning_content":"why","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":10,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3}}}"#
        )
        #expect(AnswerSummary(document) == Self.wanted)
    }

    @Test func messages() throws {
        let document = try JSONDocument(
            #"{"type":"message","model":"m","content":[{"type":"thinking","thinking":"why"},{"type":"text","text":"é and"},{"type":"text","text":" more"},{"type":"tool_use","id":"c","name":"f","input":{"x":1}},{"type":"tool_use","id":"d","name":"g","input":{}}],"stop_reason":"tool_use","usage":{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":7}}"#
        )
        #expect(AnswerSummary(document) == Self.wanted)
    }

    @Test func responses() throws {
        let document = try JSONDocument(
            #"{"object":"response","model":"m","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"é and more"}]},{"type":"function_call","name":"f","arguments":"{\"x\":1}"},{"type":"function_call","name":"g","arguments":"{}"}],"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":3},"output_tokens":7,"total_tokens":17}}"#
        )
        var wanted = Self.wanted
        wanted.reasoning = ""
        #expect(AnswerSummary(document) == wanted)
    }

    @Test func othersAndNone() throws {
        let legacy = AnswerSummary(
            try JSONDocument(#"{"model":"m","choices":[{"text":"t","finish_reason":"length"}]}"#))
        #expect(legacy?.text == "t" && legacy?.finishReason == .length)
        let vectors = AnswerSummary(
            try JSONDocument(#"{"data":[],"model":"m","usage":{"prompt_tokens":4}}"#))
        #expect(vectors?.usage == TokenUsage(input: 4, output: 0))
        let error = AnswerSummary(try JSONDocument(#"{"error":{"type":"rate_limit_error"}}"#))
        #expect(error?.error == "rate_limit_error")
        for text in ["[]", "{}", "1", #"{"data":1}"#] {
            #expect(AnswerSummary(try JSONDocument(text)) == nil)
        }
    }

    static let chatStream = [
        #"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"why"}}]}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{"content":"é and"}},{"index":1,"delta":{"content":"x"}}]}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{"content":" more"}}],"usage":null}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}}]}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}},{"index":1,"id":"d","function":{"name":"g","arguments":"{}"}}]}}]}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
        #"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        #"{"model":"m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3}}}"#,
        "[DONE]",
    ]

    static let messagesStream = [
        #"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":1}}}"#,
        #"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"why"}}"#,
        #"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        #"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"é and"}}"#,
        #"{"type":"ping"}"#,
        #"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":" more"}}"#,
        #"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","name":"f"}}"#,
        #"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1}"}}"#,
        #"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","name":"g"}}"#,
        #"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        #"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":4}}"#,
        #"{"type":"message_delta","delta":{},"usage":{"output_tokens":7}}"#,
        #"{"type":"message_stop"}"#,
    ]

    @Test(arguments: [Dialect.openAI, .anthropic]) func streams(_ dialect: Dialect) {
        let events = dialect == .openAI ? Self.chatStream : Self.messagesStream
        let bytes = Array(events.map { "data: \($0)\n\n" }.joined().utf8)
        for split in 0...bytes.count {
            var summary = StreamSummary(dialect)
            bytes[..<split].withUnsafeBytes { summary.take($0) }
            bytes[split...].withUnsafeBytes { summary.take($0) }
            #expect(summary.answer == Self.wanted, "split at \(split)")
            #expect(summary.isWhole && !summary.isInvalid)
        }
    }

    /// Wherever a stream is cut: what came is there, and it is not whole.
    @Test(arguments: [Dialect.openAI, .anthropic]) func cutStreams(_ dialect: Dialect) {
        let events = dialect == .openAI ? Self.chatStream : Self.messagesStream
        for count in 0..<events.count {
            let bytes = Array(events[..<count].map { "data: \($0)\n\n" }.joined().utf8)
            var summary = StreamSummary(dialect)
            bytes.withUnsafeBytes { summary.take($0) }
            #expect(!summary.isWhole && !summary.isInvalid)
            #expect(Self.wanted.text.hasPrefix(summary.answer.text))
        }
    }

    @Test func responsesStream() {
        let events = [
            #"{"type":"response.created","response":{"model":"m"}}"#,
            #"{"type":"response.output_text.delta","delta":"é"}"#,
            #"{"type":"response.completed","response":{"object":"response","model":"m","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"éa"}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#,
        ]
        var summary = StreamSummary(.openAI)
        Array(events.map { "event: x\ndata: \($0)\n\n" }.joined().utf8).withUnsafeBytes {
            summary.take($0)
        }
        #expect(summary.isWhole)
        #expect(summary.answer.text == "éa" && summary.answer.finishReason == .stop)
        #expect(summary.answer.usage == TokenUsage(input: 3, output: 2))
    }

    @Test func errorsWithinAStream() {
        var summary = StreamSummary(.anthropic)
        Array("data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n".utf8)
            .withUnsafeBytes { summary.take($0) }
        #expect(summary.answer.error == "overloaded_error" && !summary.isWhole)
        summary = StreamSummary(.openAI)
        Array("data: <html>\n\n".utf8).withUnsafeBytes { summary.take($0) }
        #expect(summary.isInvalid)
    }

    @Test func whatIsKeptIsBounded() throws {
        var summary = AnswerSummary()
        let text = String(repeating: "é", count: Limits.summaryTextBytesMax / 2 - 1)
        summary.add(text: text)
        #expect(!summary.isCut)
        summary.add(text: "aéé")
        #expect(summary.isCut)
        #expect(summary.text.utf8.count <= Limits.summaryTextBytesMax)
        #expect(summary.text == text + "a")
        for _ in 0..<Limits.summaryCallsMax + 5 { summary.add(call: "f") }
        #expect(summary.toolCalls.count == Limits.summaryCallsMax)
        let half = String(repeating: "x", count: Limits.summaryArgumentBytesMax / 2 + 1)
        summary.add(arguments: half, toCall: 0)
        summary.add(arguments: half, toCall: 1)
        summary.add(arguments: "y", toCall: 900)
        #expect(
            summary.toolCalls.reduce(0) { $0 + $1.arguments.utf8.count }
                == Limits.summaryArgumentBytesMax)
    }

    @Test func usageCannotOverflow() throws {
        let huge = Int.max
        for text in [
            #"{"prompt_tokens":\#(huge),"completion_tokens":\#(huge)}"#,
            #"{"input_tokens":\#(huge),"output_tokens":\#(huge),"cache_read_input_tokens":\#(huge)}"#,
        ] {
            let usage = TokenUsage(try JSONDocument(text).root)
            #expect(usage?.input == Limits.tokensMax && usage?.output == Limits.tokensMax)
        }
        for text in ["{}", "[]", #"{"prompt_tokens":-1}"#, #"{"prompt_tokens":"5"}"#] {
            #expect(TokenUsage(try JSONDocument(text).root) == nil)
        }
        #expect(TokenUsage.estimate(bytes: 0) == 0 && TokenUsage.estimate(bytes: 5) == 2)
    }
}
