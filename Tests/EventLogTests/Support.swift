import CLinux
import CoreLoop
import Foundation
import Testing

@testable import EventLog

/// A folder of its own for one test, removed with it.
final class Folder {
    let path: String

    init() {
        var name = Array("/tmp/umbra-events-XXXXXX".utf8CString)
        precondition(mkdtemp(&name) != nil)
        path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        for name in files { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// All files but the lock, sorted.
    var files: [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = String(cString: umbra_entry_name(entry))
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    var segments: [String] { files.filter { $0.hasPrefix("events-") } }

    func read(_ name: String) -> [UInt8] {
        let fd = umbra_open("\(path)/\(name)", O_RDONLY, 0)
        precondition(fd >= 0, name)
        defer { close(fd) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = CLinux.read(fd, &part, part.count)
            if count <= 0 { return bytes }
            bytes += part[..<count]
        }
    }

    func write(_ name: String, _ bytes: [UInt8]) {
        let fd = umbra_open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, 0o640)
        precondition(fd >= 0, name)
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                CLinux.write(fd, $0.baseAddress! + start, $0.count - start)
            }
            precondition(count > 0)
            start += count
        }
        close(fd)
    }

    func lines(_ name: String) -> [String] {
        read(name).split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    }

    /// All lines of all segments.
    var log: [String] { segments.flatMap { lines($0) } }

    var check: ChainCheck {
        get throws { try ChainCheck.run(path) }
    }
}

/// A writer with counters of its own, and a clock that tests move by hand.
final class Pen {
    static let day0: UInt64 = 20_784 * 86_400_000

    private(set) var writer: LogWriter!
    let counters: CounterRow<LogCounter>
    private let memory: SharedMemory
    var time: LogTime

    init(
        _ folder: Folder, segmentBytes: Int = 64 << 20, retentionDays: Int = 365,
        isImmutable: Bool = true, dayOffset: UInt64 = 0
    ) throws {
        var plan = MemoryPlan()
        _ = CounterRow<LogCounter>(plan: &plan)
        memory = try .plain(byteCount: plan.byteCount)
        plan = MemoryPlan(base: memory.base)
        counters = CounterRow<LogCounter>(plan: &plan)!
        var settings = EventLogSettings()
        settings.directory = folder.path
        settings.segmentBytes = segmentBytes
        settings.retentionDays = retentionDays
        settings.isImmutable = isImmutable
        settings.syncMs = 10
        time = LogTime(monotonicMs: 1_000_000, wallMs: Self.day0 + dayOffset * 86_400_000)
        writer = try LogWriter(settings, counters: counters, time: time)
    }

    @discardableResult
    func append(_ body: String) -> LogWriter.Outcome {
        var copy = body
        return copy.withUTF8 { writer.append(UnsafeRawBufferPointer($0), time) }
    }

    /// Decisions with a member `n` of these numbers.
    func append(numbers: ClosedRange<Int>) {
        for number in numbers {
            #expect(append(decision(number, time.wallMs)) == .taken)
        }
    }

    func pass(ms: UInt64) {
        time.monotonicMs += ms
        time.wallMs += ms
    }

    /// Turns until nothing waits, in the test's time.
    func settle() {
        for _ in 0..<5_000 {
            pass(ms: 20)
            writer.turn(time)
            if writer.start == writer.end, !writer.isDirty, writer.job == nil,
                writer.boundary == nil, writer.removal == nil
            {
                return
            }
            usleep(1_000)
        }
        Issue.record("the writer does not come to rest")
    }

    func close() {
        settle()
        // With it goes the folder's lock.
        writer = nil
    }
}

func decision(_ number: Int, _ ms: UInt64) -> String {
    "{\"event_type\":\"decision\",\"timestamp\":\"\(EventTime.text(ms))\",\"verdict\":\"allow\","
        + "\"n\":\(number)}"
}

/// The numbers of the decisions in lines.
func numbers(_ lines: [String]) -> [Int] {
    lines.compactMap { line in
        line.range(of: ",\"n\":").flatMap { Int(line[$0.upperBound...].dropLast()) }
    }
}

func withBytes<T>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> T) rethrows -> T {
    var copy = text
    return try copy.withUTF8 { try body(UnsafeRawBufferPointer($0)) }
}
