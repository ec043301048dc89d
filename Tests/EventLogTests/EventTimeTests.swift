import Testing

@testable import EventLog

@Suite struct EventTimeTests {
    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_795_806_245_007, "2026-11-27T19:04:05.007Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] as [(UInt64, String)])
    func momentsComeBack(ms: UInt64, text: String) {
        #expect(EventTime.text(ms) == text)
        #expect(withBytes(text) { EventTime.parse($0) } == ms)
    }

    @Test func whatIsBehindTheYear9999IsHeld() {
        #expect(EventTime.text(.max) == "9999-12-31T23:59:59.999Z")
    }

    @Test(
        arguments: [
            ("2026-11-27", 1_795_737_600_000), ("2026-11-27T19:04:05Z", 1_795_806_245_000),
            ("2026-11-27t19:04:05.5z", 1_795_806_245_500),
            ("2026-11-27 19:04:05.123456Z", 1_795_806_245_123),
            ("2026-11-27T20:04:05+01:00", 1_795_806_245_000),
            ("2026-11-27T14:34:05-04:30", 1_795_806_245_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ] as [(String, UInt64)])
    func formsAreRead(text: String, ms: UInt64) {
        #expect(EventTime.parse(text, now: 0) == ms)
    }

    @Test(
        arguments: [
            ("90s", 910_000), ("5m", 700_000), ("0s", 1_000_000), ("2h", 0), ("7d", 0), ("1w", 0),
            ("99999999999999999h", 0),
        ] as [(String, UInt64)])
    func timesBackAreRead(text: String, ms: UInt64) {
        #expect(EventTime.parse(text, now: 1_000_000) == ms)
    }

    @Test(arguments: [
        "", "5", "m", "-5m", "+5m", "5 m", "5x", "2026", "2026-02-30", "2026-13-01", "1969-12-31",
        "2026-11-27T",
        "2026-11-27T19:04:05", "2026-11-27T24:00:00Z", "2026-11-27T19:60:00Z",
        "2026-11-27T19:04:05.Z",
        "2026-11-27T19:04:05Zx", "2026-11-27T19:04:05+1:00", "2026-11-27T19:04:05+25:00",
        "2026/11/27", "1.5h",
    ])
    func otherFormsAreNone(text: String) {
        #expect(EventTime.parse(text, now: 1_000_000) == nil)
    }

    @Test(arguments: [
        "events-00000001-20261127.jsonl", "events-99999999-20000229.jsonl",
    ])
    func segmentNamesComeBack(text: String) {
        #expect(SegmentName(text)?.text == text)
    }

    @Test(arguments: [
        "", "lock", "events-00000000-20261127.jsonl", "events-1-20261127.jsonl",
        "events-00000001-20260230.jsonl",
        "events-00000001-20261127.jsonl.gz", "events-00000001-2026112.jsonl",
        "events-+0000001-20261127.jsonl",
        "events-00000001-20261127-2.jsonl", "Events-00000001-20261127.jsonl",
    ])
    func otherNamesAreNone(text: String) {
        #expect(SegmentName(text) == nil)
    }
}
