import CLinux
import CoreLoop

/// What a segment's first record promises: how long the segment is kept.
struct SegmentPromise: Equatable {
    var retentionDays: Int
    var isImmutable: Bool

    /// Reads the promise of a segment's header; nil where the line is none.
    init?(header line: UnsafeRawBufferPointer) {
        guard RecordFrame(line) != nil,
            let type = JSONMembers.value("event_type", in: line),
            JSONText.equals(type, "\"segment\""),
            let days = JSONMembers.value("retention_days", in: line),
            let number = Int(String(decoding: days, as: UTF8.self)),
            Limits.retentionDays.contains(number),
            let flag = JSONMembers.value("immutable", in: line)
        else { return nil }
        retentionDays = number
        isImmutable = JSONText.equals(flag, "true")
    }

    init(retentionDays: Int, isImmutable: Bool) {
        self.retentionDays = retentionDays
        self.isImmutable = isImmutable
    }

    /// The moment from which a segment of `day` may be removed, milliseconds since 1970.
    ///
    /// The day's end and the days it is kept: by today's setting, and where the segment is
    /// immutable never fewer than it was begun with.
    func expiryMs(day: Int, settings: EventLogSettings) -> UInt64 {
        let days = max(settings.retentionDays, isImmutable ? retentionDays : 0)
        return UInt64(day + 1 + days) * EventTime.dayMs
    }
}

/// Finds what a log may forget.
enum Retention {
    /// A segment that is expired, and where the chain goes on without it: the number of its last
    /// record, and that one's hash as the next record names it.
    struct Removal {
        var segment: SegmentName
        var lastSequence: UInt64
        var lastHash: ChainHash
    }

    /// The oldest segments of `names`, up to the first one that has to stay. The last of `names`
    /// always stays: the chain goes on from there.
    ///
    /// A segment whose header cannot be read stays, and all behind it.
    static func due(
        _ folder: LogFolder, _ names: [SegmentName], _ settings: EventLogSettings, wallMs: UInt64
    ) throws(SystemError) -> [Removal] {
        var removals: [Removal] = []
        for index in names.indices.dropLast().prefix(Limits.segmentsPerRemovalMax) {
            let name = names[index]
            // Most segments are too young whatever they promise: no need to open them.
            guard wallMs >= UInt64(name.day + 1 + settings.retentionDays) * EventTime.dayMs,
                let promise = try firstLine(folder, name, { SegmentPromise(header: $0) }),
                wallMs >= promise.expiryMs(day: name.day, settings: settings),
                let next = try firstLine(folder, names[index + 1], { RecordFrame($0) })
            else { break }
            removals.append(
                Removal(
                    segment: name, lastSequence: next.sequence - 1, lastHash: next.previous))
        }
        return removals
    }

    private static func firstLine<T>(
        _ folder: LogFolder, _ name: SegmentName, _ read: (UnsafeRawBufferPointer) -> T?
    ) throws(SystemError) -> T? {
        let fd = try folder.open(name)
        defer { close(fd) }
        var lines = SegmentLines(fd)
        guard let line = try lines.next(), line.isComplete else { return nil }
        return read(line.bytes)
    }
}
