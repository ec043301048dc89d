import CoreLoop
import Providers
import Testing

@testable import Mock

@Suite struct MockAPITests {
    static func api(_ dialect: Dialect, _ change: (inout MockOptions) -> Void = { _ in }) -> MockAPI
    {
        var options = MockOptions(dialect, listen: SocketAddress("127.0.0.1:0")!)
        change(&options)
        return MockAPI(options, now: Instant(nanoseconds: 0))
    }

    static func request(
        _ path: String, _ body: String, method: String = "POST",
        fields: [(String, String)] = [
            ("authorization", "Bearer k"), ("anthropic-version", "2023-06-01"),
        ]
    ) -> MockRequest {
        MockRequest(
            method: method, path: path, fields: fields.map { (name: $0.0, value: $0.1) },
            body: Array(body.utf8))
    }

    static func ask(
        _ api: inout MockAPI, _ request: MockRequest, atMs: UInt64 = 0
    ) -> MockReply {
        api.answer(
            request, now: Instant(nanoseconds: atMs * 1_000_000), wallMs: 1_700_000_000_000)
    }

    static let chat = #"{"model":"m","messages":[{"role":"user","content":"What is Kubernetes?"}]"#

    @Test func sameSeedSameWords() throws {
        func text(_ dialect: Dialect, _ seed: UInt64, _ body: String) throws -> String {
            var api = Self.api(dialect) { $0.seed = seed }
            let path = dialect == .openAI ? "/v1/chat/completions" : "/v1/messages"
            let reply = Self.ask(&api, Self.request(path, body))
            let summary = AnswerSummary(try JSONDocument(reply.body))
            return try #require(summary?.text)
        }
        let body = Self.chat + #","max_tokens":500}"#
        let first = try text(.openAI, 1, body)
        #expect(first == (try text(.openAI, 1, body)))
        #expect(first != (try text(.openAI, 2, body)))
        #expect(first != (try text(.anthropic, 1, body)))
        #expect(first.contains("kubernetes"))
    }

    @Test func tokensJoinToTheText() {
        for text in [
            "", "a", "Hello there, wörld of 🙂🙂 and\nlines", "x" + String(repeating: "é", count: 50),
        ] {
            let tokens = MockText.tokens(text)
            #expect(tokens.joined() == text)
            #expect(!tokens.contains(""))
        }
    }

    /// Whole and streamed say the same, to the token and the call.
    @Test(arguments: [Dialect.openAI, .anthropic]) func wholeAndStreamed(_ dialect: Dialect) throws
    {
        let tool =
            dialect == .openAI
            ? #"{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"array","items":{"type":"integer"}}}}}}"#
            : #"{"name":"get_weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}"#
        let path = dialect == .openAI ? "/v1/chat/completions" : "/v1/messages"
        for text in ["What is Kubernetes?", "Please call get_weather for me."] {
            let body =
                #"{"model":"m","max_tokens":900,"messages":[{"role":"user","content":"\#(text)"}],"tools":[\#(tool)]"#
            var api = Self.api(dialect)
            let whole = Self.ask(&api, Self.request(path, body + "}"))
            let more = dialect == .openAI ? #","stream_options":{"include_usage":true}"# : ""
            let streamed = Self.ask(&api, Self.request(path, body + #","stream":true\#(more)}"#))
            var summary = StreamSummary(dialect)
            for event in streamed.events { event.withUnsafeBytes { summary.take($0) } }
            var wanted = try #require(AnswerSummary(try JSONDocument(whole.body)))
            // Ids and the time differ, what is compared does not.
            wanted.fingerprint = summary.answer.fingerprint
            #expect(summary.isWhole)
            #expect(summary.answer == wanted)
            #expect(wanted.toolCalls.isEmpty == (text == "What is Kubernetes?"))
        }
    }

    @Test func limitsAndStops() throws {
        var api = Self.api(.openAI)
        func answer(_ members: String) throws -> AnswerSummary {
            let reply = Self.ask(
                &api, Self.request("/v1/chat/completions", Self.chat + members + "}"))
            return try #require(AnswerSummary(try JSONDocument(reply.body)))
        }
        let short = try answer(#","max_tokens":3"#)
        #expect(short.finishReason == .length && short.usage?.output == 3)
        let whole = try answer("")
        let stopped = try answer(#","stop":"kubernetes""#)
        #expect(stopped.finishReason == .stop)
        #expect(whole.text.hasPrefix(stopped.text) && !stopped.text.contains("kubernetes"))
    }

    @Test func keysAndFaults() {
        var api = Self.api(.openAI) { $0.key = "right" }
        let path = "/v1/chat/completions"
        #expect(Self.ask(&api, Self.request(path, "{}", fields: [])).status == 401)
        #expect(Self.ask(&api, Self.request(path, "{}")).status == 401)
        api = Self.api(.openAI)
        #expect(Self.ask(&api, Self.request("/v2", "{}")).status == 404)
        #expect(Self.ask(&api, Self.request(path, "<")).status == 400)
        let failing = #"{"model":"flaky-503","messages":[{"role":"user","content":"a"}]}"#
        let statuses = (0..<4).map { _ in Self.ask(&api, Self.request(path, failing)).status }
        #expect(statuses == [503, 200, 503, 200])
    }

    @Test func rateLimits() {
        var api = Self.api(.anthropic) { $0.requestsPerMinute = 2 }
        let body = #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]}"#
        let request = Self.request("/v1/messages", body)
        let replies = [0, 1_000, 2_000, 61_000].map { Self.ask(&api, request, atMs: $0) }
        #expect(replies.map(\.status) == [200, 200, 429, 200])
        #expect(replies[2].fields.contains { $0.0 == "retry-after" && $0.1 == "58" })
        #expect(
            replies[0].fields.contains {
                $0.0 == "anthropic-ratelimit-requests-remaining" && $0.1 == "1"
            })
    }

    static let refusedByAnthropic = [
        #"{"max_tokens":5}"#, #"{"model":"m"}"#, #"{"model":"m","max_tokens":5,"messages":[]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":"a"}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":""}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":" "}]}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b "}]}"#,
        #"{"model":"m","max_tokens":5,"temperature":1.1,"messages":[{"role":"user","content":"a"}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x"}]}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"tools":[{"name":"a.b","input_schema":{"type":"object"}}]}"#,
        #"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"tools":[{"name":"a","input_schema":{}}]}"#,
    ]

    @Test(arguments: refusedByAnthropic) func anthropicIsStrict(_ body: String) {
        var api = Self.api(.anthropic)
        #expect(Self.ask(&api, Self.request("/v1/messages", body)).status == 400)
    }

    /// What `ChatToMessages` makes of hard requests, the strict stand-in takes.
    @Test func translatedRequestsAreTaken() throws {
        let requests = [
            #"{"model":"m","messages":[{"role":"system","content":" "}]}"#,
            #"{"model":"m","messages":[{"role":"assistant","content":"a "}],"temperature":2,"stop":["\n"]}"#,
            #"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#,
            #"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c.1","function":{"name":"f.g","arguments":"["}},{"id":"c.2","function":{"name":"h","arguments":""}}]},{"role":"tool","tool_call_id":"c.1","content":""},{"role":"tool","tool_call_id":"c.2","content":"r"}],"tools":[{"type":"function","function":{"name":"f.g"}},{"type":"function","function":{"name":"f_g"}}],"response_format":{"type":"json_schema","json_schema":{"name":"f_g","schema":{"type":"object"}}}}"#,
        ]
        var api = Self.api(.anthropic)
        for text in requests {
            let sent = try ChatToMessages.translate(try JSONDocument(text), TranslationSettings())
            let body = String(decoding: sent.body, as: UTF8.self)
            let reply = Self.ask(&api, Self.request("/v1/messages", body))
            #expect(reply.status == 200, "\(body): \(String(decoding: reply.body, as: UTF8.self))")
        }
    }

    @Test func vectors() throws {
        let texts = ["a cat sat on the mat", "the cat sat on a mat", "quantum flux capacitors"]
        let vectors = try texts.map { text in
            MockVector.embed(try JSONDocument("\"\(text)\"").root, dimensions: 64)
        }
        func cosine(_ a: Int, _ b: Int) -> Float {
            zip(vectors[a], vectors[b]).reduce(0) { $0 + $1.0 * $1.1 }
        }
        #expect(abs(cosine(0, 0) - 1) < 1e-4)
        #expect(cosine(0, 1) > cosine(0, 2))
        #expect(MockVector.base64([1, -2.5]) == "AACAPwAAIMA=")
    }

    @Test func times() {
        #expect(MockTime.rfc3339(seconds: 0) == "1970-01-01T00:00:00Z")
        #expect(MockTime.rfc3339(seconds: 951_782_400) == "2000-02-29T00:00:00Z")
        #expect(MockTime.rfc3339(seconds: 1_798_761_599) == "2026-12-31T23:59:59Z")
    }
}
