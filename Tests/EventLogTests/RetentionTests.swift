import CLinux
import CoreLoop
import Foundation
import Testing

@testable import EventLog

/// What a log forgets, and when; and that it says so.
@Suite struct RetentionTests {
    /// A log of one segment for each of `days` days, its writer gone.
    private static func written(
        _ folder: Folder, days: Int, retentionDays: Int, isImmutable: Bool = true
    ) throws {
        let pen = try Pen(folder, retentionDays: retentionDays, isImmutable: isImmutable)
        for day in 1...days {
            pen.append(numbers: day...day)
            pen.settle()
            if day < days { pen.pass(ms: 86_400_000) }
        }
        pen.close()
    }

    @Test func wholeSegmentsGoOnceTheyAreExpiredAndTheLogSaysSo() throws {
        let folder = Folder()
        try Self.written(folder, days: 5, retentionDays: 3)
        // Day 0 is kept up to the end of day 3, so day 4 may remove it.
        #expect(folder.segments.count == 4)
        let later = try Pen(folder, retentionDays: 3, dayOffset: 6)
        later.append(numbers: 6...6)
        later.settle()
        later.close()
        #expect(
            folder.segments.map { $0.prefix(15) } == [
                "events-00000004", "events-00000005", "events-00000006",
            ])
        #expect(numbers(folder.log) == [4, 5, 6])
        let records = folder.log.filter { $0.contains("\"event_type\":\"retention\"") }
        #expect(records.last?.contains("{\"segment\":\"events-00000003-20261129.jsonl\",") == true)
        let check = try folder.check
        #expect(check.broken == nil)
        #expect(check.notes.count == 1 && check.notes[0].contains("retention removed"))
    }

    /// The last moment of a segment's time, and the first behind it.
    @Test(arguments: [(0, false), (1, true)])
    func aSegmentStaysToTheLastMillisecond(offsetMs: UInt64, isGone: Bool) throws {
        let folder = Folder()
        try Self.written(folder, days: 2, retentionDays: 10)
        let pen = try Pen(folder, retentionDays: 10, dayOffset: 11)
        // The writer looks at its start already.
        pen.time.wallMs -= 1
        pen.writer.nextRetentionMs = pen.time.monotonicMs
        pen.time.wallMs += offsetMs
        pen.writer.clockOffsetMs = Int64(pen.time.wallMs) - Int64(pen.time.monotonicMs)
        pen.writer.turn(pen.time)
        // In time that stands still, as far as the wall clock is concerned.
        for _ in 0..<500 where pen.writer.removal != nil || pen.writer.job != nil {
            pen.time.monotonicMs += 20
            pen.writer.turn(pen.time)
            usleep(1_000)
        }
        #expect(folder.segments.contains("events-00000001-20261127.jsonl") == !isGone)
        pen.close()
    }

    /// Fewer days in the configuration do not shorten what an immutable segment was begun with.
    @Test(arguments: [true, false])
    func immutableSegmentsKeepTheirTime(isImmutable: Bool) throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 100, isImmutable: isImmutable)
        let pen = try Pen(folder, retentionDays: 1, isImmutable: isImmutable, dayOffset: 50)
        pen.settle()
        #expect((folder.segments.first == "events-00000001-20261127.jsonl") == isImmutable)
        pen.close()
        let later = try Pen(folder, retentionDays: 1, isImmutable: isImmutable, dayOffset: 104)
        later.settle()
        #expect(folder.segments.first != "events-00000001-20261127.jsonl")
        later.close()
        #expect(try folder.check.broken == nil)
    }

    @Test func moreDaysHoldForOldSegmentsToo() throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 2)
        let before = folder.segments
        let pen = try Pen(folder, retentionDays: 100, dayOffset: 50)
        pen.settle()
        #expect(folder.segments.starts(with: before.dropLast(0).prefix(2)))
        pen.close()
    }

    @Test func aSegmentWhoseHeaderCannotBeReadStaysAndAllBehindIt() throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 1)
        let first = folder.segments[0]
        chmod("\(folder.path)/\(first)", 0o640)
        folder.write(first, Array("garbage\n".utf8))
        let before = folder.segments
        let pen = try Pen(folder, retentionDays: 1, dayOffset: 50)
        pen.settle()
        #expect(folder.segments.starts(with: before.dropLast()))
        pen.close()
    }

    /// A clock that is set to a far future does not empty the log at once.
    @Test func aClockThatJumpsRemovesNothingForADay() throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 30)
        let pen = try Pen(folder, retentionDays: 30, dayOffset: 3)
        pen.settle()
        let before = folder.segments
        pen.time.wallMs += 400 * 86_400_000
        for _ in 0..<30 {
            pen.pass(ms: 1_800_000)
            pen.settle()
        }
        #expect(folder.segments.starts(with: before.dropLast()))
        for _ in 0..<30 {
            pen.pass(ms: 1_800_000)
            pen.settle()
        }
        #expect(folder.segments.first != before.first)
        pen.close()
        #expect(try folder.check.broken == nil)
    }

    /// Killed between the record and the removal, or between two removals.
    @Test(arguments: 0...2)
    func aRemovalThatWasCutShortIsDoneByTheNextWriter(removed: Int) throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 10)
        let pen = try Pen(folder, retentionDays: 10, dayOffset: 40)
        let before = folder.segments
        let bytes = before.map { folder.read($0) }
        // Up to the moment in which the segments are removed, once their record is durable.
        pen.close()
        #expect(folder.segments.count == before.count - 2 + 1)
        for index in removed..<2 { folder.write(before[index], bytes[index]) }
        #expect(try folder.check.broken == nil)
        let again = try Pen(folder, retentionDays: 10, dayOffset: 41)
        again.close()
        #expect(!folder.segments.contains(before[1]))
        #expect(try folder.check.broken == nil)
    }

    @Test func withoutItsRecordAMissingStartIsABreak() throws {
        let folder = Folder()
        try Self.written(folder, days: 3, retentionDays: 100)
        unlink("\(folder.path)/\(folder.segments[0])")
        let broken = try #require(try folder.check.broken)
        #expect(broken.file == folder.segments[0] && broken.line == 1)
        #expect(broken.reason.contains("no record of retention"))
    }
}
