import CLinux
import CoreLoop
import HTTP
import Mirror
import Policy
import Synchronization

/// The log's thread: takes records off the ring and writes them as JSON lines.
final class AccessLogWriter: @unchecked Sendable {
    /// Set by the worker, with a knock after it.
    let wantsReopen = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    let file: AccessLogFile
    // Only the thread touches what follows once it runs.
    private let wake: Wake
    private let consumer: RingConsumer<AccessLog.UnsafeLogCell>
    private let routes: [String]
    private let targets: [String]
    private let shadows: [String]
    private let clientKeys: [String]
    private let events: EventTap?
    private let writesLines: Bool
    private let secrets = SecretText()
    private var thread = pthread_t()
    private var line: [UInt8] = []
    private static let batchBytesMax = 64 << 10

    init(
        file: AccessLogFile, ring: RingMemory<AccessLog.UnsafeLogCell>, wake: Wake,
        routes: [String], targets: [String], shadows: [String], clientKeys: [String],
        events: EventTap?,
        writesLines: Bool
    ) {
        self.file = file
        self.events = events
        self.writesLines = writesLines
        self.wake = wake
        consumer = RingConsumer(ring)
        self.routes = routes.map(Self.quoted)
        self.targets = targets.map(Self.quoted)
        self.shadows = shadows.map(Self.quoted)
        self.clientKeys = clientKeys.map(Self.quoted)
        line.reserveCapacity(Self.batchBytesMax + 8_192)
    }

    func start() {
        let context = Unmanaged.passRetained(self).toOpaque()
        // Signals are for the worker's own thread: they end its wait.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        pthread_create(
            &thread, nil,
            { context in
                Unmanaged<AccessLogWriter>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
    }

    func stop() {
        isStopping.store(true, ordering: .releasing)
        wake.signal()
        pthread_join(thread, nil)
    }

    private func run() {
        while true {
            // Asked first: what was handed over before the end was announced is still written.
            let isLast = isStopping.load(ordering: .acquiring)
            while let cell = consumer.pop() {
                withUnsafeBytes(of: cell) {
                    let record = $0.load(as: LogRecord.self)
                    events?.take(record)
                    if writesLines { append(record) }
                }
                if line.count >= Self.batchBytesMax { flush() }
            }
            flush()
            if wantsReopen.exchange(false, ordering: .acquiring) { file.reopen() }
            if isLast { return }
            if consumer.prepareToSleep() {
                var poller = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
                _ = poll(&poller, 1, 1_000)
                wake.clear()
                consumer.wokeUp()
            }
        }
    }

    private func flush() {
        file.write(line) {
            isStopping.load(ordering: .acquiring) || wantsReopen.load(ordering: .acquiring)
        }
        line.removeAll(keepingCapacity: true)
    }

    private func append(_ record: LogRecord) {
        put("{\"time\":\"")
        put(TimeText.utc(record.wallMs))
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
        put("\"")
        if record.clientKey > 0, Int(record.clientKey) <= clientKeys.count {
            put(",\"key\":\(clientKeys[Int(record.clientKey) - 1])")
        }
        put(",\"method\":")
        putQuoted(record.method)
        put(",\"host\":")
        putQuoted(record.host)
        put(",\"path\":")
        putTarget(record.target)
        put(",\"route\":")
        put(record.route == LogRecord.noRoute ? "null" : routes[Int(record.route)])
        put(",\"target\":")
        put(record.route == LogRecord.noRoute ? "null" : targets[Int(record.route)])
        put(",\"status\":\(record.status),\"latency_us\":\(record.latencyNs / 1_000)")
        put(",\"request_bytes\":\(record.requestBytes),\"answer_bytes\":\(record.answerBytes)")
        put(record.isWhole ? ",\"complete\":true" : ",\"complete\":false")
        if record.policy.verdict != .allow {
            put(",\"verdict\":\"\(record.policy.verdict.text)\"")
        }
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
        withUnsafeBytes(of: text.bytes) {
            putQuoted(UnsafeRawBufferPointer(rebasing: $0.prefix(Int(text.count))))
        }
    }

    private func putQuoted(_ text: UnsafeRawBufferPointer) {
        line.append(0x22)
        for byte in text { Self.escape(byte, into: &line) }
        line.append(0x22)
    }

    /// Without the values that no copy gets either: keys and tokens in a query outlive their use in
    /// a log.
    private func putTarget<let capacity: Int>(_ text: LogRecord.Text<capacity>) {
        withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 8) { scratch in
            withUnsafeBytes(of: text.bytes) { raw in
                var writer = HeadWriter(scratch)
                secrets.write(
                    target: UnsafeRawBufferPointer(rebasing: raw.prefix(Int(text.count))),
                    to: &writer)
                putQuoted(writer.written)
            }
        }
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
}
