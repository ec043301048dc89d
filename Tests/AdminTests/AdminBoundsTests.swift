import CLinux
import CoreLoop
import Proxy
import Testing

@testable import Admin

/// Slow, greedy and many clients.
@Suite struct AdminBoundsTests {
    private static let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @Test func whoSendsNothingIsClosed() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        rig.pass(ms: AdminLimits.headTimeoutMs - 1)
        #expect(!client.isClosed(rig))
        rig.pass(ms: 1)
        #expect(client.closes(rig))
        #expect(rig.server.connectionCount == 0)
    }

    @Test func aTricklingHeadIsCutHoweverBusyItIs() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        var sentMs = 0
        client.send("GET /healthz HTTP/1.1\r\n")
        rig.turn()
        while sentMs < AdminLimits.headTimeoutMs - 100 {
            client.send("A: b\r\n")
            rig.pass(ms: 100)
            sentMs += 100
            #expect(client.receive() == "")
        }
        rig.pass(ms: 100)
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == 408 && reply.field("Connection") == "close")
        rig.pass(ms: AdminLimits.lingerMs)
        #expect(rig.server.connectionCount == 0)
    }

    @Test func anIdleConnectionIsKeptAndThenClosed() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        for _ in 0..<3 {
            client.send(Self.request)
            rig.turn()
            #expect(try Reply(client.receive(rig)).status == 200)
            rig.pass(ms: AdminLimits.idleTimeoutMs - 1)
            #expect(!client.isClosed(rig))
        }
        rig.pass(ms: 1)
        #expect(client.closes(rig))
    }

    /// A head that begins late has its whole time, and no more.
    @Test func theHeadTimeoutBeginsWithTheFirstByte() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        client.send(Self.request)
        rig.turn()
        _ = client.receive(rig)
        rig.pass(ms: 30_000)
        client.send("GET")
        rig.turn()
        rig.pass(ms: AdminLimits.headTimeoutMs - 1)
        #expect(!client.isClosed(rig))
        rig.pass(ms: 1)
        #expect(try Reply(client.receive(rig)).status == 408)
    }

    /// A board whose metrics are larger than what sockets hold of them.
    private func largeRig() throws -> AdminRig {
        try AdminRig(
            bench: Bench { settings in
                let route = settings.routes[0]
                settings.routes = (0..<1_200).map { number in
                    var copy = route
                    copy.name = "route-\(number)"
                    return copy
                }
            })
    }

    @Test func aSlowReaderIsCutAndAFastOneGetsItAll() throws {
        let rig = try largeRig()
        let slow = rig.connect()
        slow.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" + Self.request)
        rig.turn()
        let fast = rig.connect()
        fast.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" + Self.request)
        rig.turn()
        let text = fast.receive(rig)
        #expect(text.hasSuffix("ok\n"), "the request behind it is answered too")
        let reply = try Reply(text)
        let length = try #require(reply.field("Content-Length").flatMap { Int($0) })
        #expect(length > 1 << 20)
        let body = String(decoding: Array(reply.body.utf8)[..<length], as: UTF8.self)
        #expect(try Exposition(body).sum("umbra_mirror_eligible_total") == 0)
        rig.pass(ms: AdminLimits.writeTimeoutMs)
        #expect(rig.server.connectionCount == 1, "the slow one is gone, the fast one is kept")
        #expect(slow.receive(rig).utf8.count < length)
        #expect(slow.hasEnded)
    }

    @Test func answersThatWaitAreBounded() throws {
        let rig = try largeRig()
        var clients: [AdminClient] = []
        var statuses: [Int] = []
        rig.server.pendingBytesMax = 2 << 20
        for _ in 0..<8 {
            let client = rig.connect()
            client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            rig.turn()
            clients.append(client)
        }
        for client in clients {
            // The head stands within what the socket's buffer took.
            statuses.append(try Reply(client.receive()).status)
        }
        #expect(statuses.first == 200 && statuses.last == 503, "\(statuses)")
        #expect(statuses == statuses.sorted())
        rig.pass(ms: AdminLimits.writeTimeoutMs)
        #expect(try rig.get("/healthz").status == 200)
    }

    @Test func connectionsAreBoundedAndTheOldestIdleMakesRoom() throws {
        let rig = try AdminRig()
        var held: [AdminClient] = []
        for _ in 0..<AdminLimits.connectionsMax {
            held.append(rig.connect())
            rig.now = rig.now.adding(ms: 1)
        }
        #expect(rig.server.connectionCount == AdminLimits.connectionsMax)
        // However young they are: who holds them all keeps nobody out.
        #expect(try rig.get("/healthz").status == 200)
        #expect(rig.server.connectionCount <= AdminLimits.connectionsMax)
        #expect(held[0].closes(rig))
        #expect(!held[1].isClosed(rig))
        held[1].send(Self.request)
        #expect(try Reply(held[1].receive(rig)).status == 200)
    }

    @Test func aThousandConnectionsLeaveNothingBehind() throws {
        let rig = try AdminRig()
        for _ in 0..<1_000 {
            let client = rig.connect()
            client.send(Self.request)
            rig.turn()
            #expect(client.receive().hasSuffix("ok\n"))
        }
        rig.turn()
        #expect(rig.server.connectionCount == 0)
    }

    /// A client that resets while its answer is on its way is nobody's trouble.
    @Test func resetsAreSurvived() throws {
        let rig = try largeRig()
        for _ in 0..<5 {
            let client = rig.connect()
            client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            rig.turn(1)
            Socket.setResetOnClose(client.fd)
        }
        rig.turn()
        #expect(rig.server.connectionCount == 0)
        #expect(try rig.get("/healthz").status == 200)
    }

    /// Bytes behind the last request do not turn its answer into a reset, and are bounded.
    @Test func theAnswerOutlivesWhatIsStillSent() throws {
        let rig = try AdminRig()
        let client = rig.connect()
        let flood = [UInt8](repeating: 0x41, count: 32 << 10)
        client.send("POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n")
        client.send(flood)
        rig.turn()
        let reply = try Reply(client.receive(rig))
        #expect(reply.status == 405 && client.hasEnded && !client.wasReset)
        #expect(rig.server.connectionCount == 1)
        client.send(flood)
        client.send(flood)
        rig.turn()
        #expect(rig.server.connectionCount == 0, "more than lingerBytesMax is not read")
    }

    @Test func theHeartbeatIsWrittenEachTurn() throws {
        let rig = try AdminRig()
        rig.pass(ms: 700)
        #expect(rig.bench.board.admin.value(.heartbeatMs) == rig.now.milliseconds)
    }

    /// Without descriptors an accept cannot succeed: the loop rests instead of spinning.
    @Test func runningOutOfDescriptorsIsSurvived() async {
        await #expect(processExitsWith: .exitCode(11)) {
            let rig = try AdminRig()
            let clients = (0..<3).map { _ in AdminClient(rig.address) }
            clients[0].send(Self.request)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            var none = limit
            none.rlim_cur = 3
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
            rig.turn(1)
            guard rig.server.connectionCount == 0 else { return }
            // The clients still knock, and a turn waits all the same.
            let start = Instant.now()
            rig.server.turn(now: rig.now, timeoutMs: 50)
            guard Instant.now().nanoseconds(since: start) > 40_000_000 else { return }
            rig.pass(ms: AdminLimits.acceptPauseMs)
            guard rig.server.connectionCount == 0 else { return }
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            rig.pass(ms: AdminLimits.acceptPauseMs)
            guard rig.server.connectionCount == 3 else { return }
            guard try Reply(clients[0].receive(rig)).status == 200 else { return }
            exit(11)
        }
    }
}
