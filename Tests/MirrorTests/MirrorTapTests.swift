import CLinux
import CoreLoop
import HTTP
import Mirror
import Synchronization
import Testing

/// The worker's half of the mirror, with a shadow process that the test plays.
@Suite struct MirrorTapTests {
    /// A tap, its blocks, and the other end of its link.
    private final class TapRig {
        let board: MirrorBoard
        let link: MirrorLink
        let tap: MirrorTap
        let blocks: BlockPool
        let slices: SlicePool
        let copies: RingConsumer<CopyCell>
        let returns: RingProducer<CopyReturn>
        let head = RequestHead(limits: HeadLimits())
        private let wake: Wake
        private let memories: [Memory]
        private let now = Instant(nanoseconds: 1_000_000_000)

        /// A mapping in a list: `SharedMemory` is not copyable.
        private final class Memory {
            let memory: SharedMemory
            init(_ byteCount: Int) throws { memory = try .plain(byteCount: byteCount) }
        }

        init(
            depth: Int = 8, loansMax: Int = 100, shadows: Int = 1,
            lanes: [[LaneSettings]] = [[LaneSettings(shadow: 0)]], isOff: Bool = false
        ) throws {
            let shape = MirrorBoard.Shape(
                workers: 1, routes: lanes.count, shadowProcesses: 1,
                shadows: shadows)
            var counting = MemoryPlan()
            _ = MirrorBoard(plan: &counting, shape: shape)
            memories = try [
                Memory(counting.byteCount), Memory(MirrorLink.byteCount(depth: depth)),
                Memory(1_024 * 4_096),
            ]
            var plan = MemoryPlan(base: memories[0].memory.base)
            board = try #require(MirrorBoard(plan: &plan, shape: shape))
            board.control[.enabled].set(1)
            board.shadowEpochs[0].publish(1)
            if isOff {
                board.overrides[0][.word].set(MirrorOverride.off.word)
                board.control[.version].publish(1)
            }
            plan = MemoryPlan(base: memories[1].memory.base)
            link = try #require(MirrorLink(plan: &plan, depth: depth))
            blocks = BlockPool(base: memories[2].memory.base, blockBytes: 4_096, count: 1_024)
            slices = SlicePool(capacity: 2_048)
            wake = try Wake.create()
            tap = try MirrorTap(
                worker: 0, process: 0, routes: lanes, link: link, board: board, wake: wake,
                blocksOnLoanMax: loansMax)
            copies = RingConsumer(link.copies)
            returns = RingProducer(link.returns)
            link.attachedEpoch.publish(1)
        }

        deinit { close(wake.fd) }

        func choose(_ text: String = "GET / HTTP/1.1\r\nHost: h\r\n\r\n") -> MirrorTap.Choice {
            let source = Array(text.utf8)
            return source.withUnsafeBytes {
                _ = head.parse($0)
                return tap.choose(route: 0, head: head, bytes: $0.baseAddress!)
            }
        }

        func append(_ id: UInt32, _ part: MirrorTap.Part, count: Int = 100) -> Bool {
            let slot = blocks.take()
            precondition(slot != BlockPool.none)
            defer { blocks.release(slot) }
            return tap.append(
                Slice(slot: slot, offset: 0, count: count), part, to: id, blocks, slices)
        }

        /// One whole request. Returns how many copies it became; nil where it was given up.
        func request(bodySlices: Int = 0, bodyBytes: Int = 100) -> Int? {
            let choice = choose()
            guard choice.lanes != 0 else { return 0 }
            let id = tap.open(
                choice.lanes, route: 0, bodyBytes: UInt64(bodySlices * bodyBytes),
                hasBody: bodySlices > 0, log: .max)
            guard id != MirrorTap.none, append(id, .head) else { return nil }
            for _ in 0..<bodySlices where !append(id, .body, count: bodyBytes) { return nil }
            return tap.finish(id, now: now, blocks, slices)
        }

        /// A request without a body, and what is out of it.
        func copiesOut() throws -> MirrorTap.CopiesOut {
            let id = tap.open(
                choose().lanes, route: 0, bodyBytes: 0, hasBody: false, log: .max)
            try #require(id != MirrorTap.none && append(id, .head))
            try #require(tap.finish(id, now: now, blocks, slices) > 0)
            return tap.copiesOut(id)
        }

        /// The copy that lies first in the ring.
        func next() throws -> CopyEntry {
            let cell = copies.peek()
            return try #require(cell).entry
        }

        /// Takes small copies off the ring until it is empty.
        func readCopies() { while copies.peek() != nil { copies.consume(1) } }

        func push(_ result: CopyReturn) -> Bool { returns.push(result) }

        /// Ends a turn. Returns how often the shadow process was knocked at in it.
        func endTurn() -> UInt64 {
            tap.endTurn()
            var count: UInt64 = 0
            return CLinux.read(wake.fd, &count, 8) == 8 ? count : 0
        }

        func take() -> [MirrorTap.Return] {
            var all: [MirrorTap.Return] = []
            while let back = tap.takeReturn(blocks, slices) { all.append(back) }
            return all
        }

        /// As an operator's order for the first route comes to the worker.
        func order(_ override: MirrorOverride) {
            board.overrides[0][.word].set(override.word)
            board.control[.version].publish(board.control.value(.version) + 1)
            tap.beginTurn()
        }

        func counts() -> (eligible: Int, sampled: Int) {
            let row = board.lane(worker: 0, route: 0, shadow: 0)
            return (Int(row.value(.eligible)), Int(row.value(.sampled)))
        }

        func dropped(_ reason: DropReason, shadow: Int = 0) -> UInt64 {
            board.tally(worker: 0, shadow: shadow).dropped(reason).value
        }

        /// `sampled = sent + Σ dropped + outstanding`, `sent = Σ results`, at any moment.
        func checkSums(sourceLocation: SourceLocation = #_sourceLocation) {
            for shadow in 0..<board.shape.shadows {
                let tally = board.tally(worker: 0, shadow: shadow)
                var sampled: UInt64 = 0
                for route in 0..<board.shape.routes {
                    let lane = board.lane(worker: 0, route: route, shadow: shadow)
                    sampled += lane.value(.sampled)
                    #expect(
                        lane.value(.eligible) == lane.value(.sampled) + lane.value(.notSampled),
                        sourceLocation: sourceLocation)
                }
                let sum = tally.sent.value + tally.droppedTotal + tally.outstanding.value
                #expect(sampled == sum, sourceLocation: sourceLocation)
                #expect(tally.sent.value == tally.resultsTotal, sourceLocation: sourceLocation)
            }
        }

        /// Nothing is lent any more.
        func checkEmpty(sourceLocation: SourceLocation = #_sourceLocation) {
            #expect(blocks.takenCount == 0, sourceLocation: sourceLocation)
            #expect(slices.usedCount == 0, sourceLocation: sourceLocation)
            #expect(!tap.hasOutstanding, sourceLocation: sourceLocation)
            checkSums(sourceLocation: sourceLocation)
        }
    }

    @Test func aCopyGoesOutAndComesBack() throws {
        let rig = try TapRig()
        #expect(rig.request(bodySlices: 4, bodyBytes: 50) == 1)
        let entry = try rig.next()
        #expect(entry.headBytes == 100 && entry.bodyBytes == 200 && entry.hasBody == 1)
        #expect(entry.sliceCount == 5)
        #expect(rig.blocks.takenCount == 5)
        rig.checkSums()
        #expect(rig.take().isEmpty)
        rig.copies.consume(CopyCell.count(forSlices: 5))
        let result = CopyReturn.sent(
            entry.ticket, .ok, status: 204, latencyUs: 7, shadowID: (1, 2))
        #expect(rig.push(result))
        let back = rig.take()
        #expect(back.count == 1 && back[0].outcome.status == 204 && back[0].shadow == 0)
        rig.checkEmpty()
    }

    /// Once for each sleep, at the end of the turn behind the one that pushed.
    @Test func aSleeperIsWokenATurnLater() throws {
        let rig = try TapRig()
        // Awake: nobody knocks.
        #expect(rig.request() == 1)
        #expect((rig.endTurn(), rig.tap.hasKnock, rig.endTurn()) == (0, false, 0))
        rig.readCopies()
        let sleeps = rig.copies.prepareToSleep()
        #expect(sleeps)
        // A turn without copies is none that wakes.
        #expect((rig.endTurn(), rig.tap.hasKnock) == (0, false))
        #expect(rig.request() == 1)
        #expect((rig.endTurn(), rig.tap.hasKnock) == (0, true))
        #expect(rig.request() == 1)
        #expect((rig.endTurn(), rig.tap.hasKnock, rig.endTurn()) == (1, false, 0))
        rig.readCopies()
        let sleepsAgain = rig.copies.prepareToSleep()
        #expect(sleepsAgain)
        // It woke up by itself before its turn came.
        #expect(rig.request() == 1)
        #expect((rig.endTurn(), rig.tap.hasKnock) == (0, true))
        rig.copies.wokeUp()
        #expect((rig.endTurn(), rig.tap.hasKnock) == (0, false))
        #expect(rig.board.tap(worker: 0).value(.wakes) == 1)
    }

    static let requests: [(String, Bool, plain: Bool)] = [
        ("POST /v1/chat/completions", true, plain: false),
        ("POST http://h/v1/messages?beta=true", true, plain: false),
        ("POST /v1/embeddings", true, plain: false),
        ("POST /v1/threads/t/messages", false, plain: false),
        ("POST /v1/files", false, plain: false), ("PUT /v1/responses", false, plain: false),
        ("GET /v1/models", false, plain: true), ("GET /v1/responses", false, plain: true),
    ]

    /// What asks a model is eligible where the lane takes it, besides the lane's methods.
    @Test(arguments: requests)
    func requestsThatAskAModel(_ line: String, _ asks: Bool, _ isPlain: Bool) throws {
        var lane = LaneSettings(shadow: 0)
        let text = line + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        #expect(try TapRig(lanes: [[lane]]).choose(text).isEligible == isPlain)
        lane.takesInference = true
        #expect(try TapRig(lanes: [[lane]]).choose(text).isEligible == (asks || isPlain))
        lane.methods = []
        let rig = try TapRig(lanes: [[lane]])
        #expect(rig.choose(text).lanes == (asks ? 1 : 0))
        #expect(rig.counts() == (asks ? (1, 1) : (0, 0)))
    }

    @Test func aFullRingDrops() throws {
        let rig = try TapRig(depth: 4)
        for _ in 0..<4 { #expect(rig.request() == 1) }
        #expect(rig.request() == nil || rig.dropped(.captureLimit) + rig.dropped(.queueFull) == 1)
        rig.checkSums()
        // Longer copies take more places: the ring is full before the tickets are.
        let other = try TapRig(depth: 4)
        #expect(other.request(bodySlices: 11) == 1)
        #expect(other.request(bodySlices: 11) == 0)
        #expect(other.dropped(.queueFull) == 1)
        other.checkSums()
        #expect(other.blocks.takenCount == 12)
    }

    @Test func loansAreBounded() throws {
        let rig = try TapRig(loansMax: 3)
        #expect(rig.request(bodySlices: 1) == 1)
        #expect(rig.request(bodySlices: 1) == nil)
        #expect(rig.dropped(.loanLimit) == 1)
        rig.checkSums()
        #expect(rig.blocks.takenCount == 2, "what was given up is not lent any more")
        #expect(rig.request() == 1)
        #expect(rig.request() == nil)
    }

    @Test func capturesAreBounded() throws {
        let rig = try TapRig(depth: 2)
        let open = (0..<2).map { _ in
            rig.tap.open(rig.choose().lanes, route: 0, bodyBytes: 0, hasBody: true, log: .max)
        }
        #expect(!open.contains(MirrorTap.none))
        #expect(rig.request() == nil)
        #expect(rig.dropped(.captureLimit) == 1)
        for id in open { rig.tap.abandon(id, .clientAborted, rig.blocks, rig.slices) }
        #expect(rig.dropped(.clientAborted) == 2)
        rig.checkEmpty()
        // And the slices of one.
        let id = rig.tap.open(
            rig.choose().lanes, route: 0, bodyBytes: 0, hasBody: true, log: .max)
        let big = try TapRig(loansMax: 10_000)
        let many = big.tap.open(
            big.choose().lanes, route: 0, bodyBytes: 0, hasBody: true, log: .max)
        for _ in 0..<MirrorLimits.slicesPerCopyMax { #expect(big.append(many, .body, count: 1)) }
        #expect(!big.append(many, .body, count: 1))
        #expect(big.dropped(.captureLimit) == 1)
        big.checkEmpty()
        rig.tap.abandon(id, .clientAborted, rig.blocks, rig.slices)
    }

    @Test func eachLaneHasItsOwnLargestBody() throws {
        var small = LaneSettings(shadow: 0)
        small.bodyBytesMax = 150
        var large = LaneSettings(shadow: 1)
        large.bodyBytesMax = 1_000
        let rig = try TapRig(shadows: 2, lanes: [[small, large]])
        // Announced.
        #expect(rig.request(bodySlices: 2, bodyBytes: 100) == 1)
        #expect(rig.dropped(.bodyTooLarge) == 1)
        #expect(rig.dropped(.bodyTooLarge, shadow: 1) == 0)
        #expect(try rig.next().shadow == 1)
        // Found out on the way.
        let id = rig.tap.open(
            rig.choose().lanes, route: 0, bodyBytes: 0, hasBody: true, log: .max)
        #expect(rig.append(id, .head))
        #expect(rig.append(id, .body, count: 150))
        #expect(rig.append(id, .body, count: 1))
        #expect(rig.dropped(.bodyTooLarge) == 2)
        #expect(rig.append(id, .body, count: 849))
        #expect(!rig.append(id, .body, count: 1))
        #expect(rig.dropped(.bodyTooLarge, shadow: 1) == 1)
        rig.checkSums()
    }

    @Test func lanesShareOneCapture() throws {
        let lanes = (0..<3).map { LaneSettings(shadow: $0) }
        let rig = try TapRig(shadows: 3, lanes: [lanes])
        #expect(rig.request(bodySlices: 2) == 3)
        #expect(rig.blocks.takenCount == 3, "one loan for all")
        for shadow in 0..<3 {
            let entry = try rig.next()
            #expect(Int(entry.shadow) == shadow)
            rig.copies.consume(CopyCell.count(forSlices: 3))
            #expect(rig.push(.dropped(entry.ticket, .qpsCap)))
            #expect(rig.take().count == 1)
            #expect(rig.blocks.takenCount == (shadow == 2 ? 0 : 3))
        }
        rig.checkEmpty()
    }

    /// The shadow process dies: what it had sent is cancelled, the rest restarted, all is back.
    @Test func aDeathGivesEverythingBack() throws {
        let rig = try TapRig()
        for _ in 0..<4 { #expect(rig.request(bodySlices: 1) == 1) }
        rig.link.ticketStates[1].store(TicketState.sent, ordering: .releasing)
        #expect(rig.push(.sent(2, .ok, status: 200, latencyUs: 1, shadowID: (0, 0))))
        rig.link.attachedEpoch.publish(0)
        rig.board.shadowEpochs[0].publish(2)
        rig.tap.beginTurn()
        #expect(rig.request() == nil, "nobody is there")
        #expect(rig.take().count == 4)
        let tally = rig.board.tally(worker: 0, shadow: 0)
        #expect(tally.results(.ok).value == 1)
        #expect(tally.results(.cancelled).value == 1)
        #expect(rig.dropped(.shadowRestarted) == 2)
        #expect(rig.dropped(.shadowDown) == 1)
        rig.checkEmpty()
        #expect(rig.link.readyEpoch.value == 2)
        #expect(rig.link.copies.count == 0 && rig.link.returns.count == 0)
        // Copies flow again once the new process is there, and not before.
        #expect(rig.request() == nil)
        rig.link.attachedEpoch.publish(2)
        #expect(rig.request() == 1)
    }

    /// A request that began under the old process is handed to the new one.
    @Test func aCaptureOutlivesADeath() throws {
        let rig = try TapRig()
        let id = rig.tap.open(
            rig.choose().lanes, route: 0, bodyBytes: 0, hasBody: false, log: .max)
        #expect(rig.append(id, .head))
        rig.link.attachedEpoch.publish(0)
        rig.board.shadowEpochs[0].publish(2)
        rig.tap.beginTurn()
        #expect(rig.take().isEmpty)
        rig.link.attachedEpoch.publish(2)
        #expect(rig.tap.finish(id, now: Instant(nanoseconds: 1), rig.blocks, rig.slices) == 1)
        rig.checkSums()
    }

    // MARK: A shadow process gone wild

    @Test func wrongReturnsTakeNothing() throws {
        let rig = try TapRig()
        #expect(rig.request(bodySlices: 1) == 1)
        for ticket: UInt32 in [1, 7, 8, 1_000, .max] {
            #expect(rig.push(.dropped(ticket, .stale)))
        }
        #expect(rig.take().isEmpty)
        #expect(rig.blocks.takenCount == 2)
        rig.checkSums()
        // The good one behind them arrives, also in the same turn.
        for ticket: UInt32 in [5, 6] { #expect(rig.push(.dropped(ticket, .stale))) }
        #expect(rig.push(.dropped(0, .stale)))
        #expect(rig.take().count == 1)
        rig.checkEmpty()
    }

    @Test func aTicketReturnedTwiceCountsOnce() throws {
        let rig = try TapRig()
        #expect(rig.request(bodySlices: 1) == 1)
        #expect(rig.push(.sent(0, .ok, status: 200, latencyUs: 1, shadowID: (0, 0))))
        #expect(rig.push(.sent(0, .ok, status: 200, latencyUs: 1, shadowID: (0, 0))))
        #expect(rig.push(.dropped(0, .stale)))
        #expect(rig.take().count == 1)
        #expect(rig.board.tally(worker: 0, shadow: 0).sent.value == 1)
        rig.checkEmpty()
    }

    @Test func unknownCodesAreCountedAsSomething() throws {
        let rig = try TapRig()
        for _ in 0..<2 { #expect(rig.request() == 1) }
        var sent = CopyReturn.sent(0, .ok, status: 200, latencyUs: 1, shadowID: (0, 0))
        sent.code = 200
        var dropped = CopyReturn.dropped(1, .stale)
        dropped.code = 255
        #expect(rig.push(sent) && rig.push(dropped))
        #expect(rig.take().count == 2)
        #expect(rig.board.tally(worker: 0, shadow: 0).results(.error).value == 1)
        #expect(rig.dropped(.invalidCopy) == 1)
        rig.checkEmpty()
    }

    /// Positions that a wild process wrote make a ring that is never empty.
    @Test func aRingWithoutEndHoldsNothingBack() throws {
        let rig = try TapRig()
        for _ in 0..<4 { #expect(rig.request(bodySlices: 1) == 1) }
        for place in 0..<8 { rig.returns.write(.dropped(.max, .stale), ahead: place) }
        rig.returns.publish(1 << 40)
        #expect(rig.take().isEmpty)
        rig.link.attachedEpoch.publish(0)
        rig.board.shadowEpochs[0].publish(2)
        rig.tap.beginTurn()
        #expect(rig.take().count == 4)
        rig.checkEmpty()
        rig.link.attachedEpoch.publish(2)
        #expect(rig.request() == 1)
    }

    // MARK: What is chosen

    @Test(arguments: [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", false),
        ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: h\r\nX-Umbra-Shadow: true\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false),
    ])
    func eligibility(_ text: String, _ isEligible: Bool) throws {
        let rig = try TapRig()
        #expect(rig.choose(text).isEligible == isEligible)
        #expect(
            rig.board.lane(worker: 0, route: 0, shadow: 0).value(.eligible)
                == (isEligible ? 1 : 0))
    }

    @Test func theSwitchTurnsEverythingOff() throws {
        let rig = try TapRig()
        rig.board.control[.enabled].set(0)
        #expect(rig.request() == 0)
        #expect(rig.board.lane(worker: 0, route: 0, shadow: 0).value(.eligible) == 0)
        rig.board.control[.enabled].set(1)
        #expect(rig.request() == 1)
    }

    @Test func theSwitchDropsWhatWasChosenBefore() throws {
        let rig = try TapRig()
        for isLane in [false, true] {
            let id = rig.tap.open(
                rig.choose().lanes, route: 0, bodyBytes: 0, hasBody: false, log: .max)
            #expect(rig.append(id, .head))
            if isLane {
                rig.order(.off)
            } else {
                rig.board.control[.enabled].set(0)
            }
            #expect(rig.tap.finish(id, now: Instant(nanoseconds: 1), rig.blocks, rig.slices) == 0)
            rig.board.control[.enabled].set(1)
        }
        #expect(rig.dropped(.switchedOff) == 2)
        rig.checkEmpty()
    }

    @Test(arguments: [
        (MirrorOverride.configured, 0.5, true), (.off, 0.5, false), (.on, 0.5, true),
        (.rate(250_000_000), 0.25, true), (.rate(0), 0, true), (.rate(1_000_000_000), 1, true),
    ])
    func overridesHoldFromTheNextTurn(
        _ override: MirrorOverride, _ rate: Double, _ isOn: Bool
    ) throws {
        var lane = LaneSettings(shadow: 0)
        lane.sampleRate = 0.5
        let rig = try TapRig(lanes: [[lane]])
        for _ in 0..<7 { _ = rig.choose() }
        let before = rig.counts()
        rig.order(override)
        for count in 1...1_000 {
            _ = rig.choose()
            let now = rig.counts()
            #expect(now.eligible - before.eligible == (isOn ? count : 0))
            let wanted = isOn ? rate * Double(count) : 0
            // Below one of a stratum begun anew; where the rate stays, so does the stratum.
            #expect(abs(Double(now.sampled - before.sampled) - wanted) < (rate == 0.5 ? 2 : 1))
        }
        rig.order(.configured)
        let last = rig.counts()
        for _ in 0..<100 { _ = rig.choose() }
        #expect(abs(rig.counts().sampled - last.sampled - 50) <= 1)
    }

    @Test func noOrderBeginsWhatIsConfiguredOff() throws {
        var lane = LaneSettings(shadow: 0)
        lane.enabled = false
        let rig = try TapRig(lanes: [[lane]])
        for override in [MirrorOverride.rate(500_000_000), .on] {
            rig.order(override)
            for _ in 0..<10 { _ = rig.choose() }
        }
        #expect(rig.counts().eligible == 0)
    }

    @Test func aTapThatStartsLaterFollowsWhatHolds() throws {
        let rig = try TapRig(isOff: true)
        #expect(rig.request() == 0)
    }

    @Test func wordsOfTheBoardReadBack() {
        let all: [MirrorOverride] = [
            .configured, .off, .on, .rate(0), .rate(1_000_000_000), .rate(1), .rate(999_999_999),
        ]
        for override in all { #expect(MirrorOverride(word: override.word) == override) }
        let others: [UInt64] = [3 << 32 | 1_000_000_001, 4 << 32 | 0xFFFF_FFFF, 5 << 32, .max, 17]
        for word in others {
            #expect(MirrorOverride(word: word) == .configured)
        }
    }

    @Test(arguments: [0, 0.1, 0.333, 0.5, 0.9, 1])
    func theShareIsExact(_ rate: Double) throws {
        var lane = LaneSettings(shadow: 0)
        lane.sampleRate = rate
        let rig = try TapRig(lanes: [[lane]])
        for count in 1...2_000 {
            _ = rig.choose()
            let sampled = rig.board.lane(worker: 0, route: 0, shadow: 0).value(.sampled)
            #expect(abs(Double(sampled) - rate * Double(count)) < 1 + 1e-6)
        }
    }

    /// Tickets of the request, of no other, and of none that has its record after it.
    @Test func leavingClientsAreToldOf() throws {
        let rig = try TapRig(
            shadows: 2, lanes: [[LaneSettings(shadow: 0), LaneSettings(shadow: 1)]])
        func left() -> [Int] {
            (0..<8).filter { rig.link.ticketsLeft[$0].load(ordering: .relaxed) != 0 }
        }
        let first = try rig.copiesOut()
        let second = try rig.copiesOut()
        #expect(rig.link.leavings.value == 0)
        rig.tap.clientLeft(second)
        #expect(rig.link.leavings.value == 1 && left() == [2, 3])
        rig.tap.clientLeft(.none)
        #expect(rig.link.leavings.value == 1)
        // One of the first's two copies is back, then both: the record is another's.
        #expect(rig.push(.sent(0, .ok, status: 200, latencyUs: 1, shadowID: (0, 1))))
        #expect(rig.take().count == 1)
        rig.tap.clientLeft(first)
        #expect(left() == [1, 2, 3])
        #expect(rig.push(.sent(1, .cancelled, status: 0, latencyUs: 1, shadowID: (0, 1))))
        #expect(rig.take().count == 1)
        let third = try rig.copiesOut()
        #expect(left() == [2, 3])
        rig.tap.clientLeft(first)
        #expect(rig.link.leavings.value == 2 && left() == [2, 3])
        rig.tap.clientLeft(third)
        #expect(left() == [0, 1, 2, 3])
        rig.checkSums()
    }
}
