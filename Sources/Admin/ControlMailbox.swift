import CLinux
public import CoreLoop
public import Proxy
import Synchronization

/// What people ask of a running gateway through its admin process.
public enum ControlOrder: Equatable, Sendable {
    /// Take the configuration up anew.
    case reload
    /// Finish what is under way and end.
    case drain
    /// An order about mirroring: for one route, by its index in the settings that the admin process
    /// runs with, or for all.
    case mirror(MirrorOrder.Action, route: Int?, forMs: Int)
}

/// One answer of the supervisor: an HTTP status and a JSON text.
public struct ControlAnswer: Equatable, Sendable {
    /// 200 and above.
    public var status: Int
    /// UTF-8, with a newline at its end; at most `AdminLimits.controlBodyBytesMax`.
    public var body: [UInt8]

    /// An answer with this body.
    public init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

/// Which order an answer belongs to.
public struct ControlTicket: Equatable, Sendable {
    let slot: Int
    let serial: UInt64
}

/// The memory between an admin process and its supervisor: a few slots, each with room for one
/// order, in binary, and for the answer to it.
///
/// A slot is free while its two serials are equal. The admin process writes an order and raises
/// `asked`; the supervisor writes the answer and lets `answered` follow. Neither side takes the
/// other's cells for its own state: each keeps its serials in memory of its own.
struct ControlSlots {
    enum Cell: Int, CaseIterable, Sendable {
        case asked, kind, action, rate, route, forMs
        case answered, status, bodyBytes
    }

    private let rows: [CounterRow<Cell>]
    private let bodies: [UnsafeMutablePointer<UInt8>]

    init?(plan: inout MemoryPlan) {
        let rows = (0..<AdminLimits.controlSlots).map { _ in CounterRow<Cell>(plan: &plan) }
        let bodies = (0..<AdminLimits.controlSlots).map { _ in
            plan.take(UInt8.self, count: AdminLimits.controlBodyBytesMax)
        }
        guard rows[0] != nil else { return nil }
        self.rows = rows.map { $0! }
        self.bodies = bodies.map { $0! }
    }

    static var byteCount: Int {
        var plan = MemoryPlan()
        _ = ControlSlots(plan: &plan)
        plan.alignToPage()
        return plan.byteCount
    }

    subscript(slot: Int) -> CounterRow<Cell> { rows[slot] }

    func body(_ slot: Int) -> UnsafeMutablePointer<UInt8> { bodies[slot] }
}

/// The supervisor's end of one admin process's mailbox. Everything that it reads there is copied
/// once and checked: the admin process speaks with clients, and may have fallen into wrong hands.
public final class ControlDesk {
    private let memory: SharedMemory
    private let slots: ControlSlots
    /// The admin process knocks here.
    public let bell: Wake
    /// The supervisor knocks here.
    public let replyBell: Wake
    /// The serial of the order that is being worked on, and the last that was answered.
    private var taken = [UInt64?](repeating: nil, count: AdminLimits.controlSlots)
    private var answered = [UInt64](repeating: 0, count: AdminLimits.controlSlots)

    /// An empty mailbox in fresh memory, whose size nobody can change.
    public init() throws(SystemError) {
        memory = try .create(name: "umbra-control", byteCount: ControlSlots.byteCount)
        var plan = MemoryPlan(base: memory.base)
        slots = ControlSlots(plan: &plan)!
        bell = try .create()
        replyBell = try .create()
    }

    deinit {
        close(bell.fd)
        close(replyBell.fd)
    }

    /// The mailbox's memfd, for the admin process.
    public var memoryFD: Int32 { memory.fd }

    /// The next order that nobody works on yet; nil where there is none. Whoever takes it answers
    /// it, at once or later. Orders that cannot be are answered here.
    public func nextOrder() -> (order: ControlOrder, ticket: ControlTicket)? {
        for slot in 0..<AdminLimits.controlSlots where taken[slot] == nil {
            let asked = slots[slot][.asked].acquired
            guard asked != answered[slot] else { continue }
            taken[slot] = asked
            let ticket = ControlTicket(slot: slot, serial: asked)
            if let order = read(slot) { return (order, ticket) }
            answer(ticket, .failure(400, "bad_order", "The supervisor knows no such order."))
        }
        return nil
    }

    private func read(_ slot: Int) -> ControlOrder? {
        let row = slots[slot]
        switch row.value(.kind) {
        case 1: return .reload
        case 2: return .drain
        case 3: break
        default: return nil
        }
        let route = row.value(.route)
        let forMs = row.value(.forMs)
        let rate = row.value(.rate)
        guard route <= UInt64(Int32.max), forMs <= UInt64(MirrorOrder.forMsMax) else { return nil }
        let action: MirrorOrder.Action
        switch row.value(.action) {
        case 1: action = .off
        case 2: action = .on
        case 3 where rate <= MirrorOrder.rateMax: action = .rate(UInt32(rate))
        default: return nil
        }
        return .mirror(action, route: route == 0 ? nil : Int(route) - 1, forMs: Int(forMs))
    }

    /// Answers an order. One whose admin process has died since goes nowhere.
    public func answer(_ ticket: ControlTicket, _ answer: ControlAnswer) {
        guard taken[ticket.slot] == ticket.serial else { return }
        var answer = answer
        if answer.body.count > AdminLimits.controlBodyBytesMax {
            answer = .failure(500, "answer_too_long", "The answer is longer than the mailbox.")
        }
        let row = slots[ticket.slot]
        answer.body.withUnsafeBufferPointer {
            slots.body(ticket.slot).update(from: $0.baseAddress!, count: $0.count)
        }
        row[.status].set(UInt64(answer.status))
        row[.bodyBytes].set(UInt64(answer.body.count))
        finish(ticket.slot, ticket.serial)
        replyBell.signal()
    }

    private func finish(_ slot: Int, _ serial: UInt64) {
        taken[slot] = nil
        answered[slot] = serial
        slots[slot][.answered].publish(serial)
    }

    /// The admin process has died, and none runs: its orders are dropped, answers to them go
    /// nowhere, and its next life finds all slots free.
    public func askerDied() {
        for slot in 0..<AdminLimits.controlSlots {
            if let serial = taken[slot] { finish(slot, serial) }
            slots[slot][.asked].set(answered[slot])
        }
    }
}

/// The admin process's end of the mailbox.
public struct ControlMailbox {
    private let slots: ControlSlots
    private let bell: Wake
    private let replyBell: Wake
    private var asked: [UInt64]
    private var isTaken = [Bool](repeating: false, count: AdminLimits.controlSlots)

    /// Bytes of the memory.
    public static var byteCount: Int { ControlSlots.byteCount }

    /// A mailbox in `memory`, which the supervisor made and which stays mapped.
    public init(memory: UnsafeMutableRawPointer, bell: Wake, replyBell: Wake) {
        var plan = MemoryPlan(base: memory)
        let slots = ControlSlots(plan: &plan)!
        self.slots = slots
        self.bell = bell
        self.replyBell = replyBell
        asked = (0..<AdminLimits.controlSlots).map { slots[$0][.answered].acquired }
    }

    /// Readable after an answer.
    var answersFD: Int32 { replyBell.fd }

    /// Takes the knocks that came.
    func clearAnswers() { replyBell.clear() }

    /// Hands an order to the supervisor. The slot that its answer comes to; nil where all have
    /// work.
    mutating func ask(_ order: ControlOrder) -> Int? {
        guard let slot = isTaken.firstIndex(of: false) else { return nil }
        isTaken[slot] = true
        let row = slots[slot]
        switch order {
        case .reload: row[.kind].set(1)
        case .drain: row[.kind].set(2)
        case .mirror(let action, let route, let forMs):
            row[.kind].set(3)
            row[.rate].set(0)
            switch action {
            case .off: row[.action].set(1)
            case .on: row[.action].set(2)
            case .rate(let rate):
                row[.action].set(3)
                row[.rate].set(UInt64(rate))
            }
            row[.route].set(route.map { UInt64($0) + 1 } ?? 0)
            row[.forMs].set(UInt64(forMs))
        }
        asked[slot] &+= 1
        row[.asked].publish(asked[slot])
        bell.signal()
        return slot
    }

    /// The answer in `slot`, which is free from then on; nil where it is still to come.
    mutating func takeAnswer(_ slot: Int) -> ControlAnswer? {
        guard isTaken[slot], slots[slot][.answered].acquired == asked[slot] else { return nil }
        let row = slots[slot]
        let count = Int(min(row.value(.bodyBytes), UInt64(AdminLimits.controlBodyBytesMax)))
        let body = Array(UnsafeBufferPointer(start: slots.body(slot), count: count))
        isTaken[slot] = false
        return ControlAnswer(status: Int(row.value(.status)), body: body)
    }

    /// Whether any order is under way.
    var isWaiting: Bool { isTaken.contains(true) }
}
