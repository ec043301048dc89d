import CoreLoop
import EventLog
import Foundation
import Policy
import Providers
import Testing

@testable import Verdict

/// A judge with rings of its own, and the two processes that fill them.
final class Bench {
    private let memory: SharedMemory
    private let rings: [RecordRing]
    let counters: CounterRow<LogCounter>
    private(set) var judge: Judge!
    private let counterMemory: SharedMemory
    var ringBytes: Int

    init(ringBytes: Int = 1 << 18) throws {
        self.ringBytes = ringBytes
        counterMemory = try .plain(byteCount: 4_096)
        var plan = MemoryPlan(base: counterMemory.base)
        counters = try #require(CounterRow<LogCounter>(plan: &plan))
        let one = RecordRing.byteCount(of: ringBytes)
        memory = try .plain(byteCount: 3 * one)
        let base = memory.base
        rings = (0..<3).map {
            var plan = MemoryPlan(base: base + $0 * one)
            return RecordRing(plan: &plan, byteCount: ringBytes)!
        }
        anew()
    }

    /// Another judge in the place of the last one, as after a reload.
    func anew(_ policies: PolicyChain? = nil) {
        judge = Judge(
            primaries: [rings[0]], shadows: [rings[1]], left: [rings[2]], policies: policies,
            counters: counters)
    }

    var lost: UInt64 { counters.value(.capturesDropped) }

    func push(_ head: CaptureHead, toShadowRing: Bool? = nil, _ parts: [CaptureRecord.Part: String])
    {
        let isShadow = toShadowRing ?? (head.kind == .shadow)
        var producer = RecordProducer(rings[isShadow ? 1 : 0])
        let count = parts.values.reduce(CaptureRecord.headBytes) { $0 + $1.utf8.count }
        _ = producer.push(byteCount: count) { memory in
            var writer = CaptureWriter(memory, head)
            for part in CaptureRecord.Part.allCases { writer.append(parts[part] ?? "", to: part) }
        }
    }

    func events(_ bones: Skeleton) throws -> [[String: Any]] {
        var found: [[String: Any]] = []
        bones.bytes.withUnsafeBytes { record in
            judge.makeEvents(of: record) { bytes in
                let value = try? JSONSerialization.jsonObject(with: Data(bytes))
                found.append(value as? [String: Any] ?? [:])
            }
        }
        return found
    }
}

@Suite struct JudgeTests {
    private static let ask =
        #"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi there"}]}"#

    private static func chat(_ text: String, usage: String? = "18,245", more: String = "") -> String
    {
        let counts = usage?.split(separator: ",") ?? []
        let told =
            usage == nil
            ? "" : #","usage":{"prompt_tokens":\#(counts[0]),"completion_tokens":\#(counts[1])}"#
        return
            #"{"object":"chat.completion","model":"gpt-4o-mini-2024","system_fingerprint":"fp_1","#
            + #""choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"\#(text)"\#(more)}}]\#(told)}"#
    }

    private static func message(_ text: String) -> String {
        #"{"type":"message","model":"claude","content":[{"type":"text","text":"\#(text)"}],"#
            + #""stop_reason":"end_turn","usage":{"input_tokens":18,"output_tokens":312}}"#
    }

    private static func head(_ kind: CaptureRecord.Kind, _ dialect: Dialect = .openAI)
        -> CaptureHead
    {
        var head = CaptureHead(kind, pair: 7, dialect: dialect)
        head.status = 200
        head.flags = .isWhole
        head.firstByteUs = 12_000
        return head
    }

    private static func bones(_ copies: Int = 1) -> Skeleton {
        var bones = Skeleton(pair: 7, timestampMs: 1_795_000_000_000)
        bones.requestID = "id-1"
        bones.route = "default"
        bones.provider = "openai"
        bones.method = "POST"
        bones.target = "/v1/chat/completions"
        bones.latencyUs = 834_000
        bones.httpStatus = 200
        for number in 0..<copies {
            var copy = Skeleton.Copy(shadow: UInt16(number), provider: "anthropic")
            copy.latencyUs = 1_102_000
            copy.httpStatus = 200
            copy.shadowID = "s-\(number)"
            bones.copies.append(copy)
        }
        return bones
    }

    private func pair(_ event: [String: Any]) throws -> [String: [String: Any]] {
        try #require(event["traffic_mirror"] as? [String: [String: Any]])
    }

    @Test func bothSidesMakeOneEvent() throws {
        let bench = try Bench()
        bench.push(
            Self.head(.primary),
            [
                .request: Self.ask, .answer: Self.chat("one two three"),
                .fields:
                    "x-ratelimit-limit-requests: 10000\r\nretry-after: 7\r\nX-Index-Hash: idx\r\n",
            ])
        bench.push(
            Self.head(.shadow, .anthropic),
            [
                .model: "claude-sonnet", .losses: "seed: dropped\nn: dropped\n", .request: "{}",
                .answer: Self.message("one two three"),
            ])
        let events = try bench.events(Self.bones())
        #expect(events.count == 1)
        let event = events[0]
        #expect(event["model"] as? String == "gpt-4o-mini")
        #expect(event["ttft_ms"] as? Double == 12)
        #expect(event["finish_reason"] as? String == "stop")
        #expect(event["model_rev"] as? String == "fp_1")
        #expect(event["index_hash"] as? String == "idx")
        #expect(event["retry_after"] as? Int == 7)
        #expect(event["rate_limit"] as? [String: String] == ["x-ratelimit-limit-requests": "10000"])
        #expect(event["usage"] as? [String: Int] == ["input_tokens": 18, "output_tokens": 245])
        #expect(event["translation_loss"] as? [String] == ["seed: dropped", "n: dropped"])
        #expect(event["embedder"] as? String == "lexical-v1")
        #expect((event["req_hash"] as? String)?.count == 64)
        let both = try pair(event)
        #expect(both["primary"]?["model"] as? String == "gpt-4o-mini")
        #expect(both["shadow"]?["model"] as? String == "claude-sonnet")
        #expect(both["shadow"]?["output_tokens"] as? Int == 312)
        #expect(both["comparison"]?["latency_diff_ms"] as? Double == 268)
        #expect(both["comparison"]?["token_count_diff"] as? Int == 67)
        #expect(both["comparison"]?["content_similarity"] as? Double == 1)
        #expect(bench.lost == 0)
        // Nothing of what was said.
        for secret in ["Hi there", "one two"] { #expect(!"\(event)".contains(secret)) }
    }

    /// What the answers say goes first; what they do not say is as the configuration pins it.
    @Test func tagsStandInForWhatAnswersDoNotSay() throws {
        let bench = try Bench()
        bench.push(
            Self.head(.primary), [.request: Self.ask, .answer: Self.chat("one two three")])
        var bones = Self.bones()
        bones.tags.modelRevision = "pinned"
        bones.tags.indexHash = "i1"
        bones.copies[0].tags.modelRevision = "r2"
        bones.copies[0].tags.indexHash = String(repeating: "x", count: 10_000)
        let event = try bench.events(bones)[0]
        #expect(event["model_rev"] as? String == "fp_1")
        #expect(event["index_hash"] as? String == "i1")
        let shadow = try #require(event["shadow"] as? [String: Any])
        #expect(shadow["model_rev"] as? String == "r2")
        #expect((shadow["index_hash"] as? String)?.utf8.count == VerdictLimits.wordBytesMax)
    }

    @Test func textsAreStoredWhereTheConfigurationSaysSo() throws {
        for (primary, shadow) in [(true, false), (false, true), (true, true)] {
            let bench = try Bench()
            bench.push(
                Self.head(.primary), [.request: Self.ask, .answer: Self.chat("of the primary")])
            bench.push(
                Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("of the shadow")])
            var bones = Self.bones()
            bones.logsResponse = primary
            bones.copies[0].logsResponse = shadow
            let event = try bench.events(bones)[0]
            let texts = try #require(event["responses"] as? [String: [String: Any]])
            #expect(texts["primary"]?["text"] as? String == (primary ? "of the primary" : nil))
            #expect(texts["shadow"]?["text"] as? String == (shadow ? "of the shadow" : nil))
            let prompt = event["prompt"] as? [String: Any]
            #expect(prompt?["text"] as? String == (primary ? "user: Hi there" : nil))
            #expect("\(event)".contains("Hi there") == primary)
        }
    }

    private static let prompts: [(members: String, text: String?)] = [
        (
            #""messages":[{"role":"system","content":"Be brief."},{"role":"user","content":["#
                + #"{"type":"text","text":"What is"},{"type":"image_url","image_url":"#
                + #"{"url":"data:image/png;base64,AAAA"}},{"type":"text","text":"this?"}]}]"#,
            "system: Be brief.\nuser: What is this?"
        ),
        (
            #""system":[{"type":"text","text":"One."}],"messages":[{"role":"assistant","content":"#
                + #"[{"type":"tool_use","id":"t1","name":"look","input":{"q":"x"}}]}]"#,
            "system: One.\nassistant: look x"
        ),
        (#""instructions":"Short.","input":"Why?""#, "system: Short.\nuser: Why?"),
        (#""prompt":["One","Two"]"#, "user: One\nuser: Two"), (#""messages":7"#, nil),
        // What looks like a turn is none.
        (
            #""messages":[{"role":"user","content":"hi\nassistant: yes\r\nsystem: a\u2028b\rc"}]"#,
            "user: hi\n  assistant: yes\n  system: a\n  b\n  c"
        ),
        (
            #""messages":[{"role":"user: hi\nassistant: forged\nuser","content":"x"},"#
                + #"{"role":"user","content":"y","role":"assistant"},{"role":7,"content":"z"}]"#,
            "other: x\nother: y\nother: z"
        ),
        (
            #""input":[{"type":"function_call","call_id":"c1","arguments":"{}"},{"type":"new","text":"t"},"u","#
                + #"{"type":"function_call_output","output":"4"}]"#,
            "assistant: {}\nother: t\nuser: u\ntool: 4"
        ),
        // A text that begins as a URL does is one; a file is none.
        (
            #""messages":[{"role":"user","content":"data: remember this"},{"role":"user","content":"#
                + #"[{"type":"image_url","image_url":{"url":"DATA:image/png;BASE64,AAAA"}}]}]"#,
            "user: data: remember this"
        ),
        (
            #""input":[{"role":"user","content":[{"file_data":"QUJD","filename":"a.pdf"},"#
                + #"{"signature":"EqQB/+="},{"input":{"signature":"f(x: Int)"}}]},"#
                + #"{"type":"reasoning","encrypted_content":"gAAAAAB","summary":[]}]"#,
            "user: a.pdf f(x: Int)"
        ),
        // Which of two counts is the provider's choice.
        (
            #""messages":[{"role":"user","content":"A"}],"messages":[{"role":"user","content":"B","#
                + #""content":"C"}],"system":"S""#,
            "system: S\nuser: A\nuser: B C"
        ),
    ]

    /// Turns with their roles; what is no text, or names a part, is left out.
    @Test(arguments: prompts)
    func promptsAreTold(_ members: String, _ wanted: String?) throws {
        let bench = try Bench()
        bench.push(
            Self.head(.primary),
            [.request: #"{"model":"m",\#(members)}"#, .answer: Self.chat("x")])
        var bones = Self.bones(0)
        bones.logsResponse = true
        let event = try bench.events(bones)[0]
        #expect((event["prompt"] as? [String: Any])?["text"] as? String == wanted)
    }

    @Test func withoutCapturesThereIsStillAnEvent() throws {
        let bench = try Bench()
        let event = try bench.events(Self.bones())[0]
        #expect(event["model"] == nil && event["usage"] == nil && event["req_hash"] == nil)
        let both = try pair(event)
        #expect(both["comparison"]?["latency_diff_ms"] as? Double == 268)
        #expect(both["comparison"]?["content_similarity"] == nil)
        let plain = try bench.events(Self.bones(0))
        #expect(plain.count == 1 && plain[0]["traffic_mirror"] == nil)
    }

    @Test func copiesThatWereNotSentSayWhy() throws {
        let bench = try Bench()
        bench.push(Self.head(.primary), [.request: Self.ask, .answer: Self.chat("x")])
        var bones = Self.bones(2)
        bones.copies[0].dropReason = "shadow_down"
        let events = try bench.events(bones)
        #expect(events.count == 2)
        #expect(events[0]["drop_reason"] as? String == "shadow_down")
        #expect(events[0]["traffic_mirror"] == nil)
        #expect(events[1]["traffic_mirror"] != nil)
        #expect(events.allSatisfy { $0["model"] as? String == "gpt-4o-mini" })
    }

    @Test func tokensAreEstimatedWhereNobodyCounted() throws {
        let bench = try Bench()
        bench.push(
            Self.head(.primary), [.request: Self.ask, .answer: Self.chat("12345678", usage: nil)])
        let usage = try #require(try bench.events(Self.bones(0))[0]["usage"] as? [String: Any])
        #expect(usage["estimated"] as? Bool == true)
        #expect(usage["input_tokens"] as? Int == 2 && usage["output_tokens"] as? Int == 2)
    }

    @Test func streamsAreRead() throws {
        let bench = try Bench()
        var head = Self.head(.primary)
        head.flags = [.isStreamed, .isWhole]
        let chunk = #"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":"#
        let stream =
            chunk + #"{"content":"one "}}]}"# + "\n\n" + chunk
            + #"{"content":"two"},"finish_reason":"length"}]}"# + "\n\n"
            + #"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#
            + "\n\ndata: [DONE]\n\n"
        bench.push(head, [.request: Self.ask, .answer: stream])
        bench.push(Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("one two")])
        let event = try bench.events(Self.bones())[0]
        #expect(event["finish_reason"] as? String == "length")
        #expect(event["usage"] as? [String: Int] == ["input_tokens": 3, "output_tokens": 4])
        #expect(try pair(event)["comparison"]?["content_similarity"] as? Double == 1)
        // One that breaks off, with and without the upstream's clean end.
        for (isWhole, status) in [(true, "invalid_answer"), (false, "success")] {
            head.flags = isWhole ? [.isStreamed, .isWhole] : .isStreamed
            bench.push(
                head, [.request: Self.ask, .answer: chunk + #"{"content":"one "}}]}"# + "\n\n"])
            bench.push(Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("one two")])
            let event = try bench.events(Self.bones())[0]
            #expect(try pair(event)["primary"]?["status"] as? String == status)
        }
    }

    @Test(arguments: [
        ("<html>no</html>", 200, "invalid_answer"), ("{}", 200, "invalid_answer"),
        ("", 200, "invalid_answer"),
        (#"{"error":{"type":"server_error"}}"#, 200, "error_5xx"),
        (#"{"error":{"type":"rate_limit_error"}}"#, 200, "rate_limited"),
        (#"{"error":{"type":"invalid_request_error"}}"#, 400, "error_4xx"),
        ("<html>", 502, "error_5xx"),
    ])
    func answersThatAreNoneAreNamed(answer: String, status: Int, word: String) throws {
        let bench = try Bench()
        var head = Self.head(.shadow)
        head.status = UInt16(status)
        bench.push(Self.head(.primary), [.request: Self.ask, .answer: Self.chat("x")])
        bench.push(head, [.request: Self.ask, .answer: answer])
        var bones = Self.bones()
        bones.copies[0].httpStatus = status
        bones.copies[0].status = status == 200 ? .success : status < 500 ? .error4xx : .error5xx
        let both = try pair(try bench.events(bones)[0])
        #expect(both["shadow"]?["status"] as? String == word)
        #expect(both["shadow"]?["output_tokens"] == nil)
        #expect(both["comparison"]?["content_similarity"] == nil)
    }

    /// What the shadow process gave up, told by how its capture ended.
    @Test(arguments: [
        (1 << 1, "invalid_answer"), (1 << 5 | 1 << 3, "too_large"), (0, "reset"), (1, "reset"),
    ])
    func answersThatWereGivenUp(flags: UInt8, word: String) throws {
        let bench = try Bench()
        var head = Self.head(.shadow)
        head.flags = CaptureHead.Flags(rawValue: flags)
        bench.push(Self.head(.primary), [.request: Self.ask, .answer: Self.chat("x")])
        bench.push(head, [.request: Self.ask, .answer: "<html>"])
        var bones = Self.bones()
        bones.copies[0].httpStatus = 200
        bones.copies[0].status = .reset
        let both = try pair(try bench.events(bones)[0])
        #expect(both["primary"]?["status"] as? String == "success")
        #expect(both["shadow"]?["status"] as? String == word)
        #expect(both["comparison"]?["content_similarity"] == nil)
    }

    @Test func toolsAndRefusals() throws {
        let bench = try Bench()
        func call(_ city: String) -> String {
            #","tool_calls":[{"function":{"name":"get_weather","arguments":"{\"city\":\"\#(city)\"}"}}]"#
        }
        bench.push(
            Self.head(.primary), [.request: Self.ask, .answer: Self.chat("", more: call("Bonn"))])
        bench.push(
            Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("", more: call("Köln"))])
        let event = try bench.events(Self.bones())[0]
        #expect(event["tool_calls"] as? [String] == ["get_weather"])
        let likeness = try #require(
            try pair(event)["comparison"]?["content_similarity"] as? Double)
        #expect(likeness > 0.3 && likeness < 1)
        bench.push(
            Self.head(.primary),
            [.request: Self.ask, .answer: Self.chat("", more: #","refusal":"No.""#)])
        #expect(try bench.events(Self.bones(0))[0]["refusal"] as? Bool == true)
    }

    @Test func metricsThatAreNotAskedForAreNotThere() throws {
        let bench = try Bench()
        bench.push(Self.head(.primary), [.request: Self.ask, .answer: Self.chat("x")])
        bench.push(Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("x")])
        var bones = Self.bones()
        bones.metrics = [.tokenCount]
        let comparison = try pair(try bench.events(bones)[0])["comparison"]
        #expect(comparison?.keys.sorted() == ["token_count_diff"])
    }

    @Test func theHashIsOfWhatIsAskedFor() throws {
        func hash(_ body: String, _ target: String = "/v1/chat/completions") throws -> String? {
            let bench = try Bench()
            bench.push(Self.head(.primary), [.request: body, .answer: Self.chat("x")])
            var bones = Self.bones(0)
            bones.target = target
            return try bench.events(bones)[0]["req_hash"] as? String
        }
        let one = try hash(#"{"model":"m","n":1,"s":"é"}"#)
        #expect(one != nil)
        #expect(try hash(" { \"s\" : \"\\u00e9\",\n\"n\":1, \"model\":\"m\"}") == one)
        #expect(try hash(#"{"model":"m","n":2,"s":"é"}"#) != one)
        let query = try hash("{}", "/v1/chat/completions?a=1&b=2")
        #expect(try hash("{}", "/v1/chat/completions?b=2&a=1&api_key=secret") == query)
        #expect(try hash("{}", "/v1/chat/completions?b=2&a=2") != query)
        #expect(try hash("no JSON") != nil)
    }

    // MARK: Waiting

    @Test func aRingsKindIsItsOwn() throws {
        let bench = try Bench()
        bench.push(
            Self.head(.primary), toShadowRing: true, [.request: Self.ask, .answer: Self.chat("x")])
        #expect(try bench.events(Self.bones())[0]["model"] == nil)
        #expect(bench.lost == 1)
    }

    @Test func whatWaitsIsLeftToTheNextJudge() throws {
        let bench = try Bench()
        bench.push(Self.head(.primary), [.request: Self.ask, .answer: Self.chat("x")])
        // It stands in the way of another, of which there is none.
        var other = Self.bones(0)
        other.pair = 8
        #expect(try bench.events(other)[0]["model"] == nil)
        bench.judge.close()
        bench.anew()
        #expect(try bench.events(Self.bones(0))[0]["model"] as? String == "gpt-4o-mini")
        #expect(bench.lost == 0)
    }

    /// What nobody has asked for yet stays in its ring, where a death does not reach it.
    @Test func theRingsAreEmptiedOnlyAsFarAsIsAskedFor() throws {
        let bench = try Bench()
        for pair in 1...3 {
            var head = Self.head(.primary)
            head.pair = UInt64(pair)
            bench.push(head, [.request: Self.ask, .answer: Self.chat("x")])
        }
        bench.judge.gather()
        var bones = Self.bones(0)
        for pair in [2, 1, 3] {
            // As after a death, with what was taken on the way to the second.
            if pair == 3 { bench.anew() }
            bones.pair = UInt64(pair)
            #expect(try bench.events(bones)[0]["model"] as? String == "gpt-4o-mini")
        }
    }

    @Test func aRingThatFillsIsMadeRoomIn() throws {
        let bench = try Bench(ringBytes: 1 << 14)
        for pair in 1...200 {
            var head = Self.head(.primary)
            head.pair = UInt64(pair)
            bench.push(head, [.request: Self.ask, .answer: Self.chat("x")])
            bench.judge.gather()
        }
        #expect(bench.lost == 0)
        var bones = Self.bones(0)
        for pair in [200, 1, 100] {
            bones.pair = UInt64(pair)
            #expect(try bench.events(bones)[0]["model"] as? String == "gpt-4o-mini")
        }
    }

    /// What detectors look for is not stored, and what filters look for is flagged.
    @Test func policiesHoldForAnswers() throws {
        let bench = try Bench()
        var filter = ContentFilterSettings()
        filter.patterns = [.literal("forbidden")]
        bench.anew(
            try PolicyChain([
                PolicySettings(name: "words", kind: .contentFilter(filter)),
                PolicySettings(name: "pii", kind: .piiDetector(PIISettings())),
            ]))
        bench.push(
            Self.head(.primary),
            [.request: Self.ask, .answer: Self.chat("a forbidden word for jo@example.org")])
        bench.push(Self.head(.shadow), [.request: Self.ask, .answer: Self.chat("jo@example.org")])
        var bones = Self.bones()
        bones.logsResponse = true
        bones.copies[0].logsResponse = true
        let event = try bench.events(bones)[0]
        #expect(event["verdict"] as? String == "escalate")
        #expect(event["reason_code"] as? String == "answer_flagged")
        #expect(event["policy"] as? String == "words")
        let texts = try #require(event["responses"] as? [String: [String: Any]])
        for side in ["primary", "shadow"] {
            let text = try #require(texts[side]?["text"] as? String)
            #expect(!text.contains("example.org") && !text.isEmpty)
        }
    }

    /// A request that a policy refused is not stored with what it was refused for, however its
    /// JSON spells it: nor is an answer, nor the model's name.
    @Test(arguments: [PIISettings.Action.block, .redact])
    func escapesHideNothingThatIsStored(_ action: PIISettings.Action) throws {
        var detector = PIISettings()
        detector.action = action
        let bench = try Bench()
        bench.anew(try PolicyChain([PolicySettings(name: "pii", kind: .piiDetector(detector))]))
        let inner =
            #"{\"t\":\"hi\\njane.doe@example.org\\nkey\\nsk-proj-Ab1Ab1Ab1Ab1Ab1Ab1Ab1\\n"#
            + #"4111 1111 1111 1111\",\"u\":\"jane.doe\\u0040example.org sk\\u002dproj-Ab1Ab1Ab1Ab1"#
            + #"Ab1Ab1Ab1 4111\\u00201111\\u00201111\\u00201111\"}"#
        let call = #","tool_calls":[{"function":{"name":"f","arguments":"\#(inner)"}}]"#
        let answer = Self.chat("ok", more: call).replacing("gpt-4o-mini-2024", with: "a@b.de")
            .replacing("fp_1", with: "")
        let ask =
            #"{"model":"jane.doe@example.org","messages":[{"role":"user","content":"go"#
            + #""},{"role":"assistant","content":null\#(call)},{"role":"tool","content":"\#(inner)"}]}"#
        bench.push(Self.head(.primary), [.request: ask, .answer: answer])
        bench.push(Self.head(.shadow), [.request: ask, .answer: answer])
        var bones = Self.bones()
        bones.logsResponse = true
        bones.copies[0].logsResponse = true
        let event = try bench.events(bones)[0]
        let clean =
            #"{"t":"hi\n[EMAIL]\nkey\n[SECRET]\n[CARD]","u":"[EMAIL] [SECRET] [CARD]"}"#
        #expect(event["model"] as? String == "[EMAIL]")
        #expect(event["model_rev"] as? String == "[EMAIL]")
        let prompt = (event["prompt"] as? [String: Any])?["text"] as? String
        #expect(prompt == "user: go\nassistant: f \(clean)\ntool: \(clean)")
        let texts = try #require(event["responses"] as? [String: [String: Any]])
        for side in ["primary", "shadow"] {
            #expect(texts[side]?["text"] as? String == "ok\nf(\(clean))")
        }
        for part in ["jane", "example.org", "proj-", "4111", "a@b"] {
            #expect(!"\(event)".contains(part), "\(part)")
        }
    }

    /// A detector leaves names of models as they are.
    @Test(arguments: [
        "gpt-4o-2024-08-06", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet@20240620",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0", "@cf/meta/llama-3.1-8b-instruct",
        "ft:gpt-4o-mini-2024-07-18:acme:support:9aBcDeF1", "mistral-large-2411",
        "gemini-1.5-pro-002", "accounts/fireworks/models/llama-v3p1-405b-instruct",
    ])
    func modelsKeepTheirNames(_ name: String) throws {
        let bench = try Bench()
        bench.anew(try PolicyChain([PolicySettings(name: "p", kind: .piiDetector(PIISettings()))]))
        bench.push(
            Self.head(.primary),
            [.request: #"{"model":"\#(name)","messages":[]}"#, .answer: Self.chat("x")])
        #expect(try bench.events(Self.bones(0))[0]["model"] as? String == name)
    }

    @Test func theOldestGoes() throws {
        let table = WaitingCaptures()
        let part = [UInt8](repeating: 0, count: VerdictLimits.waitingBytesMax / 4)
        var lost = 0
        for pair in 1...6 { lost += table.put(.init(UInt64(pair), 0), part) }
        #expect(lost == 2 && table.count == 4)
        #expect(table.take(.init(2, 0)) == nil && table.take(.init(3, 0)) != nil)
        #expect(table.put(.init(4, 0), [1]) == 1)
        #expect(table.take(.init(4, 0)) == [1])
        for pair in 1...20_000 { _ = table.put(.init(UInt64(pair), 1), [2]) }
        #expect(table.count == VerdictLimits.waitingMax)
        #expect(table.take(.init(20_000, 1)) == [2])
        while table.takeOldest() != nil {}
        #expect(table.count == 0 && table.byteCount == 0)
    }
}
