import CLinux
import CoreLoop
import Foundation
import Mirror
import Proxy
import Synchronization
import Testing

@testable import Admin

@Suite struct PrometheusTests {
    @Test func anEmptyBoardIsWholeAndStrict() throws {
        let metrics = try Bench().metrics()
        #expect(metrics.sum("umbra_requests_total") == 0)
        #expect(metrics.select("umbra_requests_total").count == 2 * 5)
        #expect(metrics.select("umbra_mirror_dropped_total").count == 2 * DropReason.allCases.count)
        #expect(metrics.select("umbra_mirror_results_total").count == 2 * 4)
        #expect(metrics.value("umbra_mirror_enabled") == "0")
        #expect(metrics.family("umbra_mirror_p99_ratio") == nil)
        #expect(metrics.value("umbra_build_info", ["version": "1.2.3"]) == "1")
        #expect(metrics.value("umbra_uptime_seconds") == "3725.5")
    }

    /// Those of TLS are sums over the workers, by side.
    @Test func handshakesAreSummed() throws {
        let bench = try Bench()
        for worker in 0..<2 {
            for counter in WorkerCounter.allCases {
                bench.board.workers[worker].counters[counter].set(
                    UInt64(1_000 * (worker + 1) + counter.rawValue))
            }
        }
        let metrics = try bench.metrics()
        func sum(_ counter: WorkerCounter) -> Int { 3_000 + 2 * counter.rawValue }
        let ends: [(String, String, WorkerCounter)] = [
            ("client", "ok", .tlsClientDone), ("client", "failed", .tlsClientFailed),
            ("client", "timeout", .tlsClientTimeout), ("client", "plain_http", .tlsClientPlain),
            ("upstream", "ok", .tlsUpstreamDone), ("upstream", "failed", .tlsUpstreamFailed),
            ("upstream", "timeout", .tlsUpstreamTimeout),
        ]
        for (side, result, counter) in ends {
            let labels = ["side": side, "result": result]
            #expect(metrics.value("umbra_tls_handshakes_total", labels) == "\(sum(counter))")
        }
        for (side, counter) in [
            ("client", WorkerCounter.tlsClientResumed), ("upstream", .tlsUpstreamResumed),
        ] {
            #expect(
                metrics.value("umbra_tls_resumed_total", ["side": side]) == "\(sum(counter))")
        }
    }

    @Test func everyWorkerCounterIsRenderedUnderItsName() throws {
        let bench = try Bench()
        // A number of its own for each cell, so that no two can be mixed up.
        func number(_ worker: Int, _ counter: WorkerCounter) -> UInt64 {
            UInt64(1_000 * (worker + 1) + counter.rawValue)
        }
        for worker in 0..<2 {
            for counter in WorkerCounter.allCases {
                bench.board.workers[worker].counters[counter].set(number(worker, counter))
            }
        }
        let metrics = try bench.metrics()
        let names: [WorkerCounter: (String, [String: String])] = [
            .answers1xx: ("requests_total", ["code": "1xx"]),
            .answers2xx: ("requests_total", ["code": "2xx"]),
            .answers3xx: ("requests_total", ["code": "3xx"]),
            .answers4xx: ("requests_total", ["code": "4xx"]),
            .answers5xx: ("requests_total", ["code": "5xx"]),
            .interimAnswers: ("interim_answers_total", [:]),
            .unanswered: ("requests_unanswered_total", [:]),
            .gatewayAnswers: ("gateway_answers_total", [:]),
            .refusals: ("requests_refused_total", [:]),
            .unauthorized: ("unauthorized_total", [:]),
            .policyRedacted: ("policy_requests_total", ["verdict": "redact"]),
            .policyFlagged: ("policy_requests_total", ["verdict": "escalate"]),
            .policyBlocked: ("policy_requests_total", ["verdict": "block"]),
            .connectionsAccepted: ("connections_accepted_total", [:]),
            .connectionsRefused: ("connections_refused_total", [:]),
            .connectionsOpen: ("connections_open", [:]),
            .acceptsPaused: ("accepts_paused_total", [:]),
            .upstreamConnects: ("upstream_connects_total", [:]),
            .upstreamConnectFailures: ("upstream_connect_failures_total", [:]),
            .upstreamReused: ("upstream_reused_total", [:]),
            .upstreamRetries: ("upstream_retries_total", [:]),
            .upstreamOpen: ("upstream_connections_open", [:]),
            .upstreamIdle: ("upstream_connections_idle", [:]),
            .upstreamFaults: ("upstream_faults_total", [:]),
            .upstreamRaces: ("upstream_races_total", [:]),
            .timeoutsHead: ("timeouts_total", ["kind": "head"]),
            .timeoutsBody: ("timeouts_total", ["kind": "body"]),
            .timeoutsWrite: ("timeouts_total", ["kind": "write"]),
            .timeoutsIdle: ("timeouts_total", ["kind": "idle"]),
            .timeoutsConnect: ("timeouts_total", ["kind": "connect"]),
            .timeoutsAnswer: ("timeouts_total", ["kind": "answer"]),
            .tunnelsOpened: ("tunnels_opened_total", [:]),
            .tunnelsOpen: ("tunnels_open", [:]),
            .bytesIn: ("client_bytes_received_total", [:]),
            .bytesOut: ("client_bytes_sent_total", [:]),
            .blocksTaken: ("blocks_taken", [:]),
            .blocksTakenHigh: ("blocks_taken_high", [:]),
            .blocksExhausted: ("blocks_exhausted_total", [:]),
            .turns: ("loop_turns_total", [:]),
            .events: ("loop_events_total", [:]),
            .logRecords: ("log_records_total", [:]),
            .logDropped: ("log_dropped_total", ["reason": "queue_full"]),
            .logUnwritten: ("log_dropped_total", ["reason": "write_failed"]),
        ]
        for worker in 0..<2 {
            for counter in WorkerCounter.allCases
            where counter != .requests && !"\(counter)".hasPrefix("tls") {
                let (name, labels) = try #require(names[counter], "\(counter) has no name")
                let all = labels.merging(["worker": "\(worker)"]) { $1 }
                #expect(
                    metrics.value("umbra_" + name, all) == "\(number(worker, counter))",
                    "\(counter)")
            }
        }
    }

    @Test func everyRouteAndShadowWithALaneIsThereAndNoOther() throws {
        let bench = try Bench()
        var expected = 0.0
        for worker in 0..<2 {
            for route in 0..<3 {
                for shadow in 0..<2 {
                    let lane = bench.board.mirror.lane(worker: worker, route: route, shadow: shadow)
                    let base = UInt64(1 + worker + 2 * route + 6 * shadow)
                    lane[.sampled].set(base)
                    lane[.notSampled].set(10 * base)
                    lane[.eligible].set(11 * base)
                }
            }
        }
        let metrics = try bench.metrics()
        for (route, shadows) in [("search", [0, 1]), ("static", [1]), ("default", [])] {
            for (shadow, name) in ["next", "other"].enumerated() {
                for worker in 0..<2 {
                    let labels = ["worker": "\(worker)", "route": route, "shadow": name]
                    let index = ["search", "static", "default"].firstIndex(of: route)!
                    let base = 1 + worker + 2 * index + 6 * shadow
                    let isThere = shadows.contains(shadow)
                    expected += isThere ? Double(base) : 0
                    for (family, factor) in [("sampled", 1), ("not_sampled", 10), ("eligible", 11)]
                    {
                        #expect(
                            metrics.value("umbra_mirror_\(family)_total", labels)
                                == (isThere ? "\(factor * base)" : nil))
                    }
                }
            }
        }
        #expect(metrics.sum("umbra_mirror_sampled_total") == expected)
    }

    @Test func copiesAreSummedOverWorkersByReasonAndResult() throws {
        let bench = try Bench()
        for worker in 0..<2 {
            for shadow in 0..<2 {
                let tally = bench.board.mirror.tally(worker: worker, shadow: shadow)
                let base = UInt64(100 * (worker + 1) * (shadow + 1))
                for reason in DropReason.allCases {
                    tally.dropped(reason).set(base + UInt64(reason.rawValue))
                }
                for result in CopyResult.allCases {
                    tally.results(result).set(base + UInt64(result.rawValue))
                }
                tally.sent.set(4 * base + 6)
                tally.outstanding.set(base)
            }
        }
        let metrics = try bench.metrics()
        for (shadow, name) in ["next", "other"].enumerated() {
            let base = 300 * (shadow + 1)
            for reason in DropReason.allCases {
                let labels = ["shadow": name, "reason": reason.label]
                #expect(
                    metrics.value("umbra_mirror_dropped_total", labels)
                        == "\(base + 2 * reason.rawValue)")
            }
            for result in CopyResult.allCases {
                let labels = ["shadow": name, "result": result.label]
                #expect(
                    metrics.value("umbra_mirror_results_total", labels)
                        == "\(base + 2 * result.rawValue)")
            }
            #expect(
                metrics.value("umbra_mirror_sent_total", ["shadow": name]) == "\(4 * base + 12)")
            #expect(metrics.value("umbra_mirror_outstanding", ["shadow": name]) == "\(base)")
        }
    }

    @Test func tapsAndShadowsAreRendered() throws {
        let bench = try Bench()
        for worker in 0..<2 {
            for gauge in TapGauge.allCases {
                bench.board.mirror.tap(worker: worker)[gauge].set(
                    UInt64(10 * worker + gauge.rawValue))
            }
        }
        for process in 0..<2 {
            for gauge in ShadowGauge.allCases {
                bench.board.mirror.gauges(process: process, shadow: 1)[gauge].set(
                    UInt64(50 * process + gauge.rawValue))
            }
        }
        let row = bench.board.mirror.gauges(process: 1, shadow: 1)
        row[.breakerState].set(2)
        row[.coolDownUntil].set(Bench.now.nanoseconds + 2_250_000_000)
        bench.board.mirror.control[.enabled].set(1)
        let metrics = try bench.metrics()
        let taps: [(String, TapGauge)] = [
            ("blocks_on_loan", .blocksOnLoan), ("blocks_on_loan_high", .blocksOnLoanHigh),
            ("ring_depth_high", .ringDepthHigh), ("copies_out", .ticketsUsed),
            ("bytes_copied_total", .bytesCopied), ("wakes_total", .wakes),
        ]
        for (name, gauge) in taps {
            #expect(
                metrics.value("umbra_mirror_\(name)", ["worker": "1"]) == "\(10 + gauge.rawValue)")
        }
        let sums: [(String, ShadowGauge)] = [
            ("in_flight", .inFlight), ("connections_open", .connectionsOpen),
            ("connections_idle", .connectionsIdle), ("connects_total", .connects),
            ("connect_failures_total", .connectFailures), ("breaker_opened_total", .breakerOpened),
            ("answer_bytes_total", .answerBytes),
        ]
        for (name, gauge) in sums {
            #expect(
                metrics.value("umbra_mirror_\(name)", ["shadow": "other"])
                    == "\(50 + 2 * gauge.rawValue)")
        }
        let second = ["shadow": "other", "process": "1"]
        #expect(metrics.value("umbra_mirror_breaker_state", second) == "2")
        #expect(metrics.value("umbra_mirror_cool_down_seconds", second) == "2.25")
        #expect(metrics.value("umbra_mirror_in_flight_high", second) == "51")
        let first = ["shadow": "next", "process": "0"]
        #expect(metrics.value("umbra_mirror_cool_down_seconds", first) == "0")
        #expect(metrics.value("umbra_mirror_enabled") == "1")
    }

    @Test func histogramsAreSummedAndCumulative() throws {
        let bench = try Bench()
        bench.board.workers[0].mirrored.record(90_000)
        bench.board.workers[1].mirrored.record(700_000)
        bench.board.workers[1].mirrored.record(70_000_000_000)
        bench.board.workers[1].turnTime.record(4_000)
        bench.board.mirror.latency(process: 0, shadow: 0).record(2_000_000)
        bench.board.mirror.latency(process: 1, shadow: 0).record(2_000_000)
        let metrics = try bench.metrics()
        let name = "umbra_request_duration_seconds"
        let expected = [
            ("0.0001", "1"), ("0.0005", "1"), ("0.00075", "2"), ("60", "2"), ("+Inf", "3"),
        ]
        for (bound, count) in expected {
            #expect(metrics.value(name + "_bucket", ["mirrored": "yes", "le": bound]) == count)
        }
        #expect(metrics.value(name + "_sum", ["mirrored": "yes"]) == "70.00079")
        #expect(metrics.value(name + "_count", ["mirrored": "yes"]) == "3")
        #expect(metrics.value(name + "_count", ["mirrored": "no"]) == "0")
        #expect(metrics.value("umbra_loop_turn_seconds_sum", ["worker": "1"]) == "0.000004")
        #expect(metrics.value("umbra_shadow_duration_seconds_count", ["shadow": "next"]) == "2")
        #expect(metrics.value("umbra_shadow_duration_seconds_sum", ["shadow": "next"]) == "0.004")
    }

    @Test(arguments: [(999, 1_000, false), (1_000, 999, false), (1_000, 1_000, true)])
    func theRatioNeedsSamplesOnBothSides(mirrored: Int, unmirrored: Int, isTold: Bool) throws {
        let bench = try Bench()
        for _ in 0..<mirrored { bench.board.workers[0].mirrored.record(2_100_000) }
        for _ in 0..<unmirrored { bench.board.workers[1].unmirrored.record(2_000_000) }
        let metrics = try bench.metrics()
        let ratio = metrics.value("umbra_mirror_p99_ratio").flatMap { Double($0) }
        #expect((ratio != nil) == isTold)
        if let ratio { #expect(abs(ratio - 1.05) < 0.03) }
        #expect(
            (metrics.value("umbra_mirror_p99_seconds", ["mirrored": "yes"]) != nil)
                == (mirrored >= 1_000))
    }

    @Test func processesAreToldWithTheirMemory() throws {
        let bench = try Bench()
        bench.runAll()
        let row = bench.board.workerProcesses[1]
        row[.pid].set(UInt64(getpid()))
        row[.restarts].set(3)
        row[.startedMs].set(Bench.now.milliseconds - 1_500)
        row[.heartbeatMs].set(Bench.now.milliseconds - 250)
        bench.board.shadowProcesses[0][.state].set(UInt64(ProcessState.heldBack.rawValue))
        let metrics = try bench.metrics()
        let labels = ["role": "worker", "index": "1"]
        #expect(metrics.value("umbra_process_up", labels) == "1")
        #expect(metrics.value("umbra_process_restarts_total", labels) == "3")
        #expect(metrics.value("umbra_process_uptime_seconds", labels) == "1")
        #expect(metrics.value("umbra_process_heartbeat_age_seconds", labels) == "0.25")
        let memory = metrics.select("umbra_process_resident_memory_bytes", labels)
        let bytes = memory.first?.number ?? 0
        #expect(bytes > 1_000_000 && bytes < 4_000_000_000)
        #expect(metrics.value("umbra_process_up", ["role": "shadow", "index": "0"]) == "0")
        #expect(metrics.select("umbra_process_up").count == 8)
    }

    @Test func namesFromTheConfigurationAreEscapedAndToldApart() throws {
        let hostile = "a\"b\\c\nd} 1"
        let bench = try Bench { settings in
            settings.routes[0].name = hostile
            settings.routes[1].name = hostile
            settings.shadows[1].targetID = "é\"\n"
        }
        let metrics = try bench.metrics(version: "\"")
        #expect(metrics.select("umbra_mirror_eligible_total", ["route": hostile]).count == 4)
        #expect(metrics.select("umbra_mirror_eligible_total", ["route": hostile + "#2"]).count == 2)
        #expect(metrics.select("umbra_mirror_sent_total", ["shadow": "é\"\n"]).count == 1)
        #expect(metrics.value("umbra_build_info", ["version": "\""]) == "1")
    }

    @Test func withoutShadowsThereIsNoMirrorFamilyButTheSwitch() throws {
        let metrics = try Bench { settings in
            settings.shadows = []
            for route in settings.routes.indices { settings.routes[route].lanes = [] }
        }.metrics()
        let names = metrics.families.map(\.name).filter { $0.hasPrefix("umbra_mirror") }
        #expect(names == ["umbra_mirror_enabled"])
    }

    @Test(arguments: [
        (0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (60_000_000_000, "60"),
        (UInt64.max, "18446744073.709551615"),
    ])
    func secondsAreExact(nanoseconds: UInt64, text: String) {
        #expect(MetricText.seconds(nanoseconds) == text)
    }

    /// Counters that never agree are shown as they are: a fault of theirs must not hide.
    @Test func countersThatDisagreeAreShownAsTheyAre() throws {
        let bench = try Bench()
        let lane = bench.board.mirror.lane(worker: 0, route: 0, shadow: 0)
        lane[.eligible].set(9)
        lane[.sampled].set(3)
        lane[.notSampled].set(5)
        let tally = bench.board.mirror.tally(worker: 0, shadow: 0)
        tally.sent.set(4)
        tally.results(.ok).set(3)
        let metrics = try bench.metrics()
        #expect(metrics.sum("umbra_mirror_eligible_total") == 9)
        #expect(metrics.sum("umbra_mirror_sampled_total") == 3)
        #expect(metrics.sum("umbra_mirror_not_sampled_total") == 5)
        #expect(metrics.sum("umbra_mirror_sent_total") == 4)
        #expect(metrics.sum("umbra_mirror_results_total") == 3)
    }

    /// While a worker counts, no part is larger than its whole: what is counted last is read first.
    @Test func aScrapeBesideAWorkerThatCountsIsNeverAheadOfItself() throws {
        let bench = try Bench()
        let isOver = Atomic(false)
        let lane = bench.board.mirror.lane(worker: 1, route: 0, shadow: 0)
        let tally = bench.board.mirror.tally(worker: 1, shadow: 0)
        withUnsafePointer(to: isOver) { flag in
            nonisolated(unsafe) let flag = flag
            let writer = Thread {
                while !flag.pointee.load(ordering: .relaxed) {
                    lane.add(.eligible)
                    lane.add(.sampled)
                    tally.sent.add()
                    tally.results(.ok).add()
                }
                flag.pointee.store(false, ordering: .releasing)
            }
            writer.start()
            for _ in 0..<500 {
                let reading = MirrorReading(bench.board, bench.settings)
                for part in reading.lanes { #expect(part.eligible >= part.sampled) }
                for part in reading.shadows { #expect(part.sent >= part.results.reduce(0, +)) }
            }
            flag.pointee.store(true, ordering: .relaxed)
            while flag.pointee.load(ordering: .acquiring) { usleep(100) }
        }
        let metrics = try bench.metrics()
        #expect(metrics.sum("umbra_mirror_sent_total") > 0)
        #expect(
            metrics.sum("umbra_mirror_sent_total") == metrics.sum("umbra_mirror_sampled_total"))
    }
}
