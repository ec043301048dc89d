import CoreLoop
import Testing

@testable import Mirror

/// How long a busy shadow process rests between two looks.
@Suite struct TurnPaceTests {
    private static let startNs: UInt64 = 1_000_000_000

    /// The rest after a second of `perSecond` events, in turns of a tenth of a window.
    private static func rest(perSecond: Int) -> UInt64 {
        var pace = TurnPace(now: Instant(nanoseconds: startNs))
        let turnNs = ShadowLimits.restWindowNs / 10
        let turns = 1_000_000_000 / turnNs
        var told = 0
        for turn in 1...turns {
            let due = Int(UInt64(perSecond) * turn / turns)
            pace.note(events: due - told, now: Instant(nanoseconds: startNs + turn * turnNs))
            told = due
        }
        return pace.restNs
    }

    @Test(
        "Below the bound every answer is met at once; above it turns gather a few",
        arguments: [
            (0, 0...0), (100, 0...0), (3_000, 0...0), (5_000, 1_000_000...1_000_000),
            (16_000, 980_000...1_000_000), (40_000, 380_000...420_000),
            (1_000_000, 15_800...16_200),
        ] as [(Int, ClosedRange<UInt64>)])
    func restFollowsTheRate(perSecond: Int, wanted: ClosedRange<UInt64>) {
        let rest = Self.rest(perSecond: perSecond)
        #expect(wanted.contains(rest), "\(rest) ns at \(perSecond) events a second")
    }

    @Test("A rest ends with the traffic that asked for it")
    func silenceEndsTheRest() {
        var pace = TurnPace(now: Instant(nanoseconds: 0))
        pace.note(events: 1_000, now: Instant(nanoseconds: ShadowLimits.restWindowNs))
        #expect(pace.restNs > 0)
        pace.note(events: 0, now: Instant(nanoseconds: 2 * ShadowLimits.restWindowNs))
        #expect(pace.restNs == 0)
    }

    @Test("Within a window nothing changes")
    func windowsAreWhole() {
        var pace = TurnPace(now: Instant(nanoseconds: 0))
        pace.note(events: 1_000_000, now: Instant(nanoseconds: ShadowLimits.restWindowNs - 1))
        #expect(pace.restNs == 0)
    }
}
