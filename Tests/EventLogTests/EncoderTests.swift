import Foundation
import Testing

@testable import EventLog

@Suite struct EncoderTests {
    private static func written(_ body: (inout JSONLine) -> Void) -> String {
        var room = [UInt8](repeating: 0, count: 65_536)
        return room.withUnsafeMutableBytes {
            var line = JSONLine($0)
            line.open()
            body(&line)
            line.close()
            return String(decoding: line.bytes!, as: UTF8.self)
        }
    }

    private static func parsed(_ text: String) throws -> [String: Any] {
        let value = try JSONSerialization.jsonObject(with: Data(text.utf8))
        return try #require(value as? [String: Any])
    }

    // MARK: Values

    static let texts = [
        "", "plain", "\"quoted\"", "back\\slash", "a\nb\r\tc", "\u{0}\u{1}\u{1F}",
        "\u{7F}\u{80}\u{9F}\u{A0}",
        "žluťoučký kůň", "日本語", "🙂👩‍👩‍👧", "e\u{301}", "\u{FFFD}", "</script>", "\u{2028}",
    ]

    @Test(arguments: texts)
    func textsComeBack(text: String) throws {
        let line = Self.written {
            $0.member("a", text)
            $0.member("b", [text, text])
            $0.member(named: text, "x")
        }
        #expect(line.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F })
        let value = try Self.parsed(line)
        #expect(value["a"] as? String == text)
        #expect(value["b"] as? [String] == [text, text])
        // What the scanner gives, decoded, is the text again.
        withBytes(line) { bytes in
            var decoded: [UInt8] = []
            JSONText.decode(JSONMembers.value("a", in: bytes)!, into: &decoded)
            #expect(decoded == Array(text.utf8))
            #expect(JSONText.equals(JSONMembers.value("a", in: bytes)!, JSONText.quoted(text)))
        }
    }

    /// Bytes that are no UTF-8, and those that would steer a terminal.
    @Test(arguments: [
        ([0xFF], "\u{FFFD}"), ([0xC0, 0x80], "\u{FFFD}\u{FFFD}"),
        ([0xE2, 0x82], "\u{FFFD}\u{FFFD}"),
        ([0xED, 0xA0, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"),
        ([0xF4, 0x90, 0x80, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}"),
        ([0x61, 0xC3, 0xA4, 0xC3], "aä\u{FFFD}"), ([0xC2, 0x9B, 0x33], "\u{9B}3"),
        ([0x1B, 0x5B], "\u{1B}["),
    ])
    func anyBytesBecomeUTF8(bytes: [UInt8], text: String) throws {
        let line = Self.written { line in bytes.withUnsafeBytes { line.member("a", $0) } }
        #expect(try Self.parsed(line)["a"] as? String == text)
        #expect(!line.utf8.contains(0x1B) && !line.unicodeScalars.contains("\u{9B}"))
    }

    @Test(arguments: [
        (0, "0"), (1, "0.001"), (-1, "-0.001"), (10, "0.01"), (250, "0.25"), (1_000, "1"),
        (834_000, "834"),
        (834_010, "834.01"), (-268_500, "-268.5"), (Int.max, "9223372036854775.807"),
        (Int.min, "-9223372036854775.808"),
    ])
    func thousandthsAreWrittenWithoutTheirZeros(value: Int, text: String) {
        #expect(Self.written { $0.member("a", thousandths: value) } == "{\"a\":\(text)}")
    }

    @Test(arguments: [
        (0.0, "0"), (0.87, "0.87"), (0.86996, "0.87"), (-0.5, "-0.5"), (-0.00001, "0"),
        (1.0 / 3, "0.3333"),
        (.nan, "null"), (.infinity, "null"), (1e300, "null"), (12_345.6789, "12345.6789"),
    ])
    func numbersAreRounded(value: Double, text: String) {
        #expect(Self.written { $0.member("a", value) } == "{\"a\":\(text)}")
    }

    @Test func whatDoesNotFitIsNoRecord() {
        let whole = Self.written {
            $0.member("a", "text")
            $0.member("b", 17)
            $0.member("c", thousandths: 1_500)
            $0.member("d", moment: 0)
        }
        for size in 1..<whole.utf8.count {
            var room = [UInt8](repeating: 0xAA, count: size + 8)
            room.withUnsafeMutableBytes { memory in
                var line = JSONLine(UnsafeMutableRawBufferPointer(rebasing: memory[..<size]))
                line.open()
                line.member("a", "text")
                line.member("b", 17)
                line.member("c", thousandths: 1_500)
                line.member("d", moment: 0)
                line.close()
                #expect(line.bytes == nil && line.isFull)
                #expect(memory[size...].allSatisfy { $0 == 0xAA })
            }
        }
    }

    // MARK: Events

    static func event() -> DecisionEvent {
        var primary = DecisionEvent.Side(
            provider: "openai", model: "gpt-4o-mini", latencyUs: 834_000, status: .success)
        primary.httpStatus = 200
        primary.usage = .init(inputTokens: 18, outputTokens: 245)
        var shadow = DecisionEvent.Side(
            provider: "anthropic", model: "claude-sonnet-4-20250514", latencyUs: 1_102_000,
            status: .success)
        shadow.usage = .init(inputTokens: 18, outputTokens: 312)
        var event = DecisionEvent(
            id: (1, 2), timestampMs: Pen.day0, verdict: .allow, reasonCode: "ok", requestID: "r-1",
            configVersion: "3", primary: primary)
        event.model = "gpt-4o-mini"
        event.shadow = shadow
        var comparison = DecisionEvent.Comparison()
        comparison.contentSimilarity = 0.87
        event.comparison = comparison
        return event
    }

    static func encoded(_ event: DecisionEvent, room: Int = Limits.recordBytesMax) -> String? {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 8)
        defer { memory.deallocate() }
        return event.encode(into: memory).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Word for word what the tutorial's step 4 prints.
    @Test func theTutorialsPairIsPrintedAsItStands() throws {
        let line = try #require(Self.encoded(Self.event()))
        let expected =
            #""traffic_mirror":{"primary":{"provider":"openai","model":"gpt-4o-mini","latency_ms":834,"#
            + #""input_tokens":18,"output_tokens":245,"status":"success"},"#
            + #""shadow":{"provider":"anthropic","model":"claude-sonnet-4-20250514","latency_ms":1102,"#
            + #""input_tokens":18,"output_tokens":312,"status":"success"},"#
            + #""comparison":{"latency_diff_ms":268,"token_count_diff":67,"content_similarity":0.87}}"#
        #expect(line.contains(expected), "\(line)")
        let value = try Self.parsed(line)
        #expect(value["id"] as? String == "evt_00000000000000010000000000000002")
        #expect(value["event_type"] as? String == "decision")
        #expect(value["timestamp"] as? String == "2026-11-27T00:00:00.000Z")
        #expect(value["verdict"] as? String == "allow")
        #expect(value["config_version"] as? String == "3")
    }

    @Test func everyMemberIsThere() throws {
        var event = Self.event()
        event.policy = "content-filter"
        event.policies = ["content-filter", "pii-detector"]
        event.route = "chat"
        event.requestHash = String(repeating: "ab", count: 32)
        event.shadowID = "0197"
        event.dropReason = "queue_full"
        event.translationLoss = ["logit_bias", "n"]
        event.prompt = "What?"
        event.primary.firstByteUs = 1_500
        event.primary.requestBytes = 10
        event.primary.answerBytes = 20
        event.primary.modelRevision = "fp_1"
        event.primary.indexHash = "unknown"
        event.primary.finishReason = "tool_calls"
        event.primary.toolCalls = ["search"]
        event.primary.rateLimit = [("x-ratelimit-remaining-requests", "99")]
        event.primary.retryAfterSeconds = 3
        event.primary.response = "This."
        event.primary.usage?.isEstimated = true
        event.shadow?.response = "That."
        event.comparison?.embedder = "lexical-v1"
        let value = try Self.parsed(try #require(Self.encoded(event)))
        let names = [
            "id", "event_type", "timestamp", "verdict", "reason_code", "policy", "policies",
            "model",
            "provider", "request_id", "shadow_id", "route", "config_version", "req_hash",
            "http_status",
            "latency_ms", "ttft_ms", "bytes", "usage", "model_rev", "index_hash", "finish_reason",
            "tool_calls", "rate_limit", "retry_after", "drop_reason", "translation_loss", "shadow",
            "embedder", "traffic_mirror", "prompt", "responses",
        ]
        #expect(Set(value.keys) == Set(names))
        #expect((value["usage"] as? [String: Any])?["estimated"] as? Bool == true)
        #expect(
            (value["rate_limit"] as? [String: String]) == ["x-ratelimit-remaining-requests": "99"])
        let responses = try #require(value["responses"] as? [String: [String: Any]])
        #expect(responses["shadow"]?["text"] as? String == "That.")
        #expect(responses["shadow"]?["truncated"] == nil)
    }

    @Test(arguments: DecisionEvent.Verdict.allCases, DecisionEvent.SideStatus.allCases)
    func wordsAreTheirs(verdict: DecisionEvent.Verdict, status: DecisionEvent.SideStatus) throws {
        var event = Self.event()
        event.verdict = verdict
        event.shadow?.status = status
        let line = try #require(Self.encoded(event))
        #expect(line.contains("\"verdict\":\"\(verdict.label)\""))
        #expect(line.contains("\"status\":\"\(status.label)\"}"))
    }

    /// Texts of any length and kind: always a record, cut at a character, and marked.
    @Test(arguments: ["x", "ä", "🙂", "\u{1}", "\"", "\u{80}"], [0, 1, 1_000, 300_000, 1_100_000])
    func longTextsAreCutAndMarked(piece: String, count: Int) throws {
        var event = Self.event()
        let text = String(repeating: piece, count: count)
        event.prompt = text
        event.primary.response = text
        event.shadow?.response = text
        let line = try #require(Self.encoded(event))
        #expect(withBytes(line) { RecordFrame.isRecord($0) })
        let value = try Self.parsed(line)
        let responses = try #require(value["responses"] as? [String: [String: Any]])
        for part in [value["prompt"] as? [String: Any], responses["primary"], responses["shadow"]] {
            let kept = try #require(part?["text"] as? String)
            #expect(text.hasPrefix(kept) || kept == text)
            #expect(kept.utf8.count <= Limits.textBytesMax)
            #expect((part?["truncated"] as? Bool ?? false) == (kept.utf8.count < text.utf8.count))
            if text.utf8.count >= Limits.textBytesMax, piece.utf8.first! >= 0x20, piece != "\"",
                piece != "\u{80}"
            {
                #expect(kept.utf8.count > Limits.textBytesMax - 4)
            }
            if count > 0 { #expect(!kept.isEmpty) }
        }
    }

    @Test func anEventThatDoesNotFitIsNone() {
        #expect(Self.encoded(Self.event(), room: 200) == nil)
    }

    // MARK: The scanner

    /// Any cut and any changed byte: never a read beyond the end, never an endless loop.
    @Test func theScannerSurvivesAnything() throws {
        let line = try #require(Self.encoded(Self.event()))
        let bytes = Array(line.utf8)
        func walk(_ bytes: [UInt8]) {
            // Memory of exactly this size, for tools that watch its end.
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: bytes.count, alignment: 1)
            defer { memory.deallocate() }
            memory.copyBytes(from: bytes)
            let view = UnsafeRawBufferPointer(memory)
            var members = JSONMembers(view)
            var count = 0
            while let member = members.next() {
                count += 1
                var decoded: [UInt8] = []
                JSONText.decode(member.value, into: &decoded)
                _ = JSONMembers.elements(member.value)
            }
            #expect(count <= bytes.count)
            _ = JSONMembers.value(
                path: ["traffic_mirror", "comparison", "latency_diff_ms"], in: view)
        }
        for size in 0...bytes.count { walk(Array(bytes[..<size])) }
        for place in bytes.indices {
            for byte in [0x22, 0x5C, 0x7B, 0x7D, 0x5B, 0x5D, 0x2C, 0x3A, 0x00] as [UInt8] {
                var changed = bytes
                changed[place] = byte
                walk(changed)
            }
        }
    }

    @Test func pathsAreFollowed() {
        withBytes(#"{"a":{"b":[1,{"c":"}"}],"d\"":"\\","e":{"f":-1.5}},"g":null}"#) { bytes in
            func text(_ path: StaticString...) -> String? {
                JSONMembers.value(path: path, in: bytes).map { String(decoding: $0, as: UTF8.self) }
            }
            #expect(text("a", "e", "f") == "-1.5")
            #expect(text("a", "b") == #"[1,{"c":"}"}]"#)
            #expect(text("g") == "null")
            #expect(text("a", "x") == nil)
            #expect(text("g", "x") == nil)
            #expect(
                JSONMembers.elements(JSONMembers.value(path: ["a", "b"], in: bytes)!).count == 2)
        }
    }
}
