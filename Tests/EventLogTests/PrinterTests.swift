import CLinux
import Foundation
import Testing

@testable import EventLog

@Suite struct PrinterTests {
    private static func printed(_ format: EventFormat, _ records: [String]) -> String {
        let folder = Folder()
        let path = "\(folder.path)/out"
        let fd = umbra_open(path, O_WRONLY | O_CREAT, 0o600)
        var printer = EventPrinter(fd, format)
        printer.begin()
        for record in records {
            let isOpen = withBytes(record) { printer.print($0) }
            #expect(isOpen)
        }
        let isWhole = printer.end()
        #expect(isWhole)
        close(fd)
        return String(decoding: folder.read("out"), as: UTF8.self)
    }

    @Test func arraysAreJSON() throws {
        for count in 0...3 {
            let text = Self.printed(.array, (0..<count).map { "{\"n\":\($0)}" })
            let value = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Int]]
            #expect(value == (0..<count).map { ["n": $0] })
            #expect(text.hasSuffix("]\n"))
        }
        #expect(Self.printed(.array, []) == "[]\n")
        #expect(Self.printed(.lines, ["{\"n\":1}", "{\"n\":2}"]) == "{\"n\":1}\n{\"n\":2}\n")
    }

    // MARK: CSV

    /// Rows and cells as RFC 4180 has them.
    private static func cells(_ text: String) -> [[String]] {
        var rows: [[String]] = [[""]]
        var isQuoted = false
        var rest = Array(text.unicodeScalars)[...]
        func add(_ scalar: Unicode.Scalar) {
            rows[rows.count - 1][rows[rows.count - 1].count - 1].unicodeScalars.append(scalar)
        }
        while let scalar = rest.popFirst() {
            if isQuoted {
                if scalar == "\"", rest.first == "\"" {
                    add("\"")
                    rest.removeFirst()
                } else if scalar == "\"" {
                    isQuoted = false
                } else {
                    add(scalar)
                }
            } else if scalar == "\"" {
                isQuoted = true
            } else if scalar == "," {
                rows[rows.count - 1].append("")
            } else if scalar == "\r", rest.first == "\n" {
                rest.removeFirst()
                rows.append([""])
            } else {
                add(scalar)
            }
        }
        return rows.dropLast()
    }

    private static func row(_ record: String) throws -> [String: String] {
        let text = printed(.csv, [record])
        #expect(text.hasPrefix("\u{FEFF}seq,timestamp,"))
        let rows = cells(String(text.unicodeScalars.dropFirst()))
        try #require(rows.count == 2 && rows[0].count == rows[1].count)
        return Dictionary(uniqueKeysWithValues: zip(rows[0], rows[1]))
    }

    @Test func anEventIsARow() throws {
        let row = try Self.row(try #require(EncoderTests.encoded(EncoderTests.event())))
        #expect(row["verdict"] == "allow")
        #expect(row["primary_latency_ms"] == "834" && row["shadow_latency_ms"] == "1102")
        #expect(row["latency_diff_ms"] == "268" && row["content_similarity"] == "0.87")
        #expect(row["shadow_status"] == "success" && row["drop_reason"] == "")
        #expect(row.count == EventCSV.columns.count)
    }

    /// What a spreadsheet would compute has an apostrophe in front; what it would not, has none.
    @Test(arguments: [
        ("=1+1", true), ("+1", true), ("-1", true), ("@SUM(A1)", true), ("\t=1", true),
        ("\r=1", true),
        ("\n=1", true), ("  =1", true), ("＝1+1", true), ("＠x", true),
        ("=HYPERLINK(\"http://x\",\"y\")", true),
        ("gpt-4o", false), ("a=b", false), ("1-1", false), ("", false), ("日本", false),
        ("a,b", false),
        ("say \"hi\"", false), ("two\r\nlines", false), (" padded ", false), ("a;b", false),
        ("'quoted", false),
    ])
    func formulasAreDisarmed(model: String, isFormula: Bool) throws {
        var event = EncoderTests.event()
        event.model = model
        let row = try Self.row(try #require(EncoderTests.encoded(event)))
        #expect(row["model"] == (isFormula ? "'" + model : model))
        // A negative number is one.
        event.shadow?.latencyUs = 0
        #expect(
            try Self.row(try #require(EncoderTests.encoded(event)))["latency_diff_ms"] == "-834")
    }

    @Test func longCellsAreCut() throws {
        var event = EncoderTests.event()
        event.model = String(repeating: "ä", count: 40_000)
        let row = try Self.row(try #require(EncoderTests.encoded(event)))
        let model = try #require(row["model"])
        #expect(model.count <= 32_767 && model.hasSuffix("…") && model.hasPrefix("ää"))
    }

    // MARK: Tables

    @Test func tablesAlignAndDoNothingToATerminal() throws {
        var event = EncoderTests.event()
        event.model = "ev\u{1B}[31mil\u{9B}2J model with a very long name indeed"
        event.reasonCode = "žluťoučký"
        let text = Self.printed(
            .table,
            [
                try #require(EncoderTests.encoded(event)),
                "{\"seq\":1,\"prev\":\"x\",\"event_type\":\"gap\",\"timestamp\":\"T\",\"dropped\":3}",
                "{\"event_type\":\"decision\",\"model\":\"raw\u{1B}[0m\u{9B}\"}",
            ])
        let lines = text.split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines[0].hasPrefix("TIME") && lines[0].hasSuffix("ALIKE"))
        #expect(lines[1].count == lines[0].count)
        #expect(lines[1].contains("žluťoučký") && lines[1].contains("268"))
        #expect(lines[2].contains("[gap]") && lines[2].contains("dropped=3"))
        #expect(text.unicodeScalars.allSatisfy { $0.value >= 0x20 || $0 == "\n" })
        #expect(!text.unicodeScalars.contains { (0x7F...0x9F).contains($0.value) })
    }
}
