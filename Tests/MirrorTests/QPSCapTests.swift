import CoreLoop
import Mirror
import Synchronization
import Testing

/// The cap against its definition: no sliding second holds more than `qps` sends.
@Suite struct QPSCapTests {
    /// A cap on plain memory; the memory has to outlive it.
    struct Bench: ~Copyable {
        let memory: SharedMemory
        let cap: QPSCap

        init(capacity: Int = 1_024) throws {
            var counting = MemoryPlan()
            _ = QPSCap(plan: &counting, capacity: capacity)
            memory = try .plain(byteCount: counting.byteCount)
            var plan = MemoryPlan(base: memory.base)
            cap = QPSCap(plan: &plan, capacity: capacity)!
        }

        /// The word of shared memory that counts the sends, and that of a send's time.
        var sends: UnsafeMutablePointer<Atomic<UInt64>> {
            memory.base.assumingMemoryBound(to: Atomic<UInt64>.self)
        }
        func time(_ number: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
            (memory.base + 64).assumingMemoryBound(to: Atomic<UInt64>.self)
                + number % cap.capacity
        }

        /// Whether the cap has room at `now`, asked of the clock alone.
        func hasRoom(qps: Double, now: UInt64) -> Bool {
            cap.hasRoom(qps: qps, earlier: Instant(nanoseconds: 0)) { Instant(nanoseconds: now) }
        }
    }

    /// The most sends that any window of `windowNs` (both ends counted) holds.
    static func most(_ times: [UInt64], windowNs: UInt64) -> Int {
        var most = 0
        var first = 0
        for last in times.indices {
            while times[last] - times[first] > windowNs { first += 1 }
            most = max(most, last - first + 1)
        }
        return most
    }

    /// Histories with bursts, pauses and steady flows; the sends of an ideal cap with the same
    /// window as reference, so that neither too many nor too few would pass.
    @Test(arguments: [1.0, 2, 3, 10, 50, 200, 997, 2.5, 0.5, 0.1], [1, 2, 3] as [UInt64])
    func randomHistories(_ qps: Double, _ seed: UInt64) throws {
        let bench = try Bench(capacity: QPSCap.capacity(for: qps))
        var random = FastRandom(seed: seed)
        var now: UInt64 = 1_000_000_000
        var sent: [UInt64] = []
        let count = qps < 1 ? 1 : Int(qps)
        let secondNs = qps < 1 ? UInt64(1e9 / qps) : QPSCap.secondNs
        let windowNs = secondNs + QPSCap.marginNs
        for _ in 0..<6_000 {
            switch random.next() % 8 {
            case 0...3: break  // A burst: several at one instant.
            case 4, 5: now += random.next() % (2 * secondNs / UInt64(count) + 1)
            case 6: now += random.next() % 1_000_000
            default: now += random.next() % (secondNs / 3)
            }
            let expected =
                sent.count < count || sent[sent.count - count] + windowNs <= now
            let hasRoomByClock = bench.hasRoom(qps: qps, now: now)
            #expect(hasRoomByClock == expected)
            // What the turn's own time settles needs no look at the clock.
            var looks = 0
            let hasRoom = bench.cap.hasRoom(qps: qps, earlier: Instant(nanoseconds: now)) {
                looks += 1
                return Instant(nanoseconds: now)
            }
            #expect(hasRoom == expected && looks == (expected ? 0 : 1))
            let taken = bench.cap.take(qps: qps) { Instant(nanoseconds: now) }
            #expect(taken == expected)
            if taken { sent.append(now) }
        }
        #expect(Self.most(sent, windowNs: secondNs) <= count)
        #expect(sent.count >= count)
    }

    @Test func zeroAndLessSendNothing() throws {
        let bench = try Bench()
        for qps in [0, -1, -.infinity, .nan] as [Double] {
            #expect(!bench.cap.take(qps: qps) { Instant(nanoseconds: 5) })
            let hasRoom = bench.hasRoom(qps: qps, now: 5)
            #expect(!hasRoom)
        }
    }

    @Test func tiniestCapSendsOnce() throws {
        let bench = try Bench()
        #expect(bench.cap.take(qps: .leastNonzeroMagnitude) { Instant(nanoseconds: 1) })
        let century = UInt64(30 * 365 * 86_400) * 1_000_000_000
        #expect(!bench.cap.take(qps: .leastNonzeroMagnitude) { Instant(nanoseconds: century) })
    }

    /// All sends of a full ring at one instant: the ring's round must not pass for somebody's take.
    @Test func capAsLargeAsTheRing() throws {
        let bench = try Bench(capacity: 64)
        let now = Instant(nanoseconds: 7)
        let first = (0..<100).filter { _ in bench.cap.take(qps: 1_000) { now } }
        #expect(first.count == 63)
        let later = now.adding(ms: 1_020)
        let second = (0..<100).filter { _ in bench.cap.take(qps: 1_000) { later } }
        #expect(second.count == 63)
    }

    /// A reload up or down: no window holds more than the larger of both.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func reload(_ seed: UInt64) throws {
        let bench = try Bench()
        var random = FastRandom(seed: seed)
        var now: UInt64 = 1_000_000_000
        var qps = 10.0
        var history: [(time: UInt64, qps: Double)] = []
        let choices = [0, 0.5, 1, 5, 10, 50, 200]
        for _ in 0..<20_000 {
            now += random.next() % 20_000_000
            if random.next() % 200 == 0 { qps = choices[Int(random.next() % 7)] }
            if bench.cap.take(qps: qps, clock: { Instant(nanoseconds: now) }) {
                history.append((now, qps))
            }
        }
        var first = 0
        for last in history.indices {
            while history[last].time - history[first].time > QPSCap.secondNs { first += 1 }
            let largest = history[first...last].reduce(0) { max($0, $1.qps) }
            #expect(Double(last - first + 1) <= max(1, largest))
        }
        #expect(history.count > 1_000)
    }

    /// Other processes at every step: `take` reads the clock in its middle, where others may run,
    /// and they in theirs.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func interleavedProcesses(_ seed: UInt64) throws {
        let bench = try Bench()
        let cap = bench.cap
        var random = FastRandom(seed: seed)
        var now: UInt64 = 1_000_000_000
        var sent = 0
        var times: [UInt64] = []
        // One process's attempt, into which others break.
        func attempt(_ depth: Int) {
            var read: UInt64 = 0
            let taken = cap.take(qps: 5) {
                now += random.next() % 50_000_000
                read = now
                if depth < 4, random.next() % 2 == 0 {
                    for _ in 0..<(random.next() % 3) { attempt(depth + 1) }
                }
                return Instant(nanoseconds: read)
            }
            if taken {
                sent += 1
                times.append(read)
            }
        }
        for _ in 0..<2_000 { attempt(0) }
        times.sort()
        #expect(Self.most(times, windowNs: QPSCap.secondNs) <= 5)
        #expect(sent > 100)
        #expect(bench.sends.pointee.load(ordering: .relaxed) == UInt64(sent))
    }

    /// A process that died after it had entered its time and before it moved the position on.
    @Test func crashBetweenTimeAndPosition() throws {
        let bench = try Bench(capacity: 64)
        var now = Instant(nanoseconds: 1_000_000_000)
        var times: [UInt64] = []
        for round in 0..<300 {
            now = now.adding(ms: 7)
            if round % 10 == 3 {
                let number = bench.sends.pointee.load(ordering: .relaxed)
                guard number < 5 || times[times.count - 5] + 1_020_000_000 <= now.nanoseconds
                else { continue }
                // What the dead process had done: it may have sent or not, so its place counts.
                bench.time(Int(number)).pointee.store(now.nanoseconds, ordering: .relaxed)
                times.append(now.nanoseconds)
                now = now.adding(ms: 1)
            }
            if bench.cap.take(qps: 5, clock: { now }) { times.append(now.nanoseconds) }
        }
        #expect(Self.most(times, windowNs: QPSCap.secondNs) == 5)
        #expect(bench.sends.pointee.load(ordering: .relaxed) == UInt64(times.count))
    }

    /// Two configurations at work on one ring: no second holds more than the larger cap.
    @Test(arguments: [1, 2, 3] as [UInt64]) func twoCapsOnOneRing(_ seed: UInt64) throws {
        let bench = try Bench()
        var random = FastRandom(seed: seed)
        var now: UInt64 = 1_000_000_000
        var sent: [UInt64] = []
        for _ in 0..<5_000 {
            now += random.next() % 8_000_000
            let qps = random.next() & 1 == 0 ? 20.0 : 50
            if bench.cap.take(qps: qps, clock: { Instant(nanoseconds: now) }) { sent.append(now) }
        }
        #expect(Self.most(sent, windowNs: QPSCap.secondNs) == 50)
    }

    @Test func aClosedCapLetsNothingGo() throws {
        let bench = try Bench()
        let opens = Instant(nanoseconds: 5_000_000_000)
        bench.cap.close(until: opens)
        let before = Instant(nanoseconds: opens.nanoseconds - 1)
        let hasRoomBefore = bench.hasRoom(qps: 10, now: before.nanoseconds)
        #expect(!hasRoomBefore)
        #expect(!bench.cap.take(qps: 10) { before })
        let hasRoom = bench.hasRoom(qps: 10, now: opens.nanoseconds)
        #expect(hasRoom)
        #expect(bench.cap.take(qps: 10) { opens })
        bench.cap.close(until: Instant(nanoseconds: .max))
        #expect(!bench.cap.take(qps: 10) { opens.adding(ms: 100_000) })
    }

    @Test func twoSizesOfRingsAndNoMore() {
        #expect(QPSCap.capacity(for: 0) == QPSCap.capacity(for: 65_535))
        #expect(QPSCap.capacity(for: 65_536) == QPSCap.capacity(for: ShadowSettings.qpsMax))
        // A ring holds one time more than its largest cap has sends.
        #expect(QPSCap.capacity(for: 65_535) > 65_535)
        #expect(QPSCap.capacity(for: ShadowSettings.qpsMax) > Int(ShadowSettings.qpsMax))
    }

    /// Real threads on one memory, for ThreadSanitizer too.
    @Test func realThreads() async throws {
        let bench = try Bench()
        let cap = bench.cap
        let times = await withTaskGroup(of: [UInt64].self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var times: [UInt64] = []
                    let end = Instant.now().adding(ms: 1_500)
                    while Instant.now() < end {
                        var read = Instant(nanoseconds: 0)
                        let taken = cap.take(qps: 300) {
                            read = .now()
                            return read
                        }
                        if taken { times.append(read.nanoseconds) }
                    }
                    return times
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }.sorted()
        #expect(Self.most(times, windowNs: QPSCap.secondNs) <= 300)
        // And nothing is lost: as many windows as went by are full.
        let windows = (times[times.count - 1] - times[0]) / (QPSCap.secondNs + QPSCap.marginNs)
        #expect(times.count >= 300 * max(1, Int(windows)))
        let sends = bench.sends.pointee.load(ordering: .acquiring)
        #expect(sends == UInt64(times.count))
    }
}
