import CLinux
import CoreLoop
import EventLog
import Glibc
import Load
import Synchronization

/// `EventLogTool measure`.
struct MeasureCommand {
    private let directory: String
    private let isTemporary: Bool
    private let count: Int
    private let umbra: String?

    init(_ arguments: inout ArgumentList) throws(ArgumentList.Fault) {
        let given = try arguments.text("--dir")
        isTemporary = given == nil
        directory = given ?? "/tmp/umbra-event-log-\(getpid())"
        count = try arguments.integer("--count", least: 1, otherwise: 1_000_000)
        umbra = try arguments.text("--umbra")
        try arguments.finish()
    }

    func run() throws -> Int32 {
        defer { if isTemporary { removeFolder() } }
        try append()
        try read()
        if let umbra { try command(umbra) }
        return 0
    }

    private func removeFolder() {
        guard let stream = opendir(directory) else { return }
        while let entry = readdir(stream) {
            unlink("\(directory)/\(String(cString: umbra_entry_name(entry)))")
        }
        closedir(stream)
        rmdir(directory)
    }

    private func seconds(_ body: () throws -> Void) rethrows -> Double {
        let start = Instant.now()
        try body()
        return Double(Instant.now().nanoseconds(since: start)) / 1e9
    }

    private func show(_ name: String, _ text: String) {
        print(name + String(repeating: " ", count: max(1, 34 - name.utf8.count)) + text)
    }

    private func rounded(_ value: Double) -> String {
        value >= 100 ? "\(Int(value.rounded()))" : "\((value * 100).rounded() / 100)"
    }

    // MARK: Writing

    /// What one event costs its producer, then the log's process: encoding, the ring, the chain.
    private func append() throws {
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Limits.recordBytesMax, alignment: 64)
        defer { room.deallocate() }
        let event = Samples.event(123_456, timeMs: WallClock.milliseconds())
        var size = 0
        // Processor time: other processes of the machine cost none of it.
        let before = CPUClock.process().userNs
        for _ in 0..<100_000 { size += event.encode(into: room)?.count ?? 0 }
        let encoding = Double(CPUClock.process().userNs - before) / 100_000
        show("encode one event", "\(rounded(encoding)) ns of CPU, \(size / 100_000) bytes")

        let ringMemory = try SharedMemory.plain(byteCount: RecordRing.byteCount())
        var plan = MemoryPlan(base: ringMemory.base)
        guard let ring = RecordRing(plan: &plan) else { preconditionFailure("there is memory") }
        let memory = try CounterMemory()
        let counters = memory.counters
        var settings = EventLogSettings()
        settings.directory = directory
        let wake = try Wake.create()
        let thread = try LoopThread(settings, ring, wake, counters)
        var producer = RecordProducer(ring)
        var (pushed, pushNs) = (0, UInt64(0))
        let cpu = CPUClock.process()
        let total = seconds {
            for index in 0..<count {
                let event = Samples.event(index, timeMs: WallClock.milliseconds())
                guard let bytes = event.encode(into: room) else { continue }
                while true {
                    let start = Instant.now()
                    let isIn = producer.push(bytes)
                    if isIn {
                        pushNs += Instant.now().nanoseconds(since: start)
                        pushed += 1
                        if producer.consumerNeedsWaking() { wake.signal() }
                        break
                    }
                    usleep(100)
                }
            }
            thread.end()
        }
        let spent = CPUClock.process()
        let cpuNs = spent.userNs + spent.systemNs - cpu.userNs - cpu.systemNs
        let bytes = Double(counters.value(.bytesWritten))
        show("push into the ring", "\(rounded(Double(pushNs) / Double(pushed))) ns, clock included")
        show(
            "append, durable at the end",
            "\(rounded(Double(count) / total)) records/s, \(rounded(bytes / total / 1e6)) MB/s")
        show("CPU for one, encoding included", "\(rounded(Double(cpuNs) / Double(count))) ns")
        show(
            "log",
            "\(counters.value(.lastSequence)) records, \(rounded(bytes / 1e6)) MB, "
                + "\(counters.value(.segmentsBegun)) segments, \(counters.value(.syncs)) syncs")
        close(wake.fd)
    }

    // MARK: Reading

    private func read() throws {
        var found = 0
        func scan(_ name: String, _ filter: EventFilter, last: Int? = nil) throws {
            var reader = try LogReader(directory, filter)
            found = 0
            var bytes = 0
            let time = try seconds {
                try reader.select(last: last) {
                    found += 1
                    bytes += $0.count
                    return true
                }
            }
            show(name, "\(rounded(time * 1e3)) ms, \(found) found")
        }
        var check: ChainCheck?
        let cpu = CPUClock.process()
        let time = try seconds { check = try ChainCheck.run(directory) }
        let spent = CPUClock.process()
        let cpuNs = spent.userNs + spent.systemNs - cpu.userNs - cpu.systemNs
        guard let check, check.broken == nil else {
            EventLogTool.fail(
                "the chain does not hold: \(String(describing: check?.broken))", code: 1)
        }
        let size = Double(check.byteCount)
        show(
            "verify",
            "\(rounded(time * 1e3)) ms, \(rounded(size / time / 1e6)) MB/s; "
                + "\(rounded(size / Double(cpuNs) * 1e3)) MB/s of CPU")
        try scan("the last 50", EventFilter(), last: 50)
        var blocked = EventFilter()
        blocked.require("verdict", "block")
        try scan("the last 50 blocked", blocked, last: 50)
        var one = EventFilter()
        one.require("request_id", "req-\(count / 2)")
        let start = CPUClock.process()
        let full = try seconds { try scan("one request id of all", one) }
        let end = CPUClock.process()
        let scanNs = end.userNs + end.systemNs - start.userNs - start.systemNs
        show(
            "full scan",
            "\(rounded(size / full / 1e6)) MB/s; "
                + "\(rounded(size / Double(scanNs) * 1e3)) MB/s of CPU")
    }

    private func command(_ umbra: String) throws {
        var best = Double.infinity
        for _ in 0..<5 {
            best = min(best, try seconds { try runList(umbra) })
        }
        show("umbra events list --last 50", "\(rounded(best * 1e3)) ms, the process included")
    }

    private func runList(_ umbra: String) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        let words = [umbra, "events", "list", "--last", "50", "--json", "--dir", directory]
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let code = posix_spawn(&pid, umbra, &actions, nil, arguments, environ)
        if code != 0 { throw SystemError("posix_spawn", code: code) }
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        guard status == 0 else { EventLogTool.fail("\(words) ended with \(status)", code: 1) }
    }
}

/// The log's loop on a thread of its own.
private final class LoopThread: @unchecked Sendable {
    // The thread uses the loop, the other side only the flag and the door.
    private let loop: LogLoop
    private let wake: Wake
    private let isStopped = Atomic<Bool>(false)
    private var thread = pthread_t()

    init(
        _ settings: EventLogSettings, _ ring: RecordRing, _ wake: Wake,
        _ counters: CounterRow<LogCounter>
    ) throws {
        let writer = try LogWriter(settings, counters: counters, time: .now())
        loop = LogLoop(writer, rings: [ring], wake: wake, counters: counters)
        self.wake = wake
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                let this = Unmanaged<LoopThread>.fromOpaque(context!).takeRetainedValue()
                _ = this.loop.run { this.isStopped.load(ordering: .acquiring) }
                return nil
            }, context)
    }

    func end() {
        isStopped.store(true, ordering: .releasing)
        wake.signal()
        pthread_join(thread, nil)
    }
}
