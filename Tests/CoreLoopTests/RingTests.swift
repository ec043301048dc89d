import CoreLoop
import Synchronization
import Testing

/// A ring on plain memory; what lives as long as its test.
struct RingBench: ~Copyable {
    let memory: SharedMemory
    let ring: RingMemory<UInt64>

    init(depth: Int) throws {
        var size = MemoryPlan()
        _ = RingMemory<UInt64>(plan: &size, depth: depth)
        let memory = try SharedMemory.plain(byteCount: size.byteCount)
        var plan = MemoryPlan(base: memory.base)
        ring = try #require(RingMemory<UInt64>(plan: &plan, depth: depth))
        self.memory = memory
    }

    /// The consumer's position, then the producer's: each on 128 bytes of its own, from the start.
    var head: UnsafeMutablePointer<UInt64> { memory.base.assumingMemoryBound(to: UInt64.self) }
    var tail: UnsafeMutablePointer<UInt64> {
        (memory.base + 128).assumingMemoryBound(to: UInt64.self)
    }
}

/// One thread's use of a ring, against an array.
@Suite struct RingTests {
    @Test(arguments: [1, 2, 4, 8, 64, 1_024])
    func randomUseEqualsAQueue(depth: Int) throws {
        let bench = try RingBench(depth: depth)
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        var random = FastRandom(seed: UInt64(depth))
        var model: [UInt64] = []
        var next: UInt64 = 0
        for step in 0..<20_000 {
            // Phases that fill the ring and phases that drain it, so that it wraps both ways.
            let pushes = random.next() % 16 < (step / (depth * 4) % 2 == 0 ? 10 : 6)
            if pushes {
                let wanted = Int.random(in: 0...min(depth + 1, 9), using: &random)
                let fits = producer.hasRoom(for: wanted)
                try #require(fits == (model.count + wanted <= depth))
                guard fits else { continue }
                for ahead in 0..<wanted { producer.write(next + UInt64(ahead), ahead: ahead) }
                // Nothing is seen before it is published.
                let hidden = consumer.peek(ahead: model.count)
                try #require(hidden == nil)
                producer.publish(wanted)
                model += next..<next + UInt64(wanted)
                next += UInt64(wanted)
            } else if random.next() % 2 == 0 {
                let popped = consumer.pop()
                try #require(popped == model.first)
                if popped != nil { model.removeFirst() }
            } else {
                let count = Int.random(in: 0...min(model.count, 9), using: &random)
                for ahead in 0..<count {
                    let entry = consumer.peek(ahead: ahead)
                    try #require(entry == model[ahead])
                }
                consumer.consume(count)
                model.removeFirst(count)
            }
            try #require(bench.ring.count == model.count)
        }
        #expect(next > 1_000)
    }

    @Test(arguments: [1, 2, 16])
    func aFullRingRefusesAndLosesNothing(depth: Int) throws {
        let bench = try RingBench(depth: depth)
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        for round in 0..<5 {
            for index in 0..<depth {
                let pushed = producer.push(UInt64(round * depth + index))
                #expect(pushed)
            }
            for _ in 0..<3 {
                let pushed = producer.push(UInt64.max)
                #expect(!pushed)
            }
            #expect(bench.ring.count == depth)
            for index in 0..<depth {
                let popped = consumer.pop()
                #expect(popped == UInt64(round * depth + index))
            }
            let popped = consumer.pop()
            #expect(popped == nil)
        }
    }

    @Test func theConsumerIsWokenOnceForEachSleep() throws {
        let bench = try RingBench(depth: 8)
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        func push() -> Bool { producer.push(1) && producer.consumerNeedsWaking() }

        var answers = [push()]  // awake: no
        answers.append(consumer.prepareToSleep())  // an entry waits: no sleep
        answers.append(push())  // nor a wake-up
        while consumer.pop() != nil {}
        answers.append(consumer.prepareToSleep())  // empty: sleep
        answers.append(push())  // wakes
        answers.append(push())  // already woken
        consumer.wokeUp()
        while consumer.pop() != nil {}
        answers.append(consumer.prepareToSleep())
        consumer.wokeUp()  // a timer woke it
        answers.append(push())
        #expect(answers == [false, false, false, true, true, false, true, false])
    }

    @Test func aSuccessorGoesOnWhereTheRingStands() throws {
        let bench = try RingBench(depth: 4)
        do {
            let producer = RingProducer(bench.ring)
            let consumer = RingConsumer(bench.ring)
            var pushed = true
            for entry in UInt64(0)..<3 { pushed = producer.push(entry) && pushed }
            let popped = consumer.pop()
            #expect(pushed && popped == 0)
            // Written, but not published before the process died.
            producer.write(99, ahead: 0)
        }
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        let pushed = [producer.push(3), producer.push(4), producer.push(5)]
        #expect(pushed == [true, true, false])
        var popped: [UInt64] = []
        while let entry = consumer.pop() { popped.append(entry) }
        #expect(popped == [1, 2, 3, 4])
    }

    @Test func aResetRingIsEmptyForBoth() throws {
        let bench = try RingBench(depth: 4)
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        for entry in UInt64(0)..<7 {
            _ = producer.push(entry)
            if entry < 4 { _ = consumer.pop() }
        }
        bench.ring.reset()
        producer.resume()
        consumer.resume()
        #expect(bench.ring.count == 0)
        let before = consumer.pop()
        let pushed = (0..<5).map { producer.push(UInt64($0) + 10) }
        let after = consumer.pop()
        #expect(before == nil && after == 10)
        #expect(pushed == [true, true, true, true, false])
    }

    /// The other side of a ring is another process, which may run wild: what it leaves in the
    /// shared positions may cost entries, but no trap and no access outside.
    @Test(arguments: [0, 1, 3, 7, 1 << 32, 1 << 62, 1 << 63, UInt64.max - 3, UInt64.max])
    func wildPositionsDoNotTrap(position: UInt64) throws {
        let bench = try RingBench(depth: 4)
        let producer = RingProducer(bench.ring)
        let consumer = RingConsumer(bench.ring)
        for entry in UInt64(0)..<4 { _ = producer.push(entry) }
        bench.head.pointee = position
        var pushed = 0
        for _ in 0..<20 where producer.push(7) { pushed += 1 }
        #expect(pushed <= 4)
        #expect((0...4).contains(bench.ring.count))
        bench.tail.pointee = position
        for _ in 0..<20 { _ = consumer.pop() }
        _ = consumer.peek(ahead: 3)
        _ = consumer.prepareToSleep()
        #expect((0...4).contains(bench.ring.count))
    }

    @Test(arguments: [0, -1, 3, 6, 1_000])
    func aDepthThatIsNoPowerOfTwoTraps(depth: Int) async {
        await #expect(processExitsWith: .failure) { [depth] in
            var plan = MemoryPlan()
            _ = RingMemory<UInt64>(plan: &plan, depth: depth)
        }
    }
}
