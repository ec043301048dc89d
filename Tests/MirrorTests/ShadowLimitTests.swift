import CLinux
import CoreLoop
import HTTP
import Mirror
import Testing

/// Every bound before a send: which copies do not go out, and what they cost.
@Suite struct ShadowLimitTests {
    static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    @Test func inFlightIsBounded() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.inFlightMax = 3 }
        for _ in 0..<5 { rig.push() }
        rig.turn()
        #expect(rig.returned[0].map(\.drop) == [.inFlightLimit, .inFlightLimit])
        #expect(rig.gauge(.inFlight) == 3)
        let peers = try (0..<3).map { _ in try rig.accept(server) }
        try rig.heads(1, peers[1])
        peers[1].write(Self.ok)
        #expect(try rig.next().result == .ok)
        rig.push()
        try rig.heads(2, peers[1])
        #expect(rig.gauge(.inFlightHigh) == 3)
        #expect(rig.gauge(.connectionsOpen) == 3)
    }

    @Test(arguments: [(8, 4, 2), (3, 4, 1), (9, 2, 4), (1, 1, 1), (0, 1, 1)])
    func inFlightIsShared(_ row: (limit: Int, processes: Int, share: Int)) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]], shadowProcesses: row.processes) {
            $0.inFlightMax = row.limit
        }
        for _ in 0..<10 { rig.push() }
        rig.turn()
        #expect(rig.gauge(.inFlight) == row.share)
        #expect(rig.returned[0].count == 10 - row.share)
    }

    @Test func theSwitchHoldsWhatHasNotBegun() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        rig.turn()
        let peer = try rig.accept(server)
        // One copy is at the shadow, one waits for its connection, one lies in the ring.
        try rig.heads(1, peer)
        rig.push()
        rig.worker.turn(now: rig.now, timeoutMs: 0)
        rig.push()
        rig.board.control[.enabled].set(0)
        let other = try rig.accept(server)
        try #require(rig.turn { rig.returned[0].count == 2 })
        #expect(rig.returned[0].map(\.drop) == [.switchedOff, .switchedOff])
        other.read()
        #expect(other.received.isEmpty)
        // What has begun may end.
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
        rig.board.control[.enabled].set(1)
        rig.push()
        try #require(
            rig.turn {
                other.read()
                peer.read()
                return other.received.count + peer.received.count > 0
            })
    }

    @Test func capIsUsedWhereBytesGoOut() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.qps = 2 }
        // All four look ahead before the first is sent: four connections, of which two may speak.
        for _ in 0..<4 { rig.push() }
        rig.turn()
        let peers = try (0..<4).map { _ in try rig.accept(server) }
        try #require(rig.turn { rig.returned[0].count == 2 })
        #expect(rig.returned[0].map(\.drop) == [.qpsCap, .qpsCap])
        #expect(rig.gauge(.connectionsIdle) == 2)
        rig.turn()
        peers.forEach { $0.read() }
        #expect(peers.filter { !$0.received.isEmpty }.count == 2)
        // A flood beyond the cap costs no connection.
        for _ in 0..<30 { rig.push() }
        rig.turn()
        #expect(rig.returned[0].count == 32)
        #expect(server.accept() == nil)
        // A second later two more go, over the connections that are there.
        rig.turn(afterMs: 1_021)
        for _ in 0..<3 { rig.push() }
        rig.turn()
        #expect(rig.returned[0].count == 33)
        #expect(rig.gauge(.connects) == 4)
    }

    @Test func capOfZeroSendsNothing() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.qps = 0 }
        for _ in 0..<3 { rig.push() }
        rig.turn()
        #expect(rig.returned[0].map(\.drop) == [.qpsCap, .qpsCap, .qpsCap])
        #expect(rig.gauge(.connects) == 0)
    }

    @Test func copiesThatWaitedTooLongAreStale() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.timeoutMs = 100 }
        rig.push()
        rig.turn(afterMs: 101)
        #expect(rig.returned[0].map(\.drop) == [.stale])
        rig.push()
        rig.turn(afterMs: 100)
        #expect(rig.gauge(.inFlight) == 1)
    }

    @Test func refusingShadowCostsNoConnectPerCopy() throws {
        let (fd, address) = try PeerServer.refusing()
        defer { close(fd) }
        let rig = try Rig([[address]]) {
            $0.breakerFailures = 3
            $0.breakerOpenMs = 1_000
        }
        for round in 0..<20 {
            rig.push()
            #expect(try rig.next().drop == (round < 3 ? .connectFailed : .breakerOpen))
        }
        #expect(rig.gauge(.connectFailures) == 3)
        #expect(rig.gauge(.breakerState) == 1)
        #expect(rig.gauge(.breakerOpened) == 1)
        // Half open: one goes, the others do not.
        rig.turn(afterMs: 1_000)
        rig.push()
        #expect(try rig.next().drop == .connectFailed)
        rig.push()
        #expect(try rig.next().drop == .breakerOpen)
        #expect(rig.gauge(.connectFailures) == 4)
        #expect(rig.gauge(.breakerOpened) == 2)
        #expect(rig.gauge(.connectionsOpen) == 0)
    }

    @Test func breakerClosesWithAGoodProbe() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) {
            $0.breakerFailures = 2
            $0.timeoutMs = 500
        }
        for _ in 0..<2 { rig.push() }
        rig.turn()
        let hung = try (0..<2).map { _ in try rig.accept(server) }
        rig.turn(afterMs: 600)
        #expect(rig.returned[0].map(\.result) == [.timeout, .timeout])
        #expect(rig.gauge(.breakerState) == 1)
        rig.turn(afterMs: 1_000)
        for _ in 0..<3 { rig.push() }
        rig.turn()
        #expect(rig.returned[0].dropFirst(2).map(\.drop) == [.breakerOpen, .breakerOpen])
        #expect(rig.gauge(.breakerState) == 2)
        let probe = try rig.accept(server)
        try rig.heads(1, probe)
        probe.write("HTTP/1.1 500 Ill, but there\r\nContent-Length: 0\r\n\r\n")
        #expect(try rig.next().result == .error)
        #expect(rig.gauge(.breakerState) == 0)
        for _ in 0..<2 { rig.push() }
        try rig.heads(2, probe)
        #expect(hung.count == 2 && rig.gauge(.inFlight) == 2)
    }

    /// A probe that the cap refuses says nothing: the next copy is the probe.
    @Test func cappedProbeLeavesTheWayToTheNext() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) {
            $0.breakerFailures = 1
            $0.timeoutMs = 300
            $0.qps = 1
        }
        rig.push()
        rig.turn()
        let hung = try rig.accept(server)
        rig.turn(afterMs: 400)
        #expect(rig.returned[0].first?.result == .timeout)
        rig.turn(afterMs: 1_100)
        // Another process takes the cap's place between the look ahead and the connection.
        rig.push()
        rig.turn(turns: 1)
        #expect(rig.caps[0].take(qps: 1) { rig.now })
        #expect(try rig.next().drop == .qpsCap)
        let capped = try rig.accept(server)
        rig.turn(afterMs: 1_100)
        rig.push()
        try rig.heads(1, try rig.accept(server))
        #expect(rig.gauge(.breakerState) == 2)
        capped.read()
        #expect(capped.isEnded && capped.received.isEmpty && hung.received.isEmpty)
    }

    struct Pause: Sendable, CustomTestStringConvertible {
        let answer: String
        /// Milliseconds, give or take a second; 0 is none.
        let pauseMs: Int

        var testDescription: String { answer.debugDescription }
    }

    static let pauses: [Pause] = [
        Pause(answer: "503 X\r\nRetry-After: 7", pauseMs: 7_000),
        Pause(answer: "429 X\r\nRetry-After: 120", pauseMs: 120_000),
        Pause(answer: "503 X\r\nretry-after:   2  ", pauseMs: 2_000),
        Pause(answer: "503 X\r\nRetry-After: 0", pauseMs: 0),
        Pause(answer: "503 X\r\nRetry-After: -5", pauseMs: 0),
        Pause(answer: "503 X\r\nRetry-After: soon", pauseMs: 0),
        Pause(answer: "503 X\r\nRetry-After:", pauseMs: 0),
        Pause(answer: "503 X\r\nRetry-After: 99999999999999999999999999", pauseMs: 3_600_000),
        Pause(answer: "503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT", pauseMs: 0),
        Pause(answer: "503 X\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT", pauseMs: 3_600_000),
        Pause(answer: "503 X", pauseMs: 0),
        Pause(answer: "500 X\r\nRetry-After: 7", pauseMs: 0),
        Pause(answer: "200 X\r\nRetry-After: 7", pauseMs: 0),
    ]

    @Test(arguments: pauses)
    func coolDown(_ row: Pause) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) { $0.breakerOpenMs = 1 }
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write("HTTP/1.1 \(row.answer)\r\nContent-Length: 0\r\n\r\n")
        #expect(try rig.next().wasSent == 1)
        rig.push()
        if row.pauseMs == 0 {
            try rig.heads(2, peer)
            #expect(rig.gauge(.coolDownUntil) == 0)
            return
        }
        #expect(try rig.next().drop == .coolDown)
        #expect(UInt64(rig.gauge(.coolDownUntil)) == rig.now.adding(ms: row.pauseMs).nanoseconds)
        rig.turn(afterMs: row.pauseMs - 1)
        rig.push()
        #expect(try rig.next().drop == .coolDown)
        rig.turn(afterMs: 1)
        rig.push()
        rig.turn()
        #expect(rig.gauge(.coolDownUntil) == 0 && rig.gauge(.inFlight) == 1)
    }

    @Test func coolDownUntilADate() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { memory.deallocate() }
        var writer = HeadWriter(memory)
        HTTPDate.append(Int64(WallClock.milliseconds() / 1_000) + 60, to: &writer)
        let date = String(decoding: writer.written, as: UTF8.self)
        peer.write("HTTP/1.1 429 X\r\nRetry-After: \(date)\r\nContent-Length: 0\r\n\r\n")
        _ = try rig.next()
        let pause = Int(UInt64(rig.gauge(.coolDownUntil)) - rig.now.nanoseconds) / 1_000_000
        #expect(pause > 55_000 && pause <= 60_000)
    }

    @Test func nextAddressWhereOneRefuses() throws {
        let (fd, refused) = try PeerServer.refusing()
        defer { close(fd) }
        let server = try PeerServer()
        let rig = try Rig([[refused, server.address]])
        rig.push()
        let first = try rig.accept(server)
        try rig.heads(1, first)
        rig.push()
        let second = try rig.accept(server)
        try rig.heads(1, second)
        #expect(rig.gauge(.connectFailures) == 0 && rig.gauge(.connects) == 2)
        #expect(rig.returned[0].isEmpty)
    }

    @Test func noAddressIsNoConnection() throws {
        let rig = try Rig([[]])
        rig.push()
        #expect(try rig.next().drop == .connectFailed)
        #expect(rig.gauge(.connectionsOpen) == 0)
    }

    /// A full accept queue: the kernel lets the connect hang.
    @Test func connectTimesOut() throws {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        let any = try #require(SocketAddress("127.0.0.1:0"))
        #expect(any.withSockaddr { bind(fd, $0, $1) } == 0)
        #expect(listen(fd, 0) == 0)
        let address = try Socket.localAddress(fd)
        var fillers: [Int32] = []
        defer { fillers.forEach { close($0) } }
        for _ in 0..<4 {
            if case .inProgress(let filler) = Socket.connect(to: address) { fillers.append(filler) }
        }
        let rig = try Rig([[address]]) { $0.timeoutMs = 10_000 }
        rig.push()
        rig.turn()
        rig.turn(afterMs: 1_900)
        #expect(rig.returned[0].isEmpty && rig.gauge(.inFlight) == 1)
        rig.turn(afterMs: 200)
        #expect(rig.returned[0].first?.drop == .connectFailed)
        #expect(rig.gauge(.connectFailures) == 1 && rig.gauge(.connectionsOpen) == 0)
    }

    @Test func shadowsDoNotShareTheirTroubles() throws {
        let (fd, refused) = try PeerServer.refusing()
        defer { close(fd) }
        let server = try PeerServer()
        let rig = try Rig([[refused], [server.address]]) { $0.breakerFailures = 1 }
        rig.push(shadow: 0)
        #expect(try rig.next().drop == .connectFailed)
        rig.push(shadow: 0)
        rig.push(shadow: 1)
        #expect(try rig.next().drop == .breakerOpen)
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
        #expect(rig.board.gauges(process: 0, shadow: 1).value(.connects) == 1)
    }

    @Test func whatCannotBeACopyIsDropped() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let feeder = rig.feeders[0]
        var slices = feeder.lay(Array(Rig.get.utf8), sliceBytes: 1_000, ticket: 0)
        func push(_ change: (inout CopyEntry) -> Void) {
            var entry = CopyEntry(ticket: 0, shadow: 0, pushed: rig.now)
            entry.headBytes = UInt32(Rig.get.utf8.count)
            entry.sliceCount = UInt16(slices.count)
            change(&entry)
            feeder.push(entry, slices)
        }
        push { $0.shadow = 1 }
        push { $0.headBytes += 1 }
        push { $0.bodyBytes = .max }
        push { $0.headBytes = 0 }
        push {
            $0.headBytes -= 1; $0.bodyBytes = 1
        }
        let good = slices[0]
        slices[0].slot = 1_024
        push { _ in }
        slices[0] = good
        slices[0].offset = UInt32(Rig.blockBytes)
        push { _ in }
        rig.turn()
        #expect(rig.returned[0].map(\.drop) == Array(repeating: .invalidCopy, count: 7))
        #expect(rig.gauge(.connects) == 0 && rig.gauge(.inFlight) == 0)
    }
}
