import HTTP
import Testing

/// An answer's head and how it must be read.
struct AnswerRow: Sendable, CustomTestStringConvertible {
    let head: String
    /// `status 1.minor framing reason`, then flags: K keep-alive, I interim, U upgrade. Or the
    /// fault.
    let reading: String
    let toHead: Bool
    let toConnect: Bool
    var testDescription: String { head.debugDescription }

    init(_ head: String, _ reading: String, toHead: Bool = false, toConnect: Bool = false) {
        self.head = head
        self.reading = reading
        self.toHead = toHead
        self.toConnect = toConnect
    }

    static func fields(
        _ lines: String, _ reading: String, status: Int = 200, toHead: Bool = false,
        toConnect: Bool = false
    ) -> AnswerRow {
        AnswerRow(
            "HTTP/1.1 \(status) x\r\n\(lines)\r\n\r\n", reading, toHead: toHead,
            toConnect: toConnect)
    }
}

extension AnswerRow {
    static let accepted: [AnswerRow] = [
        AnswerRow("HTTP/1.1 200 OK\r\n\r\n", "200 1.1 untilClose [OK] "),
        AnswerRow("HTTP/1.1 200 \r\n\r\n", "200 1.1 untilClose [] "),
        AnswerRow("HTTP/1.1 200\r\n\r\n", "200 1.1 untilClose [] "),
        AnswerRow(
            "HTTP/1.1 200 very \t \u{E9}! \r\n\r\n", "200 1.1 untilClose [very \t \u{E9}! ] "),
        AnswerRow("HTTP/1.1 200  x\r\n\r\n", "200 1.1 untilClose [ x] "),
        AnswerRow("HTTP/1.0 200 OK\r\n\r\n", "200 1.0 untilClose [OK] "),
        AnswerRow("HTTP/1.7 200 OK\r\n\r\n", "200 1.1 untilClose [OK] "),
        AnswerRow("HTTP/1.1 599 x\r\nA: b\r\n\r\n", "599 1.1 untilClose [x] "),
        .fields("Content-Length: 5", "200 1.1 length(5) [x] K"),
        .fields("Content-Length: 0", "200 1.1 length(0) [x] K"),
        .fields("Transfer-Encoding: Chunked", "200 1.1 chunked [x] K"),
        .fields("Content-Length: 5\r\nConnection: close", "200 1.1 length(5) [x] "),
        .fields("Connection: keep-alive", "200 1.1 untilClose [x] "),
        AnswerRow(
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
            "200 1.0 length(1) [OK] K"),
        AnswerRow("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "200 1.0 length(1) [OK] "),
        .fields("Content-Length: 5", "200 1.1 none [x] K", toHead: true),
        .fields("Transfer-Encoding: chunked", "200 1.1 none [x] K", toHead: true),
        .fields("A: b", "404 1.1 none [x] K", status: 404, toHead: true),
        .fields("A: b", "204 1.1 none [x] K", status: 204),
        .fields("Content-Length: 5", "204 1.1 none [x] K", status: 204),
        .fields("Content-Length: 5", "304 1.1 none [x] K", status: 304),
        .fields("Transfer-Encoding: chunked", "304 1.1 none [x] K", status: 304),
        .fields("A: b", "304 1.1 none [x] K", status: 304),
        .fields("Connection: close", "304 1.1 none [x] ", status: 304),
        .fields("A: b", "100 1.1 none [x] KI", status: 100),
        .fields("Link: x", "103 1.1 none [x] KI", status: 103),
        .fields("Content-Length: 5", "199 1.1 none [x] KI", status: 199),
        .fields("Connection: upgrade\r\nUpgrade: x", "101 1.1 none [x] KU", status: 101),
        .fields("Upgrade: x", "101 1.1 none [x] K", status: 101),
        .fields("Connection: upgrade", "101 1.1 none [x] K", status: 101),
        .fields(
            "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0", "426 1.1 length(0) [x] K",
            status: 426),
        .fields("Content-Length: 5", "200 1.1 none [x] K", toConnect: true),
        .fields("Content-Length: 5", "403 1.1 length(5) [x] K", status: 403, toConnect: true),
        .fields("Host: a\r\nHost: b\r\nExpect: x\r\nContent-Length: 1", "200 1.1 length(1) [x] K"),
        .fields("Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 1", "200 1.1 length(1) [x] K"),
    ]

    static let refused: [AnswerRow] =
        [
            ("HTTP/1.1 200 OK\n\r\n", "bareLF"), ("HTTP/1.1 200 OK\r\r\n\r\n", "bareCR"),
            ("HTTP/1.1 200\n\n", "bareLF"), ("HTTP/1.1 200 O\u{00}K\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 200 O\u{7F}K\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1  200 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 2000 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 20 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 +20 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 200OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 200\tOK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1\t200 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.1\r\n\r\n", "badStatusLine"), ("HTTP/1.1 \r\n\r\n", "badStatusLine"),
            ("HTTP/1.1 099 x\r\n\r\n", "badStatus"), ("HTTP/1.1 000 x\r\n\r\n", "badStatus"),
            ("HTTP/1.1 600 x\r\n\r\n", "badStatus"), ("HTTP/1.1 999 x\r\n\r\n", "badStatus"),
            ("HTTP/2.0 200 OK\r\n\r\n", "unsupportedVersion"),
            ("HTTP/0.9 200 OK\r\n\r\n", "unsupportedVersion"),
            ("HTTP/2 200 OK\r\n\r\n", "badStatusLine"),
            ("http/1.1 200 OK\r\n\r\n", "badStatusLine"),
            ("ICY 200 OK\r\n\r\n", "badStatusLine"),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", "badStatusLine"),
            ("HTTP/1.10 200 OK\r\n\r\n", "badStatusLine"), ("<html>", "badStatusLine"),
            (" HTTP/1.1 200 OK\r\n\r\n", "badStatusLine"), ("\u{00}", "badStatusLine"),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "leadingSpace"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transferEncodingInHTTP10"),
        ].map { AnswerRow($0.0, $0.1) } + [
            .fields("A : b", "spaceBeforeColon"), .fields("A: b\r\n c", "foldedLine"),
            .fields("A: b\u{00}", "controlByte"), .fields("A: b\nC: d", "bareLF"),
            .fields("A: b\rC: d", "bareCR"), .fields("abc", "missingColon"),
            .fields(": b", "emptyFieldName"), .fields("A(: b", "badFieldName"),
            .fields("Content-Length: 5\r\nTransfer-Encoding: chunked", "lengthAndTransferEncoding"),
            .fields("Content-Length: 5\r\nContent-Length: 6", "repeatedContentLength"),
            .fields("Content-Length: 5\r\nContent-Length: 5", "repeatedContentLength"),
            .fields("Content-Length: 5, 5", "badContentLength"),
            .fields("Content-Length: -5", "badContentLength"),
            .fields("Content-Length:", "badContentLength"),
            .fields("Content-Length: +5", "badContentLength"),
            .fields("Content-Length: 5 6", "badContentLength"),
            .fields("Content-Length: 9223372036854775808", "badContentLength"),
            .fields("Transfer-Encoding: gzip", "unknownTransferCoding"),
            .fields("Transfer-Encoding: gzip, chunked", "unknownTransferCoding"),
            .fields("Transfer-Encoding: identity", "badTransferEncoding"),
            .fields("Transfer-Encoding: chunked, chunked", "badTransferEncoding"),
            .fields("Transfer-Encoding: \u{A0}chunked", "badTransferEncoding"),
            .fields(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "repeatedTransferEncoding"),
            .fields("Content-Length: x", "badContentLength", toHead: true),
            .fields("Content-Length: x", "badContentLength", status: 304),
            .fields(
                "Content-Length: 5\r\nTransfer-Encoding: chunked", "lengthAndTransferEncoding",
                status: 204),
            .fields("Content-Length: 1\r\nContent-Length: 2", "repeatedContentLength", status: 100),
            .fields((0..<129).map { "A\($0): b" }.joined(separator: "\r\n"), "tooManyFields"),
        ]
}

@Suite struct ResponseHeadTests {
    private func parse(_ bench: ResponseBench, _ row: AnswerRow, _ source: some Collection<UInt8>)
        -> HeadOutcome
    {
        bench.parse(source, toHead: row.toHead, toConnect: row.toConnect)
    }

    @Test(arguments: AnswerRow.accepted)
    func isRead(row: AnswerRow) {
        let source = bytes(row.head)
        let bench = ResponseBench()
        #expect(parse(bench, row, source) == .complete(headBytes: source.count))
        let head = bench.head
        let flags =
            (head.keepAlive ? "K" : "") + (head.isInterim ? "I" : "") + (head.isUpgrade ? "U" : "")
        let reading =
            "\(head.status) 1.\(head.versionMinor) \(head.framing) [\(head.reason.text(source))] \(flags)"
        #expect(reading == row.reading)
    }

    @Test(arguments: AnswerRow.accepted)
    func isIncompleteAtEveryTruncation(row: AnswerRow) {
        let source = bytes(row.head)
        let bench = ResponseBench()
        for count in 0..<source.count {
            #expect(parse(bench, row, source[..<count]) == .incomplete, "at \(count)")
        }
        for tail in ["X", "\r\n", "HTTP/1.1 200 OK\r\n\r\n", String(repeating: "z", count: 40)] {
            #expect(
                parse(bench, row, source + bytes(tail)) == .complete(headBytes: source.count))
        }
    }

    @Test(arguments: AnswerRow.refused)
    func isRefused(row: AnswerRow) {
        let source = bytes(row.head)
        let bench = ResponseBench()
        #expect("\(parse(bench, row, source))" == "invalid(HTTP.HeadFault.\(row.reading))")
        var refused = false
        for count in 0..<source.count {
            switch parse(bench, row, source[..<count]) {
            case .complete: Issue.record("complete at \(count)")
            case .incomplete: #expect(!refused)
            case .invalid(let fault):
                #expect("\(fault)" == row.reading)
                refused = true
            }
        }
    }

    @Test func resumedParseAgrees() {
        let source = bytes("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n")
        let bench = ResponseBench()
        for seen in 0..<source.count {
            let outcome = bench.memory.with(source) {
                bench.head.parse($0, toHead: false, seen: seen)
            }
            #expect(outcome == .complete(headBytes: source.count))
            let prefix = bench.memory.with(source[..<seen]) {
                bench.head.parse($0, toHead: false, seen: 0)
            }
            #expect(prefix == .incomplete)
        }
    }

    // RFC 9110 §8.6: 1xx and 204 carry no Content-Length, so that it is dropped from them.
    @Test(arguments: [(100, true), (204, true), (304, false), (200, false)])
    func contentLengthIsDropped(status: Int, dropped: Bool) {
        let source = bytes("HTTP/1.1 \(status) x\r\nContent-Length: 7\r\n\r\n")
        let bench = ResponseBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.fields[0].isHopByHop == dropped)
    }

    @Test func connectionNamesFields() {
        let source = bytes(
            "HTTP/1.1 200 x\r\nX-A: b\r\nConnection: x-a, close\r\nContent-Length: 0\r\n\r\n")
        let bench = ResponseBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect((0..<3).map { bench.head.fields[$0].isHopByHop } == [true, true, false])
        #expect(!bench.head.keepAlive)
    }
}
