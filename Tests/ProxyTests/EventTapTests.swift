import CLinux
import CoreLoop
import EventLog
import Foundation
import HTTP
import Testing
import Upstream
import Verdict

@testable import Mirror
@testable import Proxy

@Suite struct EventTapTests {
    /// A log that makes events, with or without lines.
    private final class Rig {
        let log: AccessLog
        let fd: Int32?
        let wake: Wake
        private let counters: SharedMemory
        private let memory: SharedMemory
        private let ring: RecordRing

        init(
            ringBytes: Int = 1 << 16, withLines: Bool = false, logsAll: Bool = false,
            asksKeys: Bool = false
        ) throws {
            counters = try .plain(byteCount: 4_096)
            var plan = MemoryPlan(base: counters.base)
            let row = try #require(CounterRow<WorkerCounter>(plan: &plan))
            memory = try .plain(byteCount: RecordRing.byteCount(of: ringBytes))
            plan = MemoryPlan(base: memory.base)
            ring = try #require(RecordRing(plan: &plan, byteCount: ringBytes))
            wake = try Wake.create()
            var settings = GatewaySettings()
            settings.eventLog = EventLogSettings()
            settings.eventLog?.logsAllAccess = logsAll
            if asksKeys { settings.auth = AuthSettings() }
            settings.targets = ["app", "next"].map {
                TargetSettings(id: $0, authority: $0, host: $0, port: 80, pathPrefix: "")
            }
            settings.shadows = [ShadowSettings(targetID: "next", target: 1)]
            settings.routes = [RouteSettings(name: "api", target: 0)]
            fd = withLines ? memfd_create("log", UMBRA_MFD_CLOEXEC) : nil
            log = try AccessLog(
                fd: fd, routes: ["api"], targets: ["app"], shadows: ["next"], counters: row,
                events: EventTap(
                    ring, wake: wake,
                    names: EventTap.Names(settings: settings, configVersion: "c0ffee")))
        }

        deinit {
            close(wake.fd)
            if let fd { close(fd) }
        }

        var dropped: UInt64 { ring.droppedCount }

        func request(
            id: String = "id-1", status: Int = 200, isWhole: Bool = true, ofProvider: Bool = false,
            _ outcomes: [CopyReturn]
        ) throws {
            let request = try ParsedRequest(
                "GET /a HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: \(id)\r\n\r\n")
            let record = request.source.withUnsafeBytes {
                log.begin(request.head, $0.baseAddress!, route: 0, AddressText("10.1.2.3"))
            }
            if ofProvider {
                log.beginPair(record)
                log.copyDropped(record, shadow: 0, .bodyTooLarge)
            }
            log.awaitShadows(record, outcomes.count)
            for outcome in outcomes {
                log.shadowDone(
                    MirrorTap.Return(shadow: 0, log: record, outcome: outcome))
            }
            log.finish(
                record, status: status, latencyNs: 1_500_000, requestBytes: 5, answerBytes: 77,
                isWhole: isWhole)
        }

        /// All skeletons, once the thread has ended.
        func skeletons() throws -> [Skeleton] {
            log.stop()
            var consumer = RecordConsumer(ring)
            var found: [Skeleton] = []
            while case .record(let bytes) = consumer.peek() {
                found.append(try #require(Skeleton(bytes)))
                consumer.consume(bytes.count)
            }
            return found
        }

        /// All events, once the thread has ended.
        func events() throws -> [[String: Any]] {
            log.stop()
            var consumer = RecordConsumer(ring)
            var found: [[String: Any]] = []
            while case .record(let bytes) = consumer.peek() {
                let value = try JSONSerialization.jsonObject(with: Data(bytes))
                found.append(try #require(value as? [String: Any]))
                consumer.consume(bytes.count)
            }
            return found
        }
    }

    @Test func aCopyIsAnEvent() throws {
        let rig = try Rig()
        try rig.request([.sent(1, .ok, status: 200, latencyUs: 2_250, shadowID: (1, 2))])
        let events = try rig.events()
        #expect(events.count == 1)
        let event = events[0]
        #expect((event["id"] as? String)?.wholeMatch(of: #/evt_[0-9a-f]{12}7[0-9a-f]{19}/#) != nil)
        #expect(event["event_type"] as? String == "decision")
        #expect(event["verdict"] as? String == "allow")
        #expect(event["reason_code"] as? String == "ok")
        #expect(event["request_id"] as? String == "id-1")
        #expect(event["route"] as? String == "api")
        #expect(event["provider"] as? String == "app")
        #expect(event["config_version"] as? String == "c0ffee")
        #expect(event["http_status"] as? Int == 200)
        #expect(event["latency_ms"] as? Double == 1.5)
        #expect(event["bytes"] as? [String: Int] == ["request": 5, "answer": 77])
        #expect(event["shadow_id"] as? String == "00000000-0000-0001-0000-000000000002")
        let pair = try #require(event["traffic_mirror"] as? [String: [String: Any]])
        #expect(pair["primary"]?["status"] as? String == "success")
        #expect(pair["shadow"]?["provider"] as? String == "next")
        #expect(pair["shadow"]?["latency_ms"] as? Double == 2.25)
        #expect(pair["comparison"]?["latency_diff_ms"] as? Double == 0.75)
        // Nothing of the request itself.
        for secret in ["/a", "h.test", "10.1.2.3"] {
            #expect(!"\(event)".contains(secret))
        }
    }

    @Test(arguments: [
        (CopyResult.ok, 204, "success"), (.ok, 404, "error_4xx"), (.ok, 429, "rate_limited"),
        (.error, 503, "error_5xx"), (.error, 0, "reset"), (.timeout, 0, "timeout"),
        (.error, 200, "reset"), (.timeout, 200, "timeout"),
        (.cancelled, 200, "cancelled"),
    ])
    func theShadowsEndIsNamed(result: CopyResult, status: Int, word: String) throws {
        let rig = try Rig()
        try rig.request([.sent(1, result, status: status, latencyUs: 9, shadowID: (1, 2))])
        let pair = try rig.events()[0]["traffic_mirror"] as? [String: [String: Any]]
        #expect(pair?["shadow"]?["status"] as? String == word)
    }

    @Test(arguments: DropReason.allCases)
    func aCopyThatWasNotSentSaysWhy(reason: DropReason) throws {
        let rig = try Rig()
        try rig.request([.dropped(1, reason)])
        let event = try rig.events()[0]
        #expect(event["drop_reason"] as? String == reason.label)
        #expect(event["shadow"] as? [String: String] == ["provider": "next"])
        #expect(event["traffic_mirror"] == nil && event["shadow_id"] == nil)
    }

    @Test func requestsWithoutACopyHaveNone() throws {
        let rig = try Rig(withLines: true)
        try rig.request([])
        try rig.request(
            id: "id-2", status: 502, isWhole: true, [.dropped(1, .qpsCap), .dropped(2, .stale)])
        try rig.request(id: "id-3", isWhole: false, [.dropped(1, .qpsCap)])
        let events = try rig.events()
        #expect(events.map { $0["request_id"] as? String } == ["id-2", "id-2", "id-3"])
        #expect(
            events.map { $0["reason_code"] as? String } == [
                "upstream_error", "upstream_error", "upstream_error",
            ])
        // The lines are all there.
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = pread(try #require(rig.fd), &bytes, bytes.count, 0)
        #expect(bytes[..<max(0, count)].count { $0 == 0x0A } == 3)
    }

    /// Mirrored or not, and with the copies that were dropped before they were lent.
    @Test func requestsToProvidersAreSkeletons() throws {
        let rig = try Rig()
        try rig.request(ofProvider: true, [])
        try rig.request(
            id: "id-2", status: 503, ofProvider: true,
            [.sent(1, .timeout, status: 0, latencyUs: 9, shadowID: (1, 2))])
        let bones = try rig.skeletons()
        #expect(bones.map(\.requestID) == ["id-1", "id-2"])
        #expect(bones[0].pair != bones[1].pair)
        #expect(bones[0].provider == "app" && bones[0].route == "api")
        #expect(bones[0].method == "GET" && bones[0].target == "/a")
        #expect(bones[0].latencyUs == 1_500 && bones[0].answerBytes == 77)
        #expect(bones.map(\.reasonCode) == ["ok", "upstream_error"])
        #expect(bones[0].copies.map(\.dropReason) == ["body_too_large"])
        #expect(bones[1].copies.map(\.dropReason) == ["body_too_large", nil])
        #expect(bones[1].copies[1].status == .timeout && bones[1].copies[1].latencyUs == 9)
        #expect(bones[1].copies[1].shadowID == "00000000-0000-0001-0000-000000000002")
    }

    @Test func everyRequestHasOneWhereAllAreAskedFor() throws {
        let rig = try Rig(logsAll: true)
        try rig.request([])
        try rig.request(id: "id-2", [.dropped(1, .qpsCap)])
        let events = try rig.events()
        #expect(events.map { $0["request_id"] as? String } == ["id-1", "id-2"])
        #expect(events[0]["http_status"] as? Int == 200 && events[0]["shadow"] == nil)
    }

    /// Who brought no key was refused here, whatever the status would mean of a target's.
    @Test func withoutAKey() throws {
        for asksKeys in [true, false] {
            let rig = try Rig(logsAll: true, asksKeys: asksKeys)
            try rig.request(status: 401, [])
            let event = try #require(try rig.events().first)
            #expect(event["verdict"] as? String == (asksKeys ? "block" : "allow"))
            #expect(event["reason_code"] as? String == (asksKeys ? "unauthorized" : "ok"))
            let models = try Rig(asksKeys: asksKeys)
            try models.request(status: 401, ofProvider: true, [])
            let bones = try #require(try models.skeletons().first)
            #expect(bones.verdict == (asksKeys ? .block : .allow))
        }
    }

    @Test func aFullRingDropsAndCounts() throws {
        let rig = try Rig(ringBytes: 4_096)
        for _ in 0..<50 { try rig.request([.dropped(1, .qpsCap)]) }
        let kept = try rig.events().count
        #expect(kept > 3 && kept < 15)
        #expect(rig.dropped == UInt64(50 - kept))
    }
}
