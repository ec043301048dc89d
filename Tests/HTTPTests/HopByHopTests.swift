import HTTP
import Testing

@Suite struct HopByHopTests {
    private func fields(_ lines: String) -> [String] {
        let source = bytes("GET / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n\r\n")
        let bench = RequestBench()
        guard case .complete = bench.parse(source) else { return ["not complete"] }
        return Array(bench.fields(source).dropFirst())
    }

    @Test func byName() {
        for known in FieldName.allCases where known != .other {
            let name = "\(known.text)"
            let expected: Set<FieldName> = [
                .connection, .keepAlive, .proxyConnection, .te, .transferEncoding, .upgrade,
                .http2Settings, .proxyAuthorization, .proxyAuthenticate,
            ]
            #expect(known.isHopByHop == expected.contains(known), "\(name)")
        }
        #expect(fields("TE: trailers\r\nTrailer: x") == ["!TE=trailers", "Trailer=x"])
    }

    @Test func namedByConnection() {
        #expect(
            fields("X-A: 1\r\nConnection: x-a , ,, X-B\r\nx-b: 2\r\nX-C: 3\r\nX-A: 4") == [
                "!X-A=1", "!Connection=x-a , ,, X-B", "!x-b=2", "X-C=3", "!X-A=4",
            ])
    }

    @Test func namedBySecondConnectionField() {
        #expect(
            fields("Connection: close\r\nX-A: 1\r\nConnection: x-a") == [
                "!Connection=close", "!X-A=1", "!Connection=x-a",
            ])
    }

    @Test func aPrefixIsNotNamed() {
        #expect(
            fields("Connection: x-a\r\nX-AB: 1\r\nX-: 2") == ["!Connection=x-a", "X-AB=1", "X-=2"])
    }

    // Hop-by-hop abuse: what the proxy in front of us wrote must not be taken away by the client.
    @Test func protectedNamesStay() {
        let named = FieldName.allCases.filter(\.isProtected)
        #expect(named.contains(.host) && named.contains(.contentLength))
        #expect(named.contains(.xForwardedFor) && named.contains(.umbraShadow))
        for known in named
        where ![.host, .expect, .transferEncoding, .contentLength].contains(known) {
            #expect(
                fields("Connection: \(known.text)\r\n\(known.text): 1") == [
                    "!Connection=\(known.text)", "\(known.text)=1",
                ])
        }
        let source = bytes(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nContent-Length: 3\r\n\r\n"
        )
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.framing == .length(3))
        #expect(bench.fields(source).filter { $0.hasPrefix("!") }.count == 1)
    }

    @Test func transferEncodingNamedStillFrames() {
        let source = bytes(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n")
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.framing == .chunked)
    }

    @Test(arguments: [
        ("1.1", "", true), ("1.1", "close", false), ("1.1", "CLOSE", false),
        ("1.1", "keep-alive", true), ("1.1", "keep-alive, close", false),
        ("1.1", "x, close", false),
        ("1.1", "closed", true), ("1.1", "\"close\"", true), ("1.1", ",,close,,", false),
        ("1.1", "clo se", true), ("1.1", "close;x", true), ("1.0", "", false),
        ("1.0", "keep-alive", true), ("1.0", "Keep-Alive", true),
        ("1.0", "keep-alive, close", false),
        ("1.0", "close", false), ("1.1", "\t close\t", false), ("1.1", ",", true),
    ])
    func persistence(version: String, connection: String, expected: Bool) {
        let source = bytes("GET / HTTP/\(version)\r\nHost: a\r\nConnection: \(connection)\r\n\r\n")
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.keepAlive == expected)
    }

    @Test func severalConnectionFieldsCountTogether() {
        let source = bytes(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n"
        )
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.wantsUpgrade)
        #expect(!bench.head.keepAlive)
    }

    // Behind a switch to HTTP/2 nobody would route, limit or mirror the requests.
    @Test(arguments: [
        ("Upgrade: websocket", true), ("Upgrade: foo/2", true), ("Upgrade: websocket, foo", true),
        ("Upgrade: h2", true), ("Upgrade: h-2c", true),
        ("Upgrade: websocket\r\nUpgrade: foo", true),
        ("Upgrade: h2c", false), ("Upgrade: H2C", false), ("Upgrade: h2C", false),
        ("Upgrade: \t h2c \t", false), ("Upgrade: h2c, websocket", false),
        ("Upgrade: websocket, h2c", false), ("Upgrade: websocket,H2c,foo", false),
        ("Upgrade: ,,h2c,,", false), ("Upgrade: h2c-14", false), ("Upgrade: h2c/1", false),
        ("Upgrade: websocket\r\nUpgrade: h2c", false),
        ("Upgrade: h2c\r\nUpgrade: websocket", false),
    ])
    func upgradesToHTTP2AreLeftOut(_ lines: String, _ expected: Bool) {
        let source = bytes("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\(lines)\r\n\r\n")
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.wantsUpgrade == expected)
        #expect(bench.head.keepAlive)
        let upgrades = bench.fields(source).filter { $0.contains("Upgrade=") }
        #expect(!upgrades.isEmpty && upgrades.allSatisfy { $0.hasPrefix("!") })
    }

    @Test func asManyOptionsAsAllowed() {
        let options = (0..<Limits.connectionOptionsMax).map { "x\($0)" } + ["close", "keep-alive"]
        let source = bytes(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: \(options.joined(separator: ","))\r\nX31: y\r\n\r\n"
        )
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.fields(source).last == "!X31=y")
        #expect(!bench.head.keepAlive)
    }
}
