import CLinux
import CoreLoop
import EventLog
import Mirror
import Proxy
import Upstream

@testable import Admin

/// A gateway's board in plain memory: two workers, two shadows in two processes, three routes, of
/// which the first has a lane to both shadows, the second to the second, the third to none.
final class Bench {
    let settings: GatewaySettings
    let board: Board
    private let memory: SharedMemory
    var memoryBase: UnsafeMutableRawPointer { memory.base }
    static let startedAt = Instant(nanoseconds: 1_000_000_000_000)
    /// 3,725.5 s after the start.
    static let now = Instant(nanoseconds: 4_725_500_000_000)

    init(_ change: (inout GatewaySettings) -> Void = { _ in }) throws {
        var settings = GatewaySettings()
        settings.listen = [ListenerSettings(SocketAddress("127.0.0.1:26001")!)]
        settings.targets = ["app", "next", "other"].map {
            TargetSettings(id: $0, authority: "\($0):80", host: $0, port: 80, pathPrefix: "/v1")
        }
        settings.targets[0].health = HealthSettings(path: "/up")
        settings.shadows = [
            ShadowSettings(targetID: "next", target: 1),
            ShadowSettings(targetID: "other", target: 2),
        ]
        settings.runtime.shadows = 2
        settings.eventLog = EventLogSettings()
        settings.routes = ["search", "static", "default"].map { RouteSettings(name: $0, target: 0) }
        settings.routes[0].lanes = [LaneSettings(shadow: 0), LaneSettings(shadow: 1)]
        settings.routes[1].lanes = [LaneSettings(shadow: 1)]
        change(&settings)
        self.settings = settings
        let shape = Board.Shape(settings: settings, workers: 2)
        memory = try .plain(byteCount: Board.byteCount(shape))
        board = Board.map(memory.base, shape)
    }

    /// All processes run, started with the gateway, and have beaten just now.
    func runAll(now: Instant = Bench.now) {
        let rows =
            [board.supervisor, board.admin] + board.workerProcesses + board.shadowProcesses
            + (board.health.map { [$0] } ?? []) + [board.events].compactMap { $0 }
        for (number, row) in rows.enumerated() {
            row[.pid].set(UInt64(100 + number))
            row[.state].set(UInt64(ProcessState.running.rawValue))
            row[.startedMs].set(Bench.startedAt.milliseconds)
            row[.heartbeatMs].set(now.milliseconds)
        }
    }

    func metrics(version: String = "1.2.3", now: Instant = Bench.now) throws -> Exposition {
        let text = Prometheus(
            settings: settings, board: board, version: version, startedAt: Bench.startedAt
        ).render(now: now)
        return try Exposition(String(decoding: text, as: UTF8.self))
    }
}
