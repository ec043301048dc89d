import CLinux
import CoreLoop
import Foundation
import Testing

@testable import EventLog

/// What a kill, a power failure or a hand leaves behind, and what the next writer makes of it.
@Suite struct RecoveryTests {
    private static let name = "events-00000001-20261127.jsonl"

    private static func written(_ count: Int) throws -> [UInt8] {
        let folder = Folder()
        let pen = try Pen(folder)
        pen.append(numbers: 1...count)
        pen.close()
        return folder.read(name)
    }

    @Test func aLogThatIsCutAtAnyByteGoesOn() throws {
        let whole = try Self.written(4)
        for size in 0...whole.count {
            let folder = Folder()
            folder.write(Self.name, Array(whole[..<size]))
            let kept = whole[..<size].count { $0 == 0x0A }
            let pen = try Pen(folder)
            pen.append(numbers: 100...101)
            pen.close()
            let check = try folder.check
            #expect(check.broken == nil, "cut at \(size): \(String(describing: check.broken))")
            let expected = kept == 0 ? [100, 101] : Array(1..<kept) + [100, 101]
            #expect(numbers(folder.log) == expected, "cut at \(size)")
            let torn = size - (whole[..<size].lastIndex(of: 0x0A).map { $0 + 1 } ?? 0)
            #expect(pen.counters.value(.bytesCut) == UInt64(torn))
            #expect(folder.log.contains { $0.contains("\"recovery\"") } == (torn > 0))
        }
    }

    @Test(arguments: [
        [UInt8](repeating: 0, count: 5_000), Array("garbage\nmore of it\n".utf8),
        Array("{\"seq\":6,\"prev\":\"\n".utf8), [0x0A], [0x0A, 0x0A],
        [UInt8](repeating: 0x78, count: Limits.lineBytesMax + 70_000),
    ])
    func whatIsNoRecordAtTheEndIsCut(tail: [UInt8]) throws {
        let folder = Folder()
        folder.write(Self.name, try Self.written(4) + tail)
        let pen = try Pen(folder)
        #expect(pen.counters.value(.bytesCut) == UInt64(tail.count))
        pen.append(numbers: 5...6)
        pen.close()
        #expect(numbers(folder.log) == Array(1...6))
        #expect(try folder.check.broken == nil)
        #expect(folder.segments.count == 1)
    }

    /// Evidence stays: the log goes on in a new segment, and `verify` still names the place.
    @Test(arguments: ["changed", "removed", "garbage"])
    func whatWasTamperedWithIsNotWrittenOver(how: String) throws {
        let folder = Folder()
        var lines = try Self.written(5).split(separator: 0x0A).map(Array.init)
        switch how {
        case "changed": lines[2][lines[2].count - 2] = UInt8(ascii: "7")
        case "removed": lines.remove(at: 2)
        default: lines.insert(Array("garbage".utf8), at: 3)
        }
        let bytes = Array(lines.joined(separator: [0x0A])) + [0x0A]
        folder.write(Self.name, bytes)
        let pen = try Pen(folder)
        pen.append(numbers: 6...7)
        pen.close()
        #expect(folder.read(Self.name) == bytes)
        #expect(folder.segments == [Self.name, "events-00000002-20261127.jsonl"])
        let broken = try #require(try folder.check.broken)
        #expect(broken.file == Self.name && broken.line == (how == "removed" ? 3 : 4))
        let second = folder.lines(folder.segments[1])
        #expect(second[1].contains("\"event_type\":\"recovery\""))
        #expect(second[1].contains("\(Self.name):\(broken.line)"))
        #expect(numbers(second) == [6, 7])
        var status = stat()
        #expect(stat("\(folder.path)/\(Self.name)", &status) == 0)
        #expect(status.st_mode & 0o222 == 0)
    }

    @Test func aSegmentThatWasBegunAndNotFilledIsGoneOnWith() throws {
        let folder = Folder()
        folder.write(Self.name, try Self.written(4))
        folder.write("events-00000002-20261127.jsonl", [])
        let pen = try Pen(folder)
        pen.append(numbers: 5...5)
        pen.close()
        #expect(folder.segments.count == 2)
        #expect(numbers(folder.lines(folder.segments[1])) == [5])
        #expect(try folder.check.broken == nil)
    }

    @Test func aClosedLastSegmentIsNotReopened() throws {
        let folder = Folder()
        folder.write(Self.name, try Self.written(4))
        chmod("\(folder.path)/\(Self.name)", 0o440)
        let pen = try Pen(folder)
        pen.append(numbers: 5...5)
        pen.close()
        #expect(folder.segments.count == 2)
        #expect(try folder.check.broken == nil)
        #expect(numbers(folder.log) == Array(1...5))
    }

    @Test func aSegmentThatAKilledWriterLeftOpenIsProtected() throws {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: 1_000)
        for number in 1...12 {
            pen.append(numbers: number...number)
            pen.settle()
        }
        pen.close()
        let first = "\(folder.path)/\(folder.segments[0])"
        chmod(first, 0o640)
        let second = try Pen(folder)
        second.close()
        var status = stat()
        #expect(stat(first, &status) == 0 && status.st_mode & 0o777 == 0o440)
    }

    @Test func linksAreNotFollowed() throws {
        let (folder, other) = (Folder(), Folder())
        other.write("victim", Array("precious".utf8))
        symlink("\(other.path)/victim", "\(folder.path)/\(Self.name)")
        #expect(throws: LogFault.self) { try Pen(folder) }
        #expect(other.read("victim") == Array("precious".utf8))
    }
}
