import CoreLoop
import Providers
import Testing
import Upstream

@testable import Mirror

/// Copies that ask a model, at shadows that are LLM providers'.
@Suite struct ShadowInferenceTests {
    private static func provider(_ dialect: Dialect) -> ProviderSettings {
        var provider = ProviderSettings(dialect)
        provider.keySource = .variable("KEY")
        provider.key = ProviderKey(Array("own-key".utf8))
        return provider
    }

    private func rig(
        _ server: PeerServer, _ dialect: Dialect, models: [String: String] = [:],
        pathPrefix: String = "", memoryBytes: Int = 256 << 20
    ) throws -> Rig {
        try Rig(
            [[server.address]], pathPrefix: pathPrefix, provider: Self.provider(dialect),
            memoryBytes: memoryBytes
        ) {
            $0.modelMapping = models
            // Beside a key of its own no other goes, whatever the settings say.
            $0.allowFields = ["authorization", "x-api-key"]
        }
    }

    private static func head(
        _ line: String = "POST /v1/chat/completions", _ fields: [String] = []
    ) -> String {
        "\(line) HTTP/1.1\r\nHost: primary.test\r\n" + fields.map { $0 + "\r\n" }.joined() + "\r\n"
    }

    /// The message that the peer gets next, whose body has a length.
    private func message(_ rig: Rig, _ peer: Peer, step: Int = .max) throws
        -> (lines: [String], body: [UInt8])
    {
        var end = 0
        var lines: [String] = []
        var length = 0
        try #require(
            rig.turn {
                peer.read(atMost: step)
                if end == 0, let found = firstEmptyLine(peer.received) {
                    end = found
                    lines = String(decoding: peer.received[..<(end - 4)], as: UTF8.self)
                        .split(separator: "\r\n").map(String.init)
                    let prefix = "Content-Length: "
                    length =
                        lines.first { $0.hasPrefix(prefix) }
                        .flatMap { Int($0.dropFirst(prefix.count)) } ?? 0
                }
                return end > 0 && peer.received.count >= end + length
            })
        return (lines, Array(peer.received[end...]))
    }

    private func json(_ bytes: [UInt8]) throws -> JSONValue { try JSONDocument(bytes).root }

    static let sdkFields = [
        "Authorization: Bearer users", "Content-Type: application/json; charset=utf-8",
        "Accept-Encoding: gzip, br", "OpenAI-Organization: org-1", "X-Stainless-Lang: python",
        "Content-Digest: sha-256=:AA==:", "User-Agent: sdk/1", "X-Request-Id: r1",
        "X-Forwarded-For: 10.1.2.3", "Forwarded: for=10.1.2.3", "X-Forwarded-Host: 10.1.2.3",
        "X_Api_Key: users",
    ]

    @Test func chatAtAnAnthropicShadow() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic, models: ["gpt": "claude"], pathPrefix: "/base")
        let body =
            #"{"model":"gpt","temperature":1.7,"messages":[{"role":"system","content":"Be terse."},"#
            + #"{"role":"user","content":"Hi"}]}"#
        rig.push(
            Self.head("POST /v1/chat/completions?api-version=2", Self.sdkFields),
            body: Array(body.utf8), sliceBytes: 37)
        let peer = try rig.accept(server)
        let (lines, content) = try message(rig, peer)
        #expect(lines[0] == "POST /base/v1/messages HTTP/1.1")
        #expect(
            Set(lines.dropFirst()).isSuperset(of: [
                "Host: shadow.test", "x-api-key: own-key", "anthropic-version: 2023-06-01",
                "Content-Type: application/json", "Content-Length: \(content.count)",
                "User-Agent: sdk/1", "X-Request-Id: r1", "X-Umbra-Shadow: true",
            ]))
        let text = lines.joined(separator: "\n").lowercased()
        for gone in [
            "users", "10.1.2.3", "gzip", "openai", "stainless", "digest", "charset", "api-version",
        ] {
            #expect(!text.contains(gone), "\(gone)")
        }
        let root = try json(content)
        #expect(root["model"]?.string == "claude" && root["max_tokens"]?.integer == 4_096)
        #expect(root["temperature"]?.number == 1)
        let turns = root["messages"].map { Array($0.elements) }
        #expect(turns?.count == 1 && turns?[0]["role"]?.string == "user")
        peer.write(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        #expect(try rig.next().result == .ok)
        #expect(rig.worker.exchanges.heldBytes == 0)
        #expect(rig.feeders[0].blocks.takenCount == 0)
        // The connection is kept, and the next copy is another one.
        rig.push(Self.head(), body: Array(#"{"model":"gpt","messages":[]}"#.utf8))
        #expect(try rig.next().drop == .untranslatable)
    }

    @Test func messagesAtAnOpenAIShadow() throws {
        let server = try PeerServer()
        let rig = try rig(server, .openAI, models: ["claude": "gpt"])
        let body =
            #"{"model":"claude","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}"#
        rig.push(
            Self.head(
                "POST /v1/messages?beta=true",
                ["x-api-key: users", "anthropic-version: 2023-06-01", "Anthropic-Beta: b"]),
            body: Array(body.utf8))
        let peer = try rig.accept(server)
        let (lines, content) = try message(rig, peer)
        #expect(lines[0] == "POST /v1/chat/completions HTTP/1.1")
        #expect(lines.contains("Authorization: Bearer own-key"))
        #expect(!lines.joined().lowercased().contains("anthropic"))
        #expect(!lines.joined().contains("users"))
        let root = try json(content)
        #expect(root["model"]?.string == "gpt" && root["max_completion_tokens"]?.integer == 9)
        #expect(root["stream_options"]?["include_usage"]?.flag == true)
    }

    struct Same: Sendable {
        var line = "POST /v1/chat/completions"
        var dialect = Dialect.openAI
        let body: String
        let wanted: String
    }

    @Test(arguments: [
        // Nothing to change: another model, or none at all; white space stays.
        Same(body: #" {"model" : "b", "n": 1.0}"#, wanted: #" {"model" : "b", "n": 1.0}"#),
        Same(body: "{}", wanted: "{}"),
        Same(body: #"{"model":"a","x":[]}"#, wanted: #"{"model":"z","x":[]}"#),
        Same(
            body: #"{"model":"b","stream":true}"#,
            wanted: #"{"stream_options":{"include_usage":true},"model":"b","stream":true}"#),
        Same(
            line: "POST /v1/completions", body: #"{"model":"a","stream":true}"#,
            wanted: #"{"stream_options":{"include_usage":true},"model":"z","stream":true}"#),
        Same(
            line: "POST /v1/responses", body: #"{"model":"a","stream":true}"#,
            wanted: #"{"store":false,"model":"z","stream":true}"#),
        // The provider is not to keep what nobody asks it for again.
        Same(
            line: "POST /v1/responses", body: #"{"model":"b","store":null}"#,
            wanted: #"{"model":"b","store":false}"#),
        Same(body: #"{"store": true,"model":"a"}"#, wanted: #"{"store": false,"model":"z"}"#),
        Same(
            line: "POST /v1/embeddings", body: #"{"model":"a","input":"é"}"#,
            wanted: #"{"model":"z","input":"é"}"#),
        Same(
            line: "POST /v1/messages", dialect: .anthropic, body: #"{"model":"a","stream":true}"#,
            wanted: #"{"model":"z","stream":true}"#),
        // No inference: passed on as it is.
        Same(line: "POST /v1/moderations", body: "{", wanted: "{"),
    ])
    func sameDialect(_ row: Same) throws {
        let server = try PeerServer()
        let rig = try rig(server, row.dialect, models: ["a": "z"])
        rig.push(
            Self.head(row.line + "?q=1", ["Content-Digest: d", "Accept-Encoding: gzip"]),
            body: Array(row.body.utf8), trailers: row.body == row.wanted ? "" : "X-Sum: 1\r\n",
            sliceBytes: 11)
        let peer = try rig.accept(server)
        let (lines, content) = try message(rig, peer)
        #expect(String(decoding: content, as: UTF8.self) == row.wanted)
        #expect(lines[0] == row.line + "?q=1 HTTP/1.1")
        #expect(lines.contains("Content-Digest: d") == (row.body == row.wanted))
        #expect(lines.contains("Accept-Encoding: gzip") == row.line.hasSuffix("moderations"))
        peer.write(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        #expect(try rig.next().result == .ok)
        #expect(rig.worker.exchanges.heldBytes == 0)
    }

    /// A client of the one API in front of a primary of the other asks for the primary's models.
    @Test func theNamesOfModelsAreThePrimarys() throws {
        let server = try PeerServer()
        let alike = try rig(server, .anthropic)
        alike.push(
            Self.head(), body: Array((#"{"model":"claude","# + Self.asked).utf8),
            primary: .anthropic)
        let peer = try alike.accept(server)
        let (lines, body) = try message(alike, peer)
        #expect(lines[0] == "POST /v1/messages HTTP/1.1")
        #expect(try JSONDocument(body).root["model"]?.string == "claude")

        let other = try rig(server, .openAI)
        other.push(
            Self.head(), body: Array((#"{"model":"claude","# + Self.asked).utf8),
            primary: .anthropic)
        #expect(try other.next().drop == .unmappedModel)
    }

    struct Drop: Sendable {
        var line = "POST /v1/chat/completions"
        var fields: [String] = []
        var dialect = Dialect.anthropic
        let body: String
        let reason: DropReason
    }

    private static let asked = #""messages":[{"role":"user","content":"Hi"}]}"#

    @Test(arguments: [
        Drop(body: #"{"model":"other","# + asked, reason: .unmappedModel),
        Drop(body: "{" + asked, reason: .untranslatable),
        Drop(body: #"{"model":7,"# + asked, reason: .untranslatable),
        Drop(body: #"{"model":"a","messages":"Hi"}"#, reason: .untranslatable),
        Drop(body: #"{"model":"a","max_tokens":"x","# + asked, reason: .untranslatable),
        Drop(
            line: "POST /v1/embeddings", body: #"{"model":"a","input":"x"}"#,
            reason: .untranslatable),
        Drop(
            line: "POST /v1/responses", body: #"{"model":"a","input":"x"}"#, reason: .untranslatable
        ),
        // Neither can be read, whatever the dialect.
        Drop(dialect: .openAI, body: "", reason: .untranslatable),
        Drop(dialect: .openAI, body: #"{"model":"a","#, reason: .untranslatable),
        Drop(dialect: .openAI, body: #"["model"]"#, reason: .untranslatable),
        Drop(dialect: .openAI, body: "<html>", reason: .untranslatable),
        Drop(dialect: .openAI, body: "{\"model\":\"\u{0}\"}", reason: .untranslatable),
        // Which of the two a server takes is its own matter.
        Drop(dialect: .openAI, body: #"{"model":"a","model":"b"}"#, reason: .untranslatable),
        Drop(
            dialect: .openAI,
            body: #"{"model":"a","tools":[],"tools":[{"type":"mcp"}]}"#, reason: .untranslatable),
        // Behind so many repeated names nobody looks for a further one.
        Drop(
            dialect: .openAI,
            body: "{" + (0..<20).map { #""j\#($0)":1,"j\#($0)":2,"# }.joined() + #""model":"a"}"#,
            reason: .untranslatable),
        // What the provider itself would run, or write to.
        Drop(line: "POST /v1/files", dialect: .openAI, body: "{", reason: .sideEffects),
        Drop(line: "DELETE /v1/responses/r", dialect: .openAI, body: "", reason: .sideEffects),
        Drop(
            line: "POST /v1/responses/", dialect: .openAI, body: #"{"tools":[{"type":"mcp"}]}"#,
            reason: .sideEffects),
        Drop(
            line: "POST /v1/response%73?a=/moderations", dialect: .openAI, body: "{}",
            reason: .sideEffects),
        Drop(
            line: "POST /v1/responses", dialect: .openAI,
            body: #"{"model":"a","input":"x","tools":[{"type":"function"},{"type":"mcp"}]}"#,
            reason: .sideEffects),
        Drop(
            line: "POST /v1/messages", body: #"{"model":"a","mcp_servers":[{}],"# + asked,
            reason: .sideEffects),
        Drop(
            fields: ["Content-Encoding: gzip"], dialect: .openAI, body: #"{"model":"a"}"#,
            reason: .untranslatable),
        Drop(
            dialect: .openAI, body: String(repeating: "[", count: 10_000), reason: .untranslatable),
        Drop(
            dialect: .openAI,
            body: #"{"model":"a","x":["# + String(repeating: "0,", count: 300_000) + "0]}",
            reason: .untranslatable),
    ])
    func drops(_ row: Drop) throws {
        let server = try PeerServer()
        let rig = try rig(server, row.dialect, models: ["a": "z"])
        rig.push(Self.head(row.line, row.fields), body: Array(row.body.utf8), hasBody: true)
        #expect(try rig.next().drop == row.reason)
        rig.turn()
        #expect(server.accept() == nil, "nothing of it may reach the shadow")
        #expect(rig.gauge(.inFlight) == 0 && rig.worker.exchanges.heldBytes == 0)
    }

    /// A body of about `count` bytes that is translated.
    private static func long(_ count: Int, model: String = "a") -> [UInt8] {
        let text = String(repeating: "0123456789abcde\\n", count: count / 17)
        return Array(
            #"{"model":"\#(model)","messages":[{"role":"user","content":"\#(text)"}]}"#.utf8)
    }

    /// Sent in parts to a shadow that reads slowly, from the process's own memory.
    @Test func aLongTranslationToASlowReader() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic, models: ["a": "z"])
        let body = Self.long(3 << 20)
        let settings = TranslationSettings(model: "z")
        let wanted = try ChatToMessages.translate(try JSONDocument(body), settings).body
        rig.push(Self.head(), body: body, sliceBytes: 16_000)
        let peer = try rig.accept(server)
        rig.turn()
        #expect(rig.worker.exchanges.heldBytes == wanted.count)
        let (_, content) = try message(rig, peer, step: 100_000)
        #expect(content == wanted)
        rig.turn()
        #expect(rig.worker.exchanges.heldBytes == 0, "what was sent is not held")
        peer.reset()
        #expect(try rig.next().result == .error)
    }

    @Test func whatIsHeldIsBounded() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic, models: ["a": "z"], memoryBytes: 32 << 20)
        rig.push(Self.head(), body: Self.long(2_200_000), sliceBytes: 16_000)
        #expect(try rig.next().drop == .bodyTooLarge)
        // Nobody reads: each is held but for what the kernel takes.
        for _ in 0..<5 { rig.push(Self.head(), body: Self.long(1_900_000), sliceBytes: 16_000) }
        #expect(try rig.next().drop == .memoryLimit)
        #expect(rig.gauge(.inFlight) == 4)
        rig.turn(afterMs: ShadowSettings.timeoutMsDefault + 100)
        #expect(rig.returned[0].suffix(4).allSatisfy { $0.result == .timeout })
        #expect(rig.worker.exchanges.heldBytes == 0 && rig.gauge(.inFlight) == 0)
    }

    @Test func aTurnReadsABoundedNumberOfBytes() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic)
        for _ in 0..<3 { rig.push(Self.head(), body: Self.long(600_000), sliceBytes: 16_000) }
        rig.turn(turns: 1)
        #expect(rig.returned[0].map(\.drop) == [.unmappedModel, .unmappedModel])
        rig.turn(turns: 1)
        #expect(rig.returned[0].count == 3)
    }

    @Test func cancelledCopiesAreGivenBack() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic, models: ["a": "z"])
        for _ in 0..<3 { rig.push(Self.head(), body: Self.long(700_000), sliceBytes: 16_000) }
        rig.turn()
        #expect(rig.worker.exchanges.heldBytes > 1_000_000)
        rig.worker.cancelAll()
        rig.collect()
        #expect(rig.returned[0].count == 3 && rig.worker.exchanges.heldBytes == 0)
    }

    static let answers: [(String, CopyResult, Int)] = [
        ("200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", .ok, 200),
        (
            "200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}",
            .ok, 200
        ),
        ("200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\n\n\n", .ok, 200),
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", .error, 200),
        ("200 OK\r\nContent-Length: 2\r\n\r\n{}", .error, 200),
        ("404 No\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", .ok, 404),
        ("502 No\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", .error, 502),
    ]

    @Test(arguments: answers)
    func pagesAreNoAnswers(_ answer: String, _ result: CopyResult, _ status: Int) throws {
        let server = try PeerServer()
        let rig = try rig(server, .openAI)
        rig.push(Self.head(), body: Array("{}".utf8))
        let peer = try rig.accept(server)
        _ = try message(rig, peer)
        peer.write("HTTP/1.1 " + answer)
        let back = try rig.next()
        #expect(back.result == result && Int(back.status) == status)
    }

    /// Five of them in a row open the breaker, as any other failure does.
    @Test func pagesOpenTheBreaker() throws {
        let server = try PeerServer()
        let rig = try rig(server, .openAI)
        var peer: Peer?
        for _ in 0..<5 {
            rig.push(Self.head(), body: Array("{}".utf8))
            if peer == nil { peer = try rig.accept(server) }
            _ = try message(rig, #require(peer))
            peer?.forget()
            peer?.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")
            #expect(try rig.next().result == .error)
        }
        rig.push(Self.head(), body: Array("{}".utf8))
        #expect(try rig.next().drop == .breakerOpen)
    }

    @Test func anOverloadedShadowIsLeftAlone() throws {
        let server = try PeerServer()
        let rig = try rig(server, .anthropic)
        rig.push(Self.head("POST /v1/messages"), body: Array("{}".utf8))
        let peer = try rig.accept(server)
        _ = try message(rig, peer)
        peer.write("HTTP/1.1 529 Overloaded\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        #expect(try rig.next().result == .error)
        rig.push(Self.head("POST /v1/messages"), body: Array("{}".utf8))
        #expect(try rig.next().drop == .coolDown)
        rig.turn(afterMs: 7_001)
        rig.push(Self.head("POST /v1/messages"), body: Array("{}".utf8))
        rig.turn()
        #expect(rig.gauge(.inFlight) == 1)
    }
}
