public import CoreLoop
public import EventLog
import HTTP
import Providers
import Verdict

/// What a worker keeps of exchanges with LLM targets while they last, for their events: the
/// request's body and the answer's payload, densely in blocks of the pool, and what the answer's
/// head tells. When the exchange ends it goes to the events process.
///
/// Traffic never waits for it: where blocks are short or the ring is full the capture is given up,
/// and counted in its ring. One for each worker; not shared between threads.
public final class ExchangeCaptures {
    /// No capture.
    static let none = UInt32.max

    /// Bytes in a chain of blocks: each begins with the number of the next.
    private struct Chain {
        var first = BlockPool.none
        var last = BlockPool.none
        var byteCount = 0
        /// Bytes in use of the last block, its link among them.
        var fill = 0

        static let linkBytes = 8
    }

    private struct Exchange {
        var head: CaptureHead
        var startedNs: UInt64
        var hasWholeRequest = false
        var request = Chain()
        var answer = Chain()
        var fieldBytes = 0
        var fields = InlineArray<2_048, UInt8>(repeating: 0)
    }

    private let exchanges: Slab<Exchange>
    private let bodyBytesMax: Int
    private let blocksMax: Int
    private var blocksHeld = 0
    private var producer: RecordProducer

    /// Into `ring`; `bodyBytesMax` of each body are kept (`traffic_mirror.capture_bytes`), in at
    /// most `blocksMax` blocks for all exchanges together.
    public init(_ ring: RecordRing, bodyBytesMax: Int, blocksMax: Int) throws(SystemError) {
        exchanges = try Slab(capacity: ProxyLimits.capturesMax)
        producer = RecordProducer(ring)
        self.bodyBytesMax = min(bodyBytesMax, VerdictLimits.captureBodyBytesMax)
        self.blocksMax = blocksMax
    }

    /// Begins one, of a request that came at `startedNs`, in the language `asked`, to a target that
    /// speaks `answered`; `none` where there are too many: counted.
    func begin(
        pair: UInt64, asked: Dialect, answered: Dialect, startedNs: UInt64
    ) -> UInt32 {
        var exchange = Exchange(
            head: CaptureHead(.primary, pair: pair, dialect: answered), startedNs: startedNs)
        exchange.head.requestDialect = asked
        guard let slot = exchanges.insert(exchange) else {
            producer.countDropped()
            return Self.none
        }
        return UInt32(slot)
    }

    // MARK: Bodies

    /// Keeps a piece of the request's body, as the client sent it. False where the capture is given
    /// up: counted, and gone.
    func keep(
        request piece: UnsafeRawBufferPointer, _ id: UInt32, _ blocks: borrowing BlockPool
    ) -> Bool {
        let exchange = exchanges[Int(id)]
        return settle(
            append(piece, to: &exchange.pointee.request, blocks), .requestCut, id, blocks)
    }

    /// All of the request's body was kept, though the worker has not taken it from the socket.
    func noteWholeRequest(_ id: UInt32) { exchanges[Int(id)].pointee.hasWholeRequest = true }

    /// Keeps a piece of the answer's payload, as the upstream sent it. False as above.
    func keep(
        answer piece: UnsafeRawBufferPointer, _ id: UInt32, _ blocks: borrowing BlockPool,
        _ clock: () -> Instant
    ) -> Bool {
        let exchange = exchanges[Int(id)]
        if exchange.pointee.head.firstByteUs == 0, piece.count > 0 {
            let ns = clock().nanoseconds(since: Instant(nanoseconds: exchange.pointee.startedNs))
            exchange.pointee.head.firstByteUs = UInt32(clamping: max(1, ns / 1_000))
        }
        return settle(append(piece, to: &exchange.pointee.answer, blocks), .answerCut, id, blocks)
    }

    private enum Kept { case kept, cut, noBlocks }

    /// What follows from the keeping of a piece. False where the capture is given up.
    private func settle(
        _ kept: Kept, _ cut: CaptureHead.Flags, _ id: UInt32, _ blocks: borrowing BlockPool
    ) -> Bool {
        switch kept {
        case .kept: return true
        case .cut:
            exchanges[Int(id)].pointee.head.flags.insert(cut)
            return true
        case .noBlocks:
            giveUp(id, blocks)
            return false
        }
    }

    private func append(
        _ piece: UnsafeRawBufferPointer, to chain: inout Chain, _ blocks: borrowing BlockPool
    ) -> Kept {
        let taken = min(piece.count, bodyBytesMax - chain.byteCount)
        var start = 0
        while start < taken {
            if chain.last == BlockPool.none || chain.fill == blocks.blockBytes {
                guard blocksHeld < blocksMax else { return .noBlocks }
                let block = blocks.take()
                guard block != BlockPool.none else { return .noBlocks }
                blocksHeld += 1
                if chain.last == BlockPool.none {
                    chain.first = block
                } else {
                    blocks.pointer(chain.last).storeBytes(of: block, as: UInt32.self)
                }
                chain.last = block
                chain.fill = Chain.linkBytes
            }
            let count = min(taken - start, blocks.blockBytes - chain.fill)
            (blocks.pointer(chain.last) + chain.fill).copyMemory(
                from: piece.baseAddress! + start, byteCount: count)
            chain.fill += count
            chain.byteCount += count
            start += count
        }
        return taken == piece.count ? .kept : .cut
    }

    /// Calls `body` with the pieces of a chain, in order.
    private func forEachPiece(
        _ chain: Chain, _ blocks: borrowing BlockPool, _ body: (UnsafeRawBufferPointer) -> Void
    ) {
        var left = chain.byteCount
        var block = chain.first
        while left > 0 {
            let count = min(left, blocks.blockBytes - Chain.linkBytes)
            let memory = blocks.pointer(block)
            body(UnsafeRawBufferPointer(start: memory + Chain.linkBytes, count: count))
            left -= count
            if left > 0 { block = memory.load(as: UInt32.self) }
        }
    }

    private func release(_ chain: Chain, _ blocks: borrowing BlockPool) {
        var block = chain.first
        while block != BlockPool.none {
            let isLast = block == chain.last
            let next = isLast ? BlockPool.none : blocks.pointer(block).load(as: UInt32.self)
            blocks.release(block)
            blocksHeld -= 1
            block = next
        }
    }

    // MARK: The answer's head

    /// Takes note of the head of the answer that is passed on; `bytes` is what it was parsed from.
    func note(_ head: ResponseHead, _ bytes: UnsafeRawPointer, _ id: UInt32) {
        let exchange = exchanges[Int(id)]
        exchange.pointee.head.status = UInt16(clamping: head.status)
        let flags = CaptureFields.read(head.fields, of: bytes) { keep(field: $0, exchange) }
        exchange.pointee.head.flags.formUnion(flags)
    }

    private func keep(
        field line: UnsafeRawBufferPointer, _ exchange: UnsafeMutablePointer<Exchange>
    ) {
        let used = exchange.pointee.fieldBytes
        withUnsafeMutableBytes(of: &exchange.pointee.fields) { room in
            guard line.count <= room.count - used else { return }
            (room.baseAddress! + used).copyMemory(from: line.baseAddress!, byteCount: line.count)
            exchange.pointee.fieldBytes = used + line.count
        }
    }

    // MARK: The end

    /// The exchange has ended: hands over what was kept. Before its log record goes on its way.
    /// `isRead`: whether all of the request came; `isWhole`: of the answer; `losses`: what the
    /// request's translation for the user's path lost, a line each.
    func end(
        _ id: UInt32, isRead: Bool, isWhole: Bool, losses: String = "",
        _ blocks: borrowing BlockPool
    ) {
        let exchange = exchanges[Int(id)]
        if !isRead, !exchange.pointee.hasWholeRequest {
            exchange.pointee.head.flags.insert(.requestCut)
        }
        if isWhole { exchange.pointee.head.flags.insert(.isWhole) }
        let (head, request, answer) = (
            exchange.pointee.head, exchange.pointee.request, exchange.pointee.answer
        )
        let fieldBytes = exchange.pointee.fieldBytes
        let byteCount = CaptureRecord.byteCount(
            losses: losses.utf8.count, fields: fieldBytes, request: request.byteCount,
            answer: answer.byteCount)
        _ = producer.push(byteCount: byteCount) { memory in
            var writer = CaptureWriter(memory, head)
            writer.append(losses, to: .losses)
            withUnsafeBytes(of: &exchange.pointee.fields) {
                writer.append(UnsafeRawBufferPointer(rebasing: $0[..<fieldBytes]), to: .fields)
            }
            forEachPiece(request, blocks) { writer.append($0, to: .request) }
            forEachPiece(answer, blocks) { writer.append($0, to: .answer) }
        }
        remove(id, blocks)
    }

    private func giveUp(_ id: UInt32, _ blocks: borrowing BlockPool) {
        producer.countDropped()
        remove(id, blocks)
    }

    private func remove(_ id: UInt32, _ blocks: borrowing BlockPool) {
        let exchange = exchanges[Int(id)]
        release(exchange.pointee.request, blocks)
        release(exchange.pointee.answer, blocks)
        exchanges.remove(Int(id))
    }
}

/// Where the worker has its captures fed.
extension ProxyWorker {
    /// Begins the events of a request to an LLM target: gives it a pair, and, where it asks for an
    /// answer, keeps what is said.
    func beginEvents(_ slot: Int, _ log: AccessLog, _ bytes: UnsafeRawPointer, route: Int) {
        let client = clients[slot]
        log.beginPair(client.pointee.log)
        guard let captures, requestHead.method == .post,
            let asked = Inference(requestHead, bytes),
            let dialect = forwarding.dialect(ofRoute: route)
        else { return }
        client.pointee.kept = captures.begin(
            pair: log.pair(client.pointee.log), asked: asked.dialect, answered: dialect,
            startedNs: client.pointee.startedNs)
    }

    /// Hands over what was kept of an exchange that ends.
    func endKept(_ slot: Int, isWhole: Bool) {
        let kept = clients[slot].pointee.kept
        clients[slot].pointee.kept = ExchangeCaptures.none
        let isHeld = clients[slot].pointee.flags.contains(.held)
        let losses = isHeld ? heldRequests[slot]?.answer?.losses ?? [] : []
        let lines = losses.isEmpty ? "" : losses.map { $0.text + "\n" }.joined()
        captures?.end(
            kept, isRead: clients[slot].pointee.flags.contains(.requestRead), isWhole: isWhole,
            losses: lines.utf8.count <= VerdictLimits.captureLossBytesMax ? lines : "", blocks)
    }

    /// Keeps a run of the request's body.
    func keepRequest(_ slot: Int, _ slice: Slice) {
        let client = clients[slot]
        guard client.pointee.kept != ExchangeCaptures.none, slice.count > 0, let captures else {
            return
        }
        let piece = UnsafeRawBufferPointer(
            start: blocks.pointer(slice.slot) + Int(slice.offset), count: Int(slice.count))
        if !captures.keep(request: piece, client.pointee.kept, blocks) {
            client.pointee.kept = ExchangeCaptures.none
        }
    }

    /// Keeps what has come of the body of a request that goes nowhere: it stays in the input.
    func keepInput(_ slot: Int) {
        let client = clients[slot]
        guard client.pointee.kept != ExchangeCaptures.none,
            !client.pointee.flags.contains(.requestChunked),
            client.pointee.inSlot != BlockPool.none
        else { return }
        let there = min(
            UInt64(client.pointee.inEnd - client.pointee.inStart), client.pointee.bodyLeft)
        keepRequest(
            slot,
            Slice(
                slot: client.pointee.inSlot, offset: Int(client.pointee.inStart),
                count: Int(there)))
        if there == client.pointee.bodyLeft, client.pointee.kept != ExchangeCaptures.none {
            captures?.noteWholeRequest(client.pointee.kept)
        }
    }

    /// Takes note of the head of the answer that is parsed; `bytes` is what it was parsed from.
    func noteAnswer(_ client: Int, _ bytes: UnsafeRawPointer) {
        let kept = clients[client].pointee.kept
        if kept != ExchangeCaptures.none { captures?.note(answerHead, bytes, kept) }
    }

    /// Keeps the next `count` bytes of the upstream's input.
    func keepAnswerInput(_ upstream: Int, _ client: Int, _ count: Int) {
        guard clients[client].pointee.kept != ExchangeCaptures.none, count > 0 else { return }
        let start = Int(upstreams[upstream].pointee.inStart)
        keepAnswer(
            client, Slice(slot: upstreams[upstream].pointee.inSlot, offset: start, count: count))
    }

    /// Keeps what lies in the first `count` of `headParts`.
    func keepAnswerParts(_ client: Int, _ count: Int) {
        guard clients[client].pointee.kept != ExchangeCaptures.none else { return }
        for place in 0..<count { keepAnswer(client, headParts[place]) }
    }

    /// Keeps a run of the answer's payload.
    func keepAnswer(_ client: Int, _ slice: Slice) {
        guard clients[client].pointee.kept != ExchangeCaptures.none, slice.count > 0 else { return }
        keepAnswer(
            client,
            UnsafeRawBufferPointer(
                start: blocks.pointer(slice.slot) + Int(slice.offset), count: Int(slice.count)))
    }

    /// As above, wherever it lies.
    func keepAnswer(_ client: Int, _ piece: UnsafeRawBufferPointer) {
        let kept = clients[client].pointee.kept
        guard kept != ExchangeCaptures.none, let captures else { return }
        if !captures.keep(answer: piece, kept, blocks, readClock) {
            clients[client].pointee.kept = ExchangeCaptures.none
        }
    }
}
