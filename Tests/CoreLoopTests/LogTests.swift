import Foundation
import Testing

@testable import CoreLoop

@Suite struct LogLineTests {
    private func line(_ text: String, _ level: LogLevel = .warn, process: String = "supervisor")
        -> LogLine
    {
        LogLine(level, process: process, pid: 7, wallMs: 1_764_270_197_042, text: text)
    }

    private func text(_ line: LogLine, _ format: LogFormat, prioritised: Bool = false) -> String {
        String(decoding: line.bytes(format, prioritised: prioritised), as: UTF8.self)
    }

    @Test func textLines() {
        #expect(text(line("Gateway ready", .info), .text) == "INFO umbra::gateway Gateway ready\n")
        #expect(
            text(line("x", .error, process: "worker 3"), .text)
                == "ERROR umbra::gateway worker 3: x\n")
        #expect(text(line("x", .debug), .text, prioritised: true) == "<7>DEBUG umbra::gateway x\n")
    }

    @Test(arguments: zip(LogLevel.allCases, ["<3>", "<4>", "<6>", "<7>"]))
    func priorities(_ level: LogLevel, _ prefix: String) {
        #expect(text(line("x", level), .json, prioritised: true).hasPrefix(prefix + "{"))
        #expect(LogLevel(name: level.name) == level)
    }

    @Test func jsonLines() throws {
        var line = line("a \"b\" \\ c\n\u{1b}[31m\u{9b}\u{2028}ü", process: "worker 0")
        line.repeated = 37
        let bytes = line.bytes(.json, prioritised: false)
        let object = try #require(
            JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        #expect(object["message"] as? String == line.text)
        #expect(object["level"] as? String == "warn")
        #expect(object["process"] as? String == "worker 0")
        #expect(object["pid"] as? Int == 7)
        #expect(object["repeated"] as? Int == 37)
        #expect(object["time"] as? String == "2025-11-27T19:03:17.042Z")
    }

    /// Whatever a text holds, it is one line, without controls, of a bounded length.
    @Test(arguments: [LogFormat.text, .json])
    func hostileTextsAreOneLine(_ format: LogFormat) {
        var all = ""
        for value in UInt32(0)..<0x3000 {
            if let scalar = Unicode.Scalar(value) { all.unicodeScalars.append(scalar) }
        }
        let long = String(repeating: "\u{1}", count: 10_000)
        for hostile in [all, long, String(repeating: "\u{1F600}", count: 5_000)] {
            let bytes = line(hostile, process: "worker 0").bytes(format, prioritised: true)
            #expect(bytes.count <= Limits.logLineBytesMax)
            #expect(bytes.count { $0 == 0x0A } == 1 && bytes.last == 0x0A)
            let text = String(decoding: bytes.dropLast(), as: UTF8.self)
            #expect(!text.contains("\u{FFFD}"))
            #expect(
                text.unicodeScalars.allSatisfy {
                    $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value)
                        && $0.value != 0x2028 && $0.value != 0x2029
                })
            if format == .json {
                #expect(
                    (try? JSONSerialization.jsonObject(with: Data(bytes.dropFirst(3)))) != nil)
            }
        }
    }
}

@Suite struct LogThrottleTests {
    private let window = Limits.logWindowMs
    private static func kind(_ line: UInt) -> LogKind { LogKind("a", line) }

    @Test func theFirstAreSaidAndTheRestCounted() {
        var throttle = LogThrottle()
        let start = Instant(nanoseconds: 1_000)
        var said = 0
        for number in 0..<42 {
            let admits = throttle.admits(Self.kind(1), .warn, "fault \(number)", now: start)
            said += admits ? 1 : 0
        }
        #expect(said == Limits.logBurstMax)
        let end = start.adding(ms: window)
        #expect(throttle.nextDue == end)
        #expect(throttle.takeDue(now: start.adding(ms: window - 1)) == nil)
        #expect(
            throttle.takeDue(now: end)
                == .init(level: .warn, text: "fault 41", count: 42 - Limits.logBurstMax))
        #expect(throttle.takeDue(now: end) == nil && throttle.nextDue == nil)
        let again = throttle.admits(Self.kind(1), .warn, "later", now: end)
        #expect(again)
    }

    @Test func kindsDoNotTouchEachOther() {
        var throttle = LogThrottle()
        let now = Instant(nanoseconds: 0)
        for _ in 0..<100 { _ = throttle.admits(Self.kind(1), .warn, "a", now: now) }
        let other = throttle.admits(Self.kind(2), .error, "b", now: now.adding(ms: 1))
        #expect(other)
        for _ in 0..<100 { _ = throttle.admits(Self.kind(2), .error, "b", now: now.adding(ms: 1)) }
        let first = throttle.takeDue(now: now.adding(ms: window))
        #expect(first?.text == "a")
        #expect(throttle.nextDue == now.adding(ms: window + 1))
        let second = throttle.takeDue(now: now.adding(ms: window + 1))
        #expect(second?.text == "b")
    }

    /// A trickle below the bound is said whole, window after window.
    @Test func aTrickleIsSaidWhole() {
        var throttle = LogThrottle()
        for number in 0..<200 {
            let now = Instant(nanoseconds: 0).adding(
                ms: number * window / (Limits.logBurstMax - 1))
            let admits = throttle.admits(Self.kind(1), .warn, "x", now: now)
            #expect(admits, "number \(number)")
        }
        #expect(throttle.nextDue == nil)
    }

    /// Said and counted together are all there were, whatever comes when.
    @Test func nothingIsLost() {
        var throttle = LogThrottle()
        var random = FastRandom(seed: 11)
        var now = Instant(nanoseconds: 0)
        var (total, said, counted) = (0, 0, 0)
        for _ in 0..<50_000 {
            now = now.adding(ms: Int(random.next() % 200))
            while let due = throttle.takeDue(now: now) { counted += due.count }
            for _ in 0..<Int(random.next() % 4) {
                let kind = Self.kind(UInt(random.next() % 100))
                total += 1
                said += throttle.admits(kind, .warn, "x", now: now) ? 1 : 0
            }
        }
        while let due = throttle.takeDue(now: nil) { counted += due.count }
        #expect(said + counted == total && counted > 0)
    }
}
