import CLinux
import CoreLoop
import Glibc
import Mirror
import Synchronization
import Testing

/// Beginning, sleep and end of a shadow process, and what is left where it dies in between.
@Suite struct ShadowLifeTests {
    static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    @Test func nothingIsTakenBeforeTheLinkIsReady() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]], epoch: 3, readyEpoch: 2)
        let link = rig.feeders[0].link
        rig.push()
        rig.turn()
        #expect(link.copies.count == 1 && link.attachedEpoch.acquired == 0)
        // As the worker does it: both rings emptied, then ready.
        rig.feeders[0].lent = [:]
        link.reset()
        rig.feeders[0].copies.resume()
        rig.feeders[0].returns.resume()
        link.readyEpoch.publish(3)
        rig.turn()
        #expect(link.attachedEpoch.acquired == 3)
        rig.push()
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        peer.write(Self.ok)
        #expect(try rig.next().result == .ok)
    }

    /// The worker's side takes the link back: its copies end at once and unsaid, others go on.
    @Test func withdrawnLinkIsLeftAlone() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]], feeders: 2)
        rig.push(feeder: 0)
        let first = try rig.accept(server)
        rig.push(feeder: 1)
        let second = try rig.accept(server)
        try rig.heads(1, first)
        try rig.heads(1, second)
        let link = rig.feeders[0].link
        rig.push(feeder: 0)
        link.readyEpoch.publish(0)
        rig.turn()
        #expect(link.attachedEpoch.acquired == 0)
        #expect(link.copies.count == 1)
        #expect(rig.gauge(.inFlight) == 1)
        first.read()
        #expect(first.isReset)
        second.write(Self.ok)
        #expect(try rig.next(feeder: 1).result == .ok)
        #expect(rig.returned[0].isEmpty)
        // A new worker on the same memory.
        link.reset()
        rig.feeders[0].copies.resume()
        rig.feeders[0].returns.resume()
        link.readyEpoch.publish(1)
        rig.turn()
        rig.push(feeder: 0)
        try rig.heads(2, second)
        second.write(Self.ok)
        #expect(try rig.next(feeder: 0).result == .ok)
    }

    /// With `cancel_with_client` a copy ends where its client has left: in the ring, before its
    /// connection stands, or on its way; without, all go on.
    @Test(arguments: [true, false]) func clientsThatLeave(cancels: Bool) throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]]) {
            $0.cancelsWithClient = cancels
            $0.inFlightMax = 3
        }
        let link = rig.feeders[0].link
        func leave(_ tickets: UInt32...) {
            for ticket in tickets { link.ticketsLeft[Int(ticket)].store(1, ordering: .relaxed) }
            link.leavings.publish(link.leavings.value + 1)
        }
        let left = rig.push()
        let first = try rig.accept(server)
        try rig.heads(1, first)
        let stays = rig.push()
        let second = try rig.accept(server)
        try rig.heads(1, second)
        let inRing = rig.push()
        leave(left, inRing)
        rig.turn()
        if cancels {
            #expect(rig.returned[0].map(\.ticket) == [inRing, left])
            #expect(rig.returned[0].map(\.drop) == [.clientAborted, nil])
            #expect(rig.returned[0].map(\.result) == [nil, .cancelled])
            first.read()
            #expect(first.isReset && rig.gauge(.inFlight) == 1)
        } else {
            #expect(rig.returned[0].isEmpty && rig.gauge(.inFlight) == 3)
        }
        second.write(Self.ok)
        let last = rig.returned[0].count
        #expect(try rig.next().ticket == stays)
        #expect(rig.returned[0][last].result == .ok)
        #expect(rig.gauge(.breakerState) == 0)
    }

    @Test func ticketsSayHowFarTheirCopyIs() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let states = rig.feeders[0].link.ticketStates
        func state(_ ticket: UInt32) -> UInt8 { states[Int(ticket)].load(ordering: .acquiring) }
        let first = rig.push()
        #expect(state(first) == TicketState.queued)
        rig.turn(turns: 1)  // Connecting: not a byte sent.
        #expect(state(first) == TicketState.queued)
        let peer = try rig.accept(server)
        try rig.heads(1, peer)
        #expect(state(first) == TicketState.sent)
        let dropped = rig.push("GARBAGE")
        rig.worker.turn(now: rig.now, timeoutMs: 0)
        #expect(state(dropped) == TicketState.queued)
    }

    @Test func cancelAllGivesEverythingBack() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]], feeders: 2)
        rig.push(feeder: 0)  // Will be idle.
        let idle = try rig.accept(server)
        try rig.heads(1, idle)
        idle.write(Self.ok)
        _ = try rig.next()
        let sent = rig.push(feeder: 0)
        try rig.heads(2, idle)
        let sending = rig.push(
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            body: [UInt8](repeating: 7, count: 500 * 16_000), sliceBytes: 16_000, feeder: 1)
        let slow = try rig.accept(server)
        rig.turn()
        let connecting = rig.push(feeder: 0)
        rig.turn(turns: 1)
        let queued = rig.push(feeder: 1)
        rig.worker.cancelAll()
        rig.collect()
        let mine = rig.returned[0].dropFirst()
        #expect(mine.first { $0.ticket == sent }?.result == .cancelled)
        #expect(mine.first { $0.ticket == connecting }?.drop == .shadowRestarted)
        #expect(rig.returned[1].first { $0.ticket == sending }?.result == .cancelled)
        #expect(rig.returned[1].first { $0.ticket == queued }?.drop == .shadowRestarted)
        #expect(mine.count == 2 && rig.returned[1].count == 2)
        for gauge in [ShadowGauge.inFlight, .connectionsOpen, .connectionsIdle] {
            #expect(rig.gauge(gauge) == 0)
        }
        for feeder in rig.feeders {
            #expect(feeder.link.attachedEpoch.acquired == 0 && feeder.blocks.takenCount == 0)
        }
        idle.read()
        slow.read()
        #expect(idle.isEnded && slow.isEnded)
        // Nothing is taken any more.
        rig.push()
        rig.turn()
        #expect(rig.feeders[0].link.copies.count == 1)
        #expect(rig.feeders[0].link.attachedEpoch.acquired == 0)
    }

    @Test func budgetIsSharedByTheLinks() throws {
        let rig = try Rig([[]], feeders: 3)
        for _ in 0..<200 {
            for feeder in 0..<3 { rig.push("BAD", feeder: feeder) }
        }
        let share = ShadowLimits.copiesPerTurnMax / 3
        rig.turn(turns: 1)
        #expect(rig.returned.map(\.count) == [share, share, share])
        rig.turn(turns: 200 / share)
        #expect(rig.returned.map(\.count) == [200, 200, 200])
    }

    /// Answers that are there are read before further copies go out: they take the connections that
    /// those free, not ever more of their own.
    @Test func aBacklogGoesOutOnFewConnections() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        for _ in 0..<200 { rig.push() }
        var peers: [Peer] = []
        try #require(
            rig.turn {
                while let peer = server.accept() { peers.append(peer) }
                for peer in peers {
                    peer.read()
                    guard peer.text.hasSuffix("\r\n\r\n") else { continue }
                    peer.forget()
                    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                }
                return rig.returned[0].count == 200
            })
        #expect(rig.returned[0].allSatisfy { $0.result == .ok })
        #expect(peers.count <= 128, "\(peers.count) connections for 200 copies")
    }

    /// Awake while copies come often, else asleep, and woken once by the eventfd.
    @Test func sleepIsAnnouncedWhereCopiesAreSeldom() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let feeder = rig.feeders[0]
        for _ in 0..<2 {
            rig.push("BAD")
            rig.turn(afterMs: 1)
        }
        let start = Instant.now()
        rig.worker.turn(now: rig.now.adding(ms: 1), timeoutMs: 90)
        #expect(Instant.now() < start.adding(ms: 45))
        rig.push("BAD")
        rig.turn(afterMs: 5)
        // Now it sleeps, in a thread of its own, until the worker wakes it.
        let worker = Unchecked(rig.worker)
        let done = Atomic<Bool>(false)
        let later = rig.now.adding(ms: 1)
        let thread = Thread {
            worker.value.turn(now: later, timeoutMs: 90)
            done.store(true, ordering: .releasing)
        }
        try awaitTrue { feeder.copies.memory.count == 0 && feeder.isConsumerAsleep }
        feeder.push(head: "BAD", now: later)
        #expect(feeder.mustWake)
        #expect(!feeder.mustWake)
        var one: UInt64 = 1
        #expect(write(rig.wakeFD, &one, 8) == 8)
        thread.join()
        let isDone = done.load(ordering: .acquiring)
        #expect(isDone)
        rig.collect()
        #expect(rig.returned[0].last?.drop == .invalidCopy)
        var left: UInt64 = 0
        #expect(read(rig.wakeFD, &left, 8) < 0)
    }

    /// The real loop with the real clock, fed by another thread.
    @Test func realLoop() throws {
        let server = try PeerServer()
        let rig = try Rig([[server.address]])
        let worker = Unchecked(rig.worker)
        let stop = Atomic<Bool>(false)
        let thread = Thread { worker.value.run { stop.load(ordering: .acquiring) } }
        let feeder = rig.feeders[0]
        var peer: Peer?
        for round in 1...50 {
            feeder.push(head: Rig.get, now: .now())
            if feeder.copies.consumerNeedsWaking() {
                var one: UInt64 = 1
                #expect(write(rig.wakeFD, &one, 8) == 8)
            }
            try awaitTrue {
                if peer == nil { peer = server.accept() }
                peer?.read()
                return peer.map { $0.text.split(separator: "\r\n\r\n").count >= round } ?? false
            }
            peer?.write(Self.ok)
            try awaitTrue {
                rig.collect()
                return rig.returned[0].count == round
            }
            #expect(rig.returned[0][round - 1].result == .ok)
            if round % 10 == 0 { usleep(70_000) }  // Asleep in between.
        }
        stop.store(true, ordering: .releasing)
        thread.join()
        #expect(rig.gauge(.connects) == 1)
    }

    /// Random copies, peers and times, then the end: each ticket comes back exactly once, blocks
    /// and connections with it.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func everyTicketComesBackOnce(_ seed: UInt64) throws {
        var random = FastRandom(seed: seed)
        func below(_ bound: UInt64) -> Int { Int(random.next() % bound) }
        let server = try PeerServer()
        let (fd, refused) = try PeerServer.refusing()
        defer { close(fd) }
        let rig = try Rig([[server.address], [refused, server.address], [refused]], feeders: 2) {
            $0.inFlightMax = 6
            $0.timeoutMs = 400
            $0.qps = 40
            $0.breakerFailures = 4
            $0.breakerOpenMs = 200
            $0.answerBytesMax = 100_000
        }
        var peers: [Peer] = []
        var pushed = [0, 0]
        let answers = [
            Self.ok, Self.ok, Self.ok, "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 20",
            "rubbish\r\n",
            "HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        ]
        for _ in 0..<800 {
            let feeder = below(2)
            if below(3) == 0, pushed[feeder] - rig.returned[feeder].count < 100 {
                let body = [UInt8](repeating: 66, count: below(4) == 0 ? below(100_000) : 0)
                rig.push(
                    below(20) == 0 ? "BAD" : "POST /x HTTP/1.1\r\nHost: a\r\n\r\n", body: body,
                    trailers: below(6) == 0 ? "X-Sum: 1\r\n" : "", shadow: below(3),
                    sliceBytes: 200 + below(15_000), feeder: feeder)
                pushed[feeder] += 1
            }
            while let peer = server.accept() { peers.append(peer) }
            if !peers.isEmpty {
                let index = below(UInt64(peers.count))
                switch below(12) {
                case 0: peers.remove(at: index).close()
                case 1: peers.remove(at: index).reset()
                case 2: peers[index].shutdownWrites()
                case 3...6: peers[index].write(answers[below(UInt64(answers.count))])
                default: peers[index].read()
                }
            }
            rig.turn(afterMs: below(4) == 0 ? below(120) : 0, turns: 1)
        }
        if below(2) == 0 {
            for _ in 0..<30 { rig.turn(afterMs: 100) }
            #expect(rig.returned.map(\.count) == pushed)
        }
        rig.worker.cancelAll()
        rig.collect()
        #expect(rig.returned.map(\.count) == pushed)
        for feeder in rig.feeders {
            #expect(feeder.lent.isEmpty)
            #expect(feeder.blocks.takenCount == 0)
        }
        for shadow in 0..<3 {
            let gauges = rig.board.gauges(process: 0, shadow: shadow)
            #expect(gauges.value(.inFlight) == 0 && gauges.value(.connectionsOpen) == 0)
            #expect(gauges.value(.inFlightHigh) <= 6)
        }
        while let peer = server.accept() { peers.append(peer) }
        for peer in peers {
            peer.read()
            #expect(peer.isEnded)  // No descriptor of ours is left.
        }
        #expect(rig.returned.joined().contains { $0.result == .ok })
        #expect(rig.returned.joined().contains { $0.drop == .connectFailed })
    }

    private func awaitTrue(_ condition: () -> Bool) throws {
        let end = Instant.now().adding(ms: 5_000)
        while !condition() {
            try #require(Instant.now() < end)
            usleep(200)
        }
    }
}

/// A value that the test hands to one thread at a time.
struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

/// A thread to wait for.
final class Thread {
    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    private var thread = pthread_t()

    init(_ run: @escaping @Sendable () -> Void) {
        let body = Unmanaged.passRetained(Body(run)).toOpaque()
        pthread_create(
            &thread, nil,
            { body in
                Unmanaged<Body>.fromOpaque(body!).takeRetainedValue().run()
                return nil
            }, body)
    }

    func join() { pthread_join(thread, nil) }
}

extension Rig.Feeder {
    var mustWake: Bool { copies.consumerNeedsWaking() }

    /// Whether the shadow has announced its sleep. Looks, and leaves the announcement as it is.
    var isConsumerAsleep: Bool {
        // The third of the ring's four pieces, each of the first three 128 bytes long.
        let base = UnsafeRawPointer(memoryBase) + 256
        return base.assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(ordering: .acquiring)
            == 1
    }
}
