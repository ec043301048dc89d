import CLinux
import CoreLoop
import Testing

@testable import EventLog

@Suite struct EventSourceTests {
    /// Makes two events of each record that begins with an S.
    private final class Doubling: EventSource {
        var gathered = 0
        var isClosed = false
        var made = 0

        func gather() { gathered += 1 }
        func isRaw(_ record: UnsafeRawBufferPointer) -> Bool { record.first == 0x53 }
        func close() { isClosed = true }

        func makeEvents(
            of record: UnsafeRawBufferPointer, _ event: (UnsafeRawBufferPointer) -> Void
        ) {
            for _ in 0..<2 {
                made += 1
                withBytes("{\"event_type\":\"decision\",\"n\":\(made)}", event)
            }
        }
    }

    @Test func recordsBecomeEventsInTheirPlace() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        let memory = try SharedMemory.plain(byteCount: RecordRing.byteCount(of: 1 << 14))
        var plan = MemoryPlan(base: memory.base)
        let ring = try #require(RecordRing(plan: &plan, byteCount: 1 << 14))
        let wake = try Wake.create()
        let source = Doubling()
        let loop = LogLoop(
            pen.writer, rings: [ring], wake: wake, counters: pen.counters, source: source)
        var producer = RecordProducer(ring)
        let count = Limits.madePerTurnMax + 3
        for _ in 0..<count { _ = withBytes("S") { producer.push($0) } }
        _ = withBytes("{\"event_type\":\"decision\",\"n\":0}") { producer.push($0) }
        let isMore = loop.turn(pen.time)
        #expect(isMore && source.made == 2 * Limits.madePerTurnMax)
        #expect(pen.counters.value(.appended) >= UInt64(source.made))
        #expect(source.gathered == 1)
        while loop.turn(pen.time) {}
        #expect(numbers(folder.log) == Array(1...2 * count) + [0])
        #expect(!source.isClosed)
        _ = loop.run(waitMs: 100) { true }
        #expect(source.isClosed)
        #expect(try folder.check.broken == nil)
        close(wake.fd)
    }
}
