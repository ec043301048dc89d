import CLinux
public import CoreLoop

/// Checks a log's chain from its first record to its last.
///
/// What the chain shows: a record that was changed, taken out, put in or moved. What it cannot
/// show by itself: that the newest records were cut off, or all of them written anew. For that,
/// note a head (`number:hash`) elsewhere, and check for it later.
public struct ChainCheck: Sendable {
    /// The first record that is not as it must be.
    public struct Break: Sendable, Equatable {
        /// The segment's file name, the line counted from 1, and what is wrong.
        public var file: String
        public var line: Int
        public var reason: String
    }

    /// A record's number and its line's hash.
    public struct Head: Sendable, Equatable {
        /// The number, from 1 on, and the hash that the next record names.
        public var sequence: UInt64
        public var hash: ChainHash

        /// Reads `number:hash`, as `text` writes it.
        public init?(_ text: String) {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, let sequence = UInt64(parts[0]), let hash = ChainHash(parts[1])
            else { return nil }
            self.sequence = sequence
            self.hash = hash
        }

        init(sequence: UInt64, hash: ChainHash) {
            self.sequence = sequence
            self.hash = hash
        }

        /// `number:hash`.
        public var text: String { "\(sequence):\(hash.text)" }
    }

    /// Segments, records and bytes that were read.
    public private(set) var segments = 0
    public private(set) var records = 0
    public private(set) var byteCount = 0
    /// The number of the first record; nil in an empty log.
    public private(set) var firstSequence: UInt64?
    /// The last record; nil in an empty log.
    public private(set) var head: Head?
    /// The first fault; nil where the chain holds.
    public private(set) var broken: Break?
    /// What is no fault, and worth a word: an unfinished last line, what retention removed.
    public private(set) var notes: [String] = []

    private let digest = UncheckedDigest()
    private let anchor: Head?
    private var anchorIsFound = false
    /// Where the chain has to be vouched for by a retention record, as its start is gone.
    private var start: (sequence: UInt64, hash: ChainHash, file: String)?

    /// Checks the log in `directory`, up to its first fault; with an `anchor`, that it holds that
    /// very record.
    public static func run(
        _ directory: String, anchor: Head? = nil
    ) throws(SystemError) -> ChainCheck {
        var check = ChainCheck(anchor: anchor)
        let folder = LogFolder(path: directory)
        let names = try folder.segments()
        for (index, name) in names.enumerated() {
            let fd: Int32
            do {
                fd = try folder.open(name)
            } catch {
                // Retention may remove the oldest ones meanwhile; any other is missing.
                if error.code == ENOENT, check.records == 0 { continue }
                throw error
            }
            defer { close(fd) }
            try check.read(fd, name, isLast: index == names.count - 1)
            if check.broken != nil { return check }
        }
        check.judgeStart()
        check.judgeAnchor(names.last?.text ?? "")
        return check
    }

    private init(anchor: Head?) { self.anchor = anchor }

    private mutating func read(
        _ fd: Int32, _ name: SegmentName, isLast: Bool
    ) throws(SystemError) {
        // What is written meanwhile is left for the next time.
        let size = try FileState(fd).byteCount
        var lines = SegmentLines(fd, to: size)
        var number = 0
        segments += 1
        byteCount += size
        while let line = try lines.next() {
            number += 1
            if !line.isComplete, isLast, line.end == size, line.bytes.count < Limits.lineBytesMax {
                notes.append(
                    "\(name.text):\(number): \(line.bytes.count) bytes of an unfinished record;"
                        + " a writer cuts them when it starts")
                return
            }
            if let reason = fault(of: line.bytes, name) {
                broken = Break(file: name.text, line: number, reason: reason)
                return
            }
        }
    }

    /// Takes the next line into the chain; says what is wrong with it.
    private mutating func fault(
        of line: UnsafeRawBufferPointer, _ name: SegmentName
    ) -> String? {
        guard let frame = RecordFrame(line), RecordFrame.hasNoControls(line) else {
            return "not a record"
        }
        if let head {
            guard frame.sequence == head.sequence + 1 else {
                return "record \(frame.sequence) where \(head.sequence + 1) has to be"
            }
            guard frame.previous == head.hash else {
                return "record \(frame.sequence) does not carry the hash of record"
                    + " \(head.sequence): one of the two was changed"
            }
        } else {
            firstSequence = frame.sequence
            if frame.sequence != 1 || frame.previous != .origin {
                start = (frame.sequence - 1, frame.previous, name.text)
            }
        }
        records += 1
        head = Head(sequence: frame.sequence, hash: digest.value.hash(line))
        if let start { look(for: start, in: line) }
        if let anchor, anchor == head { anchorIsFound = true }
        return nil
    }

    /// A retention record vouches for a start that is not record 1.
    private mutating func look(
        for wanted: (sequence: UInt64, hash: ChainHash, file: String),
        in line: UnsafeRawBufferPointer
    ) {
        guard let type = JSONMembers.value("event_type", in: line),
            JSONText.equals(type, "\"retention\""),
            let list = JSONMembers.value("removed", in: line)
        else { return }
        let isVouchedFor = JSONMembers.elements(list).contains { removal in
            guard let sequence = JSONMembers.value("last_seq", in: removal),
                let hash = JSONMembers.value("last_hash", in: removal)
            else { return false }
            return UInt64(String(decoding: sequence, as: UTF8.self)) == wanted.sequence
                && String(decoding: hash, as: UTF8.self) == "\"\(wanted.hash.text)\""
        }
        guard isVouchedFor else { return }
        start = nil
        notes.append(
            "begins with record \(wanted.sequence + 1): retention removed what came before")
    }

    private mutating func judgeStart() {
        guard let start else { return }
        broken = Break(
            file: start.file, line: 1,
            reason: "the log begins with record \(start.sequence + 1), and no record of retention"
                + " accounts for what came before")
    }

    private mutating func judgeAnchor(_ file: String) {
        guard broken == nil, let anchor, !anchorIsFound else { return }
        let reason =
            anchor.sequence > head?.sequence ?? 0
            ? "record \(anchor.sequence) is missing: the log ends with \(head?.sequence ?? 0)"
            : anchor.sequence < firstSequence ?? 0
                ? "record \(anchor.sequence) is older than the log's first, \(firstSequence ?? 0)"
                : "record \(anchor.sequence) is not the one that was noted: the log was rewritten"
        broken = Break(file: file, line: 0, reason: reason)
    }
}

/// The digest of a check, which one thread uses.
private struct UncheckedDigest: @unchecked Sendable {
    let value = ChainDigest()
}
