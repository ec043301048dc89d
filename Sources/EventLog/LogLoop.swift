import CLinux
public import CoreLoop

/// What makes events of records that are none yet, in the log's process.
public protocol EventSource: AnyObject {
    /// Takes what has come beside the rings of events; called in each turn.
    func gather()
    /// Whether events are to be made of a record.
    func isRaw(_ record: UnsafeRawBufferPointer) -> Bool
    /// Makes the events of a record, each good until `event` returns.
    func makeEvents(
        of record: UnsafeRawBufferPointer, _ event: (UnsafeRawBufferPointer) -> Void)
    /// Nothing further comes: leaves what is unfinished to its successor.
    func close()
}

/// The loop of the process that writes the log: takes records off the producers' rings, and has
/// the writer bring them to the disk.
///
/// A record leaves its ring once the writer has it in its chain. Where the disk is full or slow,
/// the writer's memory fills first, then the rings, and then producers drop and count: none of
/// them ever waits.
public final class LogLoop {
    private let writer: LogWriter
    private var rings: [UnsafeMutablePointer<RecordConsumer>] = []
    private let wake: Wake
    private let counters: CounterRow<LogCounter>
    private let source: (any EventSource)?

    /// A loop over `rings`; `wake` is what their producers signal, `source` makes the events of
    /// records that are none yet.
    public init(
        _ writer: LogWriter, rings: [RecordRing], wake: Wake, counters: CounterRow<LogCounter>,
        source: (any EventSource)? = nil
    ) {
        self.writer = writer
        self.source = source
        self.wake = wake
        self.counters = counters
        self.rings = rings.map { ring in
            let place = UnsafeMutablePointer<RecordConsumer>.allocate(capacity: 1)
            place.initialize(to: RecordConsumer(ring))
            return place
        }
    }

    deinit {
        for ring in rings {
            ring.deinitialize(count: 1)
            ring.deallocate()
        }
    }

    /// Runs until `isStopped` says so, asked in each turn; then takes what is in the rings, writes
    /// it, and waits up to `waitMs` for the disk. True where everything is durable.
    public func run(waitMs: UInt64 = 10_000, _ isStopped: () -> Bool) -> Bool {
        while !isStopped() {
            if !turn(.now()) { sleep() }
        }
        while turn(.now()) {}
        source?.close()
        return writer.close(waitMs: waitMs)
    }

    /// One turn: some records of each ring, one write. True where more may wait.
    func turn(_ time: LogTime) -> Bool {
        var isMore = false
        source?.gather()
        for ring in rings {
            writer.note(dropped: ring.pointee.takeDropped(), time)
            isMore = take(ring, time) || isMore
        }
        writer.turn(time)
        return isMore
    }

    /// Takes records off a ring; true where it holds more, and there is room for them.
    private func take(_ ring: UnsafeMutablePointer<RecordConsumer>, _ time: LogTime) -> Bool {
        var made = 0
        for _ in 0..<Limits.recordsPerTurnMax {
            switch ring.pointee.peek() {
            case .empty: return false
            case .invalid:
                counters.add(.refused)
                return false
            case .record(let bytes):
                if let source, source.isRaw(bytes) {
                    guard made < Limits.madePerTurnMax else { return true }
                    // As long as an event may become.
                    guard writer.hasRoom(for: Limits.recordBytesMax, time) else { return false }
                    source.makeEvents(of: bytes) { _ = writer.append($0, time) }
                    ring.pointee.consume(bytes.count)
                    made += 1
                    continue
                }
                guard writer.hasRoom(for: bytes.count, time) else { return false }
                _ = writer.append(bytes, time)
                ring.pointee.consume(bytes.count)
            }
        }
        return true
    }

    /// Waits for a producer, or for the next thing that is due at the disk.
    private func sleep() {
        var mayWait = true
        for ring in rings { mayWait = ring.pointee.prepareToSleep() && mayWait }
        let timeoutMs: Int32 = mayWait ? 100 : 2
        var poller = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
        _ = poll(&poller, 1, timeoutMs)
        wake.clear()
        for ring in rings { ring.pointee.wokeUp() }
    }
}
