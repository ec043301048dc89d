import CLinux
import CoreLoop

/// What a writer finds in the folder when it starts: where the chain ends, and whether it may go
/// on in the last segment.
struct LogTail {
    /// The last record's number and hash; 0 and zeros where there is none.
    var sequence: UInt64 = 0
    var hash = ChainHash.origin
    /// The segment with the highest number, or nil; and how many of its bytes are records.
    var segment: SegmentName?
    var byteCount = 0
    /// Records of that segment, its header among them.
    var records = 0
    /// Bytes behind the last record: what a killed writer left of one that it was writing.
    var cutBytes = 0
    /// Whether writing may go on there: it is not closed, and no record in it is out of the chain.
    var goesOn = false
    /// Why it does not, where that is worth a word in the log.
    var fault: String?

    /// Reads the last segment, and where that holds no record the one before it.
    ///
    /// What stands behind the last line that has a record's form is cut off: a kill or a power
    /// failure left it. A line amid records that is none, or is out of the chain, is evidence: it
    /// stays, and the log goes on in a new segment.
    static func read(_ folder: LogFolder, _ digest: ChainDigest) throws(SystemError) -> LogTail {
        var tail = LogTail()
        let segments = try folder.segments()
        guard let last = segments.last else { return tail }
        tail.segment = last
        let fd = try folder.open(last)
        defer { close(fd) }
        let state = try FileState(fd)
        let found = try scan(fd, state.byteCount, digest)
        tail.byteCount = found.end
        tail.records = found.records
        tail.cutBytes = state.byteCount - found.end
        tail.sequence = found.last?.sequence ?? 0
        tail.hash = found.hash
        if let line = found.brokenLine {
            tail.fault = "\(last.text):\(line): not in the chain"
        }
        if found.last == nil, segments.count > 1 {
            let before = try folder.open(segments[segments.count - 2])
            defer { close(before) }
            let earlier = try scan(before, .max, digest)
            tail.sequence = earlier.last?.sequence ?? 0
            tail.hash = earlier.hash
        }
        tail.goesOn = state.isWritable && found.brokenLine == nil
        return tail
    }

    private struct Scan {
        var last: RecordFrame?
        var hash = ChainHash.origin
        var end = 0
        var records = 0
        var brokenLine: Int?
    }

    private static func scan(
        _ fd: Int32, _ byteCount: Int, _ digest: ChainDigest
    ) throws(SystemError) -> Scan {
        var result = Scan()
        var number = 0
        var firstUnformed: Int?
        var lines = SegmentLines(fd, to: byteCount)
        while let line = try lines.next() {
            number += 1
            guard line.isComplete, let frame = RecordFrame(line.bytes),
                RecordFrame.hasNoControls(line.bytes)
            else {
                firstUnformed = firstUnformed ?? number
                continue
            }
            let isLinked =
                result.last.map {
                    frame.sequence == $0.sequence + 1 && frame.previous == result.hash
                } ?? true
            if !isLinked || firstUnformed != nil {
                result.brokenLine = result.brokenLine ?? firstUnformed ?? number
            }
            result.last = frame
            result.hash = digest.hash(line.bytes)
            result.end = line.end
            result.records += 1
        }
        return result
    }
}
