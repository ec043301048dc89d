import CLinux
import CoreLoop
import Proxy
import Testing

@testable import Admin

@Suite struct AdminServerTests {
    @Test func everyPageAnswers() throws {
        let rig = try AdminRig()
        let pages: [(target: String, type: String, part: String)] = [
            ("/healthz", "text/plain; charset=utf-8", "ok\n"),
            ("/readyz", "application/json", "{\"ready\":true,\"workers\":2,\"unready\":[]}\n"),
            ("/health", "application/json", "\"status\":\"ok\""),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "umbra_build_info{"),
            ("/metrics?name=x", "text/plain; version=0.0.4; charset=utf-8", "umbra_build_info{"),
            ("/status", "application/json", "\"version\":\"1.2.3\""),
            ("/status?format=text", "text/plain; charset=utf-8", "ROLE"),
            ("http://a/healthz", "text/plain; charset=utf-8", "ok\n"),
        ]
        for page in pages {
            let reply = try rig.get(page.target)
            #expect(reply.status == 200, "\(page.target)")
            #expect(reply.field("Content-Type") == page.type)
            #expect(reply.body.contains(page.part), "\(reply.body)")
            #expect(reply.field("Content-Length") == "\(reply.body.utf8.count)")
            #expect(reply.field("Connection") == nil)
            let head = try rig.get(page.target, method: "HEAD")
            #expect(head.status == 200 && head.body.isEmpty)
            #expect(head.field("Content-Length") == reply.field("Content-Length"))
        }
        _ = try Exposition(try rig.get("/metrics").body)
    }

    @Test(arguments: [
        ("GET", "/", 404), ("GET", "/healthz/", 404), ("GET", "/Healthz", 404),
        ("GET", "/%68ealthz", 404), ("GET", "//healthz", 404), ("GET", "http://localhost", 404),
        ("GET", "http://localhost?healthz", 404), ("POST", "/nothing", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/metrics", 405), ("OPTIONS", "/status", 405), ("OPTIONS", "*", 404),
        ("BREW", "/status", 405), ("CONNECT", "localhost:80", 404), ("GET", "healthz", 400),
    ])
    func otherMethodsAndPathsAreRefused(method: String, target: String, status: Int) throws {
        let reply = try AdminRig().get(target, method: method)
        #expect(reply.status == status)
        #expect(reply.field("Allow") == (status == 405 ? "GET, HEAD" : nil))
        #expect(reply.body.hasPrefix("{\"error\":{"))
    }

    @Test(arguments: [
        ("\u{16}\u{3}\u{1}garbage\r\n\r\n", 400), ("GET /\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        ("GET /healthz HTTP/1.1\nHost: a\n\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n", 400),
        (
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400
        ),
        (
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n", 400
        ),
        (
            "GET /" + String(repeating: "a", count: 3_000) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
            414
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + String(repeating: "a", count: 9_000)
                + "\r\n\r\n",
            431
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\n" + String(repeating: "a: b\r\n", count: 70)
                + "\r\n",
            431
        ),
        (String(repeating: "a", count: 40) + " / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    ])
    func aMalformedRequestIsRefusedAndTheConnectionEnds(request: String, status: Int) throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(request + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        rig.turn()
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == status)
        #expect(reply.field("Connection") == "close")
        #expect(!reply.body.contains("HTTP/1.1"), "an answer behind the last one")
        #expect(client.hasEnded && !client.wasReset)
        try stillServes(rig)
    }

    private func stillServes(_ rig: AdminRig) throws {
        #expect(try rig.get("/healthz").body == "ok\n")
    }

    @Test func everyTruncationWaitsAndEverySplitIsServed() throws {
        let request = Array(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: b\r\n\r\n".utf8)
        let rig = try AdminRig()
        for cut in 1..<request.count {
            let client = rig.connect()
            client.send(Array(request[..<cut]))
            rig.turn()
            #expect(client.receive() == "", "an answer to a part of \(cut) bytes")
            client.send(Array(request[cut...]))
            rig.turn()
            let reply = try Reply(client.receive(rig))
            #expect(reply.status == 200 && reply.body == "ok\n")
            // The half request of who goes away is nobody's.
            let other = rig.connect()
            other.send(Array(request[..<cut]))
            shutdown(other.fd, Int32(SHUT_WR))
            #expect(other.closes(rig))
        }
        rig.turn()
        #expect(rig.server.connectionCount <= 1)
    }

    @Test func seededGarbageNeverStopsTheServer() throws {
        let rig = try AdminRig()
        var random = FastRandom(seed: 0x5EED)
        let base = Array("GET /status HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".utf8)
        for _ in 0..<400 {
            var bytes = base
            for _ in 0...Int.random(in: 0..<6, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
                default: bytes.remove(at: place)
                }
            }
            let client = rig.connect()
            client.send(bytes)
            rig.turn()
            let text = client.receive(rig)
            if !text.isEmpty {
                let status = try Reply(text).status
                #expect([200, 400, 403, 404, 405, 414, 417, 431, 501, 505].contains(status))
            }
        }
        try stillServes(rig)
    }

    @Test func pipelinedRequestsAreAnsweredInOrderOneATurn() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        let targets = ["/healthz", "/nothing", "/status?format=text", "/readyz", "/healthz"]
        client.send(targets.map { "GET \($0) HTTP/1.1\r\nHost: localhost\r\n\r\n" }.joined())
        rig.turn(1)
        #expect(client.receive().components(of: "HTTP/1.1 ") == 1)
        let rest = client.receive(rig)
        #expect(rest.components(of: "HTTP/1.1 ") == 4)
        let order = ["404", "ROLE", "\"ready\"", "ok\n"].compactMap {
            rest.firstRange(of: $0)?.lowerBound
        }
        #expect(order.count == 4 && order == order.sorted())
        #expect(!client.hasEnded)
    }

    @Test func contentEndsTheConnection() throws {
        let rig = try AdminRig()
        let smuggled = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for framing in ["Content-Length: \(smuggled.utf8.count)", "Transfer-Encoding: chunked"] {
            let client = rig.connect()
            client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\(framing)\r\n\r\n" + smuggled)
            rig.turn()
            let reply = try Reply(client.receive(rig))
            #expect(reply.status == 200 && reply.body == "ok\n")
            #expect(reply.field("Connection") == "close" && client.hasEnded)
        }
        let empty = try rig.get("/healthz", fields: "Content-Length: 0\r\n")
        #expect(empty.status == 200 && empty.field("Connection") == nil)
    }

    @Test func closeAndOldVersionsEndTheConnection() throws {
        let rig = try AdminRig()
        for request in [
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /healthz HTTP/1.0\r\n\r\n",
            "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ] {
            let client = rig.connect()
            client.send(request)
            rig.turn()
            let reply = try Reply(client.receive(rig))
            #expect(reply.status == 200 && reply.field("Connection") == "close")
            #expect(client.hasEnded && !client.wasReset)
        }
    }

    @Test func aHalfClosedClientGetsAllItAskedFor() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(
            String(repeating: "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 3)
                + "GET /hea")
        shutdown(client.fd, Int32(SHUT_WR))
        #expect(client.receive(rig).components(of: "ok\n") == 3)
        #expect(client.hasEnded && rig.server.connectionCount == 0)
    }
}

extension String {
    /// How often `part` stands in it.
    func components(of part: String) -> Int { ranges(of: part).count }
}
