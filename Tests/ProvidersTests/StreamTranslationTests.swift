import Testing

@testable import Providers

/// One stream of a provider as a list of data objects, and the client's as another.
struct StreamRow: CustomTestStringConvertible, Sendable {
    var name: String
    var given: [String]
    var wanted: [String]
    var step: StreamStep
    var losses: [String] = []
    var shape: AnswerShape
    var testDescription: String { name }

    init(
        _ name: String, _ given: [String], _ wanted: [String], _ step: StreamStep = .ended,
        losses: [String] = [], usage: Bool = false, names: [String: String] = [:],
        schema: String? = nil
    ) {
        self.name = name
        self.given = given
        self.wanted = wanted
        self.step = step
        self.losses = losses
        shape = AnswerShape()
        shape.streams = true
        shape.includesUsage = usage
        shape.toolNames = names
        shape.schemaTool = schema
    }
}

@Suite struct StreamTranslationTests {
    // MARK: Messages to chat

    static let start =
        #"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}"#
    static let stop = #"{"type":"message_stop"}"#

    static func block(_ index: Int, _ block: String, _ deltas: String...) -> [String] {
        [#"{"type":"content_block_start","index":\#(index),"content_block":\#(block)}"#]
            + deltas.map {
                #"{"type":"content_block_delta","index":\#(index),"delta":\#($0)}"#
            } + [#"{"type":"content_block_stop","index":\#(index)}"#]
    }

    static func text(_ text: String) -> String { #"{"type":"text_delta","text":"\#(text)"}"# }
    static func json(_ text: String) -> String {
        #"{"type":"input_json_delta","partial_json":"\#(text)"}"#
    }

    static func delta(_ reason: String) -> String {
        #"{"type":"message_delta","delta":{"stop_reason":"\#(reason)","stop_sequence":null},"usage":{"output_tokens":7}}"#
    }

    static func chunk(_ delta: String, _ finish: String = "null", usage: Bool = false) -> String {
        #"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":9,"model":"c","choices":[{"index":0,"delta":{\#(delta)},"logprobs":null,"finish_reason":\#(finish)}]\#(usage ? ",\"usage\":null" : "")}"#
    }

    static let role = chunk(#""role":"assistant","content":"","refusal":null"#)
    static func call(_ body: String) -> String { chunk(#""tool_calls":[{\#(body)}]"#) }
    static func error(_ message: String, _ code: String) -> String {
        #"{"error":{"message":"\#(message)","type":"upstream_error","param":null,"code":"\#(code)"}}"#
    }
    static let cut = error("the provider's stream ended before the answer did", "stream_cut")

    static let toChat: [StreamRow] = [
        .init(
            "text",
            [start] + block(0, #"{"type":"text","text":""}"#, text("a"), text(#"é\u00e9😀"#))
                + [delta("end_turn"), stop],
            [
                role, chunk(#""content":"a""#), chunk(#""content":"é\u00e9😀""#),
                chunk("", #""stop""#), "[DONE]",
            ]),
        .init(
            "usage and pings",
            [start, #"{"type":"ping"}"#] + block(0, #"{"type":"text","text":"x"}"#)
                + [delta("max_tokens"), stop],
            [
                chunk(#""role":"assistant","content":"","refusal":null"#, usage: true), "#ping",
                chunk(#""content":"x""#, usage: true), chunk("", #""length""#, usage: true),
                #"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":9,"model":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
                "[DONE]",
            ], usage: true),
        .init(
            "parallel calls, one without arguments",
            [start]
                + block(0, #"{"type":"text","text":""}"#, text("t"))
                + block(
                    1, #"{"type":"tool_use","id":"t1","name":"a_b","input":{}}"#, json(""),
                    json(#"{\"x\":"#), json("1}"))
                + block(2, #"{"type":"tool_use","id":"t2","name":"g","input":{}}"#)
                + [delta("tool_use"), stop],
            [
                role, chunk(#""content":"t""#),
                call(
                    #""index":0,"id":"t1","type":"function","function":{"name":"a.b","arguments":""}"#
                ),
                call(#""index":0,"function":{"arguments":"{\"x\":"}"#),
                call(#""index":0,"function":{"arguments":"1}"}"#),
                call(
                    #""index":1,"id":"t2","type":"function","function":{"name":"g","arguments":""}"#
                ),
                call(#""index":1,"function":{"arguments":"{}"}"#), chunk("", #""tool_calls""#),
                "[DONE]",
            ], names: ["a_b": "a.b"]),
        .init(
            "the form that was asked for",
            [start]
                + block(
                    0, #"{"type":"tool_use","id":"t1","name":"out","input":{}}"#,
                    json(#"{\"x\""#), json(":1}")) + [delta("tool_use"), stop],
            [
                role, chunk(#""content":"{\"x\"""#), chunk(#""content":":1}""#),
                chunk("", #""stop""#), "[DONE]",
            ], schema: "out"),
        .init(
            "thinking, and what has no place",
            [start]
                + block(
                    0, #"{"type":"thinking","thinking":""}"#,
                    #"{"type":"thinking_delta","thinking":"t"}"#,
                    #"{"type":"signature_delta","signature":"s"}"#)
                + block(1, #"{"type":"web_search_tool_result"}"#, text("lost"))
                + block(
                    2, #"{"type":"text","text":""}"#,
                    #"{"type":"citations_delta","citation":{}}"#, text("a"))
                + [#"{"type":"new_event"}"#, delta("refusal"), stop],
            [
                role, chunk(#""reasoning_content":"t""#), chunk(#""content":"a""#),
                chunk("", #""content_filter""#), "[DONE]",
            ],
            losses: [
                "content.web_search_tool_result: dropped", "content.text.citations: dropped",
            ]),
        .init("cut at once", [], [cut], .failed),
        .init("cut behind the start", [start], [role, cut], .failed),
        .init(
            "cut before the stop",
            [start] + block(0, #"{"type":"text","text":""}"#, text("a")) + [delta("end_turn")],
            [role, chunk(#""content":"a""#), chunk("", #""stop""#), cut], .failed),
        .init(
            "no reason", [start, stop],
            [role, error("the provider's stream ended without a reason", "stream_cut")], .failed),
        .init(
            "error within",
            [
                start,
                #"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                stop,
            ], [role, error("Overloaded", "overloaded_error")], .failed),
        .init(
            "no JSON", [start, "<html>"],
            [role, error("an event of the provider's cannot be read", "invalid_answer")], .failed),
    ]

    @Test(arguments: toChat) func messagesToChat(_ row: StreamRow) {
        let given = row.given.map { "event: x\ndata: \($0)\n\n" }.joined()
        expect(row, given) { pieces in
            var stream = ChatStream(row.shape, created: 9)
            var output: [UInt8] = []
            var step = StreamStep.goesOn
            for piece in pieces { step = piece.withUnsafeBytes { stream.take($0, into: &output) } }
            if step == .goesOn { step = stream.end(into: &output) }
            return (output, step, stream.losses)
        }
    }

    /// The whole stream, at every split of it, and byte by byte.
    func expect(
        _ row: StreamRow, _ given: String,
        _ translate: ([[UInt8]]) -> ([UInt8], StreamStep, [TranslationLoss])
    ) {
        let bytes = Array(given.utf8)
        let (output, step, losses) = translate([bytes])
        #expect(step == row.step)
        #expect(losses.map(\.text) == row.losses)
        var reader = EventStreamReader()
        let seen = EventStreamTests.read([output], &reader).map { event in
            event.hasPrefix("#")
                ? "#" + event.dropFirst().drop { $0 == " " }
                : String(event[event.index(after: event.firstIndex(of: ":")!)...])
        }
        #expect(seen == row.wanted)
        #expect(reader.isBetweenEvents)
        for split in 0...bytes.count {
            let (again, stepAgain, _) = translate([
                Array(bytes[..<split]), Array(bytes[split...]),
            ])
            #expect(again == output && stepAgain == step, "split at \(split)")
        }
        let (single, _, _) = translate(bytes.map { [$0] })
        #expect(single == output)
    }

    // MARK: Chat to messages

    static func piece(_ delta: String, _ finish: String = "null", _ more: String = "") -> String {
        #"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":9,"model":"g","choices":[{"index":0,"delta":{\#(delta)},"finish_reason":\#(finish)}]\#(more)}"#
    }

    static let began =
        #"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"g","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"#

    static func ended(_ reason: String, _ input: Int = 0, _ output: Int = 0) -> [String] {
        [
            #"{"type":"message_delta","delta":{"stop_reason":"\#(reason)","stop_sequence":null},"usage":{"input_tokens":\#(input),"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":\#(output)}}"#,
            stop,
        ]
    }

    static func failed(_ message: String) -> String {
        #"{"type":"error","error":{"type":"api_error","message":"\#(message)"},"request_id":null}"#
    }
    static let messagesCut = failed("the provider's stream ended before the answer did")

    static let toMessages: [StreamRow] = [
        .init(
            "text and usage",
            [
                piece(#""role":"assistant","content":"""#), piece(#""content":"aé\u00e9""#),
                piece("", #""stop""#),
                #"{"id":"chatcmpl-1","model":"g","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#,
                "[DONE]",
            ],
            [began] + block(0, #"{"type":"text","text":""}"#, text(#"aé\u00e9"#))
                + ended("end_turn", 5, 7)),
        .init(
            "what Azure says of the prompt first",
            [
                #"{"id":"","model":"","created":0,"choices":[],"prompt_filter_results":[]}"#,
                piece(#""content":"a""#), piece("", #""stop""#), "[DONE]",
            ],
            [began] + block(0, #"{"type":"text","text":""}"#, text("a")) + ended("end_turn")),
        .init(
            "parallel calls",
            [
                piece(#""role":"assistant","content":null"#), piece(#""content":"t""#),
                piece(
                    #""tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"nn","arguments":""}}]"#
                ),
                piece(#""tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]"#),
                piece(
                    #""tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]"#
                ),
                piece("", #""tool_calls""#), "[DONE]",
            ],
            [began] + block(0, #"{"type":"text","text":""}"#, text("t"))
                + block(
                    1, #"{"type":"tool_use","id":"c1","name":"n.n","input":{}}"#,
                    json(#"{\"x\":1}"#))
                + block(
                    2, #"{"type":"tool_use","id":"c2","name":"g","input":{}}"#, json("{}"))
                + ended("tool_use"), names: ["nn": "n.n"]),
        .init(
            "refusal",
            [piece(#""refusal":"no""#), piece("", #""stop""#), "[DONE]"],
            [began] + block(0, #"{"type":"text","text":""}"#, text("no")) + ended("refusal")),
        .init(
            "several choices and reasoning",
            [
                piece(#""reasoning_content":"r""#),
                #"{"choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"stop"}]}"#,
                piece(#""content":"a""#, #""length""#), "[DONE]",
            ],
            [began] + block(0, #"{"type":"text","text":""}"#, text("a")) + ended("max_tokens"),
            losses: ["delta.reasoning_content: dropped", "choices: dropped"]),
        .init("cut at once", [], [messagesCut], .failed),
        .init(
            "cut before [DONE]", [piece(#""content":"a""#, #""stop""#)],
            [began] + block(0, #"{"type":"text","text":""}"#, text("a")).dropLast()
                + [messagesCut], .failed),
        .init(
            "no reason", [piece(#""content":"a""#), "[DONE]"],
            [began] + block(0, #"{"type":"text","text":""}"#, text("a")).dropLast()
                + [failed("the provider's stream ended without a reason")], .failed),
        .init(
            "error within", [piece(""), #"{"error":{"message":"slow","type":"server_error"}}"#],
            [began, failed("slow")], .failed),
        .init(
            "no JSON", ["{"], [failed("an event of the provider's cannot be read")], .failed),
        .init(
            "HTML", ["<html>"], [failed("an event of the provider's cannot be read")], .failed),
    ]

    @Test(arguments: toMessages) func chatToMessages(_ row: StreamRow) {
        expect(row, row.given.map { "data: \($0)\n\n" }.joined()) { pieces in
            var stream = MessagesStream(row.shape)
            var output: [UInt8] = []
            var step = StreamStep.goesOn
            for piece in pieces { step = piece.withUnsafeBytes { stream.take($0, into: &output) } }
            if step == .goesOn { step = stream.end(into: &output) }
            return (output, step, stream.losses)
        }
    }

    // MARK: What never ends

    @Test func aStreamThatNeverEndsIsBounded() {
        var shape = AnswerShape()
        shape.streams = true
        var chat = ChatStream(shape, created: 9)
        var messages = MessagesStream(shape)
        let piece = [UInt8](repeating: 0x61, count: 1 << 20)
        var output: [UInt8] = []
        var steps: [StreamStep] = []
        for _ in 0..<8 {
            steps = piece.withUnsafeBytes {
                [chat.take($0, into: &output), messages.take($0, into: &output)]
            }
        }
        #expect(steps == [.failed, .failed])
        #expect(output.count < 1_000)
    }

    @Test func tooManyCallsAreAFault() {
        var stream = ChatStream(AnswerShape(), created: 9)
        var output: [UInt8] = []
        var given = "data: \(Self.start)\n\n"
        for index in 0...Limits.blocksMax {
            given +=
                "data: {\"type\":\"content_block_start\",\"index\":\(index),\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\"}}\n\n"
        }
        let step = Array(given.utf8).withUnsafeBytes { stream.take($0, into: &output) }
        #expect(step == .failed)
    }
}
