import Testing

@testable import Providers

@Suite struct EventStreamTests {
    /// What a reader makes of `pieces`: events as `name:data`, comments as `#comment`.
    static func read(_ pieces: [[UInt8]], _ reader: inout EventStreamReader) -> [String] {
        var seen: [String] = []
        for piece in pieces {
            piece.withUnsafeBytes { bytes in
                var position = 0
                while true {
                    switch reader.next(bytes, &position) {
                    case .event:
                        let name = String(decoding: reader.name, as: UTF8.self)
                        seen.append("\(name):\(String(decoding: reader.data, as: UTF8.self))")
                    case .comment:
                        seen.append("#\(String(decoding: reader.comment, as: UTF8.self))")
                    case .needMore: return
                    case .tooLong:
                        seen.append("too long")
                        return
                    }
                }
            }
        }
        return seen
    }

    static let streams: [(String, [String])] = [
        ("data: a\n\n", [":a"]),
        ("data:a\r\rdata: b\r\n\r\n", [":a", ":b"]),
        ("event: x\ndata: 1\ndata: 2\n\n", ["x:1\n2"]),
        ("\u{FEFF}data: a\n\n", [":a"]),
        (": ping\n\ndata: a\n\n", ["# ping", ":a"]),
        ("event: x\n\ndata: a\n\n", [":a"]),
        ("data\n\n", [":"]),
        ("data\ndata\n\n", [":\n"]),
        ("data:  two\n\n", [": two"]),
        ("id: 7\nretry: 10\nnonsense: x\ndata: é😀\n\n", [":é😀"]),
        ("data: cut off\n", []),
        ("data: a\n\n\n\ndata: b\n\n", [":a", ":b"]),
        ("data: a\n: within\ndata: b\n\n", ["# within", ":a\nb"]),
    ]

    /// Whole, at every split in two, and byte by byte.
    @Test(arguments: streams) func reads(_ text: String, _ wanted: [String]) {
        let bytes = Array(text.utf8)
        for split in 0...bytes.count {
            var reader = EventStreamReader()
            let pieces = [Array(bytes[..<split]), Array(bytes[split...])]
            #expect(Self.read(pieces, &reader) == wanted, "split at \(split)")
        }
        var reader = EventStreamReader()
        #expect(Self.read(bytes.map { [$0] }, &reader) == wanted)
    }

    @Test func tellsWhetherAnEventIsCut() {
        let rows: [(String, Bool)] = [
            ("", true), ("data: a\n\n", true), ("data: a", false), ("data: a\n", false),
            ("data: a\n\n: x\n\n", true), ("event: x\n", false), ("data: a\n\nda", false),
        ]
        for (text, isBetween) in rows {
            var reader = EventStreamReader()
            _ = Self.read([Array(text.utf8)], &reader)
            #expect(reader.isBetweenEvents == isBetween, "\(text)")
        }
    }

    @Test func aLineThatNeverEndsIsBounded() {
        var reader = EventStreamReader(lineBytesMax: 100, dataBytesMax: 1_000)
        let piece = [UInt8](repeating: 0x61, count: 60)
        #expect(Self.read([piece], &reader) == [])
        #expect(Self.read([piece, piece], &reader) == ["too long", "too long"])
    }

    @Test func anEventThatNeverEndsIsBounded() {
        var reader = EventStreamReader(lineBytesMax: 100, dataBytesMax: 1_000)
        let line = Array("data: 0123456789\n".utf8)
        let seen = Self.read(Array(repeating: line, count: 200), &reader)
        #expect(seen.first == "too long")
        // Lines of data that are empty count as well.
        reader = EventStreamReader(lineBytesMax: 100, dataBytesMax: 1_000)
        #expect(
            Self.read(Array(repeating: Array("data\n".utf8), count: 2_000), &reader).first != nil)
    }

    @Test func whatIsWrittenIsReadAgain() {
        var bytes: [UInt8] = []
        EventStream.append(event: "x", data: "a\nb\r\nc\rd".utf8, to: &bytes)
        EventStream.append(comment: "p\nq", to: &bytes)
        EventStream.append(data: "".utf8, to: &bytes)
        var reader = EventStreamReader()
        #expect(Self.read([bytes], &reader) == ["x:a\nb\nc\nd", "# pq", ":"])
    }
}
