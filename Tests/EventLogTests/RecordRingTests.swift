import CoreLoop
import Foundation
import Synchronization
import Testing

@testable import EventLog

@Suite struct RecordRingTests {
    /// A ring of `byteCount` bytes in memory of its own.
    final class Ring {
        let memory: SharedMemory
        let ring: RecordRing

        init(_ byteCount: Int) throws {
            memory = try .plain(byteCount: RecordRing.byteCount(of: byteCount))
            var plan = MemoryPlan(base: memory.base)
            ring = RecordRing(plan: &plan, byteCount: byteCount)!
        }

        /// Where the words of the ring begin.
        var words: UnsafeMutablePointer<UInt64> {
            (memory.base + 5 * 128).assumingMemoryBound(to: UInt64.self)
        }
    }

    private func expect(
        _ text: String?, _ wanted: String?, _ place: SourceLocation = #_sourceLocation
    ) {
        #expect(text == wanted, sourceLocation: place)
    }

    private static func next(_ consumer: inout RecordConsumer) -> String? {
        guard case .record(let bytes) = consumer.peek() else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        consumer.consume(bytes.count)
        return text
    }

    /// Records of every length, in a ring that they go round many times.
    @Test(arguments: [64, 128, 1_024])
    func recordsComeOutAsTheyWentIn(byteCount: Int) throws {
        let ring = try Ring(byteCount)
        var producer = RecordProducer(ring.ring)
        var consumer = RecordConsumer(ring.ring)
        var random = FastRandom(seed: 7)
        var waiting: [String] = []
        var (pushed, refused) = (0, 0)
        for number in 0..<20_000 {
            if random.next() % 2 == 0 {
                let length = Int(random.next() % UInt64(byteCount / 2 + 8))
                let text = String(repeating: "\(number % 10)", count: length)
                if withBytes(text, { producer.push($0) }) {
                    waiting.append(text)
                    pushed += 1
                } else {
                    refused += 1
                }
            } else {
                let text = Self.next(&consumer)
                #expect(text == (waiting.isEmpty ? nil : waiting.removeFirst()))
            }
        }
        #expect(pushed > 1_000 && refused > 100)
        #expect(ring.ring.droppedCount == UInt64(refused))
        let (first, second) = (consumer.takeDropped(), consumer.takeDropped())
        #expect(first == UInt64(refused) && second == 0)
    }

    @Test func whatIsInTheRingOutlivesBothSides() throws {
        let ring = try Ring(1_024)
        do {
            var producer = RecordProducer(ring.ring)
            for text in ["one", "two", "three"] { _ = withBytes(text) { producer.push($0) } }
        }
        do {
            var consumer = RecordConsumer(ring.ring)
            expect(Self.next(&consumer), "one")
            // Looked at, not taken: it is still there for the next one.
            if case .record = consumer.peek() {} else { Issue.record("nothing there") }
        }
        var producer = RecordProducer(ring.ring)
        _ = withBytes("four") { producer.push($0) }
        var consumer = RecordConsumer(ring.ring)
        expect(Self.next(&consumer), "two")
        expect(Self.next(&consumer), "three")
        expect(Self.next(&consumer), "four")
        expect(Self.next(&consumer), nil)
    }

    /// Whatever a producer gone wild leaves in the memory: never a read beyond it, and the ring
    /// works again once a producer does.
    @Test func aRingFullOfNonsenseIsEmptied() throws {
        var random = FastRandom(seed: 3)
        for round in 0..<2_000 {
            let ring = try Ring(256)
            for word in 0..<32 {
                ring.words[word] = round % 3 == 0 ? random.next() : random.next() % 300
            }
            let cells = ring.memory.base.assumingMemoryBound(to: UInt64.self)
            // The tail.
            cells[16] = round % 2 == 0 ? random.next() : random.next() % 512
            var consumer = RecordConsumer(ring.ring)
            loop: for _ in 0..<64 {
                switch consumer.peek() {
                case .record(let bytes):
                    let start = UnsafeRawPointer(ring.words)
                    #expect(bytes.baseAddress! >= start)
                    #expect(bytes.baseAddress! + bytes.count <= start + 256)
                    consumer.consume(bytes.count)
                case .invalid: continue
                case .empty: break loop
                }
            }
            // Its next life begins where the last one stopped; on a place that is none, nothing
            // can be put.
            guard cells[16] % 8 == 0 else { continue }
            var producer = RecordProducer(ring.ring)
            let isIn = withBytes("{\"a\":1}") { producer.push($0) }
            #expect(isIn)
            expect(Self.next(&consumer), "{\"a\":1}")
        }
    }

    @Test func sleepIsAnnouncedAndTheWakeAskedForOnce() throws {
        let ring = try Ring(256)
        var producer = RecordProducer(ring.ring)
        var consumer = RecordConsumer(ring.ring)
        let asleep = (producer.consumerNeedsWaking(), consumer.prepareToSleep())
        #expect(asleep == (false, true))
        _ = withBytes("x") { producer.push($0) }
        let woken = (producer.consumerNeedsWaking(), producer.consumerNeedsWaking())
        #expect(woken == (true, false))
        let again = consumer.prepareToSleep()
        #expect(!again)
    }

    // MARK: The loop

    @Test func theLoopTakesFromAllRingsAndSpeaksOfWhatWasDropped() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        let (a, b) = (try Ring(4_096), try Ring(256))
        let wake = try Wake.create()
        let loop = LogLoop(pen.writer, rings: [a.ring, b.ring], wake: wake, counters: pen.counters)
        var first = RecordProducer(a.ring)
        var second = RecordProducer(b.ring)
        var taken = 0
        for number in 1...20 {
            let isIn = withBytes(decision(number, pen.time.wallMs)) { first.push($0) }
            #expect(isIn)
            if withBytes(decision(100 + number, pen.time.wallMs), { second.push($0) }) {
                taken += 1
            }
        }
        #expect(taken == 2 && b.ring.droppedCount == 18)
        while loop.turn(pen.time) {}
        pen.settle()
        #expect(numbers(folder.log).filter { $0 < 100 } == Array(1...20))
        #expect(numbers(folder.log).filter { $0 >= 100 } == [101, 102])
        #expect(
            folder.log.count {
                $0.contains("\"event_type\":\"gap\"") && $0.contains("\"dropped\":18,")
            } == 1)
        #expect(try folder.check.broken == nil)
        close(wake.fd)
    }

    /// With the disk full, records wait in the writer, then in the ring; then they are dropped.
    @Test func aFullDiskHoldsRecordsInTheRing() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.settle()
        let ring = try Ring(4 << 20)
        let wake = try Wake.create()
        let loop = LogLoop(pen.writer, rings: [ring.ring], wake: wake, counters: pen.counters)
        var producer = RecordProducer(ring.ring)
        let disk = WriterTests.BrokenDisk(pen)
        let text = String(repeating: "x", count: 200_000)
        var pushed = 0
        for number in 1...100 {
            if withBytes("{\"t\":\"\(text)\",\"n\":\(number)}", { producer.push($0) }) {
                pushed += 1
            }
            while loop.turn(pen.time) {}
        }
        // 8 MiB in the writer and 4 MiB in the ring.
        #expect(pushed > 55 && pushed < 65)
        // Each turn takes note of what was dropped before it.
        #expect(pen.counters.value(.dropped) <= UInt64(100 - pushed))
        disk.mend()
        for _ in 0..<400 {
            pen.pass(ms: 50)
            _ = loop.turn(pen.time)
        }
        pen.settle()
        #expect(numbers(folder.log) == Array(1...pushed))
        #expect(pen.counters.value(.dropped) == UInt64(100 - pushed))
        #expect(folder.log.contains { $0.contains("\"dropped\":\(100 - pushed),") })
        #expect(try folder.check.broken == nil)
        close(wake.fd)
    }
}
