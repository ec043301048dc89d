import CoreLoop
import Testing

@testable import Upstream

/// Checks of one endpoint become a verdict.
@Suite struct HealthJudgeTests {
    private static func settings(_ healthy: Int, _ unhealthy: Int) -> HealthSettings {
        var settings = HealthSettings(path: "/")
        settings.healthy = healthy
        settings.unhealthy = unhealthy
        return settings
    }

    /// Results one after the other (`+` passed, `-` failed), and the verdict behind each
    /// (`h` healthy, `u` unhealthy).
    struct Row: Sendable {
        let healthy: Int
        let unhealthy: Int
        let start: HealthState
        let results: String
        let wanted: String

        init(
            _ healthy: Int, _ unhealthy: Int, _ start: HealthState, _ results: String,
            _ wanted: String
        ) {
            (self.healthy, self.unhealthy, self.start) = (healthy, unhealthy, start)
            (self.results, self.wanted) = (results, wanted)
        }
    }

    static let rows: [Row] = [
        // The first check decides alone.
        Row(2, 3, .unknown, "+", "h"), Row(2, 3, .unknown, "-", "u"),
        Row(2, 3, .unknown, "-+-+-++", "uuuuuuh"), Row(2, 3, .unknown, "+--+--+---", "hhhhhhhhhu"),
        // Thresholds of one follow each check.
        Row(1, 1, .unknown, "+-+-+", "huhuh"),
        // A verdict that a process before this one has found is taken over.
        Row(2, 3, .unhealthy, "+-+-++", "uuuuuh"), Row(2, 3, .healthy, "--+---", "hhhhhu"),
        // Flapping every time never changes anything.
        Row(2, 2, .healthy, "+-+-+-+-", "hhhhhhhh"), Row(2, 2, .unhealthy, "+-+-+-+-", "uuuuuuuu"),
        Row(3, 3, .healthy, "--+--+--+", "hhhhhhhhh"),
    ]

    @Test(arguments: rows)
    func verdicts(_ row: Row) {
        let (start, results, wanted) = (row.start, row.results, row.wanted)
        let (healthy, unhealthy) = (row.healthy, row.unhealthy)
        var judge = HealthJudge(Self.settings(healthy, unhealthy), state: start)
        var before = start
        var got = ""
        for result in results {
            let hasChanged = judge.note(passed: result == "+")
            #expect(hasChanged == (judge.state != before))
            before = judge.state
            got += judge.state == .healthy ? "h" : judge.state == .unhealthy ? "u" : "?"
        }
        #expect(got == wanted)
    }

    @Test(arguments: [1, 5, 10, 99, 1_000, 5_000, 3_600_000])
    func jitterStaysWithinATenth(_ intervalMs: Int) {
        var random = FastRandom(seed: 7)
        let spread = max(1, intervalMs / 10)
        var least = Int.max
        var most = 0
        for draw in [UInt64(0), .max] + (0..<4_000).map({ _ in random.next() }) {
            let ms = CheckPace.nextMs(intervalMs: intervalMs, random: draw)
            #expect(ms >= max(1, intervalMs - spread) && ms <= intervalMs + spread)
            least = min(least, ms)
            most = max(most, ms)
        }
        #expect(least == max(1, intervalMs - spread) && most == intervalMs + spread)
    }

    @Test func everyResultHasItsCell() {
        var cells: Set<Int> = []
        for result in CheckResult.allCases { cells.insert(HealthCell(result).rawValue) }
        #expect(cells.count == CheckResult.allCases.count)
        #expect(HealthCell(.passed) == .passed && HealthCell(.address) == .noAddress)
        #expect(HealthCell(.tls) == .tls && HealthCell(.malformed) == .malformed)
    }

    @Test func statusesPassByRanges() {
        var settings = HealthSettings(path: "/")
        #expect([200, 204, 301, 399].allSatisfy(settings.passes))
        #expect(![199, 400, 503].contains(where: settings.passes))
        settings.status = [200...200, 300...308]
        #expect([200, 300, 308].allSatisfy(settings.passes))
        #expect(![201, 299, 309].contains(where: settings.passes))
    }

    @Test(arguments: [
        ("app.test:80", false, nil as String?, "GET /x/up HTTP/1.1\r\nHost: app.test\r\n"),
        ("app.test:443", true, nil, "GET /x/up HTTP/1.1\r\nHost: app.test\r\n"),
        ("app.test:443", false, nil, "GET /x/up HTTP/1.1\r\nHost: app.test:443\r\n"),
        ("[::1]:9001", false, nil, "GET /x/up HTTP/1.1\r\nHost: [::1]:9001\r\n"),
        ("app.test:9001", false, "other", "GET /x/up HTTP/1.1\r\nHost: other\r\n"),
    ])
    func requests(_ authority: String, _ isSecure: Bool, _ host: String?, _ wanted: String) {
        var settings = HealthSettings(path: "/up")
        settings.host = host
        let endpoint = EndpointSettings(authority: authority, host: "", port: 1)
        let bytes = settings.request(endpoint, pathPrefix: "/x", isSecure: isSecure)
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.hasPrefix(wanted) && text.hasSuffix("Connection: close\r\n\r\n"))
        settings.method = .head
        let head = settings.request(endpoint, pathPrefix: "/x", isSecure: isSecure)
        #expect(String(decoding: head, as: UTF8.self).hasPrefix("HEAD /x/up HTTP/1.1\r\n"))
    }
}
