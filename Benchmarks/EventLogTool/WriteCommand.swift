import CLinux
import CoreLoop
import EventLog
import Load
import Synchronization

/// Set by SIGTERM.
nonisolated(unsafe) private var stopRequested: Int32 = 0

/// What a log's writer counts, in memory of this process.
struct CounterMemory: ~Copyable {
    let memory: SharedMemory
    let counters: CounterRow<LogCounter>

    init() throws(SystemError) {
        var plan = MemoryPlan()
        _ = CounterRow<LogCounter>(plan: &plan)
        memory = try .plain(byteCount: plan.byteCount)
        plan = MemoryPlan(base: memory.base)
        guard let row = CounterRow<LogCounter>(plan: &plan) else {
            preconditionFailure("the plan has memory")
        }
        counters = row
    }
}

/// `EventLogTool write`.
struct WriteCommand {
    private var settings = EventLogSettings()
    private let count: Int
    private let rate: Double
    private let textBytes: Int
    private let startMs: Int
    private let stepMs: Int
    private let isSettling: Bool

    init(_ arguments: inout ArgumentList) throws(ArgumentList.Fault) {
        guard let directory = try arguments.text("--dir") else {
            throw ArgumentList.Fault("--dir FOLDER is missing")
        }
        settings.directory = directory
        count = try arguments.integer("--count", otherwise: 1_000)
        rate = try arguments.number("--rate", otherwise: 0)
        textBytes = try arguments.integer("--text-bytes", otherwise: 0)
        settings.segmentBytes = try arguments.integer("--segment-bytes", otherwise: 64 << 20)
        settings.syncMs = try arguments.integer("--sync", otherwise: 1_000)
        settings.retentionDays = try arguments.integer("--retention-days", otherwise: 365)
        settings.isImmutable = !arguments.flag("--mutable")
        startMs = try arguments.integer("--start-ms", otherwise: 0)
        stepMs = try arguments.integer("--step-ms", otherwise: 0)
        isSettling = arguments.flag("--settle")
        try arguments.finish()
    }

    func run() throws -> Int32 {
        signal(SIGTERM) { _ in stopRequested = 1 }
        let memory = try CounterMemory()
        let counters = memory.counters
        var time = LogTime.now()
        if startMs > 0 { time.wallMs = UInt64(startMs) }
        let writer = try LogWriter(settings, counters: counters, time: time)
        var room = [UInt8](repeating: 0, count: Limits.recordBytesMax)
        let began = Instant.now()
        var durable: UInt64 = 0
        var index = 0
        while stopRequested == 0, count == 0 || index < count {
            let now = LogTime.now()
            time.monotonicMs = now.monotonicMs
            if startMs == 0 { time.wallMs = now.wallMs }
            let passed = Double(Instant.now().nanoseconds(since: began)) / 1e9
            let due = rate > 0 ? Int(passed * rate) : .max
            var isHeld = index >= due || (isSettling && counters.value(.pendingBytes) > 0)
            if !isHeld {
                room.withUnsafeMutableBytes { room in
                    let event = Samples.event(index, timeMs: time.wallMs, textBytes: textBytes)
                    guard let bytes = event.encode(into: room) else {
                        preconditionFailure("a sample fits")
                    }
                    isHeld = !writer.hasRoom(for: bytes.count, time)
                    if !isHeld, writer.append(bytes, time) == .taken {
                        index += 1
                        if startMs > 0 { time.wallMs += UInt64(stepMs) }
                    }
                }
            }
            if isHeld || isSettling || rate > 0 || index % 64 == 0 { writer.turn(time) }
            if isHeld { usleep(200) }
            if counters.value(.durableSequence) != durable {
                durable = counters.value(.durableSequence)
                say("durable \(durable)")
            }
        }
        let isDurable = writer.close(waitMs: 5_000)
        for name in LogCounter.allCases { say("\(name) \(counters.value(name))") }
        return isDurable ? 0 : 1
    }

    /// A line at once: a kill leaves nothing in a buffer.
    private func say(_ text: String) {
        let line = Array("\(text)\n".utf8)
        _ = line.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
    }
}
