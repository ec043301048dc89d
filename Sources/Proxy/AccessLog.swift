import CLinux
public import CoreLoop
import HTTP
import Mirror

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
    var requestBytes: UInt64 = 0
    var answerBytes: UInt64 = 0
    var status: UInt16 = 0
    var route: UInt16 = 0
    var isWhole = false
    var isFinished = false
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

/// One JSON line for each request, written by a thread of its own. A request whose copies are still
/// at a shadow waits for them, so that both sides stand in one line. A full ring costs the line,
/// never the request: counted.
public final class AccessLog {
    /// The record of a request that is not logged.
    public static let none = UInt32.max
    /// Records under way at one time, and lines that may wait for the thread.
    static let recordsMax = 16_384
    static let ringDepth = 2_048

    private let records: Slab<LogRecord>
    private let producer: RingProducer<UnsafeLogCell>
    private let memory: SharedMemory
    private let counters: CounterRow<WorkerCounter>
    private let writer: AccessLogWriter
    private let wake: Wake
    private var isStopped = false

    /// A ring cell: a record's bytes, and some room.
    struct UnsafeLogCell: BitwiseCopyable {
        var words = InlineArray<240, UInt64>(repeating: 0)
    }

    /// Starts the log's thread. `fd` is the file, written with one `write` for many lines.
    public init(
        fd: Int32, routes: [String], targets: [String], shadows: [String],
        counters: CounterRow<WorkerCounter>
    ) throws(SystemError) {
        precondition(MemoryLayout<LogRecord>.size <= MemoryLayout<UnsafeLogCell>.size)
        self.counters = counters
        records = try Slab(capacity: Self.recordsMax)
        var plan = MemoryPlan()
        _ = RingMemory<UnsafeLogCell>(plan: &plan, depth: Self.ringDepth)
        memory = try .plain(byteCount: plan.byteCount)
        plan = MemoryPlan(base: memory.base)
        let ring = RingMemory<UnsafeLogCell>(plan: &plan, depth: Self.ringDepth)!
        producer = RingProducer(ring)
        wake = try Wake.create()
        writer = AccessLogWriter(
            fd: fd, ring: ring, wake: wake, routes: routes, targets: targets, shadows: shadows)
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

    func setTrace(_ id: UInt32, _ trace: TraceParent) {
        let record = records[Int(id)]
        guard record.pointee.traceHigh | record.pointee.traceLow == 0 else { return }
        record.pointee.traceHigh = trace.traceHigh
        record.pointee.traceLow = trace.traceLow
    }

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

    private func hand(over slot: Int) {
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

/// The log's thread: takes records off the ring and writes them as JSON lines.
final class AccessLogWriter: @unchecked Sendable {
    // Only the thread touches what follows once it runs; `isStopping` is the ring's closing knock.
    private let fd: Int32
    private let wake: Wake
    private let consumer: RingConsumer<AccessLog.UnsafeLogCell>
    private let routes: [String]
    private let targets: [String]
    private let shadows: [String]
    private let stopFlag: UnsafeMutablePointer<Int32>
    private var thread = pthread_t()
    private var line: [UInt8] = []
    private static let batchBytesMax = 64 << 10

    init(
        fd: Int32, ring: RingMemory<AccessLog.UnsafeLogCell>, wake: Wake, routes: [String],
        targets: [String],
        shadows: [String]
    ) {
        self.fd = fd
        self.wake = wake
        consumer = RingConsumer(ring)
        self.routes = routes.map(Self.quoted)
        self.targets = targets.map(Self.quoted)
        self.shadows = shadows.map(Self.quoted)
        stopFlag = .allocate(capacity: 1)
        stopFlag.initialize(to: 0)
        line.reserveCapacity(Self.batchBytesMax + 8_192)
    }

    deinit { stopFlag.deallocate() }

    func start() {
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                Unmanaged<AccessLogWriter>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
    }

    func stop() {
        stopFlag.pointee = 1
        wake.signal()
        pthread_join(thread, nil)
    }

    private func run() {
        while true {
            while let cell = consumer.pop() {
                withUnsafeBytes(of: cell) { append($0.load(as: LogRecord.self)) }
                if line.count >= Self.batchBytesMax { flush() }
            }
            flush()
            if stopFlag.pointee != 0 { return }
            if consumer.prepareToSleep() {
                var poller = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
                _ = poll(&poller, 1, 1_000)
                wake.clear()
                consumer.wokeUp()
            }
        }
    }

    /// Writes what has gathered. A file that cannot be written costs its lines, nothing else.
    private func flush() {
        var start = 0
        while start < line.count {
            let written = line.withUnsafeBytes {
                write(fd, $0.baseAddress! + start, $0.count - start)
            }
            if written < 0 {
                if lastErrno == EINTR { continue }
                break
            }
            start += written
        }
        line.removeAll(keepingCapacity: true)
    }

    private func append(_ record: LogRecord) {
        put("{\"time\":\"")
        putTime(record.wallMs)
        put("\",\"request_id\":")
        putQuoted(record.requestID)
        if record.traceHigh | record.traceLow != 0 {
            put(",\"trace_id\":\"")
            putHex(record.traceHigh)
            putHex(record.traceLow)
            put("\"")
        }
        put(",\"client\":\"")
        withUnsafeBytes(of: record.address.bytes) {
            line.append(contentsOf: $0.prefix(Int(record.address.count)))
        }
        put("\",\"method\":")
        putQuoted(record.method)
        put(",\"host\":")
        putQuoted(record.host)
        put(",\"path\":")
        putQuoted(record.target)
        put(",\"route\":")
        put(record.route == LogRecord.noRoute ? "null" : routes[Int(record.route)])
        put(",\"target\":")
        put(record.route == LogRecord.noRoute ? "null" : targets[Int(record.route)])
        put(",\"status\":\(record.status),\"latency_us\":\(record.latencyNs / 1_000)")
        put(",\"request_bytes\":\(record.requestBytes),\"answer_bytes\":\(record.answerBytes)")
        put(record.isWhole ? ",\"complete\":true" : ",\"complete\":false")
        if record.copyCount > 0 {
            put(",\"shadows\":[")
            for place in 0..<Int(record.copyCount) {
                if place > 0 { put(",") }
                putCopy(record.copies[place])
            }
            put("]")
        }
        put("}\n")
    }

    private func putCopy(_ copy: LogRecord.Copy) {
        let outcome = copy.outcome
        put("{\"shadow\":\(shadows[Int(copy.shadow)]),\"outcome\":\"")
        if outcome.wasSent == 0 {
            put(
                "dropped\",\"reason\":\"\(DropReason(rawValue: Int(outcome.code))?.label ?? "invalid_copy")\"}"
            )
            return
        }
        put(CopyResult(rawValue: Int(outcome.code))?.label ?? "error")
        put("\",\"status\":\(outcome.status),\"latency_us\":\(outcome.latencyUs)")
        var id = InlineArray<36, UInt8>(repeating: 0)
        withUnsafeMutableBytes(of: &id) { memory in
            var writer = HeadWriter(memory)
            UUIDv7.append(outcome.shadowID.0, outcome.shadowID.1, to: &writer)
        }
        put(",\"shadow_id\":\"")
        withUnsafeBytes(of: id) { line.append(contentsOf: $0) }
        put("\"}")
    }

    private func putHex(_ number: UInt64) {
        let digits = String(number, radix: 16)
        put(String(repeating: "0", count: 16 - digits.utf8.count) + digits)
    }

    private func put(_ text: String) { line.append(contentsOf: text.utf8) }

    private func putQuoted<let capacity: Int>(_ text: LogRecord.Text<capacity>) {
        line.append(0x22)
        withUnsafeBytes(of: text.bytes) { raw in
            for byte in raw.prefix(Int(text.count)) { Self.escape(byte, into: &line) }
        }
        line.append(0x22)
    }

    /// One byte of a JSON string. Bytes that are no ASCII are written as Latin-1 escapes: what a
    /// client sent need not be UTF-8, the log always is.
    private static func escape(_ byte: UInt8, into line: inout [UInt8]) {
        switch byte {
        case 0x22, 0x5C:
            line.append(0x5C)
            line.append(byte)
        case 0x20..<0x7F: line.append(byte)
        default:
            let digits = Array("0123456789abcdef".utf8)
            line.append(contentsOf: "\\u00".utf8)
            line.append(digits[Int(byte >> 4)])
            line.append(digits[Int(byte & 15)])
        }
    }

    private static func quoted(_ text: String) -> String {
        var bytes: [UInt8] = [0x22]
        for byte in text.utf8 { escape(byte, into: &bytes) }
        bytes.append(0x22)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func putTime(_ wallMs: UInt64) {
        var seconds = time_t(wallMs / 1_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ n: Int32) -> String { n < 10 ? "0\(n)" : "\(n)" }
        let ms = wallMs % 1_000
        put("\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T")
        put("\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).")
        put(ms < 10 ? "00\(ms)Z" : ms < 100 ? "0\(ms)Z" : "\(ms)Z")
    }
}
