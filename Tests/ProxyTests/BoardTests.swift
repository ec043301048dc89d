import CLinux
import CoreLoop
import Mirror
import Testing

@testable import Proxy

@Suite struct BoardTests {
    private static func settings(shadows: Int) -> GatewaySettings {
        var settings = GatewaySettings.plain()
        for index in 0..<shadows {
            var shadow = ShadowSettings(targetID: "s\(index)", target: 0)
            shadow.qps = Double(100 + index)
            settings.shadows.append(shadow)
        }
        settings.routes.append(RouteSettings(name: "more", target: 0))
        return settings
    }

    @Test(arguments: [(1, 0, 1), (1, 1, 1), (3, 2, 2), (8, 8, 4)])
    func twoMappingsShowTheSame(_ workers: Int, _ shadows: Int, _ processes: Int) throws {
        var settings = Self.settings(shadows: shadows)
        settings.runtime.shadows = processes
        let shape = Board.Shape(settings: settings, workers: workers)
        #expect(shape == Board.Shape(settings: settings, workers: workers))
        let byteCount = Board.byteCount(shape)
        #expect(byteCount % 4_096 == 0)
        let memory = try SharedMemory.create(name: "board", byteCount: byteCount)
        let other = try SharedMemory.map(
            fd: dup(memory.fd), byteCount: byteCount, writable: true)
        #expect(memory.base != other.base)
        let here = Board.map(memory.base, shape)
        let there = Board.map(other.base, shape)
        var number: UInt64 = 1
        var checks: [(Cell, UInt64)] = []
        func mark(_ cell: Cell, _ twin: Cell) {
            #expect(twin.value == 0, "two cells in one place")
            cell.set(number)
            checks.append((twin, number))
            number += 1
        }
        for worker in 0..<workers {
            for name in WorkerCounter.allCases {
                mark(here.workers[worker].counters[name], there.workers[worker].counters[name])
            }
            for name in ProcessCell.allCases {
                mark(here.workerProcesses[worker][name], there.workerProcesses[worker][name])
            }
            for shadow in 0..<shadows {
                for route in 0..<2 {
                    for name in LaneCounter.allCases {
                        mark(
                            here.mirror.lane(worker: worker, route: route, shadow: shadow)[name],
                            there.mirror.lane(worker: worker, route: route, shadow: shadow)[name])
                    }
                }
                mark(
                    here.mirror.tally(worker: worker, shadow: shadow).sent,
                    there.mirror.tally(worker: worker, shadow: shadow).sent)
            }
        }
        for name in ProcessCell.allCases {
            mark(here.admin[name], there.admin[name])
            mark(here.supervisor[name], there.supervisor[name])
        }
        for (epoch, twin) in zip(here.mirror.shadowEpochs, there.mirror.shadowEpochs) {
            mark(epoch, twin)
        }
        #expect(there.mirror.shadowEpochs.count == (shadows == 0 ? 0 : processes))
        for (cell, value) in checks { #expect(cell.value == value) }
    }

    /// Nothing lies behind the bytes that a board says it has.
    @Test func theBoardEndsWhereItSays() throws {
        let shape = Board.Shape(settings: Self.settings(shadows: 2), workers: 2)
        var counting = MemoryPlan()
        _ = Board(plan: &counting, shape: shape)
        let memory = try SharedMemory.plain(byteCount: Board.byteCount(shape))
        var plan = MemoryPlan(base: memory.base)
        #expect(Board(plan: &plan, shape: shape) != nil)
        #expect(plan.byteCount == counting.byteCount)
        #expect(plan.byteCount <= Board.byteCount(shape))
    }
}
