import CLinux
public import CoreLoop
import HTTP
import Mirror
import Policy
import Synchronization

/// What the log says of one request. Filled while the request is served, written by the log's
/// thread.
public struct LogRecord {
    /// The route of a request that was refused before it had one.
    static let noRoute = UInt16.max

    /// Text cut off at its capacity.
    struct Text<let capacity: Int> {
        var count: UInt16 = 0
        var bytes = InlineArray<capacity, UInt8>(repeating: 0)

        mutating func set(_ source: UnsafeRawBufferPointer) {
            let taken = min(source.count, capacity)
            count = UInt16(taken)
            guard taken > 0 else { return }
            withUnsafeMutableBytes(of: &bytes) {
                $0.baseAddress!.copyMemory(from: source.baseAddress!, byteCount: taken)
            }
        }
    }

    /// What became of the copy for one shadow.
    struct Copy {
        var shadow: UInt8 = 0
        var outcome = CopyReturn.dropped(0, .shadowDown)
    }

    var wallMs: UInt64 = 0
    var latencyNs: UInt64 = 0
    /// The halves of the trace-id; both 0 where the request has none.
    var traceHigh: UInt64 = 0
    var traceLow: UInt64 = 0
    /// What ties it to the captures of both sides; 0 where it has no event of its own.
    var pair: UInt64 = 0
    var requestBytes: UInt64 = 0
    var answerBytes: UInt64 = 0
    var status: UInt16 = 0
    var route: UInt16 = 0
    var isWhole = false
    var isFinished = false
    /// What policies found in it.
    var policy = PolicyReport()
    /// The key that the client brought, counted from 1 in the order of `auth.keys`; 0 none.
    var clientKey: UInt8 = 0
    /// Copies whose return is still to come.
    var awaited: UInt8 = 0
    var copyCount: UInt8 = 0
    var copies = InlineArray<8, Copy>(repeating: Copy())
    var address = AddressText()
    var method = Text<32>()
    var requestID = Text<128>()
    var host = Text<128>()
    var target = Text<1024>()
}

/// One JSON line for each request, and an event for each copy, written by a thread of its own. A
/// request whose copies are still at a shadow waits for them, so that both sides stand in one line.
/// A full ring costs the line, never the request: counted.
public final class AccessLog {
    /// The record of a request that is not logged.
    public static let none = UInt32.max
    /// The part of a pair that its worker's number is not in.
    private static let pairNumbers: UInt64 = 0xFFFF_FFFF_FFFF
    /// Records under way at one time, and lines that may wait for the thread.
    static let recordsMax = 16_384
    static let ringDepth = 2_048

    private let records: Slab<LogRecord>
    private let producer: RingProducer<UnsafeLogCell>
    private let memory: SharedMemory
    private let counters: CounterRow<WorkerCounter>
    private let writer: AccessLogWriter
    private let wake: Wake
    private let writesLines: Bool
    /// Whether every request has an event.
    private let logsAll: Bool
    /// Whether requests to LLM targets have events; and the last one's pair.
    let makesEvents: Bool
    private var lastPair: UInt64
    private var isStopped = false
    /// The error that was reported last; 0 none. And what was lost before it.
    private var saidFault: Int32 = 0
    private var lostBefore: UInt64 = 0

    /// What has become of the file since one last asked.
    public enum News: Equatable {
        /// Lines are lost, by this errno, until it can be written again.
        case failing(Int32)
        /// It can, after so many were lost.
        case recovered(lost: UInt64)
    }

    /// A ring cell: a record's bytes, and some room.
    struct UnsafeLogCell: BitwiseCopyable {
        var words = InlineArray<240, UInt64>(repeating: 0)
    }

    /// Starts the log's thread. `fd` is the file, written with one `write` for many lines; -1 where
    /// `path` could not be opened: it is tried again. `path` nil is a file that cannot be opened
    /// anew. `changes` is knocked at where `takeNews` has something to say. `fd` nil writes no
    /// lines: only what goes to `events`. `worker` is the number of its worker, for pairs.
    public init(
        fd: Int32?, path: String? = nil, routes: [String], targets: [String], shadows: [String],
        clientKeys: [String] = [],
        counters: CounterRow<WorkerCounter>, events: EventTap? = nil, changes: Wake? = nil,
        worker: Int = 0
    ) throws(SystemError) {
        precondition(MemoryLayout<LogRecord>.size <= MemoryLayout<UnsafeLogCell>.size)
        self.counters = counters
        writesLines = fd != nil
        makesEvents = events != nil
        logsAll = events?.names.logsAll ?? false
        // From anywhere: what waits for a former life's pairs must not meet this one's.
        lastPair = UInt64(worker) << 48 | SecureRandom().next() & Self.pairNumbers
        records = try Slab(capacity: Self.recordsMax)
        var plan = MemoryPlan()
        _ = RingMemory<UnsafeLogCell>(plan: &plan, depth: Self.ringDepth)
        memory = try .plain(byteCount: plan.byteCount)
        plan = MemoryPlan(base: memory.base)
        let ring = RingMemory<UnsafeLogCell>(plan: &plan, depth: Self.ringDepth)!
        producer = RingProducer(ring)
        wake = try Wake.create()
        writer = AccessLogWriter(
            file: AccessLogFile(
                // Without lines nothing is ever written to it.
                fd: fd ?? STDOUT_FILENO, path: path, lost: counters[.logUnwritten], changes: changes
            ),
            ring: ring, wake: wake, routes: routes, targets: targets, shadows: shadows,
            clientKeys: clientKeys,
            events: events, writesLines: writesLines)
        writer.start()
    }

    deinit {
        // The thread reads a ring that goes with this object.
        stop()
        close(wake.fd)
    }

    /// Ends the thread once everything handed over is written. Again: nothing happens.
    public func stop() {
        guard !isStopped else { return }
        isStopped = true
        writer.stop()
    }

    /// Opens the file at `path` to append lines, made where it is not there (0640). -1 and errno
    /// where that fails. A pipe without a reader fails too, instead of waiting for one.
    public static func open(_ path: String) -> Int32 {
        umbra_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
    }

    /// Has the thread write on into a file of the same name, once what waits is written: after a
    /// rotation. Where it cannot be opened the old one stays.
    public func reopen() {
        writer.wantsReopen.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Whether the file began or ceased to fail since the last call; nil where it did not.
    public func takeNews() -> News? {
        let fault = writer.file.fault.load(ordering: .acquiring)
        guard fault != saidFault else { return nil }
        defer { saidFault = fault }
        let lost = counters.value(.logUnwritten)
        if fault != 0 {
            if saidFault == 0 { lostBefore = lost }
            return .failing(fault)
        }
        return .recovered(lost: lost - lostBefore)
    }

    func begin(_ head: RequestHead, _ bytes: UnsafeRawPointer, route: Int, _ address: AddressText)
        -> UInt32
    {
        guard let slot = records.insert(LogRecord()) else {
            counters.add(.logDropped)
            return Self.none
        }
        let record = records[slot]
        func part(_ range: ByteRange) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(start: bytes + range.start, count: Int(range.count))
        }
        record.pointee.wallMs = WallClock.milliseconds()
        record.pointee.route = UInt16(truncatingIfNeeded: route)
        record.pointee.address = address
        record.pointee.method.set(part(head.methodRange))
        record.pointee.host.set(part(head.authority))
        record.pointee.target.set(part(head.target))
        if let place = head.fields.first(.xRequestID) {
            record.pointee.requestID.set(part(head.fields[place].value))
        }
        if let trace = TraceParent(head.fields, bytes) { setTrace(UInt32(slot), trace) }
        return UInt32(slot)
    }

    /// The record of a request that could not be read: only who sent it is known.
    func beginRefused(_ address: AddressText) -> UInt32 {
        guard let slot = records.insert(LogRecord()) else {
            counters.add(.logDropped)
            return Self.none
        }
        records[slot].pointee.wallMs = WallClock.milliseconds()
        records[slot].pointee.route = LogRecord.noRoute
        records[slot].pointee.address = address
        return UInt32(slot)
    }

    func setRequestID(_ id: UInt32, _ bytes: UnsafeRawBufferPointer) {
        if records[Int(id)].pointee.requestID.count == 0 {
            records[Int(id)].pointee.requestID.set(bytes)
        }
    }

    func hasRequestID(_ id: UInt32) -> Bool { records[Int(id)].pointee.requestID.count > 0 }

    /// Appends a field with the request's id; nothing where it has none, or more than is kept.
    func writeRequestID(_ id: UInt32, _ writer: inout HeadWriter) {
        let text = records[Int(id)].pointee.requestID
        guard text.count > 0, Int(text.count) < text.bytes.count else { return }
        writer.append("X-Request-Id: ")
        withUnsafeBytes(of: text.bytes) {
            writer.append(UnsafeRawBufferPointer(rebasing: $0[..<Int(text.count)]))
        }
        writer.append("\r\n")
    }

    func setPolicy(_ id: UInt32, _ report: PolicyReport) {
        records[Int(id)].pointee.policy = report
    }

    func setClientKey(_ id: UInt32, _ key: Int) {
        records[Int(id)].pointee.clientKey = UInt8(truncatingIfNeeded: key)
    }

    func setTrace(_ id: UInt32, _ trace: TraceParent) {
        let record = records[Int(id)]
        guard record.pointee.traceHigh | record.pointee.traceLow == 0 else { return }
        record.pointee.traceHigh = trace.traceHigh
        record.pointee.traceLow = trace.traceLow
    }

    /// Gives the request a pair: it has an event, mirrored or not.
    func beginPair(_ id: UInt32) {
        let number = (lastPair &+ 1) & Self.pairNumbers
        lastPair = lastPair & ~Self.pairNumbers | max(1, number)
        records[Int(id)].pointee.pair = lastPair
    }

    /// The request's pair; 0 where it has none.
    func pair(_ id: UInt32) -> UInt64 { id == Self.none ? 0 : records[Int(id)].pointee.pair }

    /// The line waits for `copies` returns.
    func awaitShadows(_ id: UInt32, _ copies: Int) {
        records[Int(id)].pointee.awaited = UInt8(copies)
    }

    func finish(
        _ id: UInt32, status: Int, latencyNs: UInt64, requestBytes: UInt64, answerBytes: UInt64,
        isWhole: Bool
    ) {
        let record = records[Int(id)]
        record.pointee.status = UInt16(status)
        record.pointee.latencyNs = latencyNs
        record.pointee.requestBytes = requestBytes
        record.pointee.answerBytes = answerBytes
        record.pointee.isWhole = isWhole
        record.pointee.isFinished = true
        if record.pointee.awaited == 0 { hand(over: Int(id)) }
    }

    func shadowDone(_ back: MirrorTap.Return) {
        let record = records[Int(back.log)]
        let place = Int(record.pointee.copyCount)
        record.pointee.copies[place].shadow = UInt8(truncatingIfNeeded: back.shadow)
        record.pointee.copies[place].outcome = back.outcome
        record.pointee.copyCount += 1
        record.pointee.awaited -= 1
        if record.pointee.awaited == 0, record.pointee.isFinished { hand(over: Int(back.log)) }
    }

    /// A copy was given up before it was lent: in the events of a request that has them, counted
    /// by the tap.
    func copyDropped(_ id: UInt32, shadow: Int, _ reason: DropReason) {
        guard id != Self.none, records[Int(id)].pointee.pair != 0 else { return }
        let record = records[Int(id)]
        let place = Int(record.pointee.copyCount)
        guard place < record.pointee.copies.count else { return }
        record.pointee.copies[place].shadow = UInt8(truncatingIfNeeded: shadow)
        record.pointee.copies[place].outcome = .dropped(0, reason)
        record.pointee.copyCount += 1
    }

    private func hand(over slot: Int) {
        if !writesLines, !logsAll, records[slot].pointee.copyCount == 0,
            records[slot].pointee.pair == 0
        {
            // No event of it, and no line.
            records.remove(slot)
            return
        }
        var cell = UnsafeLogCell()
        withUnsafeMutableBytes(of: &cell) {
            $0.baseAddress!.copyMemory(from: records[slot], byteCount: MemoryLayout<LogRecord>.size)
        }
        records.remove(slot)
        if producer.push(cell) {
            counters.add(.logRecords)
            if producer.consumerNeedsWaking() { wake.signal() }
        } else {
            counters.add(.logDropped)
        }
    }
}
