import CLinux
public import CoreLoop

/// Finds records in a log that may be written meanwhile. Needs no lock.
public struct LogReader {
    private let folder: LogFolder
    private let filter: EventFilter
    /// Lines that are no records, and were passed over.
    public private(set) var strayLines = 0
    /// Where following goes on: the segment, and the byte behind the last line that was read.
    private var place: (number: Int, offset: Int) = (0, 0)

    /// A reader of the log in `directory`; throws where that is no folder that can be read.
    public init(_ directory: String, _ filter: EventFilter) throws(SystemError) {
        folder = LogFolder(path: directory)
        self.filter = filter
        _ = try folder.segments()
    }

    /// Hands the records that the filter accepts to `body`, oldest first; where `last` is given,
    /// only so many of the newest. `body` ends the search by false.
    public mutating func select(
        last: Int? = nil, _ body: (UnsafeRawBufferPointer) -> Bool
    ) throws(SystemError) {
        let names = try folder.segments()
        guard let newest = names.last else { return }
        var first = 0
        var firstOffset = 0
        if let last {
            guard let found = try start(names, ofLast: last) else {
                place = (newest.number, try size(newest) ?? 0)
                return
            }
            (first, firstOffset) = found
        }
        // What is written meanwhile is left to those who follow.
        var left = last ?? .max
        for index in first..<names.count {
            let offset = index == first ? firstOffset : 0
            let goesOn = try read(names[index], from: offset) { line in
                left -= 1
                return body(line) && left > 0
            }
            if !goesOn { return }
        }
    }

    /// Hands over what was written since; false where `body` ended the search. Goes from segment
    /// to segment as the writer does.
    public mutating func follow(
        _ body: (UnsafeRawBufferPointer) -> Bool
    ) throws(SystemError) -> Bool {
        let names = try folder.segments()
        for name in names where name.number >= place.number {
            let offset = name.number == place.number ? place.offset : 0
            guard try read(name, from: offset, body) else { return false }
        }
        return true
    }

    /// Waits as long as a follower should before it looks again.
    public static func rest() { _ = poll(nil, 0, Limits.followMs) }

    // MARK: Forwards

    private mutating func read(
        _ name: SegmentName, from offset: Int, _ body: (UnsafeRawBufferPointer) -> Bool
    ) throws(SystemError) -> Bool {
        guard let fd = try open(name) else { return true }
        defer { close(fd) }
        let state = try FileState(fd)
        if mayHoldWanted(state), offset < state.byteCount {
            var lines = SegmentLines(fd, from: offset, to: state.byteCount)
            place = (name.number, offset)
            while let line = try lines.next() {
                // Without its newline a line is not written to its end yet.
                guard line.isComplete || line.isTooLong else { break }
                place.offset = line.end
                if !line.isTooLong, isWanted(line.bytes), !body(line.bytes) { return false }
            }
        } else {
            place = (name.number, max(offset, state.byteCount))
        }
        return true
    }

    /// A record is written after its request came: a segment that was last changed before the
    /// wanted time holds nothing of it.
    private func mayHoldWanted(_ state: FileState) -> Bool {
        // File systems round times; a second is more than any of them does.
        filter.sinceMs.map { state.changedMs + 1_000 >= $0 } ?? true
    }

    private mutating func isWanted(_ line: UnsafeRawBufferPointer) -> Bool {
        guard RecordFrame.isFramed(line) else {
            strayLines += 1
            return false
        }
        return filter.accepts(line)
    }

    private func open(_ name: SegmentName) throws(SystemError) -> Int32? {
        do {
            return try folder.open(name)
        } catch {
            // Retention was here.
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    private func size(_ name: SegmentName) throws(SystemError) -> Int? {
        guard let fd = try open(name) else { return nil }
        defer { close(fd) }
        return try FileState(fd).byteCount
    }

    // MARK: Backwards

    /// Where the `count`-th wanted record from the end begins, or the oldest one where there are
    /// fewer; nil where there is none.
    private mutating func start(
        _ names: [SegmentName], ofLast count: Int
    ) throws(SystemError) -> (index: Int, offset: Int)? {
        var left = count
        var found: (index: Int, offset: Int)?
        let before = strayLines
        defer { strayLines = before }
        for index in names.indices.reversed() where left > 0 {
            guard let fd = try open(names[index]) else { continue }
            defer { close(fd) }
            let state = try FileState(fd)
            guard mayHoldWanted(state) else { continue }
            var lines = LinesBackwards(fd, byteCount: state.byteCount)
            while left > 0, let line = try lines.next() {
                guard isWanted(line.bytes) else { continue }
                found = (index, line.offset)
                left -= 1
            }
        }
        return found
    }
}

/// Reads the lines of a segment from its last to its first.
struct LinesBackwards: ~Copyable {
    private let fd: Int32
    private let buffer: UnsafeMutableRawBufferPointer
    /// `low..<high` of the buffer is what was read and not yet given; `position` is where `low`
    /// stands in the file.
    private var low: Int
    private var high: Int
    private var position: Int
    private var isOver = false

    init(_ fd: Int32, byteCount: Int) {
        self.fd = fd
        buffer = .allocate(byteCount: Limits.lineBytesMax + Limits.readBytes, alignment: 64)
        low = buffer.count
        high = buffer.count
        position = byteCount
    }

    deinit { buffer.deallocate() }

    /// The line before; nil at the start. What stands behind the last newline is no line.
    mutating func next() throws(SystemError) -> (bytes: UnsafeRawBufferPointer, offset: Int)? {
        // The newline that ends the line comes first.
        guard let end = try newline() else { return nil }
        high = end
        guard let before = try newline() else {
            isOver = true
            return (UnsafeRawBufferPointer(rebasing: buffer[low..<high]), position)
        }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[before + 1..<high])
        let offset = position + before + 1 - low
        high = before + 1
        return (bytes, offset)
    }

    /// The last newline below `high`; reads on until there is one, nil at the file's start. More
    /// than a line's length without one is passed over.
    private mutating func newline() throws(SystemError) -> Int? {
        if isOver { return nil }
        var known = high
        while true {
            if let found = memrchr(buffer.baseAddress! + low, 0x0A, known - low) {
                return UnsafeRawPointer(found) - UnsafeRawPointer(buffer.baseAddress!)
            }
            guard position > 0 else { return nil }
            if high - low > Limits.lineBytesMax { high = low }
            let count = high - low
            if high < buffer.count {
                memmove(
                    buffer.baseAddress! + buffer.count - count, buffer.baseAddress! + low, count)
                high = buffer.count
                low = high - count
            }
            known = low
            let wanted = min(Limits.readBytes, position, low)
            try fill(wanted)
        }
    }

    private mutating func fill(_ wanted: Int) throws(SystemError) {
        var done = 0
        while done < wanted {
            let target = buffer.baseAddress! + low - wanted + done
            let count = pread(fd, target, wanted - done, position - wanted + done)
            if count < 0 {
                if lastErrno == EINTR { continue }
                throw SystemError("read(segment)")
            }
            // Cut off meanwhile: nothing of a line that was whole.
            if count == 0 { memset(target, 0, wanted - done) }
            done += count == 0 ? wanted - done : count
        }
        low -= wanted
        position -= wanted
    }
}
