import CLinux
import CoreLoop
import HTTP
import Testing

@testable import Proxy

/// Who a request comes from, by the word of proxies that are trusted or not.
@Suite struct OriginFieldsTests {
    private static let trusted = ["10.0.0.0/8", "2001:db8::/32"]

    private static func settings(_ change: (inout ForwardingSettings) -> Void = { _ in })
        -> GatewaySettings
    {
        var settings = GatewaySettings.plain()
        settings.forwarding.trustedProxies = trusted.map { IPNetwork($0)! }
        change(&settings.forwarding)
        return settings
    }

    private static func peer(_ address: String, tls: Bool = false, _ settings: GatewaySettings)
        -> Peer
    {
        var storage = sockaddr_storage()
        if let address = SocketAddress(host: address, port: 1) {
            address.withSockaddr { pointer, length in
                withUnsafeMutableBytes(of: &storage) {
                    $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
                }
            }
        } else {
            storage.ss_family = sa_family_t(AF_UNIX)
        }
        var peer = Peer(isTLS: tls)
        peer.address.set(&storage)
        peer.isTrusted = ClientChain(settings.forwarding).trusts(&storage)
        return peer
    }

    struct ChainRow: Sendable, CustomTestStringConvertible {
        let peer: String
        let fields: [String]
        let client: String
        init(_ peer: String, _ fields: [String], _ client: String) {
            (self.peer, self.fields, self.client) = (peer, fields, client)
        }
        var testDescription: String { "\(peer) \(fields)" }
    }

    @Test(arguments: [
        ChainRow("192.0.2.9", ["X-Forwarded-For: 1.1.1.1"], "192.0.2.9"),
        ChainRow("10.0.0.1", [], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1"], "1.1.1.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 9.9.9.9, 1.1.1.1, 10.2.3.4,10.0.0.7"], "1.1.1.1"),
        ChainRow(
            "10.0.0.1", ["X-Forwarded-For: 9.9.9.9", "Accept: a", "X-Forwarded-For: 1.1.1.1"],
            "1.1.1.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1:4711"], "1.1.1.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: [2001:db9::1]:80"], "2001:db9::1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 2001:db9::1, 2001:db8::7"], "2001:db9::1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: ::ffff:10.0.0.3"], "::ffff:10.0.0.3"),
        // What cannot be read hides what stands before it: the proxy that reported it is named.
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1, unknown"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1, _x, 10.0.0.5"], "10.0.0.5"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1, x, 10.0.0.5, 10.0.0.6"], "10.0.0.5"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1, x, 2.2.2.2, 10.0.0.6"], "2.2.2.2"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 01.1.1.1"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: 1.1.1.1:"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: [1.1.1.1]"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: fe80::1%eth0"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For: , ,1.1.1.1 ,"], "1.1.1.1"),
        ChainRow("10.0.0.1", ["X-Forwarded-For:"], "10.0.0.1"),
        ChainRow("2001:db8::1", ["X-Forwarded-For: 1.1.1.1"], "1.1.1.1"),
        ChainRow("::ffff:10.0.0.1", ["X-Forwarded-For: 1.1.1.1"], "1.1.1.1"),
        ChainRow("2001:db9::1", ["X-Forwarded-For: 1.1.1.1"], "2001:db9::1"),
        // Forwarded, where there is no X-Forwarded-For.
        ChainRow("10.0.0.1", ["Forwarded: for=9.9.9.9, for=1.1.1.1;proto=http"], "1.1.1.1"),
        ChainRow("10.0.0.1", ["Forwarded: for=\"[2001:db9::1]:80\""], "2001:db9::1"),
        ChainRow("10.0.0.1", ["Forwarded: for=1.1.1.1, for=unknown"], "10.0.0.1"),
        ChainRow("10.0.0.1", ["Forwarded: for=1.1.1.1, for="], "10.0.0.1"),
        ChainRow("10.0.0.1", ["Forwarded: for=1.1.1.1, proto=http"], "10.0.0.1"),
        ChainRow(
            "10.0.0.1", ["Forwarded: for=2.2.2.2", "X-Forwarded-For: 1.1.1.1"], "1.1.1.1"),
        ChainRow("192.0.2.9", ["Forwarded: for=1.1.1.1"], "192.0.2.9"),
        ChainRow("unix", ["X-Forwarded-For: 1.1.1.1"], "unknown"),
    ])
    func clients(row: ChainRow) throws {
        #expect(try Self.client(row, Self.settings()) == row.client)
    }

    @Test func unixPeersAreTrustedByName() throws {
        let row = ChainRow("unix", ["X-Forwarded-For: 1.1.1.1"], "1.1.1.1")
        #expect(try Self.client(row, Self.settings { $0.trustsUnix = true }) == "1.1.1.1")
    }

    private static func client(_ row: ChainRow, _ settings: GatewaySettings) throws -> String {
        let lines = row.fields.map { $0 + "\r\n" }.joined()
        let request = try ParsedRequest("GET / HTTP/1.1\r\nHost: h\r\n\(lines)\r\n")
        let chain = ClientChain(settings.forwarding)
        let text = request.source.withUnsafeBytes {
            chain.client(request.head.fields, $0.baseAddress!, peer(row.peer, settings))
        }
        return withUnsafeBytes(of: text.bytes) {
            String(decoding: $0.prefix(Int(text.count)), as: UTF8.self)
        }
    }

    struct HeadRow: Sendable, CustomTestStringConvertible {
        let name: String
        var xForwarded = ForwardingSettings.ForwardedFor.append
        var forwarded = ForwardingSettings.ForwardedFor.off
        var trusts = true
        var peer = "10.0.0.1"
        var tls = false
        var host = "h.test"
        let fields: [String]
        let result: [String]
        var testDescription: String { name }
    }

    private static let claims = [
        "X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: o.test",
        "Forwarded: for=1.1.1.1",
    ]

    @Test(arguments: [
        HeadRow(
            name: "trusted: the chain grows, the rest is believed", fields: claims,
            result: [claims[1], claims[2], claims[3], "X-Forwarded-For: 1.1.1.1, 10.0.0.1"]),
        HeadRow(
            name: "trusted, replace: the client alone", xForwarded: .replace, fields: claims,
            result: [claims[1], claims[2], claims[3], "X-Forwarded-For: 1.1.1.1"]),
        HeadRow(name: "trusted, off: as it came", xForwarded: .off, fields: claims, result: claims),
        HeadRow(
            name: "untrusted: ours in their place", peer: "192.0.2.9", fields: claims,
            result: [
                "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: http",
                "X-Forwarded-Host: h.test",
            ]),
        HeadRow(
            name: "untrusted, over TLS", xForwarded: .replace, peer: "192.0.2.9", tls: true,
            fields: claims,
            result: [
                "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https",
                "X-Forwarded-Host: h.test",
            ]),
        HeadRow(
            name: "untrusted, off: nothing in their place", xForwarded: .off, peer: "192.0.2.9",
            fields: claims, result: []),
        HeadRow(
            name: "nobody named: the client's chain grows, Forwarded stays", trusts: false,
            peer: "192.0.2.9", fields: claims,
            result: [claims[1], claims[2], claims[3], "X-Forwarded-For: 1.1.1.1, 192.0.2.9"]),
        HeadRow(
            name: "Forwarded alone", xForwarded: .off, forwarded: .append, trusts: false,
            peer: "192.0.2.9", host: "h.test:8080", fields: [],
            result: ["Forwarded: for=192.0.2.9;host=\"h.test:8080\";proto=http"]),
        HeadRow(
            name: "Forwarded of an IPv6 peer over TLS", xForwarded: .off, forwarded: .append,
            trusts: false, peer: "2001:db8::9", tls: true, host: "[::1]:80", fields: [],
            result: ["Forwarded: for=\"[2001:db8::9]\";host=\"[::1]:80\";proto=https"]),
        HeadRow(
            name: "Forwarded of a Unix socket", xForwarded: .off, forwarded: .append,
            trusts: false, peer: "unix", fields: [],
            result: ["Forwarded: for=unknown;host=h.test;proto=http"]),
        HeadRow(
            name: "Forwarded appended to two lines", xForwarded: .off, forwarded: .append,
            fields: ["Forwarded: for=1.1.1.1", "Forwarded: for=\"[::1]\";proto=https"],
            result: [
                "Forwarded: for=1.1.1.1, for=\"[::1]\";proto=https, "
                    + "for=10.0.0.1;host=h.test;proto=http"
            ]),
        HeadRow(
            name: "a malformed Forwarded is begun anew", xForwarded: .off, forwarded: .append,
            fields: ["Forwarded: for=1.1.1.1", "Forwarded: for=a b"],
            result: ["Forwarded: for=10.0.0.1;host=h.test;proto=http"]),
        HeadRow(
            name: "an untrusted Forwarded is replaced", xForwarded: .off, forwarded: .append,
            peer: "192.0.2.9", fields: claims,
            result: ["Forwarded: for=192.0.2.9;host=h.test;proto=http"]),
        HeadRow(
            name: "Forwarded of the client alone", xForwarded: .off, forwarded: .replace,
            fields: claims,
            result: [
                claims[0], claims[1], claims[2], "Forwarded: for=1.1.1.1;host=o.test;proto=https",
            ]),
        HeadRow(
            name: "a believed host that is none is not", xForwarded: .off, forwarded: .replace,
            fields: ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Host: a\"b"],
            result: [
                "X-Forwarded-For: 1.1.1.1", "X-Forwarded-Host: a\"b",
                "Forwarded: for=1.1.1.1;host=h.test;proto=http",
            ]),
    ])
    func fields(row: HeadRow) throws {
        let settings = Self.settings {
            $0.forwardedFor = row.xForwarded
            $0.forwarded = row.forwarded
            if !row.trusts { $0.trustedProxies = [] }
        }
        let lines = row.fields.map { $0 + "\r\n" }.joined()
        let start = "GET / HTTP/1.1\r\nHost: \(row.host)\r\nX-Request-Id: 1\r\n"
        #expect(
            try Self.forwarded(start + lines + "\r\n", settings, row.peer, tls: row.tls)
                == start + row.result.map { $0 + "\r\n" }.joined() + "Via: 1.1 umbra\r\n\r\n")
    }

    private static func forwarded(
        _ text: String, _ settings: GatewaySettings, _ address: String, tls: Bool = false
    ) throws -> String {
        let forwarding = Forwarding(settings, seed: 1)
        let request = try ParsedRequest(text)
        return written { writer in
            request.source.withUnsafeBytes {
                forwarding.writeRequest(
                    request.head, $0.baseAddress!, headBytes: request.headBytes, route: 0,
                    peer: peer(address, tls: tls, settings), into: &writer)
            }
        }
    }

    // MARK: Traces

    struct TraceRow: Sendable {
        let mode: ForwardingSettings.Trace
        let fields: [String]
        /// `SPAN` and `TRACE` stand for fresh ids.
        let result: [String]
        init(_ mode: ForwardingSettings.Trace, _ fields: [String], _ result: [String]) {
            (self.mode, self.fields, self.result) = (mode, fields, result)
        }
    }

    private static let trace = "0af7651916cd43dd8448eb211c80319c"
    private static let parent = "traceparent: 00-\(trace)-b7ad6b7169203331-01"

    @Test(arguments: [
        TraceRow(.on, [], []),
        TraceRow(.on, [parent], ["traceparent: 00-\(trace)-SPAN-01"]),
        TraceRow(
            .on, [parent, "tracestate: a=1", "tracestate: b=2"],
            ["tracestate: a=1", "tracestate: b=2", "traceparent: 00-\(trace)-SPAN-01"]),
        TraceRow(.on, [parent + "x", "tracestate: a=1"], []),
        TraceRow(.on, [parent, parent, "tracestate: a=1"], []),
        TraceRow(.on, ["tracestate: a=1"], []),
        TraceRow(.off, [parent + "x", "tracestate: a=1"], [parent + "x", "tracestate: a=1"]),
        TraceRow(.off, [parent], [parent]),
        TraceRow(.always, [], ["traceparent: 00-TRACE-SPAN-01"]),
        TraceRow(.always, [parent + "x", "tracestate: a=1"], ["traceparent: 00-TRACE-SPAN-01"]),
        TraceRow(.always, [parent], ["traceparent: 00-\(trace)-SPAN-01"]),
    ])
    func traces(row: TraceRow) throws {
        var settings = GatewaySettings.plain()
        settings.forwarding.forwardedFor = .off
        settings.forwarding.trace = row.mode
        let lines = row.fields.map { $0 + "\r\n" }.joined()
        let start = "GET / HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: 1\r\n"
        var head = try Self.forwarded(start + lines + "\r\n", settings, "10.0.0.1")
        let expected = start + row.result.map { $0 + "\r\n" }.joined() + "Via: 1.1 umbra\r\n\r\n"
        if let made = head.firstMatch(of: #/traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01/#),
            row.mode != .off
        {
            #expect(made.2 != "b7ad6b7169203331" && made.2 != "0000000000000000")
            let (span, id) = (String(made.2), String(made.1))
            head.replace(span, with: "SPAN")
            if id != Self.trace { head.replace(id, with: "TRACE") }
        }
        #expect(head == expected)
    }

    @Test func spansAreNewEachTime() throws {
        let settings = GatewaySettings.plain()
        let forwarding = Forwarding(settings, seed: 1)
        let request = try ParsedRequest("GET / HTTP/1.1\r\nHost: h\r\n\(Self.parent)\r\n\r\n")
        var seen: Set<Substring> = []
        for _ in 0..<100 {
            let head = written { writer in
                request.source.withUnsafeBytes {
                    forwarding.writeRequest(
                        request.head, $0.baseAddress!, headBytes: request.headBytes, route: 0,
                        peer: Peer(), into: &writer)
                }
            }
            seen.insert(try #require(head.firstMatch(of: #/-([0-9a-f]{16})-01/#)).1)
        }
        #expect(seen.count == 100)
    }
}
