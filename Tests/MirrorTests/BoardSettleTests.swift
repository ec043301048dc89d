import CoreLoop
import Mirror
import Synchronization
import Testing

/// A dead worker's counters add up once the supervisor has settled them, wherever it died.
@Suite struct BoardSettleTests {
    @Test(arguments: 0..<200)
    func identitiesHoldFromAnyState(_ seed: Int) throws {
        var random = FastRandom(seed: UInt64(seed))
        func below(_ bound: UInt64) -> UInt64 { random.next() % bound }
        let shadows = 1 + Int(below(3))
        let routes = 1 + Int(below(3))
        let shape = MirrorBoard.Shape(
            workers: 2, routes: routes, shadowProcesses: 1,
            shadows: shadows)
        var counting = MemoryPlan()
        _ = MirrorBoard(plan: &counting, shape: shape)
        let memory = try SharedMemory.plain(byteCount: counting.byteCount)
        var plan = MemoryPlan(base: memory.base)
        let board = try #require(MirrorBoard(plan: &plan, shape: shape))
        let depth = 64
        let linkMemory = try SharedMemory.plain(byteCount: MirrorLink.byteCount(depth: depth))
        var linkPlan = MemoryPlan(base: linkMemory.base)
        let link = try #require(MirrorLink(plan: &linkPlan, depth: depth))
        var atShadow = [UInt64](repeating: 0, count: shadows)
        for ticket in 0..<depth {
            let shadow = Int(below(UInt64(shadows)))
            link.ticketShadows[ticket] = UInt8(shadow)
            let state = [TicketState.free, TicketState.queued, TicketState.sent][Int(below(3))]
            link.ticketStates[ticket].store(state, ordering: .relaxed)
            if state == TicketState.sent { atShadow[shadow] += 1 }
        }
        var before: [(sent: UInt64, ok: UInt64, notSampled: UInt64)] = []
        for shadow in 0..<shadows {
            let tally = board.tally(worker: 1, shadow: shadow)
            let done = below(100)
            tally.sent.set(done)
            // The worker may have died between the two counts.
            tally.results(.ok).set(done - (done > 0 ? below(2) : 0))
            tally.dropped(.qpsCap).set(below(50))
            tally.outstanding.set(atShadow[shadow] + below(20))
            let sampled = done + tally.dropped(.qpsCap).value + atShadow[shadow] + below(20)
            for route in 0..<routes {
                let lane = board.lane(worker: 1, route: route, shadow: shadow)
                lane[.sampled].set(route == 0 ? sampled : 0)
                lane[.notSampled].set(below(100))
                let open = below(2)
                lane[.eligible].set(lane.value(.sampled) + lane.value(.notSampled) + open)
            }
            before.append((done, tally.results(.ok).value, 0))
            board.lane(worker: 0, route: 0, shadow: shadow)[.eligible].set(7)
        }
        board.tap(worker: 1)[.blocksOnLoan].set(5)
        board.tap(worker: 1)[.ticketsUsed].set(5)

        board.settle(deadWorker: 1, link: link)

        for shadow in 0..<shadows {
            let tally = board.tally(worker: 1, shadow: shadow)
            var sampled: UInt64 = 0
            for route in 0..<routes {
                let lane = board.lane(worker: 1, route: route, shadow: shadow)
                #expect(
                    lane.value(.eligible) == lane.value(.sampled) + lane.value(.notSampled))
                sampled += lane.value(.sampled)
            }
            #expect(sampled == tally.sent.value + tally.droppedTotal)
            #expect(tally.sent.value == tally.resultsTotal)
            #expect(tally.outstanding.value == 0)
            // Exactly what the shadow process had sent is sent, and nothing was taken back.
            #expect(tally.sent.value == before[shadow].sent + atShadow[shadow])
            #expect(tally.results(.ok).value == before[shadow].ok)
            #expect(board.lane(worker: 0, route: 0, shadow: shadow).value(.eligible) == 7)
        }
        #expect(board.tap(worker: 1).value(.blocksOnLoan) == 0)
        #expect(board.tap(worker: 1).value(.ticketsUsed) == 0)

        // A second settling changes nothing.
        let sums = (0..<shadows).map { board.tally(worker: 1, shadow: $0).sent.value }
        board.settle(deadWorker: 1, link: link)
        #expect(sums == (0..<shadows).map { board.tally(worker: 1, shadow: $0).sent.value })
    }
}
