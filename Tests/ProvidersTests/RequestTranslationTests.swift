import Testing

@testable import Providers

/// One request, what it becomes, and what is lost of it.
struct RequestRow: CustomTestStringConvertible, Sendable {
    var name: String
    /// Members behind those that every request of the table has.
    var given: String
    var wanted: String
    var losses: [String] = []
    var testDescription: String { name }

    init(_ name: String, _ given: String, _ wanted: String, _ losses: [String] = []) {
        self.name = name
        self.given = given
        self.wanted = wanted
        self.losses = losses
    }
}

@Suite struct RequestTranslationTests {
    // MARK: Chat to messages

    static let hi = #""messages":[{"role":"user","content":"hi"}]"#
    static let hiBlocks = #""messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#
    static let tool = #"{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}"#
    static let toolSent = #"{"name":"f","input_schema":{"type":"object"}}"#

    static func turn(_ role: String, _ blocks: String...) -> String {
        let texts = blocks.map { $0.first == "{" ? $0 : #"{"type":"text","text":"\#($0)"}"# }
        return #"{"role":"\#(role)","content":[\#(texts.joined(separator: ","))]}"#
    }

    static func messages(_ turns: String...) -> String {
        #""messages":[\#(turns.joined(separator: ","))]"#
    }

    static let fromChat: [RequestRow] = [
        // Roles.
        .init("plain", hi, hiBlocks),
        .init(
            "system and developer",
            #""messages":[{"role":"system","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"}]},{"role":"user","content":"hi"}]"#,
            #""system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"# + hiBlocks),
        .init(
            "system behind the user",
            #""messages":[{"role":"user","content":"hi"},{"role":"system","content":"a"}]"#,
            #""system":[{"type":"text","text":"a"}],"# + hiBlocks, ["messages.system: changed"]),
        .init(
            "empty system",
            #""messages":[{"role":"system","content":" \n"},{"role":"user","content":"hi"}]"#,
            hiBlocks),
        .init(
            "system alone", #""messages":[{"role":"system","content":"a"}]"#,
            #""system":[{"type":"text","text":"a"}],"# + messages(turn("user", ".")),
            ["messages.user: defaulted"]),
        .init(
            "assistant first",
            #""messages":[{"role":"assistant","content":"a"},{"role":"user","content":"hi"}]"#,
            messages(turn("user", "."), turn("assistant", "a"), turn("user", "hi")),
            ["messages.user: defaulted"]),
        .init(
            "turns of one role",
            #""messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"},{"role":"assistant","content":"d"}]"#,
            messages(turn("user", "a", "b"), turn("assistant", "c", "d"))),
        .init(
            "assistant's white space at the end",
            #""messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c \n\t"}]"#,
            messages(turn("user", "a"), turn("assistant", "c"))),
        .init(
            "assistant's white space within",
            #""messages":[{"role":"user","content":"a"},{"role":"assistant","content":"c "},{"role":"user","content":"d "}]"#,
            messages(turn("user", "a"), turn("assistant", "c "), turn("user", "d "))),
        .init(
            "assistant of white space alone",
            #""messages":[{"role":"user","content":"a"},{"role":"assistant","content":" "}]"#,
            messages(turn("user", "a"))),
        .init(
            "name", #""messages":[{"role":"user","content":"hi","name":"bo"}]"#, hiBlocks,
            ["messages.name: dropped"]),
        // Parts.
        .init(
            "text parts, one empty",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":""},{"type":"text","text":"b"}]}]"#,
            messages(turn("user", "a", "b"))),
        .init(
            "nothing but empty parts",
            #""messages":[{"role":"user","content":[{"type":"text","text":""}]}]"#,
            messages(turn("user", ".")), ["messages.user: defaulted"]),
        .init(
            "no parts", #""messages":[{"role":"user","content":[]}]"#,
            messages(turn("user", ".")), ["messages.user: defaulted"]),
        .init(
            "unicode as it is spelt",
            #""messages":[{"role":"user","content":"é\u00e9\ud83d\ude00😀\"\\\/\n"}]"#,
            messages(turn("user", #"é\u00e9\ud83d\ude00😀\"\\\/\n"#))),
        .init(
            "half a surrogate pair", #""messages":[{"role":"user","content":"\ud83d"}]"#,
            messages(turn("user", #"\ud83d"#))),
        // Vision.
        .init(
            "image by https",
            #""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/a.png"}}]}]"#,
            messages(
                turn("user", #"{"type":"image","source":{"type":"url","url":"https://x/a.png"}}"#))),
        .init(
            "image by http",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"http://x/a.png"}}]}]"#,
            messages(turn("user", "a")), ["messages.content.image_url: dropped"]),
        .init(
            "image in base64, with a detail",
            #""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image\/PNG;base64,QUJD","detail":"low"}}]}]"#,
            messages(
                turn(
                    "user",
                    #"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}"#
                )),
            ["messages.content.image_url.detail: dropped"]),
        .init(
            "jpg is jpeg",
            #""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/jpg;base64,QUJD","detail":"auto"}}]}]"#,
            messages(
                turn(
                    "user",
                    #"{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"QUJD"}}"#
                ))),
        .init(
            "image of a type that only one side takes",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/tiff;base64,QUJD"}}]}]"#,
            messages(turn("user", "a")), ["messages.content.image_url: dropped"]),
        .init(
            "data URL that is not base64",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png,abc"}}]}]"#,
            messages(turn("user", "a")), ["messages.content.image_url: dropped"]),
        .init(
            "audio",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}}]}]"#,
            messages(turn("user", "a")), ["messages.content.input_audio: dropped"]),
        .init(
            "PDF",
            #""messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}}]}]"#,
            messages(
                turn(
                    "user",
                    #"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"QUJD"}}"#
                ))),
        .init(
            "file by id",
            #""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"file","file":{"file_id":"f1"}}]}]"#,
            messages(turn("user", "a")), ["messages.content.file: dropped"]),
        // Tools.
        .init("tools", hi + #","tools":[\#(tool)]"#, hiBlocks + #","tools":[\#(toolSent)]"#),
        .init(
            "tool without parameters, with a description",
            hi
                + #","tools":[{"type":"function","function":{"name":"f","description":"d","strict":true}}]"#,
            hiBlocks
                + #","tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{}}}]"#,
            ["tools.function.strict: dropped"]),
        .init(
            "tool of another type", hi + #","tools":[{"type":"custom","custom":{"name":"f"}}]"#,
            hiBlocks, ["tools: dropped"]),
        .init(
            "tool_choice auto", hi + #","tools":[\#(tool)],"tool_choice":"auto""#,
            hiBlocks + #","tools":[\#(toolSent)],"tool_choice":{"type":"auto"}"#),
        .init(
            "tool_choice required, one at a time",
            hi + #","tools":[\#(tool)],"tool_choice":"required","parallel_tool_calls":false"#,
            hiBlocks
                + #","tools":[\#(toolSent)],"tool_choice":{"type":"any","disable_parallel_tool_use":true}"#
        ),
        .init(
            "tool_choice none",
            hi + #","tools":[\#(tool)],"tool_choice":"none","parallel_tool_calls":false"#,
            hiBlocks + #","tools":[\#(toolSent)],"tool_choice":{"type":"none"}"#),
        .init(
            "tool_choice named",
            hi + #","tools":[\#(tool)],"tool_choice":{"type":"function","function":{"name":"f"}}"#,
            hiBlocks + #","tools":[\#(toolSent)],"tool_choice":{"type":"tool","name":"f"}"#),
        .init(
            "one at a time by default", hi + #","tools":[\#(tool)],"parallel_tool_calls":false"#,
            hiBlocks
                + #","tools":[\#(toolSent)],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}"#
        ),
        .init(
            "tool_choice of another kind",
            hi + #","tools":[\#(tool)],"tool_choice":{"type":"allowed_tools"}"#,
            hiBlocks + #","tools":[\#(toolSent)],"tool_choice":{"type":"auto"}"#,
            ["tool_choice: changed"]),
        .init(
            "tool_choice without tools", hi + #","tool_choice":"required""#, hiBlocks,
            ["tool_choice: dropped"]),
        .init(
            "names that the other side refuses",
            hi
                + #","tools":[{"type":"function","function":{"name":"a.b"}},{"type":"function","function":{"name":"a_b"}}],"tool_choice":{"type":"function","function":{"name":"a.b"}}"#,
            hiBlocks
                + #","tools":[{"name":"a_b_2","input_schema":{"type":"object","properties":{}}},{"name":"a_b","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"tool","name":"a_b_2"}"#
        ),
        .init(
            "parallel calls and their results",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1.0}"}},{"id":"c 2","type":"function","function":{"name":"f","arguments":""}}]},{"role":"tool","tool_call_id":"c1","content":"r1"},{"role":"tool","tool_call_id":"c 2","content":[{"type":"text","text":"r2"}]},{"role":"user","content":"go on"}]"#,
            messages(
                turn("user", "hi"),
                turn(
                    "assistant", #"{"type":"tool_use","id":"c1","name":"f","input":{"a":1.0}}"#,
                    #"{"type":"tool_use","id":"c_2","name":"f","input":{}}"#),
                turn(
                    "user", #"{"type":"tool_result","tool_use_id":"c1","content":"r1"}"#,
                    #"{"type":"tool_result","tool_use_id":"c_2","content":[{"type":"text","text":"r2"}]}"#,
                    "go on"))),
        .init(
            "arguments that are no JSON",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"t","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a"}}]},{"role":"tool","tool_call_id":"c","content":""}]"#,
            messages(
                turn("user", "hi"),
                turn(
                    "assistant", "t",
                    #"{"type":"tool_use","id":"c","name":"f","input":{"arguments":"{\"a"}}"#),
                turn("user", #"{"type":"tool_result","tool_use_id":"c"}"#)),
            ["messages.tool_calls.function.arguments: changed"]),
        .init(
            "arguments that are no object",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"[1]"}}]}]"#,
            messages(
                turn("user", "hi"),
                turn(
                    "assistant",
                    #"{"type":"tool_use","id":"c","name":"f","input":{"arguments":"[1]"}}"#)),
            ["messages.tool_calls.function.arguments: changed"]),
        .init(
            "the older functions",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"r"}],"functions":[{"name":"f"}],"function_call":"auto""#,
            hiBlocks,
            [
                "messages.function_call: dropped", "messages.function: dropped",
                "functions: dropped", "function_call: dropped",
            ]),
        .init(
            "refusal in the past",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","refusal":"no"},{"role":"assistant","content":[{"type":"refusal","refusal":"never"}]},{"role":"user","content":"b"}]"#,
            messages(turn("user", "hi"), turn("assistant", "no", "never"), turn("user", "b")),
            ["messages.refusal: changed"]),
        .init(
            "reasoning in the past",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a","reasoning_content":"x"},{"role":"user","content":"b"}]"#,
            messages(turn("user", "hi"), turn("assistant", "a"), turn("user", "b")),
            ["messages.reasoning_content: dropped"]),
        // A form for the answer.
        .init(
            "json_schema",
            hi
                + #","response_format":{"type":"json_schema","json_schema":{"name":"out","strict":true,"schema":{"type":"object","properties":{}}}}"#,
            hiBlocks
                + #","tools":[{"name":"out","description":"Gives the answer in the form that was asked for.","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"tool","name":"out"}"#,
            ["response_format.json_schema.strict: dropped"]),
        .init(
            "json_schema beside tools",
            hi
                + #","tools":[\#(tool)],"response_format":{"type":"json_schema","json_schema":{"name":"f","description":"d","schema":{"type":"object"}}}"#,
            hiBlocks
                + #","tools":[\#(toolSent),{"name":"f_2","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"}"#,
            ["tool_choice: changed"]),
        .init(
            "json_schema that is no object's",
            hi
                + #","response_format":{"type":"json_schema","json_schema":{"name":"out","schema":{"type":"array"}}}"#,
            hiBlocks, ["response_format: dropped"]),
        .init(
            "json_object", hi + #","response_format":{"type":"json_object"}"#, hiBlocks,
            ["response_format: dropped"]),
        .init("text", hi + #","response_format":{"type":"text"}"#, hiBlocks),
        // Sampling and limits.
        .init(
            "temperature and top_p as spelt", hi + #","temperature":0.70,"top_p":9e-1"#,
            hiBlocks + #","temperature":0.70,"top_p":9e-1"#),
        .init(
            "temperature too high", hi + #","temperature":1.5"#, hiBlocks + #","temperature":1"#,
            ["temperature: clamped"]),
        .init("temperature null", hi + #","temperature":null,"stop":null,"tools":null"#, hiBlocks),
        .init("stop, one", hi + #","stop":"END""#, hiBlocks + #","stop_sequences":["END"]"#),
        .init(
            "stop, some of white space", hi + #","stop":["\n","a"," "]"#,
            hiBlocks + #","stop_sequences":["a"]"#, ["stop: dropped"]),
        .init("stop of white space alone", hi + #","stop":"\n\n""#, hiBlocks, ["stop: dropped"]),
        .init("stream", hi + #","stream":true"#, hiBlocks + #","stream":true"#),
        .init("no stream", hi + #","stream":false"#, hiBlocks),
        .init(
            "user", hi + #","user":"u-123""#, hiBlocks + #","metadata":{"user_id":"u-123"}"#),
        .init("user by address", hi + #","user":"a@b.example""#, hiBlocks, ["user: dropped"]),
        .init("user by phone", hi + #","user":"+49 (30) 123-456""#, hiBlocks, ["user: dropped"]),
        .init(
            "what has no place",
            hi
                + #","n":2,"seed":7,"logprobs":true,"top_logprobs":2,"logit_bias":{"1":2},"presence_penalty":0.5,"frequency_penalty":1,"reasoning_effort":"low","metadata":{"a":"b"},"store":true,"service_tier":"flex","new_thing":1"#,
            hiBlocks,
            [
                "n: dropped", "seed: dropped", "logprobs: dropped", "top_logprobs: dropped",
                "logit_bias: dropped", "presence_penalty: dropped", "frequency_penalty: dropped",
                "reasoning_effort: dropped", "metadata: dropped", "store: dropped",
                "service_tier: dropped", "new_thing: dropped",
            ]),
        .init(
            "names that are no names",
            hi
                + #","my mail is eve@example.com":1,"n4111111111111111":1,"Sk-Key":1,"#
                + #""a_name_that_is_longer_than_any_api_has_them":1"#, hiBlocks,
            ["(other).com: dropped", "(other): dropped"]),
        .init(
            "what asks for what comes anyway",
            hi
                + #","n":1,"logprobs":false,"logit_bias":{},"presence_penalty":0,"frequency_penalty":0.0,"store":false,"service_tier":"auto","modalities":["text"],"metadata":{},"seed":null"#,
            hiBlocks),
    ]

    @Test(arguments: fromChat) func chatToMessages(_ row: RequestRow) throws {
        let document = try JSONDocument(#"{"model":"m","max_tokens":9,"# + row.given + "}")
        let translation = try ChatToMessages.translate(document, TranslationSettings())
        #expect(
            String(decoding: translation.body, as: UTF8.self)
                == #"{"model":"m","max_tokens":9,"# + row.wanted + "}")
        #expect(translation.losses.map(\.text) == row.losses)
        // What is written can be read, and members stand once.
        #expect(try JSONDocument(translation.body).repeatedNames == [])
    }

    @Test func modelAndMaxTokens() throws {
        var settings = TranslationSettings(model: "claude \"x\"")
        settings.maxTokens = 77
        let bare = try ChatToMessages.translate(
            try JSONDocument(#"{"model":"m",\#(Self.hi)}"#), settings)
        #expect(
            String(decoding: bare.body, as: UTF8.self)
                == #"{"model":"claude \"x\"","max_tokens":77,\#(Self.hiBlocks)}"#)
        #expect(bare.losses.map(\.text) == ["max_tokens: defaulted"])
        let both = try ChatToMessages.translate(
            try JSONDocument(
                #"{"max_tokens":1,"max_completion_tokens":2,"model":"m",\#(Self.hi)}"#), settings)
        #expect(try JSONDocument(both.body).root["max_tokens"]?.integer == 2)
        #expect(both.losses == [])
    }

    @Test func theWayBackIsKept() throws {
        let document = try JSONDocument(
            #"{"model":"m","max_tokens":9,\#(Self.hi),"stream":true,"stream_options":{"include_usage":true},"tools":[{"type":"function","function":{"name":"a.b"}}],"response_format":{"type":"json_schema","json_schema":{"name":"ä","schema":{"type":"object"}}}}"#
        )
        let shape = try ChatToMessages.translate(document, TranslationSettings()).shape
        #expect(shape.streams && shape.includesUsage)
        #expect(shape.toolNames == ["a_b": "a.b"])
        #expect(shape.schemaTool == "_")
    }

    static let refusedChat: [(String, String?)] = [
        ("[]", nil), (#"{"model":1,\#(hi)}"#, "model"), (#"{"model":"m"}"#, "messages"),
        (#"{"model":"m","messages":[]}"#, "messages"),
        (#"{"model":"m","messages":{}}"#, "messages"),
        (#"{"model":"m","messages":[1]}"#, "messages"),
        (#"{"model":"m","messages":[{"role":"king","content":"a"}]}"#, "messages.role"),
        (#"{"model":"m","messages":[{"role":"user"}]}"#, "messages.content"),
        (#"{"model":"m","messages":[{"role":"user","content":[1]}]}"#, "messages.content.type"),
        (
            #"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "messages.content.text"
        ),
        (#"{"model":"m","messages":[{"role":"tool","content":"a"}]}"#, "messages"),
        (
            #"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}"#,
            "messages.tool_calls"
        ),
        (#"{"model":"m",\#(hi),"max_tokens":0}"#, "max_tokens"),
        (#"{"model":"m",\#(hi),"max_tokens":"9"}"#, "max_tokens"),
        (#"{"model":"m",\#(hi),"temperature":"hot"}"#, "temperature"),
        (#"{"model":"m",\#(hi),"stop":[1]}"#, "stop"),
        (#"{"model":"m",\#(hi),"stream":"yes"}"#, "stream"),
        (#"{"model":"m",\#(hi),"tools":{}}"#, "tools"),
        (#"{"model":"m",\#(hi),"tools":[{"type":"function"}]}"#, "tools"),
        (
            #"{"model":"m",\#(hi),"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]}"#,
            "tools"
        ),
        (#"{"model":"m",\#(hi),"response_format":"json"}"#, "response_format"),
    ]

    @Test(arguments: refusedChat) func refusesChat(_ text: String, _ param: String?) throws {
        let document = try JSONDocument(text)
        let fault = #expect(throws: RequestFault.self) {
            try ChatToMessages.translate(document, TranslationSettings())
        }
        #expect(fault?.param == param)
    }

    /// A thousand tools whose names all have to be changed, to the same.
    @Test func thousandTools() throws {
        let names = (0..<1_000).map { _ in "é" } + (0..<1_000).map { "\($0).é" }
        let tools = names.map { #"{"type":"function","function":{"name":"\#($0)"}}"# }
        let document = try JSONDocument(
            #"{"model":"m",\#(Self.hi),"tools":[\#(tools.joined(separator: ","))]}"#)
        let translation = try ChatToMessages.translate(document, TranslationSettings())
        let sent = try JSONDocument(translation.body)
        #expect(sent.root["tools"]?.count == 2_000)
        #expect(translation.shape.toolNames.count == 1_001)
    }

    /// Arguments nested deep are passed on as text: neither a crash nor a fault of the request.
    @Test func deepArguments() throws {
        let deep = String(repeating: "[", count: 10_000)
        let document = try JSONDocument(
            #"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"\#(deep)"}}]}]}"#
        )
        let translation = try ChatToMessages.translate(document, TranslationSettings())
        #expect(
            translation.losses.map(\.text).contains(
                "messages.tool_calls.function.arguments: changed"))
    }

    // MARK: Messages to chat

    static let chatHi = hi

    static let fromMessages: [RequestRow] = [
        .init("plain", hi, chatHi),
        .init(
            "system text", #""system":"a",\#(hi)"#,
            #""messages":[{"role":"system","content":"a"},{"role":"user","content":"hi"}]"#),
        .init(
            "system blocks",
            #""system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}],\#(hi)"#,
            #""messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":"hi"}]"#,
            ["system.cache_control: dropped"]),
        .init("empty system", #""system":"",\#(hi)"#, chatHi),
        .init(
            "text blocks",
            #""messages":[{"role":"user","content":[{"type":"text","text":"é\u00e9"},{"type":"text","text":""}]}]"#,
            #""messages":[{"role":"user","content":[{"type":"text","text":"é\u00e9"}]}]"#),
        .init(
            "images",
            #""messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},{"type":"image","source":{"type":"url","url":"https://x/a"}},{"type":"image","source":{"type":"file","file_id":"f"}}]}]"#,
            #""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},{"type":"image_url","image_url":{"url":"https://x/a"}}]}]"#,
            ["messages.content.image: dropped"]),
        .init(
            "documents",
            #""messages":[{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"t"}},{"type":"document","title":"T","source":{"type":"base64","media_type":"application/pdf","data":"QUJD"}},{"type":"document","source":{"type":"url","url":"https://x"}}]}]"#,
            #""messages":[{"role":"user","content":[{"type":"text","text":"t"},{"type":"file","file":{"filename":"T","file_data":"data:application/pdf;base64,QUJD"}}]}]"#,
            ["messages.content.document: dropped"]),
        .init(
            "assistant",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a"},{"role":"user","content":"b"}]"#,
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a"},{"role":"user","content":"b"}]"#
        ),
        .init(
            "thinking",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"s"},{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#,
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ab"}]"#,
            ["messages.content.thinking: dropped"]),
        .init(
            "parallel calls and their results",
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{"a":"\""}},{"type":"tool_use","id":"t2","name":"g","input":{}}]},{"role":"user","content":[{"type":"text","text":"see"},{"type":"tool_result","tool_use_id":"t1","content":"r"},{"type":"tool_result","tool_use_id":"t2","is_error":true,"content":[{"type":"text","text":"x"},{"type":"text","text":"y"},{"type":"image","source":{}}]}]}]"#,
            #""messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":\"\\\"\"}"}},{"id":"t2","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"t1","content":"r"},{"role":"tool","tool_call_id":"t2","content":"xy"},{"role":"user","content":[{"type":"text","text":"see"}]}]"#,
            [
                "messages.content.tool_result.is_error: dropped",
                "messages.content.tool_result.image: dropped",
            ]),
        .init(
            "result without content",
            #""messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1"}]}]"#,
            #""messages":[{"role":"tool","tool_call_id":"t1","content":""}]"#),
        .init(
            "tools",
            hi
                + #","tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}]"#,
            chatHi
                + #","tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}]"#,
            ["tools.web_search_20250305: dropped"]),
        .init(
            "tool_choice any, one at a time",
            hi
                + #","tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}"#,
            chatHi
                + #","tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"required","parallel_tool_calls":false"#
        ),
        .init(
            "tool_choice named",
            hi
                + #","tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"f"}"#,
            chatHi
                + #","tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":{"type":"function","function":{"name":"f"}}"#
        ),
        .init(
            "tool_choice auto and none",
            hi + #","tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"none"}"#,
            chatHi
                + #","tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"none""#
        ),
        .init(
            "tool_choice without tools", hi + #","tool_choice":{"type":"auto"}"#, chatHi,
            ["tool_choice: dropped"]),
        .init(
            "a name that is too long",
            hi
                + #","tools":[{"name":"\#(String(repeating: "n", count: 100))","input_schema":{}}]"#,
            chatHi
                + #","tools":[{"type":"function","function":{"name":"\#(String(repeating: "n", count: 64))","parameters":{}}}]"#
        ),
        .init(
            "sampling",
            hi + #","temperature":0.50,"top_p":0.9,"top_k":5,"stop_sequences":["a","b"]"#,
            chatHi + #","temperature":0.50,"top_p":0.9,"stop":["a","b"]"#, ["top_k: dropped"]),
        .init(
            "too many stop sequences", hi + #","stop_sequences":["a","b","c","d","e"]"#,
            chatHi + #","stop":["a","b","c","d"]"#, ["stop_sequences: clamped"]),
        .init("no stop sequences", hi + #","stop_sequences":[]"#, chatHi),
        .init(
            "stream", hi + #","stream":true"#,
            chatHi + #","stream":true,"stream_options":{"include_usage":true}"#),
        .init(
            "user", hi + #","metadata":{"user_id":"u","x":1}"#, chatHi + #","user":"u""#,
            ["metadata.x: dropped"]),
        .init(
            "what has no place",
            hi
                + #","thinking":{"type":"enabled","budget_tokens":1024},"container":"c","service_tier":"standard_only""#,
            chatHi, ["thinking: dropped", "container: dropped", "service_tier: dropped"]),
        .init(
            "what asks for what comes anyway",
            hi + #","thinking":{"type":"disabled"},"service_tier":"auto","stream":false"#, chatHi),
    ]

    @Test(arguments: fromMessages) func messagesToChat(_ row: RequestRow) throws {
        let document = try JSONDocument(#"{"model":"m","max_tokens":9,"# + row.given + "}")
        let translation = try MessagesToChat.translate(document, TranslationSettings())
        #expect(
            String(decoding: translation.body, as: UTF8.self)
                == #"{"model":"m","max_completion_tokens":9,"# + row.wanted + "}")
        #expect(translation.losses.map(\.text) == row.losses)
        #expect(try JSONDocument(translation.body).repeatedNames == [])
    }

    static let refusedMessages: [(String, String?)] = [
        ("1", nil), (#"{"max_tokens":1,\#(hi)}"#, "model"),
        (#"{"model":"m",\#(hi)}"#, "max_tokens"),
        (#"{"model":"m","max_tokens":1,"messages":[]}"#, "messages"),
        (#"{"model":"m","max_tokens":1,"messages":[{"role":"user"}]}"#, "messages"),
        (
            #"{"model":"m","max_tokens":1,"messages":[{"role":"system","content":"a"}]}"#,
            "messages.role"
        ),
        (
            #"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{}]}]}"#,
            "messages.content"
        ),
        (#"{"model":"m","max_tokens":1,\#(hi),"system":1}"#, "system"),
        (#"{"model":"m","max_tokens":1,\#(hi),"tools":[{}]}"#, "tools"),
        (
            #"{"model":"m","max_tokens":1,\#(hi),"tools":[{"name":"f"}],"tool_choice":"auto"}"#,
            "tool_choice"
        ),
        (#"{"model":"m","max_tokens":1,\#(hi),"stop_sequences":"a"}"#, "stop_sequences"),
        (#"{"model":"m","max_tokens":1,\#(hi),"stream":1}"#, "stream"),
        (#"{"model":"m","max_tokens":1,\#(hi),"top_p":"1"}"#, "top_p"),
    ]

    @Test(arguments: refusedMessages) func refusesMessages(
        _ text: String, _ param: String?
    ) throws {
        let document = try JSONDocument(text)
        let fault = #expect(throws: RequestFault.self) {
            try MessagesToChat.translate(document, TranslationSettings())
        }
        #expect(fault?.param == param)
    }
}
