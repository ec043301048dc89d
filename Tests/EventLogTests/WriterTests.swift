import CLinux
import CoreLoop
import Foundation
import Testing

@testable import EventLog

@Suite struct WriterTests {
    @Test func recordsAreChainedAndGoOnAfterARestart() throws {
        let folder = Folder()
        let first = try Pen(folder)
        first.append(numbers: 1...20)
        first.close()
        let second = try Pen(folder)
        second.append(numbers: 21...40)
        second.close()
        #expect(folder.segments == ["events-00000001-20261127.jsonl"])
        #expect(numbers(folder.log) == Array(1...40))
        let check = try folder.check
        #expect(check.broken == nil && check.records == 41 && check.notes.isEmpty)
        #expect(second.counters.value(.appended) == 20)
        #expect(second.counters.value(.lastSequence) == 41)
        #expect(second.counters.value(.durableSequence) == 41)
        #expect(second.counters.value(.bytesCut) == 0)
    }

    @Test func theChainIsTheSHA256OfTheLineBefore() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.append(numbers: 1...3)
        pen.close()
        let lines = folder.log
        #expect(lines[0].hasPrefix("{\"seq\":1,\"prev\":\"" + String(repeating: "0", count: 64)))
        for (before, line) in zip(lines, lines.dropFirst()) {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
            let (input, output) = (Pipe(), Pipe())
            process.standardInput = input
            process.standardOutput = output
            try process.run()
            input.fileHandleForWriting.write(Data(before.utf8))
            try input.fileHandleForWriting.close()
            let text = String(
                decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            #expect(line.contains("\"prev\":\"\(text.prefix(64))\""))
        }
    }

    @Test(arguments: [
        "", "{}", "[1]", "{\"a\":1", "{\"a\":1}\n", "{\"a\":\"\n\"}", "{\"a\":\"\u{1}\"}",
        " {\"a\":1}",
        "{\"a\":\"" + String(repeating: "x", count: 40) + "\u{1F}\"}",
        "{\"a\":\"" + String(repeating: "x", count: Limits.recordBytesMax) + "\"}",
    ])
    func whatIsNoRecordIsRefused(body: String) throws {
        let folder = Folder()
        let pen = try Pen(folder)
        #expect(pen.append(body) == .refused)
        pen.append(numbers: 1...1)
        pen.close()
        #expect(pen.counters.value(.refused) == 1)
        #expect(try folder.check.records == 2)
    }

    @Test func theLongestRecordIsTaken() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        let body = "{\"a\":\"" + String(repeating: "x", count: Limits.recordBytesMax - 8) + "\"}"
        #expect(body.utf8.count == Limits.recordBytesMax)
        #expect(pen.append(body) == .taken)
        pen.append(numbers: 1...1)
        pen.close()
        #expect(try folder.check.broken == nil)
        var reader = try LogReader(
            folder.path,
            {
                var all = EventFilter(); all.includesAll = true; return all
            }())
        var sizes: [Int] = []
        try reader.select(last: 2) {
            sizes.append($0.count)
            return true
        }
        #expect(sizes.count == 2 && sizes[0] > Limits.recordBytesMax)
    }

    @Test func aFullSegmentIsClosedReadOnlyAndFollowedByTheNext() throws {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: 2_000)
        for number in 1...60 {
            pen.append(numbers: number...number)
            if number % 3 == 0 { pen.settle() }
        }
        pen.close()
        #expect(folder.segments.count > 4)
        for (index, name) in folder.segments.enumerated() {
            var status = stat()
            #expect(stat("\(folder.path)/\(name)", &status) == 0)
            let isLast = index == folder.segments.count - 1
            #expect(status.st_mode & 0o777 == (isLast ? 0o640 : 0o440), "\(name)")
            #expect(status.st_size <= 2_000 + 400)
            #expect(folder.lines(name)[0].contains("\"event_type\":\"segment\""))
        }
        #expect(numbers(folder.log) == Array(1...60))
        #expect(try folder.check.broken == nil)
    }

    @Test func recordsThatComeWhileASegmentIsClosedWaitForTheNext() throws {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: 1_000)
        // Not one turn in between: everything waits behind the first boundary.
        pen.append(numbers: 1...50)
        pen.close()
        #expect(folder.segments.count == 2)
        #expect(numbers(folder.log) == Array(1...50))
        #expect(try folder.check.broken == nil)
    }

    @Test func aNewDayBeginsANewSegment() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.append(numbers: 1...2)
        pen.settle()
        pen.pass(ms: 86_400_000)
        pen.append(numbers: 3...3)
        pen.settle()
        // Three days without a record: the day is closed, and but one header follows.
        for _ in 0..<3 {
            pen.pass(ms: 86_400_000)
            pen.settle()
        }
        pen.append(numbers: 4...4)
        pen.close()
        #expect(
            folder.segments == [
                "events-00000001-20261127.jsonl", "events-00000002-20261128.jsonl",
                "events-00000003-20261129.jsonl", "events-00000004-20261201.jsonl",
            ])
        #expect(numbers(folder.lines(folder.segments[3])) == [4])
        #expect(folder.lines(folder.segments[2]).count == 1)
        #expect(try folder.check.broken == nil)
    }

    @Test func aClockThatGoesBackKeepsTheSegment() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.append(numbers: 1...1)
        pen.time.wallMs -= 2 * 86_400_000
        pen.append(numbers: 2...2)
        pen.close()
        #expect(folder.segments.count == 1)
        #expect(try folder.check.broken == nil)
    }

    @Test func thereIsOneWriterAFolder() throws {
        let folder = Folder()
        let first = try Pen(folder)
        #expect(throws: LogFault.self) { try Pen(folder) }
        first.close()
        let second = try Pen(folder)
        #expect(throws: LogFault.self) { try Pen(folder) }
        second.close()
    }

    @Test func aFolderThatCannotBeIsAFault() {
        var settings = EventLogSettings()
        settings.directory = "/nowhere/at/all"
        #expect(throws: LogFault.self) {
            let folder = Folder()
            let pen = try Pen(folder)
            _ = try LogWriter(settings, counters: pen.counters, time: pen.time)
        }
    }

    // MARK: A disk that fails

    /// Swaps the file behind a writer's descriptor for one on which every write fails.
    final class BrokenDisk {
        private let pen: Pen
        private let saved: Int32

        init(_ pen: Pen) {
            self.pen = pen
            saved = dup(pen.writer.fd)
            let full = umbra_open("/dev/full", O_WRONLY, 0)
            dup2(full, pen.writer.fd)
            close(full)
        }

        func mend() {
            dup2(saved, pen.writer.fd)
            close(saved)
        }
    }

    @Test func aFullDiskDropsCountsAndResumesWithTheChainIntact() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.append(numbers: 1...3)
        pen.settle()
        let disk = BrokenDisk(pen)
        let large = "{\"a\":\"" + String(repeating: "x", count: 500_000) + "\"}"
        var (taken, dropped) = (0, 0)
        for _ in 0..<40 {
            pen.pass(ms: 300)
            if pen.append(large) == .taken { taken += 1 } else { dropped += 1 }
            pen.writer.turn(pen.time)
        }
        #expect(taken == 16 && dropped == 24)
        #expect(pen.counters.value(.dropped) == 24)
        #expect(pen.counters.value(.writeFailures) > 10 && pen.writer.writeFault == ENOSPC)
        #expect(pen.counters.value(.pendingBytes) > 7_900_000)
        disk.mend()
        pen.pass(ms: 300)
        pen.writer.turn(pen.time)
        pen.append(numbers: 4...5)
        pen.close()
        #expect(try folder.check.broken == nil)
        #expect(numbers(folder.log) == Array(1...5))
        let gaps = folder.log.filter { $0.contains("\"event_type\":\"gap\"") }
        #expect(gaps.count == 1 && gaps[0].contains("\"dropped\":24,\"since\":"))
        #expect(folder.log.count == 1 + 3 + 16 + 1 + 2)
    }

    @Test func aShortWriteGoesOnWhereItStopped() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.settle()
        // A pipe takes 64 KiB and then nothing more: a write that is cut amid a record.
        var ends: [Int32] = [0, 0]
        #expect(pipe2(&ends, Int32(O_NONBLOCK)) == 0)
        let saved = dup(pen.writer.fd)
        dup2(ends[1], pen.writer.fd)
        for number in 1...4 {
            let text = String(repeating: "x", count: 30_000)
            #expect(pen.append("{\"t\":\"\(text)\",\"n\":\(number)}") == .taken)
        }
        pen.writer.turn(pen.time)
        #expect(pen.counters.value(.writeFailures) == 1)
        #expect(pen.writer.start > 0 && pen.writer.start < pen.writer.end)
        var part = [UInt8](repeating: 0, count: 100_000)
        let count = read(ends[0], &part, part.count)
        #expect(write(saved, part, count) == count)
        dup2(saved, pen.writer.fd)
        for fd in ends + [saved] { close(fd) }
        pen.pass(ms: 300)
        pen.close()
        #expect(numbers(folder.log) == [1, 2, 3, 4])
        #expect(try folder.check.broken == nil)
    }

    /// What goes into a file that somebody has removed is not durable.
    @Test func aRemovedSegmentCountsAsNotSynced() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.settle()
        #expect(pen.counters.value(.syncFailures) == 0)
        unlink("\(folder.path)/\(folder.segments[0])")
        pen.writer.isDirty = true
        for _ in 0..<200 where pen.counters.value(.syncFailures) == 0 {
            pen.pass(ms: 20)
            pen.writer.turn(pen.time)
            usleep(1_000)
        }
        #expect(pen.counters.value(.syncFailures) > 0)
        _ = pen.writer.close(waitMs: 200)
    }

    @Test func aSyncThatFailsIsCountedAndSaidInTheLog() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.settle()
        // A pipe cannot be synced.
        var ends: [Int32] = [0, 0]
        #expect(pipe2(&ends, 0) == 0)
        let saved = dup(pen.writer.fd)
        dup2(ends[1], pen.writer.fd)
        pen.writer.isDirty = true
        for _ in 0..<200 where pen.counters.value(.syncFailures) == 0 {
            pen.pass(ms: 20)
            pen.writer.turn(pen.time)
            usleep(1_000)
        }
        // The record about it may be in the pipe by now; the file gets what was written to it.
        usleep(50_000)
        dup2(saved, pen.writer.fd)
        var part = [UInt8](repeating: 0, count: 60_000)
        umbra_fcntl(ends[0], F_SETFL, O_NONBLOCK)
        let count = read(ends[0], &part, part.count)
        if count > 0 { #expect(write(saved, part, count) == count) }
        for fd in ends + [saved] { close(fd) }
        pen.close()
        #expect(folder.log.contains { $0.contains("\"event_type\":\"sync_error\"") })
        #expect(try folder.check.broken == nil)
    }
}
