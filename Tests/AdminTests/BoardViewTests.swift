import CoreLoop
import Mirror
import Proxy
import Synchronization
import Testing

@testable import Admin

/// What the pages show after a reload: this configuration's counts and those of former ones.
@Suite struct BoardViewTests {
    @Test func itAddsUp() throws {
        let live = try Bench()
        let carried = try Bench()
        let shape = Board.Shape(settings: live.settings, workers: 2)
        let view = try BoardView(
            live: live.memoryBase, carried: carried.memoryBase, shape: shape,
            settings: live.settings)
        live.board.workers[1].counters.add(.requests, 5)
        carried.board.workers[1].counters.add(.requests, 37)
        live.board.workerProcesses[0][.pid].set(7)
        carried.board.workers[0].mirrored.record(1_000_000)
        live.board.workers[0].mirrored.record(1_000_000)
        #expect(view.board.workers[1].counters.value(.requests) == 0)
        view.refresh()
        #expect(view.board.workers[1].counters.value(.requests) == 42)
        #expect(view.board.workerProcesses[0].value(.pid) == 7)
        #expect(view.board.workers[0].mirrored.snapshot().count == 2)
        view.refresh()
        #expect(view.board.workers[1].counters.value(.requests) == 42)
    }

    private final class Flag: Sendable {
        let isUp = Atomic<Bool>(false)
    }

    /// A worker that counts all the time never shows a part that is larger than its whole.
    @Test func aPartIsNeverLargerThanItsWhole() async throws {
        let live = try Bench()
        let carried = try Bench()
        let shape = Board.Shape(settings: live.settings, workers: 2)
        let view = try BoardView(
            live: live.memoryBase, carried: carried.memoryBase, shape: shape,
            settings: live.settings)
        let lane = live.board.mirror.lane(worker: 0, route: 0, shadow: 0)
        let tally = live.board.mirror.tally(worker: 0, shadow: 0)
        let over = Flag()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                while !over.isUp.load(ordering: .relaxed) {
                    lane.add(.eligible)
                    lane.add(.sampled)
                    tally.sent.add()
                    tally.results(.ok).add()
                }
            }
            for _ in 0..<200 {
                view.refresh()
                let mirror = view.board.mirror
                let counted = mirror.lane(worker: 0, route: 0, shadow: 0)
                let told = mirror.tally(worker: 0, shadow: 0)
                #expect(counted.value(.sampled) <= counted.value(.eligible))
                #expect(told.resultsTotal <= told.sent.value)
                #expect(told.sent.value <= counted.value(.sampled))
            }
            over.isUp.store(true, ordering: .relaxed)
        }
    }
}
