import CLinux
import CoreLoop
import Testing

@testable import Upstream

/// The health process's loop against servers on loopback.
@Suite struct HealthWorkerTests {
    private static func target(
        _ addresses: [SocketAddress], _ change: (inout HealthSettings) -> Void = { _ in }
    ) -> TargetSettings {
        var target = TargetSettings(
            id: "app", authority: "app.test:80", host: "127.0.0.1", port: 80, addresses: addresses)
        var health = HealthSettings(path: "/up")
        health.intervalMs = 20
        health.timeoutMs = 2_000
        change(&health)
        target.health = health
        return target
    }

    /// An address on which nobody listens.
    private static func closedAddress() throws -> SocketAddress {
        let fd = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        defer { close(fd) }
        return try Socket.localAddress(fd)
    }

    @Test func thePublishedStateIsWhatChecksFind() throws {
        let server = try FixedServer()
        let rig = try HealthRig([Self.target([server.address])])
        #expect(rig.board.health(0) == .unknown && rig.board.healthVersion.value == 0)
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) == .healthy })
        #expect(rig.board.healthVersion.value == 1)
        let request = String(decoding: server.requests, as: UTF8.self)
        #expect(request.hasPrefix("GET /up HTTP/1.1\r\nHost: app.test\r\n"))
        let cells = rig.board.verdict(0)
        #expect(cells.value(.lastStatus) == 200 && cells.value(.changes) == 0)
        server.answer = Array("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".utf8)
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) == .unhealthy })
        #expect(cells.value(.badStatus) >= 3 && cells.value(.lastStatus) == 503)
        #expect(rig.board.healthVersion.value == 2 && cells.value(.changes) == 1)
        server.answer = Array("HTTP/1.1 204 OK\r\n\r\n".utf8)
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) == .healthy })
    }

    static let replies: [(String, CheckResult)] = [
        ("HTTP/1.1 200 OK\r\n\r\n", .passed),
        (
            "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Soon\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            .passed
        ),
        (
            String(repeating: "HTTP/1.1 100 Go\r\n\r\n", count: 9) + "HTTP/1.1 200 OK\r\n\r\n",
            .malformed
        ),
        ("HTTP/1.1 404 No\r\n\r\n", .status), ("HTTP/1.1 200 OK\nA: b\n\n", .malformed),
        ("SSH-2.0-x\r\n", .malformed),
        (
            "HTTP/1.1 200 OK\r\nA: " + String(repeating: "a", count: 17_000) + "\r\n\r\n",
            .malformed
        ),
        (
            "HTTP/1.1 200 OK\r\n" + String(repeating: "A: b\r\n", count: 129) + "\r\n",
            .malformed
        ),
        ("HTTP/1.1 200 OK\r\nA: b", .timeout),
    ]

    @Test(arguments: replies)
    func answers(_ answer: String, _ result: CheckResult) throws {
        let server = try FixedServer(answer)
        let rig = try HealthRig([Self.target([server.address]) { $0.timeoutMs = 300 }])
        let cells = rig.board.verdict(0)
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) != .unknown })
        #expect(cells.value(.lastResult) == UInt64(result.rawValue))
        #expect(cells.value(HealthCell(result)) == 1)
        #expect(rig.board.health(0) == (result == .passed ? .healthy : .unhealthy))
    }

    @Test func whoClosesWithoutAWordHasFailed() throws {
        let server = try FixedServer("")
        let rig = try HealthRig([Self.target([server.address])])
        let serve = {
            server.serve()
            if !server.requests.isEmpty { server.drop() }
        }
        #expect(rig.turn(serving: serve) { rig.board.health(0) == .unhealthy })
        #expect(rig.board.verdict(0).value(.malformed) >= 1)
    }

    @Test func refusedAndSilentOnes() throws {
        let silent = try FixedServer("")
        let rig = try HealthRig([
            Self.target([try Self.closedAddress()]),
            Self.target([silent.address]) { $0.timeoutMs = 100 },
        ])
        #expect(rig.turn { rig.board.health(0) == .unhealthy && rig.board.health(1) == .unhealthy })
        #expect(rig.board.verdict(0).value(.connect) >= 1)
        #expect(rig.board.verdict(1).value(.timeout) == 1)
    }

    @Test func aRefusedAddressHasTheNextOneTried() throws {
        let server = try FixedServer()
        let rig = try HealthRig([Self.target([try Self.closedAddress(), server.address])])
        #expect(rig.turn(serving: server.serve) { rig.board.verdict(0).value(.passed) >= 3 })
        #expect(rig.board.verdict(0).value(.connect) == 0)
    }

    @Test func moreEndpointsThanChecksAtOnceGetTheirTurn() throws {
        let server = try FixedServer()
        var target = Self.target([server.address])
        let one = target.endpoints[0]
        target.endpoints = Array(repeating: one, count: 60)
        let count = UpstreamLimits.checksAtOnceMax / 60 + 2
        let rig = try HealthRig(Array(repeating: target, count: count))
        #expect(
            rig.turn(serving: server.serve) {
                (0..<60 * count).allSatisfy { rig.board.health($0) == .healthy }
            })
    }

    @Test func theNextLifeGoesOnWithTheVerdict() throws {
        let server = try FixedServer("HTTP/1.1 500 No\r\n\r\n")
        let rig = try HealthRig([Self.target([server.address]) { $0.healthy = 3 }])
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) == .unhealthy })
        server.answer = Array("HTTP/1.1 200 OK\r\n\r\n".utf8)
        try rig.restart()
        let cells = rig.board.verdict(0)
        let before = cells.value(.passed)
        #expect(rig.turn(serving: server.serve) { cells.value(.passed) == before + 2 })
        #expect(rig.board.health(0) == .unhealthy)
        #expect(rig.turn(serving: server.serve) { rig.board.health(0) == .healthy })
    }

    @Test func anEndpointWithoutAddressIsUnhealthyUntilItHasOne() throws {
        let server = try FixedServer()
        let dns = try ScriptedDNS()
        var target = Self.target([])
        target.endpoints[0] = EndpointSettings(
            authority: "app.test:80", host: "app.test", port: server.address.port!)
        let rig = try HealthRig([target], dns.settings)
        let serve = {
            server.serve()
            dns.serve()
        }
        dns.script = { _ in [] }
        #expect(rig.turn(serving: serve) { rig.board.health(0) == .unhealthy })
        #expect(rig.board.verdict(0).value(.noAddress) >= 1)
        dns.script = dns.address([127, 0, 0, 1])
        #expect(rig.turn(serving: serve) { rig.board.health(0) == .healthy })
        #expect(rig.board.addresses(0).read() == [server.address])
        #expect(rig.board.addressVersion.value == 1)
    }
}
