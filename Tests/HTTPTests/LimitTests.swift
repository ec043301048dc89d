import HTTP
import Testing

@Suite struct LimitTests {
    static let limits = HeadLimits(headBytesMax: 200, fieldsMax: 4, targetBytesMax: 50)

    // The whole head in one read, byte by byte, and with content behind: one answer.
    private func outcomes(_ head: String) -> Set<String> {
        let bench = RequestBench(limits: Self.limits)
        let source = bytes(head)
        var outcomes: Set<String> = ["\(bench.parse(source))"]
        for count in 1...source.count {
            let outcome = bench.parse(source[..<count])
            if outcome != .incomplete {
                outcomes.insert("\(outcome)")
                break
            }
        }
        outcomes.insert("\(bench.parse(source + bytes(String(repeating: "x", count: 500))))")
        return outcomes
    }

    private func head(valueBytes: Int) -> String {
        "GET / HTTP/1.1\r\nHost: a\r\nA: \(String(repeating: "v", count: valueBytes))\r\n\r\n"
    }

    @Test func headBytes() {
        let bytesOfEmpty = bytes(head(valueBytes: 0)).count
        #expect(
            outcomes(head(valueBytes: 200 - bytesOfEmpty)) == [
                "\(HeadOutcome.complete(headBytes: 200))"
            ])
        for extra in [1, 2, 3, 4, 5, 300] {
            #expect(
                outcomes(head(valueBytes: 200 - bytesOfEmpty + extra))
                    == ["\(HeadOutcome.invalid(.headTooLarge))"])
        }
    }

    @Test func targetBytes() {
        func line(_ count: Int) -> String {
            "GET /\(String(repeating: "t", count: count - 1)) HTTP/1.1\r\nHost: a\r\n\r\n"
        }
        #expect(outcomes(line(50)) == ["\(HeadOutcome.complete(headBytes: bytes(line(50)).count))"])
        #expect(outcomes(line(51)) == ["\(HeadOutcome.invalid(.targetTooLong))"])
        #expect(outcomes(line(400)) == ["\(HeadOutcome.invalid(.targetTooLong))"])
    }

    @Test func fields() {
        func head(_ count: Int) -> String {
            "GET / HTTP/1.1\r\nHost: a\r\n\(String(repeating: "A: b\r\n", count: count - 1))\r\n"
        }
        #expect(outcomes(head(4)) == ["\(HeadOutcome.complete(headBytes: bytes(head(4)).count))"])
        #expect(outcomes(head(5)) == ["\(HeadOutcome.invalid(.tooManyFields))"])
    }

    @Test func answerHeadBytes() {
        let bench = ResponseBench(limits: Self.limits)
        let reason = String(repeating: "r", count: 200)
        #expect(bench.parse(bytes("HTTP/1.1 200 \(reason)\r\n\r\n")) == .invalid(.headTooLarge))
        #expect(bench.parse(bytes("HTTP/1.1 200 \(reason)")) == .invalid(.headTooLarge))
        #expect(bench.parse(bytes("HTTP/1.1 200 \(reason)").prefix(199)) == .incomplete)
    }

    // A trickling client: the same outcome as a parse of each prefix, but only where a line ended.
    @Test(arguments: AcceptedRow.all)
    func resumedParseAgrees(row: AcceptedRow) {
        let source = bytes(row.head)
        let bench = RequestBench()
        var seen = 0
        for count in 1...source.count {
            let outcome = bench.memory.with(source[..<count]) { bench.head.parse($0, seen: seen) }
            #expect(outcome == bench.parse(source[..<count]))
            guard outcome == .incomplete else { break }
            seen = count
        }
    }

    @Test(arguments: RefusedRow.all)
    func resumedParseRefusesToo(row: RefusedRow) {
        let source = bytes(row.head)
        let bench = RequestBench()
        var seen = 0
        for count in stride(from: 7, to: source.count, by: 7) {
            let outcome = bench.memory.with(source[..<count]) { bench.head.parse($0, seen: seen) }
            guard outcome == .incomplete else {
                #expect(outcome == .invalid(row.fault))
                return
            }
            seen = count
        }
        let last = bench.memory.with(source) { bench.head.parse($0, seen: seen) }
        // What lies in a line that never ended is not judged yet.
        #expect(last == .invalid(row.fault) || !source[seen...].contains(0x0A))
    }
}
