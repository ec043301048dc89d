import CLinux
import Configuration
import CoreLoop
import Mirror
import Proxy
import Testing

@testable import Admin

/// POST: what is taken, what is refused, and how clients wait for the supervisor, whom the test
/// plays.
@Suite struct AdminOrderTests {
    private static func post(
        _ page: String, _ body: String = "{}", fields: String = "", host: String = "localhost"
    ) -> String {
        "POST \(page) HTTP/1.1\r\nHost: \(host)\r\nContent-Type: application/json\r\n\(fields)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test func anOrderWaitsForTheSupervisorsAnswer() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        // A second request behind it waits for its turn.
        client.send(
            Self.post("/reload") + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        rig.turn()
        #expect(client.receive(rig) == "")
        let (order, ticket) = try #require(rig.desk.nextOrder())
        #expect(order == .reload)
        // Others are served meanwhile.
        #expect(try rig.get("/healthz").status == 200)
        rig.desk.answer(ticket, .reloaded(generation: 2, tookMs: 30))
        rig.turn()
        let text = client.receive(rig)
        #expect(text.hasPrefix("HTTP/1.1 200 OK"))
        #expect(text.contains("{\"reloaded\":true,\"generation\":2,\"took_ms\":30}"))
        #expect(text.hasSuffix("ok\n") && text.components(of: "HTTP/1.1 ") == 2)
    }

    @Test func anOrderAboutMirroringIsAnsweredWithThePage() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(
            Self.post("/mirror", "{\"action\":\"rate\",\"rate\":0.25,\"route\":\"search\"}"))
        rig.turn()
        let (order, ticket) = try #require(rig.desk.nextOrder())
        #expect(order == .mirror(.rate(250_000_000), route: 0, forMs: 0))
        rig.bench.board.mirror.overrides[0][.word].set(MirrorOverride.rate(250_000_000).word)
        rig.desk.answer(ticket, .done(200, "applied"))
        rig.turn()
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == 200)
        #expect(
            reply.body.contains(
                "{\"route\":\"search\",\"override\":{\"action\":\"rate\",\"rate\":0.25,"
                    + "\"seconds_left\":null}"))
    }

    @Test func whatTheSupervisorRefusesIsPassedOn() throws {
        let rig = try AdminRig()
        for page in ["/reload", "/drain", "/mirror"] {
            let client = rig.connect()
            client.send(Self.post(page, page == "/mirror" ? "{\"action\":\"on\"}" : ""))
            rig.turn()
            let (_, ticket) = try #require(rig.desk.nextOrder())
            rig.desk.answer(ticket, .failure(409, "no", "Not now."))
            rig.turn()
            let reply = try Reply(client.receive(rig))
            #expect(reply.status == 409 && reply.body.contains("Not now."))
        }
    }

    @Test func anOrderThatNobodyAnswersEnds() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(Self.post("/drain"))
        rig.turn()
        rig.pass(ms: AdminLimits.controlTimeoutMs - 1)
        #expect(client.receive(rig) == "")
        rig.pass(ms: 1)
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == 504 && client.hasEnded)
        // The late answer frees the slot, and reaches nobody else.
        let other = rig.connect()
        let (_, ticket) = try #require(rig.desk.nextOrder())
        rig.desk.answer(ticket, .done(202, "draining"))
        rig.turn()
        #expect(other.receive(rig) == "")
        for _ in 0..<AdminLimits.controlSlots {
            let next = rig.connect()
            next.send(Self.post("/drain"))
            rig.turn()
            #expect(rig.desk.nextOrder() != nil)
        }
    }

    @Test func ordersAreBounded() throws {
        let rig = try AdminRig()
        let clients = (0...AdminLimits.controlSlots).map { _ in rig.connect() }
        for client in clients { client.send(Self.post("/drain")) }
        rig.turn()
        let reply = try Reply(try #require(clients.last).receive(rig))
        #expect(reply.status == 503 && reply.field("Retry-After") == "1")
        var count = 0
        while let (_, ticket) = rig.desk.nextOrder() {
            rig.desk.answer(ticket, .done(202, "draining"))
            count += 1
        }
        #expect(count == AdminLimits.controlSlots)
        rig.turn()
        for client in clients.dropLast() { #expect(try Reply(client.receive(rig)).status == 202) }
    }

    @Test func whoLeavesFreesItsSlotOnceAnswered() throws {
        let rig = try AdminRig()
        for _ in 0..<3 * AdminLimits.controlSlots {
            var client: AdminClient? = rig.connect()
            client?.send(Self.post("/drain"))
            rig.turn()
            client = nil
            let (_, ticket) = try #require(rig.desk.nextOrder())
            rig.desk.answer(ticket, .done(202, "draining"))
            rig.turn()
        }
        #expect(rig.desk.nextOrder() == nil)
    }

    @Test func everySplitOfARequestIsTaken() throws {
        let rig = try AdminRig()
        let request = Array(Self.post("/mirror", "{\"action\":\"off\",\"for\":\"30m\"}").utf8)
        for cut in 1..<request.count {
            let client = rig.connect()
            client.send(Array(request[..<cut]))
            rig.turn()
            #expect(rig.desk.nextOrder() == nil, "an order from a part of \(cut) bytes")
            client.send(Array(request[cut...]))
            rig.turn()
            let (order, ticket) = try #require(rig.desk.nextOrder())
            #expect(order == .mirror(.off, route: nil, forMs: 1_800_000))
            rig.desk.answer(ticket, .done(200, "applied"))
            rig.turn()
            #expect(try Reply(client.receive(rig)).status == 200)
            // Who goes away before the end has ordered nothing.
            let other = rig.connect()
            other.send(Array(request[..<cut]))
            shutdown(other.fd, Int32(SHUT_WR))
            #expect(other.closes(rig) && rig.desk.nextOrder() == nil)
        }
    }

    @Test func aSlowBodyIsCut() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send("POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        client.send("Content-Length: 2\r\n\r\n{")
        rig.turn()
        rig.pass(ms: AdminLimits.headTimeoutMs)
        #expect(try Reply(client.receive(rig)).status == 408)
        #expect(rig.desk.nextOrder() == nil)
    }

    @Test(arguments: [
        ("evil.example", "", 403), ("localhost", "Origin: http://evil.example\r\n", 403),
        ("127.0.0.1:9", "Origin: http://127.0.0.1:9\r\n", 202), ("[::1]", "", 202),
        ("sub.localhost", "", 403), ("1.2.3.4.example", "", 403),
    ])
    func whoMayOrder(_ host: String, _ fields: String, _ status: Int) throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(Self.post("/drain", fields: fields, host: host))
        rig.turn()
        if let (_, ticket) = rig.desk.nextOrder() {
            rig.desk.answer(ticket, .done(202, "draining"))
            rig.turn()
        }
        #expect(try Reply(client.receive(rig)).status == status)
        #expect(try rig.get("/healthz", fields: fields).status == 200)
    }

    @Test func aTokenComesBeforeTheContent() throws {
        let rig = try AdminRig(token: "t")
        let client = rig.connect()
        client.send(Self.post("/mirror", "no JSON at all"))
        rig.turn()
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == 401 && client.hasEnded)
    }

    @Test(
        arguments: [
            ("1s", 1_000), ("90s", 90_000), ("30m", 1_800_000), ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("", nil), ("s", nil), ("1", nil), ("1y", nil), ("-1s", nil), ("1.5h", nil),
            ("1 s", nil),
            ("9999999999s", nil), ("٣s", nil), ("100ms", nil),
        ] as [(String, Int?)])
    func spans(_ text: String, _ ms: Int?) {
        #expect(SpanText.milliseconds(text) == ms)
        if let ms { #expect(SpanText.milliseconds(SpanText.text(ms: ms)) == ms) }
    }

    @Test func findingsOfARefusedFileComeBack() throws {
        let finding = Diagnostic(
            .unknownKey, path: "a\"b", line: 3, column: 5, message: "m\n", suggestion: "s")
        let plain = Diagnostic(.badYAML, message: "no")
        let many = Array(repeating: plain, count: AdminLimits.findingsMax + 1)
        let answer = ControlAnswer.invalid(file: "f.yaml", [finding] + many)
        #expect(answer.status == 422 && answer.body.count < AdminLimits.controlBodyBytesMax)
        let outcome = ControlClient.outcome(
            answer.status, String(decoding: answer.body, as: UTF8.self), "a", hasToken: true)
        #expect(outcome == .invalid(file: "f.yaml", [finding] + many.dropLast(2)))
    }
}
