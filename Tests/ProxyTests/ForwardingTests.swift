import HTTP
import Providers
import TLS
import Testing
import Upstream

@testable import Proxy

/// Whole heads as they go out, byte for byte.
@Suite struct ForwardingTests {
    private static func forwarded(
        _ text: String, client: String = "10.0.0.9",
        _ change: (inout GatewaySettings) -> Void = { _ in }
    ) throws -> String {
        var settings = GatewaySettings.plain()
        settings.forwarding.forwardedFor = .off
        change(&settings)
        let forwarding = Forwarding(settings, seed: 1)
        let request = try ParsedRequest(text)
        return written { writer in
            request.source.withUnsafeBytes {
                forwarding.writeRequest(
                    request.head, $0.baseAddress!, headBytes: request.headBytes, route: 0,
                    peer: Peer(address: AddressText(client)), into: &writer)
            }
        }
    }

    /// A provider gets its own name and key, and nothing that proves or tells who the client is.
    @Test func headsForProviders() throws {
        let client = """
            POST /v1/chat/completions HTTP/1.1\r
            Host: gateway.test\r
            Authorization: Bearer theirs\r
            X-Api-Key: theirs\r
            X_API_KEY: theirs\r
            api-key: theirs\r
            Cookie: a=theirs\r
            X-Forwarded-For: 10.9.9.9\r
            OpenAI-Beta: x\r
            X-Request-Id: r\r
            Content-Length: 2\r
            \r

            """
        func sent(_ dialect: Dialect, key: String?) throws -> String {
            try Self.forwarded(client) { settings in
                settings.forwarding.forwardedFor = .append
                settings.targets[0].provider = ProviderSettings(dialect)
                settings.targets[0].provider?.key = key.flatMap { ProviderKey(Array($0.utf8)) }
            }
        }
        let plain = GatewaySettings.plain().targets[0].plainAuthority
        #expect(
            try sent(.openAI, key: " ours\n") == """
                POST /v1/chat/completions HTTP/1.1\r
                Host: \(plain)\r
                OpenAI-Beta: x\r
                X-Request-Id: r\r
                Content-Length: 2\r
                Authorization: Bearer ours\r
                Via: 1.1 umbra\r
                \r

                """)
        #expect(try sent(.anthropic, key: "ours").contains("\r\nx-api-key: ours\r\n"))
        #expect(try !sent(.anthropic, key: "ours").contains("theirs"))
        let own = try sent(.openAI, key: nil)
        #expect(own.contains("Authorization: Bearer theirs\r\n") && !own.contains("a=theirs"))
    }

    /// The gateway's own keys end here; what else a client shows is for the target.
    @Test(arguments: [nil, Dialect.openAI])
    func keysOfTheGatewayAreNotPassedOn(_ dialect: Dialect?) throws {
        let text = """
            GET /a HTTP/1.1\r
            Host: gateway.test\r
            X-Api-Key: gate\r
            Authorization: Bearer theirs\r
            X-Request-Id: r\r
            authorization: bearer gate\r
            X-Api-Key: theirs\r
            \r

            """
        let sent = try Self.forwarded(text) { settings in
            var key = AuthSettings.Key(name: "k", source: .variable("K"))
            key.key = ProviderKey(Array("gate".utf8))
            settings.auth = AuthSettings()
            settings.auth?.keys = [key]
            settings.targets[0].provider = dialect.map { ProviderSettings($0) }
        }
        let lines = sent.split(separator: "\r\n").dropFirst().filter { !$0.hasPrefix("Host") }
        #expect(
            lines == [
                "Authorization: Bearer theirs", "X-Request-Id: r", "X-Api-Key: theirs",
                "Via: 1.1 umbra",
            ])
    }

    @Test func namesWithoutTheirStandardPort() {
        var target = TargetSettings(id: "a", authority: "api.test:443", host: "api.test", port: 443)
        #expect(target.plainAuthority == "api.test:443")
        target.tls = ClientTLSSettings()
        #expect(target.plainAuthority == "api.test")
        #expect(
            TargetSettings(id: "a", authority: "[::1]:8080", host: "::1", port: 8080)
                .plainAuthority == "[::1]:8080")
    }

    struct LineRow: Sendable, CustomTestStringConvertible {
        let line: String
        var prefix = ""
        var match = RouteSettings.PathMatch.any
        var rewrite: String?
        let result: String
        var testDescription: String { "\(line) \(prefix) \(rewrite ?? "-")" }
    }

    @Test(
        arguments: [
            LineRow(line: "GET /a?b#", result: ""),
            LineRow(line: "GET /a?b=c", result: "GET /a?b=c"),
            LineRow(line: "GET //a/../b", result: "GET //a/../b"),
            LineRow(line: "get /", result: "get /"),
            LineRow(line: "PURGE /x", result: "PURGE /x"),
            LineRow(line: "GET http://h.test/a?b", result: "GET /a?b"),
            LineRow(line: "GET http://h.test", result: "GET /"),
            LineRow(line: "GET http://h.test?q=1", result: "GET /?q=1"),
            LineRow(line: "OPTIONS *", result: "OPTIONS *"),
            LineRow(line: "OPTIONS http://h.test", result: "OPTIONS *"),
            LineRow(line: "OPTIONS http://h.test/", result: "OPTIONS /"),
            LineRow(line: "OPTIONS *", prefix: "/v1", result: "OPTIONS *"),
            LineRow(line: "GET /a", prefix: "/v1", result: "GET /v1/a"),
            LineRow(line: "GET http://h.test", prefix: "/v1", result: "GET /v1/"),
            LineRow(
                line: "GET /api/x?y", match: .prefix("/api"), rewrite: "/v2",
                result: "GET /v2/x?y"),
            LineRow(line: "GET /api", match: .prefix("/api"), rewrite: "/v2", result: "GET /v2"),
            LineRow(line: "GET /api", match: .prefix("/api"), rewrite: "", result: "GET /"),
            LineRow(line: "GET /api?q", match: .prefix("/api"), rewrite: "", result: "GET /?q"),
            LineRow(line: "GET /api/x", match: .prefix("/api"), rewrite: "", result: "GET /x"),
            LineRow(line: "GET /api/x", match: .prefix("/api/"), rewrite: "/", result: "GET /x"),
            LineRow(line: "GET /api/x", match: .prefix("/api"), rewrite: "/", result: "GET /x"),
            LineRow(
                line: "GET /api/x", match: .prefix("/api"), rewrite: "/v2/", result: "GET /v2/x"),
            LineRow(
                line: "GET /api/x", prefix: "/p", match: .prefix("/api"), rewrite: "/v2",
                result: "GET /p/v2/x"),
            LineRow(
                line: "GET http://h.test/api/x", match: .prefix("/api"), rewrite: "/v2",
                result: "GET /v2/x"),
        ].filter { !$0.result.isEmpty })
    func requestLines(_ row: LineRow) throws {
        let head = try Self.forwarded("\(row.line) HTTP/1.1\r\nHost: h.test\r\n\r\n") {
            $0.targets[0].pathPrefix = row.prefix
            $0.routes[0].path = row.match
            $0.routes[0].rewritePrefix = row.rewrite
        }
        #expect(head.prefix { $0 != "\r\n" } == row.result + " HTTP/1.1")
    }

    struct HeadRow: Sendable, CustomTestStringConvertible {
        let name: String
        let head: String
        let result: String
        var testDescription: String { name }
    }

    // X-Request-Id is given, so that nothing in the result is random.
    @Test(arguments: [
        HeadRow(
            name: "what passes stays in place and spelling",
            head:
                "GET / HTTP/1.1\r\nhOsT: h.test\r\nACCEPT:*/*\r\nX-Request-Id: 1\r\nCookie: a=b\r\n"
                + "X-Trace: 00-1-2-3\r\n\r\n",
            result:
                "GET / HTTP/1.1\r\nhOsT: h.test\r\nACCEPT:*/*\r\nX-Request-Id: 1\r\nCookie: a=b\r\n"
                + "X-Trace: 00-1-2-3\r\nVia: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "hop-by-hop fields and those that Connection names",
            head: "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\n"
                + "Keep-Alive: timeout=1\r\nTE: trailers\r\nProxy-Connection: close\r\n"
                + "Proxy-Authorization: x\r\nX-Request-Id: 1\r\nUpgrade: h2c\r\nAccept: a\r\n\r\n",
            result: "GET / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\nAccept: a\r\n"
                + "Via: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "Connection cannot take framing or the host away",
            head: "POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 3\r\nX-Request-Id: 1\r\n"
                + "Connection: host, content-length, x-request-id\r\n\r\n",
            result: "POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 3\r\nX-Request-Id: 1\r\n"
                + "Via: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "chunked is said anew",
            head: "POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n"
                + "X-Request-Id: 1\r\nTrailer: X-Sum\r\n\r\n",
            result: "POST / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\nTrailer: X-Sum\r\n"
                + "Transfer-Encoding: chunked\r\nVia: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "absolute-form: Host comes from the target",
            head: "GET http://real.test:81/x HTTP/1.1\r\nHost: lie.test\r\nX-Request-Id: 1\r\n\r\n",
            result: "GET /x HTTP/1.1\r\nHost: real.test:81\r\nX-Request-Id: 1\r\n"
                + "Via: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "HTTP/1.0 without Host gets the target's",
            head: "GET /x HTTP/1.0\r\nX-Request-Id: 1\r\n\r\n",
            result: "GET /x HTTP/1.1\r\nHost: app.test:8080\r\nX-Request-Id: 1\r\n"
                + "Via: 1.0 umbra\r\n\r\n"),
        HeadRow(
            name: "Via is added to, not replaced",
            head: "GET / HTTP/1.1\r\nHost: h.test\r\nVia: 1.1 other\r\nX-Request-Id: 1\r\n\r\n",
            result: "GET / HTTP/1.1\r\nHost: h.test\r\nVia: 1.1 other\r\nX-Request-Id: 1\r\n"
                + "Via: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "Max-Forwards goes down",
            head:
                "OPTIONS / HTTP/1.1\r\nHost: h.test\r\nMax-Forwards: 10\r\nX-Request-Id: 1\r\n\r\n",
            result: "OPTIONS / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\nMax-Forwards: 9\r\n"
                + "Via: 1.1 umbra\r\n\r\n"),
        HeadRow(
            name: "an upgrade is passed on",
            head: "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade, X-A\r\nX-A: 1\r\n"
                + "Upgrade: websocket\r\nX-Request-Id: 1\r\n\r\n",
            result: "GET / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\nConnection: upgrade\r\n"
                + "Upgrade: websocket\r\nVia: 1.1 umbra\r\n\r\n"),
    ])
    func heads(_ row: HeadRow) throws {
        #expect(try Self.forwarded(row.head) == row.result)
    }

    struct ForRow: Sendable {
        let mode: ForwardingSettings.ForwardedFor
        let fields: String
        let result: String
        init(_ mode: ForwardingSettings.ForwardedFor, _ fields: String, _ result: String) {
            (self.mode, self.fields, self.result) = (mode, fields, result)
        }
    }

    @Test(arguments: [
        ForRow(.off, "X-Forwarded-For: 1.1.1.1\r\n", "X-Forwarded-For: 1.1.1.1\r\n"),
        ForRow(
            .append, "",
            "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\n"
                + "X-Forwarded-Host: h.test\r\n"),
        ForRow(
            .append, "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n",
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\nX-Forwarded-Proto: http\r\n"
                + "X-Forwarded-Host: h.test\r\n"),
        ForRow(
            .append, "X-Forwarded-Proto: https\r\nX-Forwarded-Host: o.test\r\n",
            "X-Forwarded-Proto: https\r\nX-Forwarded-Host: o.test\r\n"
                + "X-Forwarded-For: 10.0.0.9\r\n"),
        ForRow(
            .replace,
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
                + "X-Forwarded-Host: o.test\r\n",
            "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h.test\r\n"),
    ])
    func forwardedFields(_ row: ForRow) throws {
        let head = try Self.forwarded(
            "GET / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\n\(row.fields)\r\n"
        ) { $0.forwarding.forwardedFor = row.mode }
        let start = "GET / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\n"
        #expect(head == start + row.result + "Via: 1.1 umbra\r\n\r\n")
    }

    @Test func requestIDsAreUUIDsOfVersion7() throws {
        let forwarding = Forwarding(.plain(), seed: 7)
        let request = try ParsedRequest("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        var seen: Set<String> = []
        for _ in 0..<200 {
            let head = written { writer in
                request.source.withUnsafeBytes {
                    forwarding.writeRequest(
                        request.head, $0.baseAddress!, headBytes: request.headBytes, route: 0,
                        peer: Peer(address: AddressText("1.2.3.4")), into: &writer)
                }
            }
            let line = try #require(
                head.split(separator: "\r\n").first { $0.hasPrefix("X-Request-Id: ") })
            let id = line.dropFirst("X-Request-Id: ".count)
            let form = #/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/#
            #expect(id.wholeMatch(of: form) != nil, "\(id)")
            let milliseconds = try #require(
                UInt64(id.prefix(8) + id.dropFirst(9).prefix(4), radix: 16))
            #expect(abs(Int(milliseconds) - Int(WallClockNow.milliseconds)) < 60_000)
            seen.insert(String(id))
        }
        #expect(seen.count == 200)
    }

    @Test func aHeadThatDoesNotFitIsRefusedWhole() throws {
        let forwarding = Forwarding(.plain(), seed: 1)
        let request = try ParsedRequest("GET /abc HTTP/1.1\r\nHost: h.test\r\nAccept: */*\r\n\r\n")
        func write(_ capacity: Int) -> (overflowed: Bool, count: Int) {
            withUnsafeTemporaryAllocation(byteCount: max(1, capacity), alignment: 16) { memory in
                var writer = HeadWriter(
                    UnsafeMutableRawBufferPointer(rebasing: memory[..<capacity]))
                request.source.withUnsafeBytes {
                    forwarding.writeRequest(
                        request.head, $0.baseAddress!, headBytes: request.headBytes, route: 0,
                        peer: Peer(address: AddressText("1.2.3.4")), into: &writer)
                }
                return (writer.overflowed, writer.count)
            }
        }
        let whole = write(2_000)
        #expect(!whole.overflowed)
        for capacity in 0..<whole.count { #expect(write(capacity).overflowed) }
        #expect(!write(whole.count).overflowed)
    }
}
