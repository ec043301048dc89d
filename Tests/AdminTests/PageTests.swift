import CLinux
import CoreLoop
import Foundation
import Mirror
import Proxy
import Testing
import Upstream

@testable import Admin

@Suite struct PageTests {
    // MARK: Token

    @Test(arguments: [
        ("", 401), ("Authorization: Bearer s3cret\r\n", 200),
        ("authorization: bEARER s3cret\r\n", 200), ("Authorization: Bearer   s3cret \r\n", 200),
        ("Authorization: Bearer s3cre\r\n", 401), ("Authorization: Bearer s3crets\r\n", 401),
        ("Authorization: Bearer s3cres\r\n", 401), ("Authorization: Bearer S3cret\r\n", 401),
        ("Authorization: Bearer s3crets3cret\r\n", 401), ("Authorization: Bearer\r\n", 401),
        ("Authorization: Bearer \r\n", 401), ("Authorization: s3cret\r\n", 401),
        ("Authorization: Basic s3cret\r\n", 401), ("Authorization: Bearers3cret\r\n", 401),
        ("Authorization: Bearer s3cret x\r\n", 401),
        ("Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n", 401),
        ("Proxy-Authorization: Bearer s3cret\r\n", 401),
    ])
    func onlyTheTokenOpens(fields: String, status: Int) throws {
        let rig = try AdminRig(token: "s3cret")
        for target in ["/metrics", "/status", "/health", "/status?format=text"] {
            let reply = try rig.get(target, fields: fields)
            #expect(reply.status == status, "\(target)")
            #expect((reply.field("WWW-Authenticate") != nil) == (status == 401))
            if status == 401 { #expect(!reply.body.contains("umbra_")) }
        }
        // Without the token nobody learns which pages there are.
        #expect(try rig.get("/nothing", fields: fields).status == (status == 200 ? 404 : 401))
        #expect(try rig.get("/healthz", fields: fields).status == 200)
        #expect(try rig.get("/readyz", fields: fields).status == 200)
    }

    @Test func anEmptyTokenOpensNothing() throws {
        let rig = try AdminRig(token: "")
        for fields in ["", "Authorization: Bearer \r\n", "Authorization: Bearer x\r\n"] {
            #expect(try rig.get("/metrics", fields: fields).status == 401)
        }
    }

    // MARK: Readiness

    struct Unready: Sendable {
        let reason: String
        let change: @Sendable (CounterRow<ProcessCell>) -> Void
    }

    static let unready: [Unready] = [
        Unready(reason: "not_running") { $0[.state].set(UInt64(ProcessState.starting.rawValue)) },
        Unready(reason: "not_running") { $0[.state].set(UInt64(ProcessState.heldBack.rawValue)) },
        Unready(reason: "not_running") { $0[.state].set(0) },
        Unready(reason: "not_running") { $0[.state].set(99) },
        Unready(reason: "no_heartbeat") { $0[.heartbeatMs].set(0) },
        Unready(reason: "stale_heartbeat") {
            $0[.heartbeatMs].set(Bench.now.milliseconds - AdminLimits.heartbeatMsMax)
        },
    ]

    @Test(arguments: unready)
    func aWorkerThatCannotBeCountedOnIsNamed(row: Unready) throws {
        let rig = try AdminRig()
        row.change(rig.bench.board.workerProcesses[1])
        let reply = try rig.get("/readyz")
        #expect(reply.status == 503)
        let json = try object(reply.body)
        #expect(json["ready"] as? Bool == false)
        let list = try #require(json["unready"] as? [[String: Any]])
        #expect(list.count == 1)
        #expect(list.first?["index"] as? Int == 1)
        #expect(list.first?["reason"] as? String == row.reason)
        #expect(try object(rig.get("/health").body)["status"] as? String == "degraded")
        #expect(try rig.get("/healthz").status == 200)
    }

    @Test func othersThanWorkersDoNotMakeItUnready() throws {
        let rig = try AdminRig()
        for process in rig.bench.board.shadowProcesses { process[.state].set(0) }
        rig.bench.board.workerProcesses[0][.heartbeatMs].set(
            Bench.now.milliseconds - AdminLimits.heartbeatMsMax + 1)
        // A beat that is younger than the turn is fresh.
        rig.bench.board.workerProcesses[1][.heartbeatMs].set(Bench.now.milliseconds + 3)
        #expect(try rig.get("/readyz").status == 200)
    }

    // MARK: Health and status

    private func object(_ text: String) throws -> [String: Any] {
        let value = try JSONSerialization.jsonObject(with: Data(text.utf8))
        return try #require(value as? [String: Any])
    }

    @Test func healthSaysWhatItServes() throws {
        let rig = try AdminRig()
        rig.bench.board.workers[0].counters[.requests].set(40)
        rig.bench.board.workers[1].counters[.requests].set(2)
        let health = try object(rig.get("/health").body)
        #expect(health["status"] as? String == "ok")
        #expect(health["uptime_seconds"] as? Int == 3_725)
        #expect(health["version"] as? String == "1.2.3")
        #expect(health["policies_loaded"] as? Int == 0)
        #expect(health["requests_processed"] as? Int == 42)
        let providers = try #require(health["providers"] as? [String: [String: String]])
        #expect(Set(providers.keys) == ["app", "next", "other"])
        #expect(providers["app"] == ["provider": "http", "base_url": "http://app:80/v1"])
    }

    /// Numbers of a gateway in the middle of its life.
    private func busyRig() throws -> AdminRig {
        let rig = try AdminRig(
            bench: Bench { settings in
                settings.shadows[1].targetID = "quo\"te"
            })
        let board = rig.bench.board
        let worker = board.workerProcesses[1]
        worker[.state].set(UInt64(ProcessState.heldBack.rawValue))
        worker[.restarts].set(7)
        worker[.lastStatus].set(9)
        worker[.servedBy].set(1)
        board.shadowProcesses[0][.restarts].set(1)
        board.shadowProcesses[0][.lastStatus].set(3 << 8)
        board.shadowProcesses[0][.startedMs].set(Bench.now.milliseconds - 65_000)
        let tally = board.mirror.tally(worker: 0, shadow: 0)
        tally.sent.set(90)
        tally.results(.ok).set(88)
        tally.results(.timeout).set(2)
        tally.dropped(.qpsCap).set(9)
        tally.dropped(.stale).set(1)
        tally.outstanding.set(5)
        board.mirror.lane(worker: 0, route: 0, shadow: 0)[.sampled].set(105)
        board.mirror.lane(worker: 0, route: 0, shadow: 0)[.eligible].set(105)
        board.mirror.gauges(process: 0, shadow: 0)[.inFlight].set(3)
        board.mirror.gauges(process: 1, shadow: 0)[.inFlight].set(1)
        board.mirror.gauges(process: 1, shadow: 0)[.breakerState].set(1)
        let verdict = board.upstreams.verdict(0)
        verdict[.state].set(UInt64(HealthState.unhealthy.rawValue))
        verdict[.sinceMs].set(Bench.now.milliseconds - 65_000)
        verdict[.lastResult].set(UInt64(CheckResult.status.rawValue))
        verdict[.lastStatus].set(503)
        verdict[.passed].set(7)
        verdict[.badStatus].set(3)
        verdict[.timeout].set(1)
        board.upstreams.addresses(0).write([
            SocketAddress("10.0.0.1:80")!, SocketAddress("[::1]:80")!,
        ])
        board.upstreams.endpoint(worker: 1, 0)[.requests].set(12)
        board.upstreams.endpoint(worker: 0, 0)[.open].set(4)
        board.upstreams.endpoint(worker: 1, 0)[.idle].set(2)
        board.upstreams.endpoint(worker: 1, 0)[.ejectedUntilMs].set(Bench.now.milliseconds + 1)
        board.mirror.control[.enabled].set(1)
        for _ in 0..<2_000 {
            board.workers[0].mirrored.record(4_000_000)
            board.workers[1].unmirrored.record(4_000_000)
        }
        return rig
    }

    @Test func statusAsJSON() throws {
        let status = try object(busyRig().get("/status").body)
        #expect(status["version"] as? String == "1.2.3")
        #expect(status["uptime_seconds"] as? Int == 3_725)
        #expect(status["listen"] as? [String] == ["127.0.0.1:26001"])
        let processes = try #require(status["processes"] as? [[String: Any]])
        #expect(
            processes.map { $0["role"] as? String }
                == [
                    "supervisor", "worker", "worker", "shadow", "shadow", "admin", "health",
                    "events",
                ])
        let held = processes[2]
        #expect(held["index"] as? Int == 1 && held["pid"] is NSNull)
        #expect(held["state"] as? String == "held_back" && held["restarts"] as? Int == 7)
        #expect(held["uptime_seconds"] is NSNull && held["last_exit"] as? String == "signal 9")
        #expect(held["served_by"] as? Int == 0)
        let shadow = processes[3]
        #expect(shadow["uptime_seconds"] as? Int == 65)
        #expect(shadow["last_exit"] as? String == "exit 3" && shadow["served_by"] == nil)
        #expect(processes[0]["last_exit"] is NSNull && processes[0]["pid"] as? Int == 100)
        let targets = try #require(status["targets"] as? [[String: Any]])
        #expect(targets.map { $0["id"] as? String } == ["app", "next", "other"])
        let endpoint = try #require((targets[0]["endpoints"] as? [[String: Any]])?.first)
        #expect(endpoint["endpoint"] as? String == "app:80")
        #expect(endpoint["health"] as? String == "unhealthy")
        #expect(endpoint["since_seconds"] as? Int == 65)
        #expect(endpoint["last_check"] as? String == "status")
        #expect(endpoint["last_status"] as? Int == 503)
        #expect(endpoint["checks_passed"] as? Int == 7 && endpoint["checks_failed"] as? Int == 4)
        #expect(endpoint["addresses"] as? [String] == ["10.0.0.1:80", "[::1]:80"])
        #expect(endpoint["requests"] as? Int == 12 && endpoint["ejected_by"] as? Int == 1)
        let other = try #require((targets[1]["endpoints"] as? [[String: Any]])?.first)
        #expect(other["health"] is NSNull && other["last_check"] is NSNull)
        let mirror = try #require(status["mirror"] as? [String: Any])
        #expect(mirror["enabled"] as? Bool == true)
        let shadows = try #require(mirror["shadows"] as? [[String: Any]])
        #expect(shadows.map { $0["id"] as? String } == ["next", "quo\"te"])
        #expect(shadows[0]["sampled"] as? Int == 105 && shadows[0]["sent"] as? Int == 90)
        #expect(shadows[0]["in_flight"] as? Int == 4 && shadows[0]["outstanding"] as? Int == 5)
        #expect(shadows[0]["breaker"] as? String == "open")
        #expect(shadows[1]["breaker"] as? String == "closed")
        let dropped = try #require(shadows[0]["dropped"] as? [String: Int])
        #expect(dropped.count == DropReason.allCases.count)
        #expect(dropped["qps_cap"] == 9 && dropped["stale"] == 1 && dropped["queue_full"] == 0)
        let results = try #require(shadows[0]["results"] as? [String: Int])
        #expect(results == ["ok": 88, "error": 0, "timeout": 2, "cancelled": 0])
        let meter = try #require(status["meter"] as? [String: Double])
        #expect(meter["ratio"] == 1)
        #expect(abs((meter["p99_mirrored_us"] ?? 0) - 4_000) < 70)
    }

    @Test func withoutSamplesTheMeterIsNull() throws {
        let status = try object(AdminRig().get("/status").body)
        let meter = try #require(status["meter"] as? [String: Any])
        #expect(meter.count == 3 && meter.values.allSatisfy { $0 is NSNull })
    }

    @Test func statusAsText() throws {
        let text = try busyRig().get("/status?format=text").body
        #expect(
            text == """
                umbra 1.2.3, up 1 h 02 m, listening on 127.0.0.1:26001

                ROLE        INDEX  PID  STATE                   RESTARTS    UPTIME  LAST EXIT
                supervisor      0  100  running                        0  1 h 02 m  -
                worker          0  102  running                        0  1 h 02 m  -
                worker          1    -  held_back, served by 0         7         -  signal 9
                shadow          0  104  running                        1  1 m 05 s  exit 3
                shadow          1  105  running                        0  1 h 02 m  -
                admin           0  101  running                        0  1 h 02 m  -
                health          0  106  running                        0  1 h 02 m  -
                events          0  107  running                        0  1 h 02 m  -

                TARGET  ENDPOINT  HEALTH        SINCE  LAST CHECK  EJECTED BY  REQUESTS  OPEN  IDLE  ADDRESSES
                app     app:80    unhealthy  1 m 05 s  status 503           1        12     4     2  10.0.0.1:80, [::1]:80
                next    next:80   -                 -  -                    0         0     0     0  -
                other   other:80  -                 -  -                    0         0     0     0  -

                mirroring is on

                SHADOW  SAMPLED  SENT  OK  DROPPED  IN FLIGHT  BREAKER  DROPS
                next        105    90  88       10          4  open     qps_cap 9, stale 1
                quo"te        0     0   0        0          0  closed   -

                P99 mirrored 4.030 ms, unmirrored 4.030 ms, ratio 1.000

                """)
    }

    @Test(arguments: [
        (0, "0 s"), (59_999, "59 s"), (60_000, "1 m 00 s"), (3_599_000, "59 m 59 s"),
        (3_600_000, "1 h 00 m"), (86_399_000, "23 h 59 m"), (86_400_000, "1 d 00 h"),
        (1_000_000_000, "11 d 13 h"),
    ])
    func spansOfTime(ms: UInt64, text: String) { #expect(StatusReport.span(ms) == text) }
}
