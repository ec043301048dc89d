import CoreLoop
import Mirror
import Testing

/// What a copy comes back as, for every kind of answer.
@Suite struct ShadowAnswerTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let answer: String
        var closes = false
        let result: CopyResult
        let status: Int
        /// Whether the connection is used for the next copy.
        let isKept: Bool

        var testDescription: String { name }
    }

    static let rows: [Row] = [
        Row(
            name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            result: .ok, status: 200, isKept: true),
        Row(
            name: "no content", answer: "HTTP/1.1 204 No Content\r\n\r\n",
            result: .ok, status: 204, isKept: true),
        Row(
            name: "304 with a length", answer: "HTTP/1.1 304 X\r\nContent-Length: 10\r\n\r\n",
            result: .ok, status: 304, isKept: true),
        Row(
            name: "404", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            result: .ok, status: 404, isKept: true),
        Row(
            name: "500", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
            result: .error, status: 500, isKept: true),
        Row(
            name: "chunked",
            answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
            result: .ok, status: 200, isKept: true),
        Row(
            name: "close",
            answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
            result: .ok, status: 200, isKept: false),
        Row(
            name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
            result: .ok, status: 200, isKept: false),
        Row(
            name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nsome text", closes: true,
            result: .ok, status: 200, isKept: false),
        Row(
            name: "surplus", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
            result: .ok, status: 200, isKept: false),
        Row(
            name: "two answers",
            answer: "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            result: .ok, status: 204, isKept: false),
        Row(
            name: "interim first",
            answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
                + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            result: .ok, status: 200, isKept: true),
        Row(
            name: "interim without end",
            answer: String(repeating: "HTTP/1.1 102 Processing\r\n\r\n", count: 17),
            result: .error, status: 0, isKept: false),
        Row(
            name: "101",
            answer: "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            result: .error, status: 0, isKept: false),
        Row(
            name: "garbage", answer: "SSH-2.0-OpenSSH_9.2\r\n", result: .error, status: 0,
            isKept: false),
        Row(
            name: "two lengths",
            answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            result: .error, status: 0, isKept: false),
        Row(
            name: "bad chunk",
            answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            result: .error, status: 200, isKept: false),
        Row(
            name: "cut head", answer: "HTTP/1.1 200 OK\r\nContent-Le", closes: true,
            result: .error, status: 0, isKept: false),
        Row(
            name: "cut content", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            closes: true, result: .error, status: 200, isKept: false),
        Row(
            name: "cut chunk",
            answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", closes: true,
            result: .error, status: 200, isKept: false),
        Row(name: "no answer", answer: "", closes: true, result: .error, status: 0, isKept: false),
        Row(
            name: "endless head",
            answer: "HTTP/1.1 200 OK\r\nX: " + String(repeating: "x", count: 70 << 10),
            result: .error, status: 0, isKept: false),
        Row(
            name: "too long by its word",
            answer: "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            result: .error, status: 200, isKept: false),
        Row(
            name: "too long in fact",
            answer: "HTTP/1.1 200 OK\r\n\r\n" + String(repeating: "x", count: 80 << 10),
            result: .error, status: 200, isKept: false),
    ]

    @Test(arguments: rows)
    func answer(_ row: Row) throws {
        try check(row, piece: .max)
    }

    /// The same answers in pieces: what the parsers keep between two reads.
    @Test(arguments: rows.filter { $0.answer.utf8.count < 1_000 && !$0.answer.isEmpty })
    func answerInPieces(_ row: Row) throws {
        for piece in [1, 3, 20] { try check(row, piece: piece) }
    }

    private func check(_ row: Row, piece: Int) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.answerBytesMax = 80 << 10 }
        let ticket = rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        var bytes = Array(row.answer.utf8)
        while !bytes.isEmpty {
            let count = peer.write(Array(bytes.prefix(piece)))
            if count == 0 { break }  // Given up already.
            bytes.removeFirst(count)
            if piece < .max { rig.turn(turns: 1) }
        }
        if row.closes { peer.shutdownWrites() }
        if rig.returned[0].isEmpty { _ = try rig.next() }
        rig.turn()
        #expect(rig.returned[0].count == 1)
        let back = rig.returned[0][0]
        #expect(back.ticket == ticket)
        #expect(back.result == row.result)
        #expect(Int(back.status) == row.status)
        #expect(back.shadowID.0 != 0)
        #expect(rig.gauge(.inFlight) == 0)
        #expect(rig.gauge(.connectionsIdle) == (row.isKept ? 1 : 0))
        #expect(rig.gauge(.connectionsOpen) == (row.isKept ? 1 : 0))
        #expect(rig.feeders[0].blocks.takenCount == 0)
        peer.read()
        #expect(peer.isEnded != row.isKept)
    }

    @Test func headRequestHasNoContent() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        #expect(try rig.next().result == .ok)
        #expect(rig.gauge(.connectionsIdle) == 1)
    }

    @Test func resetIsAnError() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.reset()
        #expect(try rig.next().result == .error)
        #expect(rig.gauge(.connectionsOpen) == 0)
    }

    @Test func hungShadowTimesOut() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.timeoutMs = 500 }
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        rig.turn(afterMs: 400)
        #expect(rig.returned[0].isEmpty)
        rig.turn(afterMs: 200)
        #expect(rig.returned[0].first?.result == .timeout)
        peer.read()
        #expect(peer.isReset)
    }

    /// An answer that trickles is over at the deadline, however lively it is.
    @Test func tricklingAnswerTimesOut() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.timeoutMs = 500 }
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write("HTTP/1.1 200 OK\r\n\r\n")
        for _ in 0..<8 {
            peer.write("x")
            rig.turn(afterMs: 80)
        }
        #expect(rig.returned[0].first?.result == .timeout)
        #expect(rig.returned[0].first?.status == 200)
    }

    /// A kernel that accepts for a shadow that never does.
    @Test func neverAcceptingShadowTimesOut() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.timeoutMs = 500 }
        rig.push()
        rig.turn()
        rig.turn(afterMs: 600)
        #expect(rig.returned[0].first?.result == .timeout)
    }

    @Test func latencyIsFromFirstByteToAnswersEnd() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        rig.turn(afterMs: 20)
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        let back = try rig.next()
        #expect(back.latencyUs == 20_000)
        let snapshot = rig.board.latency(process: 0, shadow: 0).snapshot()
        #expect(snapshot.count == 1)
        #expect(snapshot.sumNs == 20_000_000)
    }

    /// One that sends without end gets a share of each turn, and the others theirs.
    @Test func endlessAnswerStarvesNobody() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.answerBytesMax = 8 << 20 }
        rig.push()
        let loud = try rig.accept(server)
        try rig.heads(1, loud)
        loud.write("HTTP/1.1 200 OK\r\n\r\n")
        rig.push()
        let quiet = try rig.accept(server)
        try rig.heads(1, quiet)
        quiet.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        let flood = [UInt8](repeating: 0x78, count: 256 << 10)
        var turns = 0
        while rig.returned[0].count < 2, turns < 10_000 {
            loud.write(flood)
            rig.turn(turns: 1)
            if turns == 20 { #expect(rig.returned[0].first?.result == .ok) }
            turns += 1
        }
        #expect(rig.returned[0].last?.result == .error)
        #expect(rig.gauge(.answerBytes) <= (8 << 20) + 4 * (64 << 10) + 100)
    }
}
