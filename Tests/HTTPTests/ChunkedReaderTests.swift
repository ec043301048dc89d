import HTTP
import Testing

/// What a reader made of a body that came in pieces.
struct ChunkedReading: Equatable {
    var payload: [UInt8] = []
    var trailers: [UInt8] = []
    /// Framing and payload as passed on, then the trailers and CRLF.
    var passedOn: [UInt8] = []
    var consumed = 0
    var fault: HeadFault?
    var isDone = false
}

/// Feeds `source` in the pieces that end at `cuts`, each at a guard page.
func readChunked(_ source: [UInt8], cuts: [Int], memory: GuardedMemory) -> ChunkedReading {
    var reader = ChunkedReader()
    var reading = ChunkedReading()
    var start = 0
    for end in cuts + [source.count] where !reading.isDone && reading.fault == nil {
        memory.with(source[start..<end]) { piece in
            var position = 0
            while true {
                let before = position
                let step = reader.next(piece, &position)
                let went = piece[before..<position]
                reading.consumed += went.count
                switch step {
                case .framing: reading.passedOn += went
                case .data:
                    reading.payload += went
                    reading.passedOn += went
                case .cut: break
                case .trailer: reading.trailers += went
                case .end:
                    reading.isDone = true
                    reading.passedOn += reading.trailers + [0x0D, 0x0A]
                    return
                case .needMore:
                    precondition(before == position && position == piece.count)
                    return
                case .invalid(let fault):
                    reading.fault = fault
                    return
                }
                precondition(position > before, "a step consumed nothing")
            }
        }
        start = end
    }
    return reading
}

struct ChunkedRow: Sendable, CustomTestStringConvertible {
    let body: String
    let payload: String
    let trailers: String
    let fault: HeadFault?
    var testDescription: String { body.debugDescription }

    init(_ body: String, _ payload: String, trailers: String = "") {
        (self.body, self.payload, self.trailers, fault) = (body, payload, trailers, nil)
    }

    init(_ body: String, fault: HeadFault) {
        (self.body, payload, trailers, self.fault) = (body, "", "", fault)
    }
}

extension ChunkedRow {
    private static let aLot = String(repeating: "x", count: 300)

    static let accepted: [ChunkedRow] = [
        ChunkedRow("0\r\n\r\n", ""),
        ChunkedRow("000\r\n\r\n", ""),
        ChunkedRow("0000000000000000\r\n\r\n", ""),
        ChunkedRow("1\r\na\r\n0\r\n\r\n", "a"),
        ChunkedRow("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("A\r\n0123456789\r\nb\r\nabcdefghijk\r\n0\r\n\r\n", "0123456789abcdefghijk"),
        ChunkedRow("2\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n", "\r\n0\r"),
        ChunkedRow("12c\r\n\(aLot)\r\n0\r\n\r\n", aLot),
        ChunkedRow("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
        ChunkedRow("5;a\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("5;a=b\r\nhello\r\n0;c=d\r\n\r\n", "hello"),
        ChunkedRow("5 ; a = b ; c\r\nhello\r\n0 ;x\r\n\r\n", "hello"),
        ChunkedRow("5\t;\ta\t=\t\"q\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("5;a=\"b;c\\\"\\\\ \u{FF}\td\";e\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ChunkedRow("0\r\nA: b\r\n\r\n", "", trailers: "A: b\r\n"),
        ChunkedRow(
            "1\r\na\r\n0;x=y\r\nA: b\r\nC:\td \u{FF}\r\n\r\n", "a",
            trailers: "A: b\r\nC:\td \u{FF}\r\n"),
    ]

    static let refused: [ChunkedRow] =
        [
            "", "g", "x", " 5", "\t5", "\r\n", "\n", ";a", "-1", "+1", "0x5", "0X5", "5h", "5_0",
            "5,5", "5.",
            "5:", "\u{00}5", "5\u{00}", "\u{B2}", "\u{EF}\u{BC}\u{95}", "\"5\"", "5\u{0B}",
            "5\u{0C}", "5\u{A0}",
            "5\u{85}", "1these-bytes-never-get-validated",
        ].map { ChunkedRow("\($0)\r\nhello\r\n0\r\n\r\n", fault: .badChunkSize) }
        + [
            "00000000000000005", "10000000000000005", "ffffffffffffffff", "8000000000000000",
            "fffffffffffffffff", "80000000000000000",
        ].map { ChunkedRow("\($0)\r\nhello\r\n0\r\n\r\n", fault: .chunkTooLarge) }
        + [
            "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\rhello",
            "5\r\r\nhello\r\n0\r\n\r\n",
            "5\rXhello\r\n0\r\n\r\n", "0\n\n", "0\r0\r\n", "5;a\rX\r\nhello\r\n0\r\n\r\n",
            "5;a\r\r\nhello",
        ].map { ChunkedRow($0, fault: .badChunkLine) }
        + [
            // Spill: data longer or shorter than its size says.
            "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello\rX0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\r\nhello\r\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "2\r\nhello", "5\r\nhello\n\r0\r\n\r\n", "1\r\na\u{00}\u{00}0\r\n\r\n",
        ].map { ChunkedRow($0, fault: .badChunkEnd) }
        + [
            "5\r\nhello\r\n\r\n0\r\n\r\n", "6\r\nhello\r\n\r\n0\r\n\r\n",
            "5\r\nhello\r\n 0\r\n\r\n", "5\r\nhello\r\n\n0",
        ].filter { !$0.hasPrefix("6") }.map { ChunkedRow($0, fault: .badChunkSize) }
        + [
            // TERM.EXT and EXT.TERM: a line end inside an extension (CVE-2025-55315).
            "5;\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "5;a=\nb\r\n", "5;a=b\nc\r\n",
            "5;a=\"\n\"\r\n",
            "5;a=\"x\r\n\"\r\n", "5;a=\"\r\nhello", "5;\r\nhello\r\n0\r\n\r\n", "5; \r\nhello",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5\t\r\nhello", "5 x\r\nhello", "5 5\r\nhello", "5;a=\r\nhello", "5;a= \r\nhello",
            "5;=b\r\nhello", "5;a \r\nhello",
            "5;a b\r\nhello", "5;a=b c\r\nhello", "5;a=b \r\nhello", "5;a=\"b\"c\r\nhello",
            "5;a=\"b\"\"c\"\r\n", "5;a==b\r\n",
            "5;a=b=c\r\n", "5;a;;b\r\n", "5;a;\r\n", "5;\u{00}\r\n", "5;a=\u{01}\r\n",
            "5;a=\"\u{7F}\"\r\n", "5;a=\"\\\r\n\"\r\n",
            "5;a\u{00}b\r\n", "5;a\u{0B}=b\r\n", "5;a=b\"c\"\r\n", "5;(a)\r\n", "5;\u{FF}\r\n",
            "5;a=\u{FF}\r\n", "5;\rx", "5 \n",
            "0;\r\n\r\n", "0 \r\n\r\n", "0;a\n\r\n\r\n", "5; ;a\r\n",
        ].map { ChunkedRow($0, fault: .badChunkExtension) }
        + [
            "0\r\n\n", "0\r\n\rX", "0\r\n\r\r\n", "0\r\n A: b\r\n\r\n", "0\r\n: b\r\n\r\n",
            "0\r\nA: b\r\n C\r\n\r\n",
            "0\r\nA: b\n\r\n", "0\r\nA: b\rX\r\n\r\n", "0\r\nA: \u{00}\r\n\r\n", "0\r\nA: b\r\n\n",
            "0\r\nA: b\r\n\rX",
            "0\r\n\u{00}", "0\r\nA\u{7F}: b\r\n\r\n", "0\r\nA: b\r\r\n\r\n",
            "0\r\n\u{FF}A: b\r\n\r\n", "0\r\n(\r\n\r\n",
        ].map { ChunkedRow($0, fault: .badTrailer) }
        + [
            ChunkedRow(
                "5;" + String(repeating: "a", count: 256) + "\r\nhello",
                fault: .chunkExtensionTooLong),
            ChunkedRow(
                "5" + String(repeating: " ", count: 257) + ";a\r\nhello",
                fault: .chunkExtensionTooLong),
            ChunkedRow(
                String(repeating: "1;\(String(repeating: "a", count: 255))\r\nx\r\n", count: 64)
                    + "1;a\r\nx\r\n0\r\n\r\n",
                fault: .chunkExtensionsFlood),
            ChunkedRow(
                "0\r\nA: " + String(repeating: "b", count: 8 * 1024) + "\r\n\r\n",
                fault: .trailersTooLarge),
            ChunkedRow(
                "0\r\n" + String(repeating: "A:\r\n", count: 2 * 1024 + 1), fault: .trailersTooLarge
            ),
        ]
}

@Suite struct ChunkedReaderTests {
    let memory = GuardedMemory()

    @Test func isSmall() {
        #expect(MemoryLayout<ChunkedReader>.stride <= 24)
    }

    private func check(_ row: ChunkedRow, cuts: [Int]) {
        let source = bytes(row.body)
        let reading = readChunked(source, cuts: cuts, memory: memory)
        #expect(reading.fault == row.fault, "cut at \(cuts)")
        guard row.fault == nil else { return }
        #expect(reading.payload == bytes(row.payload), "cut at \(cuts)")
        #expect(reading.trailers == bytes(row.trailers), "cut at \(cuts)")
        #expect(reading.isDone && reading.consumed == source.count, "cut at \(cuts)")
        // What is passed on reads the same, and holds no extension any more.
        var again = readChunked(reading.passedOn, cuts: [], memory: memory)
        #expect(again.passedOn == reading.passedOn)
        #expect(again.payload == reading.payload && again.trailers == reading.trailers)
        again.passedOn.removeAll { $0 != 0x3B }
        #expect(again.passedOn.count == reading.payload.count { $0 == 0x3B })
    }

    @Test(arguments: ChunkedRow.accepted + ChunkedRow.refused)
    func whole(row: ChunkedRow) { check(row, cuts: []) }

    @Test(arguments: ChunkedRow.accepted + ChunkedRow.refused)
    func everySplitInTwo(row: ChunkedRow) {
        let count = bytes(row.body).count
        for cut in stride(from: 0, through: count, by: count > 4_096 ? 127 : 1) {
            check(row, cuts: [cut])
        }
    }

    @Test(arguments: ChunkedRow.accepted + ChunkedRow.refused)
    func bytewise(row: ChunkedRow) { check(row, cuts: Array(0..<bytes(row.body).count)) }

    @Test(arguments: ChunkedRow.accepted)
    func isNotDoneAtAnyTruncation(row: ChunkedRow) {
        let source = bytes(row.body)
        for count in 0..<source.count {
            let reading = readChunked(Array(source[..<count]), cuts: [], memory: memory)
            #expect(!reading.isDone && reading.fault == nil && reading.consumed == count)
        }
    }

    // What follows the body belongs to the next message.
    @Test(arguments: ChunkedRow.accepted)
    func stopsAtTheEnd(row: ChunkedRow) {
        let source = bytes(row.body)
        let reading = readChunked(source + bytes("GET / HTTP/1.1\r\n"), cuts: [], memory: memory)
        #expect(reading.isDone && reading.consumed == source.count)
    }

    @Test func saysTheSameOnceItIsOver() {
        var done = ChunkedReader()
        var failed = ChunkedReader()
        memory.with(bytes("0\r\n\r\nX")) { source in
            var position = 0
            while done.next(source, &position) != .end {}
            #expect(position == 5 && done.isDone)
            #expect(done.next(source, &position) == .end)
            #expect(position == 5)
        }
        memory.with(bytes("5\r\nhelloX")) { source in
            var position = 0
            while true {
                if case .invalid = failed.next(source, &position) { break }
            }
            let before = position
            #expect(failed.next(source, &position) == .invalid(.badChunkEnd))
            #expect(position == before && !failed.isDone)
        }
    }

    // Steps are told apart as the proxy needs them: an extension is cut from between two runs of
    // framing, and the closing CR is never passed on alone.
    @Test func steps() {
        var reader = ChunkedReader()
        var steps: [String] = []
        for piece in ["5;a=b\r\nhel", "lo\r\n0\r\nA: b\r\n\r", "\n"] {
            memory.with(bytes(piece)) { source in
                var position = 0
                while true {
                    let before = position
                    let step = reader.next(source, &position)
                    if step == .needMore { return }
                    let text = String(decoding: source[before..<position], as: UTF8.self)
                    steps.append("\(step) \(text.debugDescription)")
                    if step == .end { return }
                }
            }
        }
        #expect(
            steps == [
                "framing \"5\"", "cut \";a=b\"", "framing \"\\r\\n\"", "data \"hel\"",
                "data \"lo\"",
                "framing \"\\r\\n0\\r\\n\"", "trailer \"A: b\\r\\n\"", "cut \"\\r\"", "end \"\\n\"",
            ])
    }

    // A body of a million one-byte chunks costs as many steps as it has parts, no more.
    @Test func tinyChunksAreLinear() {
        let chunk = bytes("1\r\nx\r\n")
        let count = 10_000
        let source = Array(repeatElement(chunk, count: count).joined()) + bytes("0\r\n\r\n")
        var reader = ChunkedReader()
        var steps = 0
        memory.with(source) { source in
            var position = 0
            while reader.next(source, &position) != .end { steps += 1 }
        }
        #expect(steps == 2 * count + 1)
    }

    @Test func extensionsMayFillTheirBounds() {
        let fit = "5;" + String(repeating: "a", count: 255) + "\r\nhello\r\n0\r\n\r\n"
        check(ChunkedRow(fit, "hello"), cuts: [])
        let many = String(repeating: "1;\(String(repeating: "a", count: 255))\r\nx\r\n", count: 64)
        check(ChunkedRow(many + "0\r\n\r\n", String(repeating: "x", count: 64)), cuts: [])
        let trailer = "A: " + String(repeating: "b", count: 8 * 1024 - 5) + "\r\n"
        check(ChunkedRow("0\r\n\(trailer)\r\n", "", trailers: trailer), cuts: [])
    }
}
