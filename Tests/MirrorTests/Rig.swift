import CLinux
import CoreLoop
import EventLog
import Mirror
import Synchronization
import Testing
import Upstream

/// A shadow process and the workers that feed it, in one process and one thread, with a clock that
/// the test moves. Peers are real sockets on loopback.
final class Rig {
    static let ringDepth = 256
    static let blockBytes = 16 << 10

    /// One worker's side of a link.
    final class Feeder {
        let link: MirrorLink
        let blocks: BlockPool
        let copies: RingProducer<CopyCell>
        let returns: RingConsumer<CopyReturn>
        private let memory: SharedMemory
        private let blockMemory: SharedMemory
        var nextTicket: UInt32 = 0
        var lent: [UInt32: [UInt32]] = [:]

        init() throws {
            memory = try .plain(byteCount: MirrorLink.byteCount(depth: Rig.ringDepth))
            var plan = MemoryPlan(base: memory.base)
            link = try #require(MirrorLink(plan: &plan, depth: Rig.ringDepth))
            blockMemory = try .plain(byteCount: 1_024 * Rig.blockBytes)
            blocks = BlockPool(
                base: blockMemory.base, blockBytes: Rig.blockBytes, count: 1_024)
            copies = RingProducer(link.copies)
            returns = RingConsumer(link.returns)
        }

        var memoryBase: UnsafeMutableRawPointer { memory.base }

        var shadowLink: ShadowLink {
            ShadowLink(
                link: link, blocks: UnsafeRawPointer(blocks.pointer(0)),
                blockBytes: Rig.blockBytes, blockCount: 1_024)
        }

        /// Lays `bytes` into fresh blocks, `sliceBytes` in each, and lends them.
        func lay(_ bytes: [UInt8], sliceBytes: Int, ticket: UInt32) -> [Slice] {
            var slices: [Slice] = []
            var start = 0
            while start < bytes.count {
                let count = min(sliceBytes, bytes.count - start)
                let slot = blocks.take()
                precondition(slot != BlockPool.none)
                let offset = slices.count % 7  // Not always at a block's start.
                bytes.withUnsafeBytes {
                    (blocks.pointer(slot) + offset).copyMemory(
                        from: $0.baseAddress! + start, byteCount: count)
                }
                lent[ticket, default: []].append(slot)
                slices.append(Slice(slot: slot, offset: offset, count: count))
                start += count
            }
            return slices
        }

        /// Pushes a copy as the worker's half does. Returns its ticket.
        @discardableResult
        func push(
            head: String, body: [UInt8] = [], trailers: String = "", hasBody: Bool? = nil,
            shadow: Int = 0, pair: UInt64 = 0, primary: CopyPrimary = .plain,
            sliceBytes: Int = 8 << 10, now: Instant
        ) -> UInt32 {
            let ticket = nextTicket
            nextTicket = (nextTicket + 1) % UInt32(Rig.ringDepth)
            let bytes = Array(head.utf8) + body + Array(trailers.utf8)
            let slices = lay(bytes, sliceBytes: sliceBytes, ticket: ticket)
            var entry = CopyEntry(ticket: ticket, shadow: UInt16(shadow), pushed: now)
            entry.headBytes = UInt32(head.utf8.count)
            entry.bodyBytes = UInt32(body.count)
            entry.trailerBytes = UInt32(trailers.utf8.count)
            entry.hasBody = hasBody ?? !body.isEmpty ? 1 : 0
            entry.sliceCount = UInt16(slices.count)
            entry.pair = pair
            entry.primary = primary.rawValue
            push(entry, slices)
            return ticket
        }

        func push(_ entry: CopyEntry, _ slices: [Slice]) {
            var entry = entry
            if slices.count > 0 { entry.slices.0 = slices[0] }
            if slices.count > 1 { entry.slices.1 = slices[1] }
            let places = CopyCell.count(forSlices: slices.count)
            precondition(copies.hasRoom(for: places))
            copies.write(CopyCell(entry), ahead: 0)
            for place in 1..<max(places, 1) {
                var cell = CopyCell()
                for index in 0..<MirrorLimits.slicesPerEntry {
                    let position =
                        MirrorLimits.slicesInFirstEntry + (place - 1) * MirrorLimits.slicesPerEntry
                        + index
                    if position < slices.count { cell[slice: index] = slices[position] }
                }
                copies.write(cell, ahead: place)
            }
            link.ticketStates[Int(entry.ticket)].store(TicketState.queued, ordering: .relaxed)
            copies.publish(places)
        }
    }

    let board: MirrorBoard
    let feeders: [Feeder]
    let worker: ShadowWorker
    let wakeFD: Int32
    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)
    private(set) var returned: [[CopyReturn]]
    private let boardMemory: SharedMemory
    private let capMemory: SharedMemory
    let caps: [QPSCap]

    /// - Parameter addresses: for each shadow, where it is.
    init(
        _ addresses: [[SocketAddress]], feeders feederCount: Int = 1, shadowProcesses: Int = 1,
        epoch: UInt64 = 1, readyEpoch: UInt64 = 1, pathPrefix: String = "",
        provider: ProviderSettings? = nil, captures: RecordRing? = nil,
        memoryBytes: Int = 256 << 20,
        _ change: (inout ShadowSettings) -> Void = { _ in }
    ) throws {
        var settings: [ShadowSettings] = []
        var targets: [TargetSettings] = []
        for (index, list) in addresses.enumerated() {
            var shadow = ShadowSettings(targetID: "shadow-\(index)", target: index)
            shadow.qps = 1_000
            change(&shadow)
            settings.append(shadow)
            var target = TargetSettings(
                id: "shadow-\(index)", authority: "shadow.test:80", host: "shadow.test",
                port: 80, pathPrefix: pathPrefix, addresses: list)
            target.provider = provider
            targets.append(target)
        }
        let shape = MirrorBoard.Shape(
            workers: feederCount, routes: 1, shadowProcesses: shadowProcesses,
            shadows: settings.count)
        var counting = MemoryPlan()
        _ = MirrorBoard(plan: &counting, shape: shape)
        boardMemory = try .plain(byteCount: counting.byteCount)
        var plan = MemoryPlan(base: boardMemory.base)
        board = try #require(MirrorBoard(plan: &plan, shape: shape))
        board.control[.enabled].set(1)
        let capacity = QPSCap.capacity(for: settings.map(\.qps).max() ?? 0)
        let capBytes = QPSCap.byteCount(capacity: capacity)
        capMemory = try .plain(byteCount: max(1, settings.count) * capBytes)
        let capBase = capMemory.base
        caps = settings.indices.map { .map(capBase + $0 * capBytes, capacity: capacity) }
        feeders = try (0..<feederCount).map { _ in try Feeder() }
        for feeder in feeders { feeder.link.readyEpoch.publish(readyEpoch) }
        returned = Array(repeating: [], count: feederCount)
        wakeFD = eventfd(0, Int32(EFD_NONBLOCK))
        worker = try ShadowWorker(
            process: 0, epoch: epoch, links: feeders.map(\.shadowLink), shadows: settings,
            targets: targets, caps: caps, board: board, captures: captures,
            memoryBytes: memoryBytes, wakeFD: wakeFD, now: now, seed: 1)
    }

    deinit { close(wakeFD) }

    var gauges: CounterRow<ShadowGauge> { board.gauges(process: 0, shadow: 0) }

    func gauge(_ name: ShadowGauge) -> Int { Int(gauges.value(name)) }

    @discardableResult
    func push(
        _ head: String = Rig.get, body: [UInt8] = [], trailers: String = "", hasBody: Bool? = nil,
        shadow: Int = 0, pair: UInt64 = 0, primary: CopyPrimary = .plain,
        sliceBytes: Int = 8 << 10, feeder: Int = 0
    ) -> UInt32 {
        feeders[feeder].push(
            head: head, body: body, trailers: trailers, hasBody: hasBody, shadow: shadow,
            pair: pair, primary: primary,
            sliceBytes: sliceBytes, now: now)
    }

    static let get = "GET /hello?a=1 HTTP/1.1\r\nHost: primary.test\r\nAccept: */*\r\n\r\n"

    /// Moves the clock by `ms`, then some turns, then takes the returns.
    func turn(afterMs ms: Int = 0, turns: Int = 3) {
        now = now.adding(ms: ms)
        for _ in 0..<turns {
            worker.turn(now: now, timeoutMs: 0)
            collect()
        }
    }

    /// Turns until `done`, for at most two real seconds. False where it never came true.
    func turn(until done: () -> Bool) -> Bool {
        let end = Instant.now().adding(ms: 2_000)
        while !done() {
            if Instant.now() > end { return false }
            worker.turn(now: now, timeoutMs: 1)
            collect()
        }
        return true
    }

    /// Waits for the next return of the first worker.
    func next(feeder: Int = 0) throws -> CopyReturn {
        let count = returned[feeder].count
        try #require(turn { returned[feeder].count > count })
        return returned[feeder][count]
    }

    func collect() {
        for (index, feeder) in feeders.enumerated() {
            while let result = feeder.returns.pop() {
                returned[index].append(result)
                for slot in feeder.lent.removeValue(forKey: result.ticket) ?? [] {
                    feeder.blocks.release(slot)
                }
                feeder.link.ticketStates[Int(result.ticket)].store(
                    TicketState.free, ordering: .relaxed)
            }
        }
    }
}

extension CopyReturn {
    var drop: DropReason? { wasSent == 0 ? DropReason(rawValue: Int(code)) : nil }
    var result: CopyResult? { wasSent == 1 ? CopyResult(rawValue: Int(code)) : nil }
}
