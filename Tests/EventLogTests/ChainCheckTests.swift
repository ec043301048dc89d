import CLinux
import CoreLoop
import Testing

@testable import EventLog

@Suite struct ChainCheckTests {
    private static func log() throws -> Folder {
        let folder = Folder()
        let pen = try Pen(folder, segmentBytes: 700)
        for number in 1...6 {
            pen.append(numbers: number...number)
            pen.settle()
        }
        pen.close()
        return folder
    }

    /// Each byte of a log changed, one after the other: the check names that line or the next one,
    /// and with the head nothing at all passes.
    @Test func everyChangedByteIsFound() throws {
        let folder = try Self.log()
        let head = try #require(try folder.check.head)
        let names = folder.segments
        #expect(names.count > 2)
        for (index, name) in names.enumerated() {
            chmod("\(folder.path)/\(name)", 0o640)
            let whole = folder.read(name)
            for place in whole.indices {
                var bytes = whole
                bytes[place] ^= 1
                folder.write(name, bytes)
                let line = whole[..<place].count { $0 == 0x0A } + 1
                let check = try ChainCheck.run(folder.path, anchor: head)
                let broken = try #require(check.broken, "\(name), byte \(place)")
                let lines = whole.count { $0 == 0x0A }
                if broken.line == 0 { continue }
                let isThere =
                    broken.file == name && (broken.line == line || broken.line == line + 1)
                // A last line's change shows at the first line of the next segment.
                let isNext =
                    line == lines && index + 1 < names.count && broken.file == names[index + 1]
                    && broken.line == 1
                #expect(isThere || isNext, "\(name), byte \(place): \(broken)")
            }
            folder.write(name, whole)
        }
        #expect(try folder.check.broken == nil)
    }

    @Test(arguments: [
        "removed", "swapped", "twice", "put in", "a segment removed", "segments swapped",
    ])
    func whatIsMovedIsFound(how: String) throws {
        let folder = try Self.log()
        let names = folder.segments
        let name = names[1]
        chmod("\(folder.path)/\(name)", 0o640)
        var lines = folder.read(name).split(separator: 0x0A).map(Array.init)
        var line = 0
        switch how {
        case "removed":
            lines.remove(at: 1)
            line = lines.count > 1 ? 2 : 1
        case "swapped":
            lines.swapAt(0, 1)
            line = 1
        case "twice":
            lines.insert(lines[1], at: 1)
            line = 3
        case "put in":
            lines.insert(Array("{\"seq\":9}".utf8), at: 1)
            line = 2
        case "a segment removed":
            unlink("\(folder.path)/\(name)")
            #expect(try folder.check.broken?.file == names[2])
            return
        default:
            let other = folder.read(names[2])
            chmod("\(folder.path)/\(names[2])", 0o640)
            folder.write(names[2], folder.read(name))
            folder.write(name, other)
            #expect(try folder.check.broken?.file == name)
            return
        }
        folder.write(name, Array(lines.joined(separator: [0x0A])) + [0x0A])
        let broken = try #require(try folder.check.broken)
        if how == "removed", line == 1 {
            #expect(broken.file == names[2])
        } else {
            #expect(broken.file == name && broken.line == line)
        }
    }

    @Test func anUnfinishedLineAtTheVeryEndIsANoteAndElsewhereABreak() throws {
        let folder = try Self.log()
        let names = folder.segments
        let last = names[names.count - 1]
        folder.write(last, folder.read(last) + Array("{\"seq\":".utf8))
        let check = try folder.check
        #expect(check.broken == nil)
        #expect(
            check.notes.count == 1 && check.notes[0].contains("7 bytes of an unfinished record"))
        chmod("\(folder.path)/\(names[0])", 0o640)
        folder.write(names[0], folder.read(names[0]) + Array("{\"seq\":".utf8))
        #expect(try folder.check.broken?.file == names[0])
    }

    @Test func headsAreReadAsTheyAreWritten() throws {
        let folder = try Self.log()
        let head = try #require(try folder.check.head)
        #expect(ChainCheck.Head(head.text) == head)
        let hash = String(repeating: "ab", count: 32)
        for text in [
            "", "1", "1:", ":\(hash)", "x:\(hash)", "1:\(hash)0", "1:\(hash.uppercased())",
            "-1:\(hash)",
        ] {
            #expect(ChainCheck.Head(text) == nil, "\(text)")
        }
    }

    @Test func aHeadShowsThatTheLogWasCutOrWrittenAnew() throws {
        let folder = try Self.log()
        let head = try #require(try folder.check.head)
        #expect(try ChainCheck.run(folder.path, anchor: head).broken == nil)
        let last = folder.segments[folder.segments.count - 1]
        unlink("\(folder.path)/\(last)")
        #expect(try folder.check.broken == nil)
        let cut = try #require(try ChainCheck.run(folder.path, anchor: head).broken)
        #expect(cut.reason.contains("is missing"))
        let pen = try Pen(folder)
        pen.append(numbers: 100...110)
        pen.close()
        #expect(try folder.check.broken == nil)
        let anew = try #require(try ChainCheck.run(folder.path, anchor: head).broken)
        #expect(anew.reason.contains("rewritten"))
    }

    @Test func anEmptyFolderIsIntactAndNoFolderAnError() throws {
        let folder = Folder()
        let check = try folder.check
        #expect(check.broken == nil && check.records == 0 && check.head == nil)
        #expect(throws: SystemError.self) { try ChainCheck.run("/nowhere/at/all") }
    }
}
