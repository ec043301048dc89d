import CLinux
import CoreLoop
import Foundation
import Synchronization
import Testing

/// Rings between real threads and processes: order, loss, and lost wake-ups.
///
/// Run these under `--sanitize=thread` as well.
@Suite(.serialized) struct RingThreadTests {
    /// An entry that shows when it was read half written.
    struct Entry: BitwiseCopyable {
        var number: UInt64
        var check: (UInt64, UInt64, UInt64)

        init(_ number: UInt64) {
            self.number = number
            check = (number &* 3, ~number, number ^ 0x5555)
        }

        var isWhole: Bool {
            check.0 == number &* 3 && check.1 == ~number && check.2 == number ^ 0x5555
        }
    }

    /// What the two sides share, besides the ring.
    final class Track: Sendable {
        let torn = Atomic<Int>(0)
        let outOfOrder = Atomic<Int>(0)
        let received = Atomic<UInt64>(0)
        let lostWakeUps = Atomic<Int>(0)
        let sleeps = Atomic<Int>(0)
        let done = DispatchSemaphore(value: 0)

        /// Notes one entry; it has to be the next.
        func take(_ entry: Entry, _ expected: UInt64) {
            if !entry.isWhole { torn.add(1, ordering: .relaxed) }
            if entry.number != expected { outOfOrder.add(1, ordering: .relaxed) }
        }
    }

    static func ring(_ memory: borrowing SharedMemory, depth: Int) throws -> RingMemory<Entry> {
        var plan = MemoryPlan(base: memory.base)
        return try #require(RingMemory<Entry>(plan: &plan, depth: depth))
    }

    static func byteCount(depth: Int) -> Int {
        var plan = MemoryPlan()
        _ = RingMemory<Entry>(plan: &plan, depth: depth)
        return plan.byteCount
    }

    @Test(arguments: [(depth: 1_024, count: 3_000_000), (64, 2_000_000), (1, 100_000)])
    func entriesArriveInOrderAndWhole(depth: Int, count: UInt64) throws {
        let memory = try SharedMemory.plain(byteCount: Self.byteCount(depth: depth))
        let ring = try Self.ring(memory, depth: depth)
        let track = Track()
        Thread.detachNewThread {
            let producer = RingProducer(ring)
            var random = FastRandom(seed: UInt64(depth))
            var next: UInt64 = 0
            while next < count {
                let batch = Int(min(count - next, 1 + random.next() % UInt64(min(depth, 7))))
                guard producer.hasRoom(for: batch) else {
                    sched_yield()
                    continue
                }
                for ahead in 0..<batch { producer.write(Entry(next + UInt64(ahead)), ahead: ahead) }
                producer.publish(batch)
                next += UInt64(batch)
            }
        }
        Thread.detachNewThread {
            let consumer = RingConsumer(ring)
            var expected: UInt64 = 0
            while expected < count {
                guard let entry = consumer.pop() else {
                    sched_yield()
                    continue
                }
                track.take(entry, expected)
                expected += 1
            }
            track.received.store(expected, ordering: .relaxed)
            track.done.signal()
        }
        #expect(track.done.wait(timeout: .now() + 120) == .success)
        #expect(track.received.load(ordering: .relaxed) == count)
        #expect(track.torn.load(ordering: .relaxed) == 0)
        #expect(track.outOfOrder.load(ordering: .relaxed) == 0)
        #expect(ring.count == 0)
    }

    /// The consumer sleeps on an eventfd whenever the ring is empty. A wake-up that gets lost
    /// shows as a poll that runs into its time-out.
    @Test func noWakeUpIsLost() throws {
        let (depth, count) = (16, UInt64(500_000))
        let memory = try SharedMemory.plain(byteCount: Self.byteCount(depth: depth))
        let ring = try Self.ring(memory, depth: depth)
        let wake = try Wake.create()
        let track = Track()
        Thread.detachNewThread {
            let producer = RingProducer(ring)
            var random = FastRandom(seed: 4)
            var next: UInt64 = 0
            while next < count {
                guard producer.push(Entry(next)) else {
                    sched_yield()
                    continue
                }
                next += 1
                if producer.consumerNeedsWaking() { wake.signal() }
                // Pauses of all lengths meet the consumer at every step of falling asleep.
                for _ in 0..<random.next() % 64 { _ = random.next() }
            }
        }
        Thread.detachNewThread {
            Self.consumeSleeping(ring, wake, count, track)
            track.done.signal()
        }
        #expect(track.done.wait(timeout: .now() + 120) == .success)
        #expect(track.received.load(ordering: .relaxed) == count)
        #expect(track.lostWakeUps.load(ordering: .relaxed) == 0)
        #expect(track.outOfOrder.load(ordering: .relaxed) == 0)
        #expect(track.torn.load(ordering: .relaxed) == 0)
        #expect(track.sleeps.load(ordering: .relaxed) > 0)
        close(wake.fd)
    }

    static func consumeSleeping(
        _ ring: RingMemory<Entry>, _ wake: Wake, _ count: UInt64, _ track: Track
    ) {
        let consumer = RingConsumer(ring)
        var expected: UInt64 = 0
        while expected < count {
            if let entry = consumer.pop() {
                track.take(entry, expected)
                expected += 1
                continue
            }
            guard consumer.prepareToSleep() else { continue }
            track.sleeps.add(1, ordering: .relaxed)
            var waiting = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
            if poll(&waiting, 1, 5_000) == 0 { track.lostWakeUps.add(1, ordering: .relaxed) }
            wake.clear()
            consumer.wokeUp()
        }
        track.received.store(expected, ordering: .relaxed)
    }

    /// A producer in another process, killed between two pushes: all that it showed is there.
    @Test(arguments: [UInt64(1), 3, 1_000, 4_095])
    func aKilledProducerLeavesAWholeRing(count: UInt64) async throws {
        let depth = 4_096
        let memory = try SharedMemory.create(
            name: "ring", byteCount: Self.byteCount(depth: depth))
        let path: String = "/proc/\(getpid())/fd/\(memory.fd)"
        let byteCount: Int = memory.byteCount
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [path = path as String, byteCount = byteCount as Int, count = count as UInt64] in
            let fd = umbra_open(path, O_RDWR | O_CLOEXEC, 0)
            let memory = try SharedMemory.map(fd: fd, byteCount: byteCount, writable: true)
            let producer = RingProducer(try RingThreadTests.ring(memory, depth: 4_096))
            for number in 0..<count { _ = producer.push(Entry(number)) }
            producer.write(Entry(12_345), ahead: 0)
            kill(getpid(), SIGKILL)
        }
        let ring = try Self.ring(memory, depth: depth)
        let consumer = RingConsumer(ring)
        let track = Track()
        var expected: UInt64 = 0
        while let entry = consumer.pop() {
            track.take(entry, expected)
            expected += 1
        }
        #expect(expected == count)
        #expect(
            track.torn.load(ordering: .relaxed) + track.outOfOrder.load(ordering: .relaxed) == 0)
    }

    /// A producer in another process and a consumer here, at the same time.
    @Test func entriesCrossProcessesInOrder() async throws {
        let depth = 256
        let count: UInt64 = 500_000
        let memory = try SharedMemory.create(
            name: "ring", byteCount: Self.byteCount(depth: depth))
        let path: String = "/proc/\(getpid())/fd/\(memory.fd)"
        let byteCount: Int = memory.byteCount
        let ring = try Self.ring(memory, depth: depth)
        let track = Track()
        Thread.detachNewThread {
            let consumer = RingConsumer(ring)
            let end = Instant.now().adding(ms: 60_000)
            var expected: UInt64 = 0
            while expected < count, Instant.now() < end {
                guard let entry = consumer.pop() else {
                    sched_yield()
                    continue
                }
                track.take(entry, expected)
                expected += 1
            }
            track.received.store(expected, ordering: .relaxed)
            track.done.signal()
        }
        await #expect(processExitsWith: .success) {
            [path = path as String, byteCount = byteCount as Int, count = count as UInt64] in
            let fd = umbra_open(path, O_RDWR | O_CLOEXEC, 0)
            let memory = try SharedMemory.map(fd: fd, byteCount: byteCount, writable: true)
            let producer = RingProducer(try RingThreadTests.ring(memory, depth: 256))
            var next: UInt64 = 0
            while next < count {
                if producer.push(Entry(next)) { next += 1 } else { sched_yield() }
            }
        }
        #expect(waitFor(track.done))
        #expect(track.received.load(ordering: .relaxed) == count)
        #expect(
            track.torn.load(ordering: .relaxed) + track.outOfOrder.load(ordering: .relaxed) == 0)
    }

    /// `DispatchSemaphore.wait` is not for async functions; this one is called from one on purpose.
    private func waitFor(_ semaphore: DispatchSemaphore) -> Bool {
        semaphore.wait(timeout: .now() + 60) == .success
    }
}
