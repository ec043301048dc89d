import CLinux
import CoreLoop
import Testing

@testable import Proxy

/// Nothing waits for ever: each kind of silence has its own end.
@Suite struct DeadlineTests {
    private static let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

    /// A primary whose host drops connects is given up after `connect_timeout`, not after the time
    /// that an answer may take.
    @Test func aConnectHasItsOwnTime() throws {
        let rig = try GatewayRig(backlog: 0) {
            $0.limits.connectTimeoutMs = 2_000
            $0.limits.answerTimeoutMs = 600_000
        }
        // Whoever is not accepted fills the queue; the kernel then drops what comes.
        let address = try Socket.localAddress(rig.primary)
        var fillers: [Line] = []
        for _ in 0..<4 {
            if case .inProgress(let fd) = Socket.connect(to: address) { fillers.append(Line(fd)) }
        }
        rig.turn()
        let client = try rig.client()
        client.write(Self.get)
        #expect(rig.turn { rig.counted(.upstreamConnects) == 1 })
        #expect(rig.counted(.gatewayAnswers) == 0)
        rig.turn(afterMs: 1_900)
        client.read()
        #expect(client.text.isEmpty)
        rig.turn(afterMs: 300)
        rig.expect("upstream_connect_timeout", on: client)
        #expect(client.text.hasPrefix("HTTP/1.1 504 "))
        #expect(rig.counted(.timeoutsConnect) == 1)
        withExtendedLifetime(fillers) {}
    }

    /// An upstream that stalls behind a slow client: its time stood still meanwhile,
    /// and goes on when the client has caught up.
    @Test func anUpstreamThatStallsBehindASlowClientIsCut() throws {
        let rig = try GatewayRig {
            $0.limits.answerTimeoutMs = 5_000
            $0.limits.bodyTimeoutMs = 600_000
        }
        let client = try rig.client(receiveBytes: 8_192)
        client.write(Self.get)
        let upstream = try rig.accept()
        rig.expect("GET / ", on: upstream)
        upstream.write("HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n")
        // Until the queue is full to the byte, so that nothing is left to be read afterwards.
        let filled = rig.turn {
            let room = rig.worker.queueRoom(rig.worker.clients[0].pointee.out)
            if room > 0 { upstream.write([UInt8](repeating: 0x61, count: Int(min(room, 9_000)))) }
            return room == 0
        }
        #expect(filled)
        rig.turn(afterMs: 60_000)
        #expect(rig.worker.clientCount == 1)
        // The client takes everything there is, and then nothing more comes.
        var before = -1
        var quiet = 0
        while quiet < 50 {
            quiet = client.received.count == before ? quiet + 1 : 0
            before = client.received.count
            client.read()
            rig.worker.turn(now: rig.now, timeoutMs: 1)
        }
        #expect(rig.worker.clientCount == 1)
        rig.turn(afterMs: 6_000)
        rig.expectEnd(of: client)
        #expect(rig.worker.clientCount == 0)
        #expect(rig.counted(.timeoutsAnswer) == 1)
        #expect(rig.worker.blocksTaken == 1)
    }

    /// A client that does not read an early answer is cut, also when its request ends meanwhile.
    @Test func theWriteDeadlineOutlivesTheRequest() throws {
        let rig = try GatewayRig {
            $0.limits.bodyTimeoutMs = 5_000
            $0.limits.answerTimeoutMs = 600_000
        }
        let client = try rig.client(receiveBytes: 8_192)
        client.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
        let upstream = try rig.accept()
        rig.expect("12345", on: upstream)
        upstream.write("HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n")
        let piece = [UInt8](repeating: 0x61, count: 1 << 16)
        var idle = 0
        while idle < 20 {
            idle = upstream.write(piece) == 0 ? idle + 1 : 0
            rig.turn(turns: 1)
        }
        client.write("67890")
        rig.expect("67890", on: upstream)
        rig.turn(afterMs: 6_000)
        rig.turn(afterMs: 6_000)
        #expect(rig.worker.clientCount == 0)
        #expect(rig.counted(.timeoutsWrite) == 1)
        #expect(rig.worker.blocksTaken == 1)
    }

    /// A primary that stops reading a body is given up.
    @Test func aPrimaryThatReadsNoMoreIsGivenUp() throws {
        let rig = try GatewayRig {
            $0.limits.bodyTimeoutMs = 5_000
            $0.limits.answerTimeoutMs = 6_000
        }
        let client = try rig.client()
        client.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000000\r\n\r\n")
        let upstream = try rig.accept()
        let piece = [UInt8](repeating: 0x61, count: 1 << 16)
        var idle = 0
        while idle < 20 {
            idle = client.write(piece) == 0 ? idle + 1 : 0
            rig.turn(turns: 1)
        }
        #expect(rig.worker.clientCount == 1)
        for _ in 0..<4 { rig.turn(afterMs: 4_000) }
        rig.expect("HTTP/1.1 50", on: client)
        rig.turn(afterMs: 4_000)
        #expect(rig.worker.clientCount == 0)
        #expect(rig.worker.blocksTaken == 1)
        withExtendedLifetime(upstream) {}
    }
}
