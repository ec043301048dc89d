import CLinux
import CoreLoop
import Testing

@Suite struct TokenTests {
    @Test(arguments: [UInt8(0), 1, 127, 255], [0, 1, 255, 256, 65_535, (1 << 24) - 1])
    func partsComeBack(kind: UInt8, slot: Int) {
        for generation in [UInt32(0), 1, 0x8000_0000, .max] {
            let token = Token(kind: kind, slot: slot, generation: generation)
            #expect(token.kind == kind)
            #expect(token.slot == slot)
            #expect(token.generation == generation)
            #expect(Token(raw: token.raw) == token)
        }
    }

    @Test func eachPartHasItsOwnBits() {
        #expect(Token(kind: 0xFF, slot: 0, generation: 0).raw == 0xFF)
        #expect(Token(kind: 0, slot: 0xFF_FFFF, generation: 0).raw == 0xFFFF_FF00)
        #expect(Token(kind: 0, slot: 0, generation: .max).raw == 0xFFFF_FFFF_0000_0000)
        #expect(Limits.slabSlotsMax == 1 << 24)
    }
}

@Suite struct EpollTests {
    private let token = Token(kind: 3, slot: 77, generation: 5)

    @Test func anEdgeIsToldOnce() throws {
        let epoll = try Epoll()
        let pair = try SocketPair()
        try epoll.add(pair.server, token)
        var count = epoll.wait(timeoutMs: 1_000)
        var event = epoll.event(0)
        #expect(count == 1 && event.token == token && event.readiness == .writable)
        #expect(Socket.send(pair.client, "x", 1) == .bytes(1))
        count = epoll.wait(timeoutMs: 1_000)
        event = epoll.event(0)
        #expect(count == 1 && event.readiness == [.readable, .writable])
        // The byte was not read, yet an edge comes only once.
        count = epoll.wait(timeoutMs: 0)
        #expect(count == 0)
        Socket.shutdownWrites(pair.client)
        count = epoll.wait(timeoutMs: 1_000)
        event = epoll.event(0)
        #expect(count == 1 && event.readiness.isSuperset(of: [.readable, .peerClosed]))
    }

    @Test func aLevelIsToldUntilItIsOver() throws {
        let epoll = try Epoll()
        let wake = try Wake.create()
        defer { close(wake.fd) }
        try epoll.add(wake.fd, token, mode: .level)
        var counts = [epoll.wait(timeoutMs: 0)]
        wake.signal()
        wake.signal()
        counts.append(epoll.wait(timeoutMs: 0))
        counts.append(epoll.wait(timeoutMs: 0))
        wake.clear()
        counts.append(epoll.wait(timeoutMs: 0))
        #expect(counts == [0, 1, 1, 0])
    }

    @Test func aRemovedDescriptorIsSilent() throws {
        let epoll = try Epoll()
        let wake = try Wake.create()
        defer { close(wake.fd) }
        try epoll.add(wake.fd, token, mode: .level)
        #expect(throws: SystemError("epoll_ctl", code: EEXIST)) { try epoll.add(wake.fd, token) }
        wake.signal()
        epoll.remove(wake.fd)
        let count = epoll.wait(timeoutMs: 0)
        #expect(count == 0)
    }

    @Test func moreEventsThanOneTurnHoldsComeInTheNext() throws {
        let epoll = try Epoll()
        let number = Limits.eventsPerTurnMax + 40
        var wakes: [Wake] = []
        for slot in 0..<number {
            let wake = try Wake.create()
            try epoll.add(wake.fd, Token(kind: 1, slot: slot, generation: 1))
            wake.signal()
            wakes.append(wake)
        }
        var slots: [Int] = []
        var turns = 0
        while true {
            let count = epoll.wait(timeoutMs: 0)
            if count == 0 { break }
            turns += 1
            for index in 0..<count { slots.append(epoll.event(index).token.slot) }
        }
        #expect(turns == 2)
        #expect(slots.sorted() == Array(0..<number))
        for wake in wakes { close(wake.fd) }
    }

    @Test func waitingTakesItsTime() throws {
        let epoll = try Epoll()
        let before = Instant.now()
        let count = epoll.wait(timeoutMs: 30)
        #expect(count == 0)
        #expect(Instant.now().nanoseconds(since: before) >= 29_000_000)
    }
}
