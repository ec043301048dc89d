import CLinux
import CoreLoop
import Foundation
import Testing

@testable import EventLog

@Suite struct ReaderTests {
    private static func select(
        _ folder: Folder, _ filter: EventFilter = EventFilter(), last: Int? = nil
    ) throws -> [Int] {
        var reader = try LogReader(folder.path, filter)
        var found: [String] = []
        try reader.select(last: last) {
            found.append(String(decoding: $0, as: UTF8.self))
            return true
        }
        return numbers(found)
    }

    /// A log of several segments whose records are of many sizes.
    private static func log(_ count: Int, segmentBytes: Int = 3_000) throws -> Folder {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: segmentBytes)
        for number in 1...count {
            let padding = String(repeating: "p", count: number * 37 % 600)
            let body =
                "{\"event_type\":\"decision\",\"timestamp\":\"\(EventTime.text(pen.time.wallMs))\","
                + "\"verdict\":\"\(number % 5 == 0 ? "block" : "allow")\",\"model\":\"m\(number % 3)\","
                + "\"policies\":[\"a\",\"p\(number % 4)\"],\"pad\":\"\(padding)\",\"n\":\(number)}"
            #expect(pen.append(body) == .taken)
            pen.pass(ms: 1_000)
            if number % 4 == 0 { pen.settle() }
        }
        pen.close()
        return folder
    }

    @Test func allAndTheLast() throws {
        let folder = try Self.log(60)
        #expect(folder.segments.count > 5)
        #expect(try Self.select(folder) == Array(1...60))
        for last in [0, 1, 2, 7, 31, 59, 60, 61, 1_000] {
            #expect(
                try Self.select(folder, last: last) == Array(max(1, 61 - last)...61).dropLast(),
                "\(last)")
        }
    }

    @Test func filtersHold() throws {
        let folder = try Self.log(60)
        var filter = EventFilter()
        filter.require("verdict", "block")
        #expect(try Self.select(folder, filter) == Array(stride(from: 5, through: 60, by: 5)))
        #expect(try Self.select(folder, filter, last: 3) == [50, 55, 60])
        filter.require("model", "m1")
        #expect(try Self.select(folder, filter) == [10, 25, 40, 55])
        filter.require(policy: "p3")
        #expect(try Self.select(folder, filter) == [55])
        filter = EventFilter()
        filter.require(policy: "p")
        #expect(try Self.select(folder, filter) == [])
    }

    @Test func timesAreFromAndBefore() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        for number in 1...10 {
            pen.append(numbers: number...number)
            pen.pass(ms: 1_000)
        }
        pen.close()
        var filter = EventFilter()
        filter.sinceMs = Pen.day0 + 3_000
        filter.untilMs = Pen.day0 + 6_000
        #expect(try Self.select(folder, filter) == [4, 5, 6])
        #expect(try Self.select(folder, filter, last: 2) == [5, 6])
        filter.untilMs = nil
        #expect(try Self.select(folder, filter) == Array(4...10))
    }

    @Test func segmentsThatAreTooOldAreNotRead() throws {
        let folder = try Self.log(20)
        // Last changed before the wanted time, so nothing in it can be of that time.
        let first = folder.segments[0]
        var times = [
            timeval(tv_sec: 1_000_000, tv_usec: 0), timeval(tv_sec: 1_000_000, tv_usec: 0),
        ]
        #expect(utimes("\(folder.path)/\(first)", &times) == 0)
        var filter = EventFilter()
        filter.sinceMs = Pen.day0
        let left = try Self.select(folder, filter)
        let kept = numbers(folder.segments.dropFirst().flatMap { folder.lines($0) })
        #expect(left == kept && !kept.isEmpty)
    }

    @Test func theLogsOwnRecordsAreLeftOutUnlessAskedFor() throws {
        let folder = try Self.log(10)
        var filter = EventFilter()
        filter.includesAll = true
        var reader = try LogReader(folder.path, filter)
        var count = 0
        try reader.select { _ in
            count += 1
            return true
        }
        #expect(count == 10 + folder.segments.count)
    }

    /// Lines that lie across the pieces in which files are read, from both ends.
    @Test func longLinesAreRead() throws {
        let folder = Folder()
        let pen = try Pen(folder)
        var sizes: [Int] = []
        for number in 1...12 {
            let size = [10, Limits.readBytes - 300, Limits.readBytes, Limits.recordBytesMax - 400][
                number % 4]
            sizes.append(size)
            let text = String(repeating: "x", count: size)
            #expect(
                pen.append("{\"event_type\":\"decision\",\"t\":\"\(text)\",\"n\":\(number)}")
                    == .taken)
            pen.settle()
        }
        pen.close()
        #expect(try Self.select(folder) == Array(1...12))
        for last in 1...12 {
            #expect(try Self.select(folder, last: last) == Array((13 - last)...12))
        }
        #expect(try folder.check.broken == nil)
    }

    @Test func unfinishedAndStrayLinesArePassedOver() throws {
        let folder = try Self.log(10, segmentBytes: 64 << 20)
        let name = folder.segments[0]
        let whole = folder.read(name)
        for size in stride(from: whole.count - 200, through: whole.count, by: 7) {
            folder.write(name, Array(whole[..<size]))
            let complete = numbers(
                String(decoding: whole[..<size], as: UTF8.self).split(
                    separator: "\n", omittingEmptySubsequences: false
                ).dropLast().map(String.init))
            #expect(try Self.select(folder) == complete)
            #expect(try Self.select(folder, last: 3) == complete.suffix(3))
        }
        folder.write(
            name,
            whole + Array("garbage\n\n".utf8) + [UInt8](repeating: 0x78, count: 2 << 20) + [0x0A]
                + whole)
        var reader = try LogReader(folder.path, EventFilter())
        var count = 0
        try reader.select { _ in
            count += 1
            return true
        }
        // Whatever stands between them, the records behind it are found.
        #expect(count == 20)
        #expect(reader.strayLines >= 3)
        #expect(try Self.select(folder, last: 2) == [9, 10])
    }

    @Test func followingGoesFromSegmentToSegment() throws {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: 1_000)
        pen.append(numbers: 1...3)
        pen.settle()
        var reader = try LogReader(folder.path, EventFilter())
        var found: [String] = []
        func take(_ line: UnsafeRawBufferPointer) -> Bool {
            found.append(String(decoding: line, as: UTF8.self))
            return true
        }
        try reader.select(last: 2, take)
        #expect(numbers(found) == [2, 3])
        for number in 4...40 {
            pen.append(numbers: number...number)
            // Sometimes several segments at once, sometimes half of one.
            if number % 7 == 0 { pen.settle() }
            if number % 3 == 0 { #expect(try reader.follow(take)) }
        }
        pen.close()
        #expect(try reader.follow(take))
        #expect(numbers(found) == Array(2...40))
        #expect(folder.segments.count > 3)
        found = []
        #expect(try reader.follow(take))
        #expect(found.isEmpty)
    }

    @Test func followingStartsInAnEmptyFolderAndSeesOnlyWholeLines() throws {
        let folder = Folder()
        var reader = try LogReader(folder.path, EventFilter())
        var found: [String] = []
        func take(_ line: UnsafeRawBufferPointer) -> Bool {
            found.append(String(decoding: line, as: UTF8.self))
            return true
        }
        try reader.select(last: 5, take)
        let other = Folder()
        let pen = try Pen(other)
        pen.append(numbers: 1...3)
        pen.close()
        let bytes = other.read(other.segments[0])
        for size in stride(from: 0, through: bytes.count, by: 11) {
            folder.write(other.segments[0], Array(bytes[..<size]))
            #expect(try reader.follow(take))
        }
        folder.write(other.segments[0], bytes)
        #expect(try reader.follow(take))
        #expect(numbers(found) == [1, 2, 3])
    }

    @Test func aMissingFolderIsAnError() {
        #expect(throws: SystemError.self) { try LogReader("/nowhere/at/all", EventFilter()) }
    }
}
