import CoreLoop
import Mirror
import Testing

@Suite struct BreakerTests {
    enum Step: Sendable {
        case good, bad, nothing
        case wait(Int)
        /// A copy is refused now.
        case refused
        /// A copy is let through and still under way.
        case begin
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let steps: [Step]
        let state: Breaker.State
        let opened: UInt64

        var testDescription: String { name }
    }

    // Opens after 3 failures, for 1 s, at most 4 s.
    static let rows: [Row] = [
        Row(name: "new", steps: [], state: .closed, opened: 0),
        Row(name: "two failures", steps: [.bad, .bad], state: .closed, opened: 0),
        Row(name: "three failures", steps: [.bad, .bad, .bad, .refused], state: .open, opened: 1),
        Row(
            name: "not in a row", steps: [.bad, .bad, .good, .bad, .bad], state: .closed, opened: 0),
        Row(
            name: "abandoned ones count for nothing",
            steps: [.bad, .bad, .nothing, .bad, .refused],
            state: .open, opened: 1),
        Row(
            name: "still open", steps: [.bad, .bad, .bad, .wait(999), .refused], state: .open,
            opened: 1),
        Row(
            name: "probe under way", steps: [.bad, .bad, .bad, .wait(1_000), .begin, .refused],
            state: .halfOpen, opened: 1),
        Row(
            name: "good probe", steps: [.bad, .bad, .bad, .wait(1_000), .good, .bad, .bad],
            state: .closed, opened: 1),
        Row(
            name: "bad probe",
            steps: [.bad, .bad, .bad, .wait(1_000), .bad, .wait(1_999), .refused],
            state: .open, opened: 2),
        Row(
            name: "second probe",
            steps: [.bad, .bad, .bad, .wait(1_000), .bad, .wait(2_000), .good, .bad],
            state: .closed, opened: 2),
        Row(
            name: "doubling ends",
            steps: [
                .bad, .bad, .bad, .wait(1_000), .bad, .wait(2_000), .bad, .wait(4_000), .bad,
                .wait(3_999), .refused, .wait(1), .begin,
            ], state: .halfOpen, opened: 4),
        Row(
            name: "the first time again after a good probe",
            steps: [
                .bad, .bad, .bad, .wait(1_000), .bad, .wait(2_000), .good, .bad, .bad, .bad,
                .wait(999), .refused, .wait(1), .begin,
            ], state: .halfOpen, opened: 3),
        Row(
            name: "abandoned probe", steps: [.bad, .bad, .bad, .wait(1_000), .nothing, .begin],
            state: .halfOpen, opened: 1),
    ]

    @Test(arguments: rows)
    func table(_ row: Row) {
        var breaker = Breaker(failuresMax: 3, openMs: 1_000, openMsMax: 4_000)
        var now = Instant(nanoseconds: 1_000_000)
        for step in row.steps {
            if case .wait(let ms) = step {
                now = now.adding(ms: ms)
                continue
            }
            if case .refused = step {
                #expect(!breaker.admits(now: now))
                continue
            }
            #expect(breaker.admits(now: now))
            let pass = breaker.enter(now: now)
            switch step {
            case .good: breaker.succeed(pass)
            case .bad: breaker.fail(pass, now: now)
            case .nothing: breaker.abandon(pass)
            default: break
            }
        }
        #expect(breaker.state == row.state)
        #expect(breaker.openedCount == row.opened)
    }

    /// Copies from before the breaker opened end later: only the probe's word counts then.
    @Test func lateWordsDoNotCount() {
        var breaker = Breaker(failuresMax: 1, openMs: 1_000, openMsMax: 4_000)
        let start = Instant(nanoseconds: 1_000_000)
        let early = (0..<4).map { _ in breaker.enter(now: start) }
        breaker.fail(early[0], now: start)
        breaker.succeed(early[1])
        #expect(breaker.state == .open)
        let later = start.adding(ms: 1_000)
        let probe = breaker.enter(now: later)
        breaker.succeed(early[2])
        breaker.fail(early[3], now: later)
        #expect(breaker.state == .halfOpen)
        #expect(!breaker.admits(now: later))
        breaker.succeed(probe)
        #expect(breaker.state == .closed)
    }
}
