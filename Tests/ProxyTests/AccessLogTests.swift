import CLinux
import CoreLoop
import Foundation
import HTTP
import Synchronization
import Testing

@testable import Mirror
@testable import Proxy

@Suite struct AccessLogTests {
    /// A log into a memfd, and its counters.
    private final class Rig {
        let fd: Int32
        let log: AccessLog
        let counters: CounterRow<WorkerCounter>
        private let memory: SharedMemory

        init(fd: Int32 = memfd_create("log", UMBRA_MFD_CLOEXEC)) throws {
            self.fd = fd
            memory = try .plain(byteCount: 4_096)
            var plan = MemoryPlan(base: memory.base)
            counters = try #require(CounterRow<WorkerCounter>(plan: &plan))
            log = try AccessLog(
                fd: fd, routes: ["api \"1\""], targets: ["app"], shadows: ["next", "other"],
                counters: counters)
        }

        deinit { close(fd) }

        func begin(_ request: ParsedRequest) -> UInt32 {
            request.source.withUnsafeBytes {
                log.begin(request.head, $0.baseAddress!, route: 0, AddressText("10.1.2.3"))
            }
        }

        func finish(_ id: UInt32, status: Int = 200) {
            log.finish(
                id, status: status, latencyNs: 1_234_567, requestBytes: 5, answerBytes: 77,
                isWhole: true)
        }

        /// All lines, once the thread has ended.
        func lines() throws -> [[String: Any]] {
            log.stop()
            var bytes = [UInt8](repeating: 0, count: 1 << 22)
            let count = bytes.withUnsafeMutableBytes { pread(fd, $0.baseAddress, $0.count, 0) }
            return try bytes[..<max(0, count)].split(separator: 0x0A).map {
                try #require(
                    JSONSerialization.jsonObject(with: Data($0)) as? [String: Any])
            }
        }
    }

    private static let get = "GET /a?b HTTP/1.1\r\nHost: h.test\r\nX-Request-Id: id-1\r\n\r\n"

    @Test func oneLineForARequest() throws {
        let rig = try Rig()
        rig.finish(rig.begin(try ParsedRequest(Self.get)))
        let lines = try rig.lines()
        #expect(lines.count == 1)
        let line = lines[0]
        #expect(line["method"] as? String == "GET")
        #expect(line["host"] as? String == "h.test")
        #expect(line["path"] as? String == "/a?b")
        #expect(line["client"] as? String == "10.1.2.3")
        #expect(line["request_id"] as? String == "id-1")
        #expect(line["route"] as? String == "api \"1\"")
        #expect(line["target"] as? String == "app")
        #expect(line["status"] as? Int == 200)
        #expect(line["latency_us"] as? Int == 1_234)
        #expect(line["request_bytes"] as? Int == 5)
        #expect(line["answer_bytes"] as? Int == 77)
        #expect(line["complete"] as? Bool == true)
        #expect(line["shadows"] == nil)
        let time = try #require(line["time"] as? String)
        #expect(time.wholeMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/#) != nil)
    }

    /// Every byte that a field's value may have, and the longest names.
    @Test func hostileBytesAreEscaped() throws {
        let rig = try Rig()
        var value = [UInt8]()
        for byte in UInt8.min...UInt8.max where byte == 9 || (byte >= 0x20 && byte != 0x7F) {
            value.append(byte)
        }
        let long = String(repeating: "x", count: 5_000)
        let head =
            Array("GET /\"\\?\(long) HTTP/1.1\r\nHost: h\r\nX-Request-Id: a".utf8)
            + value + Array("a\r\n\r\n".utf8)
        let parsed = RequestHead(limits: HeadLimits())
        let outcome = head.withUnsafeBytes { parsed.parse($0) }
        // Where the parser refuses a quote in the target, one without it does as well.
        let source: [UInt8]
        if case .complete = outcome {
            source = head
        } else {
            source =
                Array("GET /?\(long) HTTP/1.1\r\nHost: h\r\nX-Request-Id: a".utf8) + value
                + Array("a\r\n\r\n".utf8)
            let again = source.withUnsafeBytes { parsed.parse($0) }
            #expect(again == .complete(headBytes: source.count))
        }
        let id = source.withUnsafeBytes {
            rig.log.begin(parsed, $0.baseAddress!, route: 0, AddressText("::1"))
        }
        rig.finish(id)
        let line = try #require(try rig.lines().first)
        let logged = try #require(line["request_id"] as? String)
        let expected = ([0x61] + value).prefix(128)
        #expect(logged.unicodeScalars.map { UInt8($0.value) } == Array(expected))
        #expect((line["path"] as? String)?.utf8.count == 1_024)
    }

    @Test func theLineWaitsForItsShadows() throws {
        let rig = try Rig()
        let request = try ParsedRequest(Self.get)
        let first = rig.begin(request)
        rig.log.awaitShadows(first, 2)
        rig.finish(first, status: 201)
        rig.finish(rig.begin(request), status: 202)
        rig.log.shadowDone(
            MirrorTap.Return(shadow: 1, log: first, outcome: .dropped(3, .qpsCap)))
        #expect(rig.counters.value(.logRecords) == 1)
        rig.log.shadowDone(
            MirrorTap.Return(
                shadow: 0, log: first,
                outcome: .sent(
                    4, .error, status: 500, latencyUs: 99,
                    shadowID: (0x0192_0000_0000_7abc, 0x8123_4567_89ab_cdef))))
        let lines = try rig.lines()
        #expect(lines.map { $0["status"] as? Int } == [202, 201])
        let shadows = try #require(lines[1]["shadows"] as? [[String: Any]])
        #expect(shadows[0]["shadow"] as? String == "other")
        #expect(shadows[0]["outcome"] as? String == "dropped")
        #expect(shadows[0]["reason"] as? String == "qps_cap")
        #expect(shadows[1]["shadow"] as? String == "next")
        #expect(shadows[1]["outcome"] as? String == "error")
        #expect(shadows[1]["status"] as? Int == 500)
        #expect(shadows[1]["latency_us"] as? Int == 99)
        #expect(shadows[1]["shadow_id"] as? String == "01920000-0000-7abc-8123-456789abcdef")
    }

    /// Returns that come before the answer's end wait for it.
    @Test func aShadowMayBeFaster() throws {
        let rig = try Rig()
        let id = rig.begin(try ParsedRequest(Self.get))
        rig.log.awaitShadows(id, 1)
        rig.log.shadowDone(MirrorTap.Return(shadow: 0, log: id, outcome: .dropped(0, .stale)))
        #expect(rig.counters.value(.logRecords) == 0)
        rig.finish(id)
        #expect(try rig.lines().count == 1)
    }

    @Test(arguments: DropReason.allCases)
    func everyReasonHasItsLabel(_ reason: DropReason) throws {
        let rig = try Rig()
        let id = rig.begin(try ParsedRequest(Self.get))
        rig.log.awaitShadows(id, 1)
        rig.log.shadowDone(MirrorTap.Return(shadow: 0, log: id, outcome: .dropped(0, reason)))
        rig.finish(id)
        let shadows = try rig.lines().first?["shadows"] as? [[String: Any]]
        #expect(shadows?.first?["reason"] as? String == reason.label)
    }

    @Test func recordsAreBounded() throws {
        let rig = try Rig()
        let request = try ParsedRequest(Self.get)
        var ids: [UInt32] = []
        for _ in 0..<AccessLog.recordsMax { ids.append(rig.begin(request)) }
        #expect(!ids.contains(AccessLog.none))
        #expect(rig.begin(request) == AccessLog.none)
        #expect(rig.counters.value(.logDropped) == 1)
        rig.log.stop()
    }

    /// A file that takes nothing costs lines, and each of them is counted.
    @Test func aFullRingIsCounted() throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        let rig = try Rig(fd: ends[1])
        let request = try ParsedRequest(Self.get)
        let total = 3 * AccessLog.ringDepth
        for _ in 0..<total { rig.finish(rig.begin(request)) }
        let dropped = rig.counters.value(.logDropped)
        #expect(dropped > 0)
        #expect(rig.counters.value(.logRecords) + dropped == UInt64(total))
        // The reader comes, and everything that was not dropped is there.
        let reader = ends[0]
        let wanted = Int(rig.counters.value(.logRecords))
        var lines = 0
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while lines < wanted {
            let count = read(reader, &bytes, bytes.count)
            try #require(count > 0)
            lines += bytes[..<count].count { $0 == 0x0A }
        }
        rig.log.stop()
        #expect(lines == wanted)
        close(reader)
    }

    /// A device that is always full: every line is counted, and the fault is told once.
    @Test func aFullDiskIsCountedAndTold() throws {
        let full = umbra_open("/dev/full", O_WRONLY | O_CLOEXEC, 0)
        try #require(full >= 0)
        let rig = try Rig(fd: full)
        let request = try ParsedRequest(Self.get)
        for _ in 0..<100 { rig.finish(rig.begin(request)) }
        rig.log.stop()
        #expect(rig.counters.value(.logUnwritten) == rig.counters.value(.logRecords))
        #expect(rig.counters.value(.logRecords) == 100)
        #expect(rig.log.takeNews() == .failing(ENOSPC))
        #expect(rig.log.takeNews() == nil)
    }
}

/// The file behind the log, by itself.
@Suite final class AccessLogFileTests {
    private let memory: SharedMemory
    private let lost: Cell
    private let folder: String

    init() throws {
        memory = try .plain(byteCount: 4_096)
        var plan = MemoryPlan(base: memory.base)
        let row = try #require(CounterRow<WorkerCounter>(plan: &plan))
        lost = row[.logUnwritten]
        var template = Array("/tmp/umbra-log-XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    private func text(_ name: String) -> String? {
        try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)
    }

    private func file(_ name: String) -> AccessLogFile {
        let path = folder + "/" + name
        return AccessLogFile(fd: AccessLog.open(path), path: path, lost: lost, changes: nil)
    }

    @Test func aRotatedFileIsOpenedAnew() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = file("a")
        file.write(Array("one\n".utf8)) { false }
        #expect(rename(folder + "/a", folder + "/b") == 0)
        file.write(Array("two\n".utf8)) { false }
        file.reopen()
        file.write(Array("three\n".utf8)) { false }
        #expect(text("b") == "one\ntwo\n" && text("a") == "three\n")
        #expect(lost.value == 0)
    }

    /// Where it cannot be opened the old one stays, and the fault is known.
    @Test func aLostFolderKeepsTheOldFile() throws {
        defer { try? FileManager.default.removeItem(atPath: folder + "-moved") }
        let file = file("a")
        #expect(rename(folder, folder + "-moved") == 0)
        file.reopen()
        #expect(file.fault.load(ordering: .relaxed) == ENOENT)
        file.write(Array("one\n".utf8)) { false }
        #expect(
            try String(contentsOfFile: folder + "-moved/a", encoding: .utf8) == "one\n")
        #expect(lost.value == 0)
    }

    /// One that was never there is tried again, and written once it can be.
    @Test func aMissingFolderIsTriedAgain() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = file("later/a")
        #expect(file.fault.load(ordering: .relaxed) == ENOENT)
        file.write(Array("one\ntwo\n".utf8)) { false }
        #expect(lost.value == 2)
        #expect(mkdir(folder + "/later", 0o700) == 0)
        file.reopen()
        file.write(Array("three\n".utf8)) { false }
        #expect(text("later/a") == "three\n")
        #expect(file.fault.load(ordering: .relaxed) == 0 && lost.value == 2)
    }

    /// Half a line at a limit of size: it counts as lost, and the next line stands by itself.
    @Test func halfALineDoesNotSpoilTheNext() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe2(&ends, O_NONBLOCK | O_CLOEXEC) == 0)
        defer { for end in ends { close(end) } }
        let file = AccessLogFile(fd: ends[1], path: nil, lost: lost, changes: nil)
        let line = [UInt8](repeating: 0x61, count: 999) + [0x0A]
        let lines = (0..<100).flatMap { _ in line }
        // A pipe of 64 KiB whose reader stands still: hurried, it is given up after a while.
        file.write(lines) { true }
        #expect(file.fault.load(ordering: .relaxed) == EAGAIN)
        let room = 65_536
        #expect(lost.value == UInt64(100 - room / 1_000))
        var bytes = [UInt8](repeating: 0, count: room)
        var count = read(ends[0], &bytes, room)
        #expect(count == room)
        file.write(Array("next\n".utf8)) { false }
        count = read(ends[0], &bytes, room)
        #expect(String(decoding: bytes[..<max(0, count)], as: UTF8.self) == "\nnext\n")
        #expect(file.fault.load(ordering: .relaxed) == 0)
    }
}
