import CoreLoop
import Mirror
import Synchronization
import Testing
import Upstream

@testable import Proxy

/// What a reload carries on, by name.
@Suite struct BoardRowsTests {
    private static func settings() -> GatewaySettings {
        var settings = GatewaySettings.plain()
        settings.shadows = [
            ShadowSettings(targetID: "a", target: 0), ShadowSettings(targetID: "b", target: 0),
        ]
        settings.routes.append(RouteSettings(name: "default", target: 0))
        return settings
    }

    /// Every cell of the board that a counter's name can reach is in exactly one row.
    @Test func everyCounterHasOneRow() throws {
        let settings = Self.settings()
        let shape = Board.Shape(settings: settings, workers: 2)
        let memory = try SharedMemory.plain(byteCount: Board.byteCount(shape))
        let board = Board.map(memory.base, shape)
        for row in board.rows(settings).values {
            for place in 0..<row.cells.count { row.cells[place].add() }
        }
        for worker in 0..<2 {
            for name in WorkerCounter.allCases {
                #expect(board.workers[worker].counters.value(name) == 1)
            }
            #expect(board.workers[worker].mirrored.snapshot().sumNs == 1)
            #expect(board.workers[worker].turnTime.snapshot().sumNs == 1)
            for shadow in 0..<2 {
                let tally = board.mirror.tally(worker: worker, shadow: shadow)
                #expect(tally.sent.value == 1 && tally.outstanding.value == 1)
                #expect(tally.droppedTotal == UInt64(DropReason.allCases.count))
                #expect(tally.resultsTotal == UInt64(CopyResult.allCases.count))
                for route in settings.routes.indices {
                    let lane = board.mirror.lane(worker: worker, route: route, shadow: shadow)
                    #expect(LaneCounter.allCases.allSatisfy { lane.value($0) == 1 })
                }
            }
            let target = board.upstreams.target(worker: worker, 0)
            #expect(TargetCounter.allCases.allSatisfy { target.value($0) == 1 })
            let endpoint = board.upstreams.endpoint(worker: worker, 0)
            #expect(EndpointCounter.allCases.allSatisfy { endpoint.value($0) == 1 })
        }
    }

    @Test func routesOfOneNameAreToldApart() {
        var settings = Self.settings()
        settings.routes = ["x", "x", "x#2"].map { RouteSettings(name: $0, target: 0) }
        #expect(settings.distinctRouteNames == ["x", "x#2", "x#2#2"])
    }

    /// What is a state, a time or a high-water mark is each configuration's own.
    @Test func levelsAndMarksAreNoCounters() {
        #expect(WorkerCounter.requests.carried == .counter)
        #expect(WorkerCounter.connectionsOpen.carried == .level)
        #expect(WorkerCounter.blocksTakenHigh.carried == .own)
        #expect(ProcessCell.pid.carried == .own && ProcessCell.restarts.carried == .counter)
        #expect(ShadowGauge.breakerState.carried == .own)
        #expect(EndpointCounter.ejectedUntilMs.carried == .own)
        #expect(MirrorControl.enabled.carried == .own)
    }
}
