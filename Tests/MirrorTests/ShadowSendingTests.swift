import CLinux
import CoreLoop
import Mirror
import Synchronization
import Testing

/// What reaches the shadow, and over which connections.
@Suite struct ShadowSendingTests {
    static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = FastRandom(seed: seed)
        // A prime number of them again and again: no two blocks look alike.
        let some = (0..<4_099).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        var bytes: [UInt8] = []
        while bytes.count < count { bytes += some }
        return Array(bytes.prefix(count))
    }

    /// Reads until the peer has `count` bytes behind the first head. Returns the head and them.
    private func message(_ rig: Rig, _ peer: Peer, content count: Int, step: Int = .max) throws
        -> (head: String, content: [UInt8])
    {
        var split = 0
        try #require(
            rig.turn {
                peer.read(atMost: step)
                if split == 0, let end = firstEmptyLine(peer.received) { split = end }
                return split > 0 && peer.received.count >= split + count
            })
        return (
            String(decoding: peer.received[..<split], as: UTF8.self), Array(peer.received[split...])
        )
    }

    /// Heads and bodies cut anywhere: in the middle of the head, at its end, in many small slices.
    @Test(arguments: [1, 2, 7, 30, 61, 100, 8 << 10], [0, 1, 2, 300])
    func cutAnywhere(_ sliceBytes: Int, _ bodyBytes: Int) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let body = bytes(bodyBytes, seed: 3)
        rig.push(
            "POST /a HTTP/1.1\r\nHost: primary.test\r\nCookie: c\r\nAccept: b\r\n\r\n", body: body,
            hasBody: true, sliceBytes: sliceBytes)
        let peer = try rig.accept(server)
        let (head, content) = try message(rig, peer, content: bodyBytes)
        #expect(head.hasPrefix("POST /a HTTP/1.1\r\nHost: primary.test\r\nAccept: b\r\n"))
        #expect(head.contains("\r\nContent-Length: \(bodyBytes)\r\n"))
        #expect(content == body)
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
        #expect(rig.feeders[0].blocks.takenCount == 0)
    }

    /// As many slices as a copy may have, to a shadow that reads slowly: sent in parts.
    @Test(arguments: [0, 1] as [Int])
    func largeBodyToSlowReader(_ trailerCount: Int) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let body = bytes(500 * 16_000, seed: 4)
        let trailers = trailerCount == 0 ? "" : "X-Sum: 9\r\nX-Api-Key: k\r\n"
        let ticket = rig.push(
            "POST /a?token=t HTTP/1.1\r\nHost: primary.test\r\n\r\n", body: body,
            trailers: trailers, sliceBytes: 16_000)
        let peer = try rig.accept(server)
        rig.turn()
        #expect(rig.feeders[0].link.ticketStates[Int(ticket)].load(ordering: .relaxed) == 2)
        let size = String(body.count, radix: 16) + "\r\n"
        let extra = trailerCount == 0 ? 0 : size.utf8.count + 2 + 3 + 10 + 2
        let (head, content) = try message(
            rig, peer, content: body.count + extra, step: 100_000)
        #expect(head.hasPrefix("POST /a?token= HTTP/1.1\r\n"))
        if trailerCount == 0 {
            #expect(content == body)
        } else {
            #expect(head.contains("\r\nTransfer-Encoding: chunked\r\n"))
            let whole = Array(size.utf8) + body + Array("\r\n0\r\nX-Sum: 9\r\n\r\n".utf8)
            #expect(content == whole)
        }
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
    }

    @Test func trailersWithoutBody() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push(
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n", trailers: "X-Sum: 1\r\n", hasBody: true)
        let peer = try rig.accept(server)
        let (_, content) = try message(rig, peer, content: 15)
        #expect(String(decoding: content, as: UTF8.self) == "0\r\nX-Sum: 1\r\n\r\n")
    }

    /// A head that lies in several blocks and is as large as one may be.
    @Test func largeHead() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let filler = (0..<60).map { "X-Filler-\($0): \(String(repeating: "f", count: 1_000))\r\n" }
        rig.push("GET / HTTP/1.1\r\nHost: a\r\n" + filler.joined() + "\r\n", sliceBytes: 16_000)
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        #expect(peer.text.hasPrefix("GET / HTTP/1.1\r\nHost: a\r\n" + filler.joined() + "X-Umbra"))
        rig.push(
            "GET / HTTP/1.1\r\nHost: a\r\n" + (filler + filler).joined() + "\r\n",
            sliceBytes: 16_000)
        #expect(try rig.next().drop == .invalidCopy)
    }

    @Test func shadowIDIsInTheHeadAndInTheReturn() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        let back = try rig.next()
        let id = String(back.shadowID.0, radix: 16)
        let padded = String(repeating: "0", count: 16 - id.count) + id
        #expect(
            peer.text.contains(
                "\r\nX-Umbra-Shadow: true\r\nX-Umbra-Shadow-Id: \(padded.prefix(8))-"))
    }

    @Test func earlyAnswerEndsTheConnection() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push(
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n", body: bytes(500 * 16_000, seed: 1),
            sliceBytes: 16_000)
        let peer = try rig.accept(server)
        rig.turn()
        peer.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        let back = try rig.next()
        #expect(back.result == .ok && back.status == 413)
        #expect(rig.gauge(.connectionsOpen) == 0)
    }

    /// The shadow answers, closes and does not read on: the answer counts, not the failed write.
    @Test func earlyAnswerAndReset() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push(
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n", body: bytes(500 * 16_000, seed: 1),
            sliceBytes: 16_000)
        let peer = try rig.accept(server)
        rig.turn()
        peer.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")
        peer.close()
        let back = try rig.next()
        #expect(back.wasSent == 1)
        // As the kernel kept the answer or not.
        #expect(back.result == .ok || back.result == .error)
        #expect(rig.gauge(.connectionsOpen) == 0)
    }

    @Test func connectionsAreReused() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        for round in 1...20 {
            try rig.heads(round, peer)
            peer.write(Self.ok)
            #expect(try rig.next().result == .ok)
            if round < 20 { rig.push() }
        }
        #expect(rig.gauge(.connects) == 1)
        #expect(server.accept() == nil)
    }

    @Test func idleConnectionThatItsPeerClosedIsNotUsed() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let first = try rig.accept(server)
        try rig.heads(1, first)
        first.write(Self.ok)
        _ = try rig.next()
        first.close()
        // In the same turn in which the end would be read: the check before the reuse finds it.
        rig.push()
        let second = try rig.accept(server)
        try rig.heads(1, second)
        second.write(Self.ok)
        #expect(try rig.next().result == .ok)
        #expect(rig.gauge(.connects) == 2)
    }

    @Test func idleConnectionEndsWithItsPeer() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        _ = try rig.next()
        #expect(rig.gauge(.connectionsIdle) == 1)
        peer.shutdownWrites()
        #expect(rig.turn { rig.gauge(.connectionsOpen) == 0 })
        #expect(rig.gauge(.connectionsIdle) == 0)
    }

    @Test func idleConnectionWithUnaskedBytesIsClosed() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        _ = try rig.next()
        peer.write(Self.ok)
        #expect(rig.turn { rig.gauge(.connectionsOpen) == 0 })
    }

    @Test func idleConnectionsGrowOld() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        _ = try rig.next()
        rig.turn(afterMs: 29_000)
        #expect(rig.gauge(.connectionsIdle) == 1)
        rig.turn(afterMs: 1_100)
        #expect(rig.gauge(.connectionsOpen) == 0)
        peer.read()
        #expect(peer.isEnded && !peer.isReset)
    }

    /// The peer closes while the copy is on its way: sent, not answered, not sent again, and no
    /// word about the shadow's health.
    @Test func reusedConnectionThatDiesIsNoFailureOfTheShadow() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.breakerFailures = 1 }
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        _ = try rig.next()
        rig.push()
        try rig.heads(2, peer)
        peer.close()
        #expect(try rig.next().result == .error)
        #expect(rig.gauge(.breakerState) == 0)
        rig.push()
        let other = try rig.accept(server)
        try rig.heads(1, other)
        other.close()
        #expect(try rig.next().result == .error)
        #expect(rig.gauge(.breakerState) == 1)
    }

    @Test func pathPrefixAndHost() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]], pathPrefix: "/next")
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        #expect(peer.text.hasPrefix("GET /next/hello?a=1 HTTP/1.1\r\nHost: primary.test\r\n"))
    }

    @Test func unixSocket() throws {
        let path = "/tmp/umbra-shadow-test-\(getpid()).sock"
        let address = try #require(SocketAddress("unix:" + path))
        let fd = try Socket.listen(on: address, sharesPort: false)
        defer {
            close(fd)
            unlink(path)
        }
        let rig = try Rig([[address]])
        rig.push()
        rig.turn()
        var storage = sockaddr_storage()
        var length = socklen_t()
        guard case .connection(let accepted) = Socket.accept(fd, &storage, &length) else {
            Issue.record("no connection")
            return
        }
        let peer = Peer(accepted)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
    }
}
