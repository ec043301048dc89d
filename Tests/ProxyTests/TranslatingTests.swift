import CoreLoop
import HTTP
import Providers
import Testing
import Upstream

@testable import Proxy

@Suite struct TranslatingTests {
    private static func rig() throws -> GatewayRig {
        try GatewayRig { $0.targets[0].provider = ProviderSettings(.anthropic) }
    }

    private static func request(_ body: String) -> String {
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n"
            + "\r\n\(body)"
    }

    private static let plain =
        #"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}"#
    private static let streamed = plain.dropLast() + #", "stream": true}"#
    private static let begun =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    private static func chunk(_ text: String) -> String {
        "\(String(text.utf8.count, radix: 16))\r\n\(text)\r\n"
    }

    private static let start =
        #"data: {"type": "message_start", "message": {"id": "msg_1", "model": "c"}}"# + "\n\n"
    private static let end =
        #"data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}"# + "\n\n"
        + #"data: {"type": "message_stop"}"# + "\n\n"

    private static func expectNothingHeld(_ rig: GatewayRig) {
        #expect(rig.worker.blocksTaken == 1 && rig.worker.slicesUsed == 0)
        #expect(rig.worker.translatedBytes == 0)
        #expect(rig.worker.heldRequests[0] == nil)
    }

    /// Each plain request looks at its target: with anything that has references in it, each look
    /// would cost retains.
    @Test func whatForwardingReadsIsPlainBytes() {
        #expect(_isPOD(Forwarding.Target.self) && _isPOD(Forwarding.Rewrite?.self))
    }

    @Test func aWholeAnswer() throws {
        let rig = try Self.rig()
        let client = try rig.client()
        client.write(Self.request(Self.plain))
        let primary = try rig.accept()
        rig.expect("\"max_tokens\":9", on: primary)
        #expect(primary.text.hasPrefix("POST /v1/messages HTTP/1.1\r\n"))
        let body = #"{"type": "message", "id": "msg_1", "model": "c", "content": []}"#
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        primary.write(answer.dropLast(5).utf8)
        rig.turn()
        client.read()
        #expect(client.text.isEmpty && rig.worker.translatedBytes > 0)
        primary.write(String(answer.suffix(5)))
        rig.expect("\"chat.completion\"", on: client)
        #expect(client.text.contains(#"{"provider":"anthropic","id":"chatcmpl-1""#))
        Self.expectNothingHeld(rig)
    }

    /// The client has its end at once; the connection waits a second for that of its framing.
    @Test(arguments: [true, false])
    func aStreamsEnd(_ framingEnds: Bool) throws {
        let rig = try Self.rig()
        let client = try rig.client()
        client.write(Self.request(String(Self.streamed)))
        let primary = try rig.accept()
        rig.expect("\"stream\":true", on: primary)
        primary.write(Self.begun + Self.chunk(Self.start))
        rig.expect("\"role\":\"assistant\"", on: client)
        primary.write(Self.chunk(Self.end))
        rig.expect("data: [DONE]\n\n\r\n", on: client)
        #expect(!client.text.hasSuffix("0\r\n\r\n"))
        if framingEnds { primary.write("0\r\n\r\n") } else { rig.turn(afterMs: 1_100) }
        rig.expect("data: [DONE]\n\n\r\n0\r\n\r\n", on: client)
        rig.turn()
        #expect(rig.worker.idleUpstreams == (framingEnds ? 1 : 0))
        Self.expectNothingHeld(rig)
    }

    /// A stream that breaks off says so, and does not end like a whole one.
    @Test(arguments: ["close", "timeout", "malformed", "before a reason"])
    func aStreamThatFails(_ how: String) throws {
        let rig = try Self.rig()
        let client = try rig.client()
        client.write(Self.request(String(Self.streamed)))
        do {
            let primary = try rig.accept()
            rig.expect("\"stream\":true", on: primary)
            primary.write(Self.begun + Self.chunk(Self.start))
            rig.expect("\"role\":\"assistant\"", on: client)
            switch how {
            case "timeout": rig.turn(afterMs: 601_000)
            case "malformed": primary.write("what?")
            case "close": break
            default: primary.write("0\r\n\r\n")
            }
            rig.turn()
        }
        rig.expect("\r\n0\r\n\r\n", on: client)
        #expect(client.text.contains(#"{"error":{"#) && !client.text.contains("[DONE]"))
        Self.expectNothingHeld(rig)
    }

    @Test func aClientThatLeavesLeavesNothing() throws {
        let rig = try Self.rig()
        let primary: Line
        do {
            let client = try rig.client()
            client.write(Self.request(String(Self.streamed)))
            primary = try rig.accept()
            rig.expect("\"stream\":true", on: primary)
            primary.write(Self.begun + Self.chunk(Self.start))
            rig.turn()
        }
        let ping = Self.chunk(#"data: {"type": "ping"}"# + "\n\n")
        #expect(
            rig.turn {
                primary.write(ping)
                return rig.worker.clientCount == 0
            })
        rig.expectEnd(of: primary)
        Self.expectNothingHeld(rig)
    }

    @Test(arguments: [
        ("1s", 1_000), ("6m0s", 360_000), ("12ms", 12), ("1m30.5s", 90_500), ("2h", 7_200_000),
        ("1d1h", 90_000_000), ("0s", 0), (".5s", 500), ("", nil), ("1", nil), ("s", nil),
        ("1.2.3s", nil), ("1x", nil), ("-1s", nil), ("99999999d", nil), ("1s ", nil),
    ])
    func durations(_ text: String, _ wanted: UInt64?) {
        let got = Array(text.utf8).withUnsafeBytes { RateLimitReset.milliseconds($0) }
        #expect(got == wanted)
    }

    @Test(arguments: [
        ("2025-01-01T00:00:10Z", true, "10s"), ("2025-01-01T00:00:00.250Z", true, "250ms"),
        ("2024-01-01T00:00:00Z", true, "0ms"), ("soon", true, nil),
        ("6m0s", false, "2025-01-01T00:06:00.000Z"), ("soon", false, nil),
    ])
    func resets(_ text: String, _ isMoment: Bool, _ wanted: String?) {
        let got = Array(text.utf8).withUnsafeBytes {
            RateLimitReset.translated($0, isMoment: isMoment, wallMs: 1_735_689_600_000)
        }
        #expect(got == wanted)
    }

    @Test(arguments: [
        ("/v1/chat/completions", "", nil, "/v1/messages"),
        ("/chat/completions?a=b", "/base", nil, "/base/messages"),
        ("/llm/v1/chat/completions", "", ("/llm/", "/"), "/v1/messages"),
        ("/llm/chat/completions", "", ("/llm", "/v1"), "/v1/messages"),
        ("/llm/chat/completions", "", ("/llm", "/v1/"), "/v1/messages"),
        ("/v1/chat/completions", "", ("/v1/chat/", "/x/"), "/x/messages"),
    ])
    func paths(
        _ path: String, _ prefix: String, _ rewrite: (String, String)?, _ wanted: String
    ) throws {
        var settings = GatewaySettings.plain()
        settings.targets[0].pathPrefix = prefix
        settings.targets[0].provider = ProviderSettings(.anthropic)
        if let rewrite {
            settings.routes[0].path = .prefix(rewrite.0)
            settings.routes[0].rewritePrefix = rewrite.1
        }
        let forwarding = Forwarding(settings, seed: 1)
        let request = try ParsedRequest("POST \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        let text = request.source.withUnsafeBytes { bytes in
            written {
                let lines = forwarding.beginHeldRequest(
                    request.head, bytes.baseAddress!, peer: Peer())
                forwarding.writeHeldRequest(
                    request.head, bytes.baseAddress!, route: 0, lines, bodyBytes: 0,
                    isTranslated: true, into: &$0)
            }
        }
        #expect(text.hasPrefix("POST \(wanted) HTTP/1.1\r\n"), "\(text)")
    }
}
