import CLinux
public import CoreLoop

/// Writes an event log: numbers records, chains them, and brings them to the disk.
///
/// For one process and one thread: `append` takes a record into memory, `turn` writes what has
/// gathered with one call, and has a thread wait for the disk. Neither waits for it: where it is
/// full or slow, lines gather up to `Limits.pendingBytesMax`, then records are dropped, counted,
/// and the log says so in a record of its own (`gap`) as soon as it can.
public final class LogWriter {
    // Internal to the target: see LogWriterDisk.swift. One thread uses all of it.
    let settings: EventLogSettings
    let folder: LogFolder
    let counters: CounterRow<LogCounter>
    let syncer: LogSyncer
    private let lock: FolderLock
    private let digest = ChainDigest()
    private let scratch: UnsafeMutableRawBufferPointer

    /// The segment that is written, and its descriptor; -1 while none is open.
    var segment: SegmentName
    var fd: Int32 = -1
    /// Lines that wait for the disk: `start..<end` of `pending`. The first may be written in part.
    let pending: UnsafeMutableRawBufferPointer
    var start = 0
    var end = 0
    /// Where in `pending` the next segment begins, once the present one is complete on the disk.
    var boundary: Boundary?
    /// The last record taken, and the last one whose line was given to the kernel.
    private(set) var sequence: UInt64 = 0
    private var hash = ChainHash.origin
    var sequenceWritten: UInt64 = 0
    /// Bytes and records of the segment that is filled: the one behind the boundary, if any.
    private var bytesTaken = 0
    private var recordsTaken = 0
    /// Records that were dropped and not yet spoken of in the log, and since when.
    private var gap: (count: UInt64, sinceMs: UInt64) = (0, 0)

    // The disk's side.
    var retryAtMs: UInt64 = 0
    var job: (isLast: Bool, sequence: UInt64)?
    /// The last record that this writer had synced; what was there before it counts with the first.
    var sequenceDurable: UInt64 = 0
    var isDirty = false
    var folderIsDirty = true
    var lastSyncMs: UInt64
    var removal: (names: [SegmentName], sequence: UInt64)?
    var nextRetentionMs: UInt64
    var clockOffsetMs: Int64
    var isEnded = false
    /// The segment was removed under the writer's hands: nothing that it writes stays. Whoever sees
    /// this closes it, and opens the log anew.
    public internal(set) var isRemoved = false
    /// Why the disk refused last: the `errno` of a write, and of a sync.
    public internal(set) var writeFault: Int32 = 0
    public internal(set) var syncFault: Int32 = 0

    struct Boundary {
        var offset: Int
        var name: SegmentName
        /// The last record in front of it.
        var sequence: UInt64
    }

    /// Opens the log for writing: takes the folder's lock, cuts what a killed writer left
    /// unfinished, and goes on behind the last record. Reads the last segment once.
    public init(
        _ settings: EventLogSettings, counters: CounterRow<LogCounter>, time: LogTime
    ) throws(LogFault) {
        let folder = LogFolder(path: settings.directory)
        self.settings = settings
        self.folder = folder
        self.counters = counters
        let tail: LogTail
        do {
            if mkdir(folder.path, 0o750) != 0, lastErrno != EEXIST { throw SystemError("mkdir") }
            guard let lock = try FolderLock.take(folder) else {
                throw LogFault.locked(folder.path)
            }
            self.lock = lock
            tail = try LogTail.read(folder, digest)
            syncer = try LogSyncer()
        } catch let error as SystemError {
            throw .system(error, folder.path)
        } catch let fault as LogFault {
            throw fault
        } catch {
            preconditionFailure("nothing else is thrown")
        }
        scratch = .allocate(byteCount: 16 << 10, alignment: 64)
        pending = .allocate(byteCount: Limits.pendingBytesMax, alignment: 64)
        segment = tail.segment ?? SegmentName(number: 0, day: 0)
        sequence = tail.sequence
        sequenceWritten = tail.sequence
        hash = tail.hash
        lastSyncMs = time.monotonicMs
        nextRetentionMs = time.monotonicMs
        clockOffsetMs = Int64(time.wallMs) - Int64(time.monotonicMs)
        do {
            try resume(tail, time)
        } catch {
            throw .system(error, folder.path)
        }
    }

    deinit {
        endThread()
        if fd >= 0 { CLinux.close(fd) }
        scratch.deallocate()
        pending.deallocate()
    }

    private func resume(_ tail: LogTail, _ time: LogTime) throws(SystemError) {
        counters[.durableSequence].set(tail.sequence)
        if tail.goesOn {
            fd = try folder.open(segment, O_WRONLY | O_APPEND)
            if tail.cutBytes > 0 {
                try check(ftruncate(fd, off_t(tail.byteCount)), "ftruncate(segment)")
                counters.add(.bytesCut, UInt64(tail.cutBytes))
                isDirty = true
            }
            bytesTaken = tail.byteCount
            recordsTaken = tail.records
        } else {
            segment = SegmentName(number: segment.number + 1, day: time.day)
            fd = try folder.open(segment, O_WRONLY | O_APPEND | O_CREAT | O_EXCL)
            counters.add(.segmentsBegun)
        }
        try protectEarlier(than: segment)
        if recordsTaken == 0 { writeHeader(segment, time) }
        if tail.fault != nil || (tail.goesOn && tail.cutBytes > 0) {
            _ = own("recovery", time) { line in
                if tail.goesOn { line.member("bytes_cut", tail.cutBytes) }
                if let fault = tail.fault { line.member("fault", fault) }
            }
        }
        show()
    }

    // MARK: Taking records

    /// What became of a record.
    public enum Outcome: Equatable, Sendable {
        /// It has its place in the chain, and will be written.
        case taken
        /// No room: counted as dropped.
        case dropped
        /// No record: counted as refused.
        case refused
    }

    /// Whether a record of `byteCount` bytes would be taken now. A producer that can wait asks
    /// first.
    public func hasRoom(for byteCount: Int, _ time: LogTime) -> Bool {
        hasSpace(for: byteCount + 2 * Self.ownBytesMax)
            && (boundary.map { time.day <= $0.name.day } ?? true)
    }

    /// Takes a record: an object with a member or more, on one line, at most
    /// `Limits.recordBytesMax` bytes of UTF-8 JSON without a newline. Copies it; never waits.
    public func append(_ body: UnsafeRawBufferPointer, _ time: LogTime) -> Outcome {
        guard RecordFrame.isRecord(body) else {
            counters.add(.refused)
            return .refused
        }
        if !hasRoom(for: body.count, time) { write(time) }
        guard hasRoom(for: body.count, time) else {
            note(dropped: 1, time)
            return .dropped
        }
        if gap.count > 0 {
            let (count, since) = gap
            gap = (0, 0)
            _ = own("gap", time) { line in
                line.member("dropped", Int(clamping: count))
                line.member("since", moment: since)
            }
        }
        rotateIfDue(body.count, time)
        frame(body)
        counters.add(.appended)
        return .taken
    }

    /// Records that were lost before they came here: the log will say so.
    public func note(dropped count: UInt64, _ time: LogTime) {
        guard count > 0 else { return }
        counters.add(.dropped, count)
        if gap.count == 0 { gap.sinceMs = time.wallMs }
        gap.count += count
    }

    // MARK: The chain

    /// What a record of the writer's own takes at most, its frame included.
    static let ownBytesMax = 8 << 10

    private func hasSpace(for byteCount: Int) -> Bool {
        let needed = byteCount + Limits.frameBytesMax
        if pending.count - end >= needed { return true }
        guard start > 0, pending.count - (end - start) >= needed else { return false }
        memmove(pending.baseAddress!, pending.baseAddress! + start, end - start)
        boundary?.offset -= start
        end -= start
        start = 0
        return true
    }

    private func frame(_ body: UnsafeRawBufferPointer) {
        sequence += 1
        let target = pending.baseAddress! + end
        let count = RecordFrame(sequence: sequence, previous: hash).write(body, to: target)
        hash = digest.hash(UnsafeRawBufferPointer(start: target, count: count - 1))
        end += count
        bytesTaken += count
        recordsTaken += 1
    }

    /// Writes a record of the writer's own; false where there is no room for it.
    func own(
        _ type: StaticString, _ time: LogTime, _ members: (inout JSONLine) -> Void
    ) -> Bool {
        guard hasSpace(for: Self.ownBytesMax) else { return false }
        var line = JSONLine(scratch)
        line.open()
        line.member("event_type", word: type)
        line.member("timestamp", moment: time.wallMs)
        members(&line)
        line.close()
        guard let bytes = line.bytes, bytes.count <= Self.ownBytesMax else { return false }
        frame(bytes)
        return true
    }

    private func writeHeader(_ name: SegmentName, _ time: LogTime) {
        _ = own("segment", time) { line in
            line.member("segment", name.number)
            line.member("retention_days", settings.retentionDays)
            line.member("immutable", settings.isImmutable)
        }
    }

    // MARK: Segments

    private func rotateIfDue(_ byteCount: Int, _ time: LogTime) {
        guard boundary == nil else { return }
        let isOver = bytesTaken + byteCount + Limits.frameBytesMax > settings.segmentBytes
        // A later day's record never stands in an earlier day's segment: it would be removed
        // before its time.
        if time.day > segment.day || (isOver && recordsTaken > 1) { rotate(time) }
    }

    /// With nothing to write, a day's segment is closed too, unless it holds but its header.
    func rotateWhenIdle(_ time: LogTime) {
        guard boundary == nil, time.day > segment.day, recordsTaken > 1,
            hasSpace(for: Self.ownBytesMax)
        else { return }
        rotate(time)
    }

    private func rotate(_ time: LogTime) {
        let name = SegmentName(number: segment.number + 1, day: max(time.day, segment.day))
        boundary = Boundary(offset: end, name: name, sequence: sequence)
        bytesTaken = 0
        recordsTaken = 0
        writeHeader(name, time)
    }

    /// Shows the gauges.
    func show() {
        counters[.pendingBytes].set(UInt64(end - start))
        counters[.lastSequence].set(sequence)
    }
}
