import CLinux
import CoreLoop
import Proxy
import Testing

@testable import Admin

/// The mailbox between the admin process and the supervisor, both ends in one process.
@Suite struct ControlMailboxTests {
    private final class Pair {
        let desk: ControlDesk
        let memory: SharedMemory
        var mailbox: ControlMailbox

        init() throws {
            desk = try ControlDesk()
            memory = try .map(
                fd: dup(desk.memoryFD), byteCount: ControlMailbox.byteCount, writable: true)
            mailbox = Self.mailbox(desk, memory)
        }

        static func mailbox(_ desk: ControlDesk, _ memory: borrowing SharedMemory) -> ControlMailbox
        {
            ControlMailbox(memory: memory.base, bell: desk.bell, replyBell: desk.replyBell)
        }

        /// The slot that the answer comes to; fails where none is free.
        func ask(_ order: ControlOrder) throws -> Int {
            let slot = mailbox.ask(order)
            return try #require(slot)
        }

        func takeAnswer(_ slot: Int) -> ControlAnswer? { mailbox.takeAnswer(slot) }

        /// A fresh life of the admin process.
        func restart() {
            desk.askerDied()
            mailbox = Self.mailbox(desk, memory)
        }

        /// As an admin process gone wild would write.
        var slots: ControlSlots {
            var plan = MemoryPlan(base: memory.base)
            return ControlSlots(plan: &plan)!
        }
    }

    private static let yes = ControlAnswer(status: 200, body: Array("yes".utf8))

    @Test(arguments: [
        ControlOrder.reload, .drain, .mirror(.off, route: nil, forMs: 0),
        .mirror(.on, route: 0, forMs: 1), .mirror(.rate(0), route: nil, forMs: 60_000),
        .mirror(.rate(1_000_000_000), route: 4_095, forMs: MirrorOrder.forMsMax),
    ])
    func ordersArriveAndAnswersComeBack(_ order: ControlOrder) throws {
        let pair = try Pair()
        #expect(pair.desk.nextOrder() == nil)
        let slot = try pair.ask(order)
        let (arrived, ticket) = try #require(pair.desk.nextOrder())
        #expect(arrived == order)
        #expect(pair.desk.nextOrder() == nil, "an order is taken once")
        #expect(pair.takeAnswer(slot) == nil && pair.mailbox.isWaiting)
        pair.desk.answer(ticket, Self.yes)
        #expect(pair.takeAnswer(slot) == Self.yes)
        #expect(pair.takeAnswer(slot) == nil && !pair.mailbox.isWaiting)
    }

    @Test func theBellsRing() throws {
        let pair = try Pair()
        func rings(_ wake: Wake) -> Bool {
            var entry = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
            return poll(&entry, 1, 0) == 1
        }
        #expect(!rings(pair.desk.bell))
        _ = pair.mailbox.ask(.drain)
        #expect(rings(pair.desk.bell) && !rings(pair.desk.replyBell))
        let (_, ticket) = try #require(pair.desk.nextOrder())
        pair.desk.answer(ticket, Self.yes)
        #expect(rings(pair.desk.replyBell))
        pair.mailbox.clearAnswers()
        #expect(!rings(pair.desk.replyBell))
    }

    @Test func slotsAreBoundedAndAnswersComeInAnyOrder() throws {
        let pair = try Pair()
        var slots: [Int] = []
        for number in 0..<AdminLimits.controlSlots {
            slots.append(
                try pair.ask(.mirror(.off, route: number, forMs: 0)))
        }
        let further = pair.mailbox.ask(.drain)
        #expect(further == nil)
        var tickets: [(ControlOrder, ControlTicket)] = []
        while let next = pair.desk.nextOrder() { tickets.append((next.order, next.ticket)) }
        #expect(tickets.count == AdminLimits.controlSlots)
        for (place, (order, ticket)) in tickets.enumerated().reversed() {
            #expect(order == .mirror(.off, route: place, forMs: 0))
            pair.desk.answer(ticket, ControlAnswer(status: 200 + place, body: []))
            #expect(pair.takeAnswer(slots[place])?.status == 200 + place)
        }
        _ = try pair.ask(.drain)
    }

    @Test func anAnswerThatIsTooLongIsAFailure() throws {
        let pair = try Pair()
        for (bytes, status) in [
            (AdminLimits.controlBodyBytesMax, 200), (AdminLimits.controlBodyBytesMax + 1, 500),
        ] {
            let slot = try pair.ask(.reload)
            let (_, ticket) = try #require(pair.desk.nextOrder())
            pair.desk.answer(
                ticket, ControlAnswer(status: 200, body: Array(repeating: 0x61, count: bytes)))
            #expect(pair.takeAnswer(slot)?.status == status)
        }
    }

    @Test func aDeadAdminProcessesOrdersAreDropped() throws {
        let pair = try Pair()
        _ = pair.mailbox.ask(.reload)
        let (_, ticket) = try #require(pair.desk.nextOrder())
        _ = pair.mailbox.ask(.drain)
        pair.restart()
        #expect(pair.desk.nextOrder() == nil, "an order outlived who asked")
        let slot = try pair.ask(.mirror(.on, route: nil, forMs: 0))
        let (order, second) = try #require(pair.desk.nextOrder())
        #expect(order == .mirror(.on, route: nil, forMs: 0))
        // The answer to the order before comes late, for the same slot.
        pair.desk.answer(ticket, ControlAnswer(status: 500, body: []))
        #expect(pair.takeAnswer(slot) == nil)
        pair.desk.answer(second, Self.yes)
        #expect(pair.takeAnswer(slot) == Self.yes)
        // The whole mailbox is free again.
        for _ in 0..<AdminLimits.controlSlots { _ = try pair.ask(.drain) }
    }

    @Test(
        arguments: [
            [ControlSlots.Cell.kind: 0], [.kind: 4], [.kind: .max],
            [.kind: 3, .action: 0], [.kind: 3, .action: 4],
            [.kind: 3, .action: 3, .rate: 1_000_000_001], [.kind: 3, .action: 3, .rate: .max],
            [.kind: 3, .action: 1, .route: 1 << 31], [.kind: 3, .action: 1, .route: .max],
            [.kind: 3, .action: 1, .forMs: UInt64(MirrorOrder.forMsMax) + 1],
            [.kind: 3, .action: 1, .forMs: .max],
        ] as [[ControlSlots.Cell: UInt64]])
    func ordersThatCannotBeAreRefused(_ cells: [ControlSlots.Cell: UInt64]) throws {
        let pair = try Pair()
        for (cell, value) in cells { pair.slots[0][cell].set(value) }
        pair.slots[0][.asked].publish(1)
        #expect(pair.desk.nextOrder() == nil)
        #expect(pair.slots[0].value(.answered) == 1 && pair.slots[0].value(.status) == 400)
        #expect(pair.desk.nextOrder() == nil)
    }

    /// Whatever an admin process writes, wherever: the supervisor goes on, takes no order twice for
    /// one asking, and a well-behaved next life is served.
    @Test func aHostileAdminProcess() throws {
        let pair = try Pair()
        var random = FastRandom(seed: 0xC0FFEE)
        var open: [ControlTicket] = []
        let words = ControlMailbox.byteCount / 8
        for _ in 0..<20_000 {
            let hasAim = Bool.random(using: &random)
            let place = Int.random(in: 0..<(hasAim ? 16 : words), using: &random)
            let value = Bool.random(using: &random) ? random.next() % 5 : random.next()
            pair.memory.base.storeBytes(of: value, toByteOffset: place * 8, as: UInt64.self)
            for _ in 0..<AdminLimits.controlSlots {
                guard let (_, ticket) = pair.desk.nextOrder() else { break }
                open.append(ticket)
            }
            #expect(open.count <= AdminLimits.controlSlots)
            if open.count > 4 { pair.desk.answer(open.removeFirst(), Self.yes) }
        }
        pair.restart()
        for _ in 0..<3 * AdminLimits.controlSlots {
            let slot = try pair.ask(.drain)
            let (order, ticket) = try #require(pair.desk.nextOrder())
            #expect(order == .drain && pair.desk.nextOrder() == nil)
            pair.desk.answer(ticket, Self.yes)
            #expect(pair.takeAnswer(slot) == Self.yes)
        }
    }

    @Test func nobodyCanTakeTheMemoryAway() throws {
        let pair = try Pair()
        #expect(ftruncate(pair.desk.memoryFD, 0) == -1)
        #expect(ftruncate(pair.desk.memoryFD, 1 << 30) == -1)
        let (first, last) = (0, ControlMailbox.byteCount - 1)
        #expect(pair.memory.base.load(fromByteOffset: first, as: UInt8.self) == 0)
        #expect(pair.memory.base.load(fromByteOffset: last, as: UInt8.self) == 0)
    }
}
