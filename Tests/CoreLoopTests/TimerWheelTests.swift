import CoreLoop
import Testing

/// The wheel against a dictionary of deadlines: never early, at most one tick late.
@Suite struct TimerWheelTests {
    static let tickNs = UInt64(Limits.timerTickMs) * 1_000_000
    static let start = Instant(nanoseconds: 3_600_000_000_000)

    struct Model {
        var deadlines: [Int: Instant] = [:]
        var fired = 0

        /// Takes one timer that the wheel gave as over.
        mutating func fire(_ id: Int, now: Instant) throws {
            let set = deadlines.removeValue(forKey: id)
            let deadline = try #require(set, "fired, though not set")
            try #require(deadline <= now, "fired early")
            fired += 1
        }

        /// After all that is over was taken: nothing may be left that is over by a tick.
        func checkNothingIsLate(now: Instant) throws {
            for deadline in deadlines.values {
                try #require(deadline.nanoseconds + tickNs > now.nanoseconds, "fired late")
            }
        }
    }

    @Test(arguments: UInt64(1)...12)
    func randomUseFiresInTime(seed: UInt64) throws {
        var random = FastRandom(seed: seed)
        let capacity = [1, 3, 50, 400][Int(seed % 4)]
        let wheel = try TimerWheel(capacity: capacity, now: Self.start)
        var model = Model()
        var now = Self.start
        for _ in 0..<6_000 {
            for _ in 0..<Int.random(in: 0..<4, using: &random) {
                let id = Int.random(in: 0..<capacity, using: &random)
                switch Int.random(in: 0..<10, using: &random) {
                case 0: wheel.cancel(id); model.deadlines[id] = nil
                case 1: wheel.pause(id); model.deadlines[id] = nil
                default:
                    let deadline = Self.deadline(after: now, using: &random)
                    wheel.schedule(id, at: deadline)
                    // One in the past is over now, and a tick later at the latest.
                    model.deadlines[id] = max(deadline, now)
                }
            }
            now.nanoseconds += Self.step(using: &random)
            // One turn in three takes a few only: the rest has to come with the next turns.
            let budget = random.next() % 3 == 0 ? Int.random(in: 0..<3, using: &random) : Int.max
            var taken = 0
            while taken < budget, let id = wheel.popExpired(now: now) {
                try model.fire(id, now: now)
                taken += 1
            }
            if budget == Int.max { try model.checkNothingIsLate(now: now) }
        }
        now.nanoseconds += 1_000_000_000_000_000
        while let id = wheel.popExpired(now: now) { try model.fire(id, now: now) }
        #expect(model.deadlines.isEmpty)
        #expect(model.fired > 100)
    }

    /// From the past up to five spans of the wheel.
    private static func deadline(after now: Instant, using random: inout FastRandom) -> Instant {
        let span = tickNs * UInt64(Limits.timerBuckets)
        let ns: UInt64 =
            switch random.next() % 6 {
            case 0: UInt64.random(in: 0...tickNs * 3, using: &random)
            case 1: span * 5
            case 2: UInt64.random(in: span - 2 * tickNs...span + 2 * tickNs, using: &random)
            case 3: UInt64.random(in: 0...span * 5, using: &random)
            default: UInt64.random(in: 0...5_000_000_000, using: &random)
            }
        if random.next() % 16 == 0 {
            return Instant(nanoseconds: now.nanoseconds - ns % 1_000_000_000)
        }
        return Instant(nanoseconds: now.nanoseconds + ns)
    }

    /// Mostly some milliseconds, now and then a long sleep.
    private static func step(using random: inout FastRandom) -> UInt64 {
        switch random.next() % 100 {
        case 0: UInt64.random(in: 0...700_000_000_000, using: &random)
        case 1..<20: UInt64.random(in: 0...2_000_000_000, using: &random)
        case 20..<40: 0
        default: UInt64.random(in: 0...tickNs * 2, using: &random)
        }
    }

    @Test(arguments: [0, 1, 31, 32, 33, 1_000, 131_071, 131_072, 131_073, 600_000, 86_400_000])
    func oneDeadlineTickByTick(ms: Int) throws {
        let wheel = try TimerWheel(capacity: 1, now: Self.start)
        let deadline = Self.start.adding(ms: ms)
        wheel.schedule(0, at: deadline)
        // The long ones are walked in large steps until shortly before.
        var now = Self.start
        while now.adding(ms: 2_000) < deadline {
            now = now.adding(ms: 997)
            let early = wheel.popExpired(now: now)
            try #require(early == nil)
        }
        var fired: Instant?
        for _ in 0..<4_000 where fired == nil {
            if wheel.popExpired(now: now) != nil { fired = now }
            now = now.adding(ms: 1)
        }
        let at = try #require(fired)
        #expect(at >= deadline)
        #expect(at.nanoseconds - deadline.nanoseconds <= Self.tickNs)
        let again = wheel.popExpired(now: now.adding(ms: 1_000_000))
        #expect(again == nil)
    }

    @Test func aDeadlineThatAlwaysMovesNeverFires() throws {
        let wheel = try TimerWheel(capacity: 2, now: Self.start)
        var now = Self.start
        wheel.schedule(1, at: now.adding(ms: 100_000))
        for _ in 0..<100_000 {
            wheel.schedule(0, at: now.adding(ms: 75_000))
            now = now.adding(ms: 7)
            if let id = wheel.popExpired(now: now) {
                try #require(id == 1 && now >= Self.start.adding(ms: 100_000))
            }
        }
        let id = wheel.popExpired(now: now.adding(ms: 75_100))
        #expect(id == 0)
    }

    @Test func manyTimersOfOneTickComeOnceEach() throws {
        let capacity = 5_000
        let wheel = try TimerWheel(capacity: capacity, now: Self.start)
        for id in 0..<capacity { wheel.schedule(id, at: Self.start.adding(ms: 10_000)) }
        let now = Self.start.adding(ms: 10_032)
        var seen = Set<Int>()
        while let id = wheel.popExpired(now: now) {
            #expect(seen.insert(id).inserted)
            // What is set while others fire waits for its own time.
            wheel.schedule(id, at: now)
        }
        #expect(seen.count == capacity)
        var again = 0
        while wheel.popExpired(now: now.adding(ms: 32)) != nil { again += 1 }
        #expect(again == capacity)
    }

    /// A loop that sleeps as long as the wheel allows is in time, and sleeps long.
    @Test(arguments: UInt64(1)...6, [Int32(0), 1, 31, 500, 1_000, 130_000])
    func aLoopMaySleepAsLongAsItIsTold(seed: UInt64, limitMs: Int32) throws {
        var random = FastRandom(seed: seed)
        let capacity = 40
        let wheel = try TimerWheel(capacity: capacity, now: Self.start)
        var model = Model()
        var now = Self.start
        now.nanoseconds += random.next() % Self.tickNs
        for id in 0..<capacity {
            let deadline = Self.deadline(after: now, using: &random)
            wheel.schedule(id, at: deadline)
            model.deadlines[id] = max(deadline, now)
        }
        for _ in 0..<400 {
            while let id = wheel.popExpired(now: now) { try model.fire(id, now: now) }
            try model.checkNothingIsLate(now: now)
            let sleepMs = wheel.sleepMs(now: now, atMost: limitMs)
            try #require(sleepMs >= 0 && sleepMs <= limitMs)
            // The first tick that a timer may fire in is not slept past; nor is it left out.
            if sleepMs > 1 {
                let before = wheel.popExpired(now: now.adding(ms: Int(sleepMs) - 1))
                try #require(before == nil, "the loop would have slept too long")
            }
            // What wakes a sleeper is late by a little, as a kernel's timer is.
            now = now.adding(ms: max(1, Int(sleepMs)))
        }
        if limitMs == 130_000 { #expect(model.deadlines.isEmpty) }
    }

    @Test func anEmptyWheelLetsSleepToTheLimit() throws {
        let wheel = try TimerWheel(capacity: 2, now: Self.start)
        var sleeps = [wheel.sleepMs(now: Self.start, atMost: 1_000)]
        wheel.schedule(0, at: Self.start.adding(ms: 320))
        sleeps.append(wheel.sleepMs(now: Self.start, atMost: 1_000))
        wheel.cancel(0)
        sleeps.append(wheel.sleepMs(now: Self.start, atMost: 1_000))
        wheel.schedule(1, at: Self.start)
        sleeps.append(wheel.sleepMs(now: Self.start.adding(ms: 500), atMost: 1_000))
        #expect(sleeps == [1_000, 352, 1_000, 0])
    }

    @Test(arguments: [-1, 3, 1 << 20])
    func anIdOutsideTraps(id: Int) async {
        await #expect(processExitsWith: .failure) { [id] in
            let wheel = try TimerWheel(capacity: 3, now: Instant(nanoseconds: 0))
            wheel.schedule(id, at: Instant(nanoseconds: 1))
        }
    }
}
