import Testing

@testable import Providers

/// One answer of a provider, what the client gets, and what is lost.
struct AnswerRow: CustomTestStringConvertible, Sendable {
    var name: String
    var given: String
    var wanted: String
    var losses: [String] = []
    var shape = AnswerShape()
    var testDescription: String { name }

    init(
        _ name: String, _ given: String, _ wanted: String, _ losses: [String] = [],
        names: [String: String] = [:], schema: String? = nil
    ) {
        self.name = name
        self.given = given
        self.wanted = wanted
        self.losses = losses
        shape.toolNames = names
        shape.schemaTool = schema
    }
}

@Suite struct AnswerTranslationTests {
    // MARK: Messages to chat

    static func message(_ content: String, _ stop: String) -> String {
        #"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[\#(content)],"stop_reason":\#(stop),"stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":7}}"#
    }

    static func completion(_ message: String, _ finish: String) -> String {
        #"{"id":"chatcmpl-1","object":"chat.completion","created":9,"model":"c","choices":[{"index":0,"message":{"role":"assistant",\#(message)},"logprobs":null,"finish_reason":"\#(finish)"}],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":0}}}"#
    }

    static let toChat: [AnswerRow] = [
        .init(
            "text", message(#"{"type":"text","text":"a\u00e9"}"#, #""end_turn""#),
            completion(#""content":"a\u00e9","refusal":null"#, "stop")),
        .init(
            "texts joined",
            message(
                #"{"type":"text","text":"a"},{"type":"text","text":"b"}"#, #""stop_sequence""#),
            completion(#""content":"ab","refusal":null"#, "stop")),
        .init(
            "nothing", message("", #""max_tokens""#),
            completion(#""content":"","refusal":null"#, "length")),
        .init(
            "refusal", message(#"{"type":"text","text":"no"}"#, #""refusal""#),
            completion(#""content":"no","refusal":null"#, "content_filter")),
        .init(
            "pause", message(#"{"type":"text","text":"a"}"#, #""pause_turn""#),
            completion(#""content":"a","refusal":null"#, "length")),
        .init(
            "a reason not known yet", message(#"{"type":"text","text":"a"}"#, #""tired""#),
            completion(#""content":"a","refusal":null"#, "stop")),
        .init(
            "thinking",
            message(
                #"{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"}"#,
                #""end_turn""#),
            completion(#""content":"a","refusal":null,"reasoning_content":"t""#, "stop")),
        .init(
            "parallel calls",
            message(
                #"{"type":"tool_use","id":"t1","name":"a_b","input":{"x": "\n\""}},{"type":"tool_use","id":"t2","name":"g","input":{}}"#,
                #""tool_use""#),
            completion(
                #""content":null,"refusal":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"a.b","arguments":"{\"x\": \"\\n\\\"\"}"}},{"id":"t2","type":"function","function":{"name":"g","arguments":"{}"}}]"#,
                "tool_calls"), names: ["a_b": "a.b"]),
        .init(
            "the form that was asked for",
            message(
                #"{"type":"tool_use","id":"t1","name":"out","input":{"x":1}}"#, #""tool_use""#),
            completion(#""content":"{\"x\":1}","refusal":null"#, "stop"), schema: "out"),
        .init(
            "citations and a server's tool",
            message(
                #"{"type":"server_tool_use","id":"s"},{"type":"text","text":"a","citations":[{}]}"#,
                #""end_turn""#),
            completion(#""content":"a","refusal":null"#, "stop"),
            ["content.server_tool_use: dropped", "content.text.citations: dropped"]),
    ]

    @Test(arguments: toChat) func messagesToChat(_ row: AnswerRow) throws {
        let translation = try ChatAnswer.translate(
            try JSONDocument(row.given), row.shape, created: 9)
        #expect(String(decoding: translation.body, as: UTF8.self) == row.wanted)
        #expect(translation.losses.map(\.text) == row.losses)
        #expect(translation.usage?.input == 10 && translation.usage?.output == 7)
    }

    // MARK: Chat to messages

    static func chat(_ message: String, _ finish: String, _ usage: String? = nil) -> String {
        let usage =
            usage
            ?? #","usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":3}}"#
        return
            #"{"id":"chatcmpl-1","object":"chat.completion","created":9,"model":"g","choices":[{"index":0,"message":{"role":"assistant",\#(message)},"finish_reason":"\#(finish)"}]\#(usage)}"#
    }

    static func answer(
        _ content: String, _ stop: String, _ input: Int = 7, _ cached: Int = 3, _ output: Int = 7
    ) -> String {
        #"{"id":"msg_1","type":"message","role":"assistant","model":"g","content":[\#(content)],"stop_reason":"\#(stop)","stop_sequence":null,"usage":{"input_tokens":\#(input),"cache_creation_input_tokens":0,"cache_read_input_tokens":\#(cached),"output_tokens":\#(output)}}"#
    }

    static let toMessages: [AnswerRow] = [
        .init(
            "text", chat(#""content":"a\u00e9","refusal":null"#, "stop"),
            answer(#"{"type":"text","text":"a\u00e9"}"#, "end_turn")),
        .init(
            "length", chat(#""content":"""#, "length"), answer("", "max_tokens")),
        .init(
            "refusal", chat(#""content":null,"refusal":"no""#, "stop"),
            answer(#"{"type":"text","text":"no"}"#, "refusal")),
        .init(
            "filter", chat(#""content":"a""#, "content_filter"),
            answer(#"{"type":"text","text":"a"}"#, "refusal")),
        .init(
            "parallel calls",
            chat(
                #""content":"t","tool_calls":[{"id":"c1","type":"function","function":{"name":"nn","arguments":"{\"x\": 1}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":""}}]"#,
                "tool_calls"),
            answer(
                #"{"type":"text","text":"t"},{"type":"tool_use","id":"c1","name":"n.n","input":{"x": 1}},{"type":"tool_use","id":"c2","name":"g","input":{}}"#,
                "tool_use"), names: ["nn": "n.n"]),
        .init(
            "arguments that are cut",
            chat(
                #""content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": "}}]"#,
                "length"),
            answer(
                #"{"type":"tool_use","id":"c1","name":"f","input":{"arguments":"{\"x\": "}}"#,
                "max_tokens"), ["message.tool_calls.function.arguments: changed"]),
        .init(
            "no usage, with reasoning",
            chat(#""content":"a","reasoning_content":"r","annotations":[]"#, "stop", ""),
            answer(#"{"type":"text","text":"a"}"#, "end_turn", 0, 0, 0),
            ["message.reasoning_content: dropped"]),
    ]

    @Test(arguments: toMessages) func chatToMessages(_ row: AnswerRow) throws {
        let translation = try MessagesAnswer.translate(try JSONDocument(row.given), row.shape)
        #expect(String(decoding: translation.body, as: UTF8.self) == row.wanted)
        #expect(translation.losses.map(\.text) == row.losses)
    }

    static let noAnswers = [
        "[]", "{}", #"{"choices":[]}"#, #"{"choices":[{}]}"#, #"{"type":"message"}"#,
        #"{"type":"error","error":{}}"#, "null", #"{"choices":{"0":1}}"#,
    ]

    @Test(arguments: noAnswers) func refusesWhatIsNoAnswer(_ text: String) throws {
        let document = try JSONDocument(text)
        #expect(throws: AnswerFault.self) {
            try ChatAnswer.translate(document, AnswerShape(), created: 0)
        }
        #expect(throws: AnswerFault.self) { try MessagesAnswer.translate(document, AnswerShape()) }
    }

    // MARK: Errors

    struct ErrorRow: Sendable {
        var status: Int
        var body: String
        var wantedStatus: Int
        var wanted: String
    }

    static let chatErrors: [ErrorRow] = [
        ErrorRow(
            status: 529,
            body: #"{"type":"error","error":{"type":"overloaded_error","message":"O\n"}}"#,
            wantedStatus: 503,
            wanted:
                #"{"error":{"message":"O\n","type":"server_error","param":null,"code":"overloaded_error"}}"#
        ),
        ErrorRow(
            status: 401,
            body: #"{"type":"error","error":{"type":"authentication_error","message":"k"}}"#,
            wantedStatus: 401,
            wanted:
                #"{"error":{"message":"k","type":"authentication_error","param":null,"code":"authentication_error"}}"#
        ),
        ErrorRow(
            status: 429,
            body: #"{"type":"error","error":{"type":"rate_limit_error","message":"s"}}"#,
            wantedStatus: 429,
            wanted:
                #"{"error":{"message":"s","type":"rate_limit_error","param":null,"code":"rate_limit_error"}}"#
        ),
        ErrorRow(
            status: 502, body: "<html>secret</html>", wantedStatus: 502,
            wanted:
                #"{"error":{"message":"the provider answered with status 502 and no error that can be read","type":"server_error","param":null,"code":"invalid_answer"}}"#
        ),
    ]

    @Test(arguments: chatErrors) func errorsForChat(_ row: ErrorRow) {
        let (status, body) = ErrorBody.chat(fromMessages: Array(row.body.utf8), status: row.status)
        #expect(status == row.wantedStatus)
        #expect(String(decoding: body, as: UTF8.self) == row.wanted)
    }

    static let messagesErrors: [ErrorRow] = [
        ErrorRow(
            status: 503, body: #"{"error":{"message":"m","type":"server_error"}}"#,
            wantedStatus: 529,
            wanted:
                #"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":null}"#
        ),
        ErrorRow(
            status: 404, body: #"{"error":"model 'x' not found"}"#, wantedStatus: 404,
            wanted:
                #"{"type":"error","error":{"type":"not_found_error","message":"model 'x' not found"},"request_id":null}"#
        ),
        ErrorRow(
            status: 500, body: "", wantedStatus: 500,
            wanted:
                #"{"type":"error","error":{"type":"api_error","message":"the provider answered with status 500 and no error that can be read"},"request_id":null}"#
        ),
    ]

    @Test(arguments: messagesErrors) func errorsForMessages(_ row: ErrorRow) {
        let (status, body) = ErrorBody.messages(
            fromChat: Array(row.body.utf8), status: row.status)
        #expect(status == row.wantedStatus)
        #expect(String(decoding: body, as: UTF8.self) == row.wanted)
    }
}
