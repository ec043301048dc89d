import CLinux
import CoreLoop
import Mirror
import Synchronization
import Testing

@Suite struct MirrorLinkTests {
    @Test func layoutIsWhatTheCommentsSay() {
        #expect(MemoryLayout<CopyEntry>.size == 64)
        #expect(MemoryLayout<CopyCell>.stride == 64)
        #expect(MemoryLayout<CopyReturn>.stride == 32)
        #expect(MirrorLimits.slicesPerEntry * MemoryLayout<Slice>.stride <= 64)
    }

    @Test func entryThroughCell() {
        var entry = CopyEntry(ticket: 7, shadow: 3, pushed: Instant(nanoseconds: 99))
        entry.sliceCount = 2
        entry.headBytes = 100
        entry.bodyBytes = 1 << 20
        entry.trailerBytes = 12
        entry.hasBody = 1
        entry.slices = (Slice(slot: 1, offset: 2, count: 3), Slice(slot: 4, offset: 5, count: 6))
        let back = CopyCell(entry).entry
        #expect(back.ticket == 7 && back.shadow == 3 && back.pushedNs == 99)
        #expect(back.sliceCount == 2 && back.headBytes == 100 && back.bodyBytes == 1 << 20)
        #expect(back.trailerBytes == 12 && back.hasBody == 1)
        #expect(back.slices.0 == Slice(slot: 1, offset: 2, count: 3))
        #expect(back.slices.1 == Slice(slot: 4, offset: 5, count: 6))
    }

    @Test func continuationsHoldFiveSlices() {
        var cell = CopyCell()
        let slices = (0..<MirrorLimits.slicesPerEntry).map {
            Slice(slot: UInt32($0 + 1), offset: $0 * 100, count: .init(UInt32.max) - $0)
        }
        for (index, slice) in slices.enumerated() { cell[slice: index] = slice }
        for (index, slice) in slices.enumerated() { #expect(cell[slice: index] == slice) }
    }

    @Test func placesOfACopy() {
        let places = [0: 1, 1: 1, 2: 1, 3: 2, 7: 2, 8: 3, 12: 3, 13: 4, 512: 103]
        for (slices, count) in places { #expect(CopyCell.count(forSlices: slices) == count) }
    }

    @Test func returnsKeepWhatTheySay() {
        let dropped = CopyReturn.dropped(9, .coolDown)
        #expect(dropped.ticket == 9 && dropped.wasSent == 0)
        #expect(DropReason(rawValue: Int(dropped.code)) == .coolDown)
        let sent = CopyReturn.sent(8, .timeout, status: 503, latencyUs: 77, shadowID: (1, 2))
        #expect(sent.ticket == 8 && sent.wasSent == 1 && sent.status == 503 && sent.latencyUs == 77)
        #expect(CopyResult(rawValue: Int(sent.code)) == .timeout)
        #expect(sent.shadowID == (1, 2))
    }

    /// Both sides map the same memory by themselves: the second plan finds what the first wrote.
    @Test func twoMappingsSeeOneLink() throws {
        let memory = try SharedMemory.create(
            name: "link", byteCount: MirrorLink.byteCount(depth: 16))
        let other = try SharedMemory.map(
            fd: dup(memory.fd), byteCount: memory.byteCount, writable: true)
        var plan = MemoryPlan(base: memory.base)
        var otherPlan = MemoryPlan(base: other.base)
        let link = try #require(MirrorLink(plan: &plan, depth: 16))
        let otherLink = try #require(MirrorLink(plan: &otherPlan, depth: 16))
        let producer = RingProducer(link.copies)
        let consumer = RingConsumer(otherLink.copies)
        let entry = CopyEntry(ticket: 5, shadow: 1, pushed: Instant(nanoseconds: 3))
        let isPushed = producer.push(CopyCell(entry))
        #expect(isPushed)
        let taken = consumer.pop()?.entry.ticket
        #expect(taken == 5)
        link.readyEpoch.publish(4)
        #expect(otherLink.readyEpoch.acquired == 4)
        otherLink.ticketStates[5].store(TicketState.sent, ordering: .releasing)
        #expect(link.ticketStates[5].load(ordering: .acquiring) == TicketState.sent)
        let back = RingProducer(otherLink.returns)
        let isReturned = back.push(.dropped(5, .stale))
        #expect(isReturned)
        #expect(RingConsumer(link.returns).pop()?.ticket == 5)
        link.reset()
        #expect(otherLink.copies.count == 0 && otherLink.returns.count == 0)
        #expect(otherLink.ticketStates[5].load(ordering: .relaxed) == TicketState.free)
    }
}
