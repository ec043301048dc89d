import HTTP
import Testing

/// A head that must be read, and what it must be read as.
struct AcceptedRow: Sendable, CustomTestStringConvertible {
    let head: String
    /// `method target form path authority 1.minor framing`, then flags: K keep-alive, E expects
    /// 100, U wants an upgrade, / path needs a slash, m=N Max-Forwards.
    let reading: String
    let fields: [String]
    var testDescription: String { head.debugDescription }

    init(_ head: String, _ reading: String, _ fields: [String] = ["Host=a"]) {
        self.head = head
        self.reading = reading
        self.fields = fields
    }
}

extension AcceptedRow {
    static let all: [AcceptedRow] = [
        AcceptedRow("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "get / origin / a 1.1 none K"),
        AcceptedRow("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "get / origin / a 1.1 none K"),
        AcceptedRow(
            "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "get / origin / a 1.1 none K"),
        AcceptedRow("GET / HTTP/1.0\r\n\r\n", "get / origin /  1.0 none ", []),
        AcceptedRow("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "get / origin / a 1.0 none "),
        AcceptedRow("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "get / origin / a 1.1 none K"),
        AcceptedRow("GET / HTTP/1.9\r\nHost: a\r\n\r\n", "get / origin / a 1.1 none K"),
        AcceptedRow("get / HTTP/1.1\r\nHost: a\r\n\r\n", "other / origin / a 1.1 none K"),
        AcceptedRow("GETS / HTTP/1.1\r\nHost: a\r\n\r\n", "other / origin / a 1.1 none K"),
        AcceptedRow(
            "M-SEARCH!# //x HTTP/1.1\r\nHost: a\r\n\r\n", "other //x origin //x a 1.1 none K"),
        AcceptedRow("HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n", "head /h origin /h a 1.1 none K"),
        AcceptedRow("PUT /h HTTP/1.1\r\nHost: a\r\n\r\n", "put /h origin /h a 1.1 none K"),
        AcceptedRow("DELETE /h HTTP/1.1\r\nHost: a\r\n\r\n", "delete /h origin /h a 1.1 none K"),
        AcceptedRow("PATCH /h HTTP/1.1\r\nHost: a\r\n\r\n", "patch /h origin /h a 1.1 none K"),
        AcceptedRow("TRACE /h HTTP/1.1\r\nHost: a\r\n\r\n", "trace /h origin /h a 1.1 none K"),
        AcceptedRow("OPTIONS /h HTTP/1.1\r\nHost: a\r\n\r\n", "options /h origin /h a 1.1 none K"),
        AcceptedRow("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "options * asterisk * a 1.1 none K"),
        AcceptedRow(
            "GET /a?b=c&d=%20|{}\"<>\\^`~!$'()*+,;:@ HTTP/1.1\r\nHost: a\r\n\r\n",
            "get /a?b=c&d=%20|{}\"<>\\^`~!$'()*+,;:@ origin /a?b=c&d=%20|{}\"<>\\^`~!$'()*+,;:@ a 1.1 none K"
        ),
        AcceptedRow(
            "GET http://h:8080/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
            "get http://h:8080/p?q absolute /p?q h:8080 1.1 none K"),
        AcceptedRow(
            "GET HTTPS://[::1]/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "get HTTPS://[::1]/ absolute / [::1] 1.1 none K"),
        AcceptedRow(
            "GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", "get http://h absolute  h 1.1 none K/"),
        AcceptedRow(
            "GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n", "get http://h?q absolute ?q h 1.1 none K/"
        ),
        AcceptedRow(
            "OPTIONS http://h HTTP/1.1\r\nHost: a\r\n\r\n",
            "options http://h absolute  h 1.1 none K"),
        AcceptedRow(
            "OPTIONS http://h?q HTTP/1.1\r\nHost: a\r\n\r\n",
            "options http://h?q absolute ?q h 1.1 none K/"),
        AcceptedRow(
            "CONNECT h:443 HTTP/1.1\r\nHost: a\r\n\r\n", "connect h:443 authority  h:443 1.1 none K"
        ),
        AcceptedRow(
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "connect [::1]:443 authority  [::1]:443 1.1 none K"),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost:a\r\nA:\r\nB: \t \r\nC:\t c \t\r\nD: d\te f\r\n\r\n",
            "get / origin / a 1.1 none K", ["Host=a", "A=", "B=", "C=c", "D=d\te f"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost: a\r\nA: \u{80}\u{A0}\u{FF}\r\n\r\n",
            "get / origin / a 1.1 none K", ["Host=a", "A=\u{80}\u{A0}\u{FF}"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: x\r\nHost: a\r\nX_Y: z\r\n\r\n",
            "get / origin / a 1.1 none K", ["!#$%&'*+-.^_`|~09azAZ=x", "Host=a", "X_Y=z"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost: a\r\nA: b:c: d\r\nA: e\r\n\r\n", "get / origin / a 1.1 none K",
            ["Host=a", "A=b:c: d", "A=e"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "post / origin / a 1.1 length(0) K", ["Host=a", "Content-Length=0"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH:  9223372036854775807\t\r\n\r\n",
            "post / origin / a 1.1 length(9223372036854775807) K",
            ["Host=a", "CONTENT-LENGTH=9223372036854775807"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "get / origin / a 1.1 length(5) K", ["Host=a", "Content-Length=5"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING: \t cHUNKED \t\r\n\r\n0\r\n\r\n",
            "post / origin / a 1.1 chunked K", ["Host=a", "!tRANSFER-eNCODING=cHUNKED"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encodin: x\r\nContent-Lengthy: y\r\n\r\n",
            "post / origin / a 1.1 none K",
            ["Host=a", "Transfer-Encodin=x", "Content-Lengthy=y"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
            "post / origin / a 1.1 length(5) KE",
            ["Host=a", "Expect=100-Continue", "Content-Length=5"]),
        AcceptedRow(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "post / origin / a 1.1 none K", ["Host=a", "Expect=100-continue"]),
        AcceptedRow(
            "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            "post / origin / a 1.0 length(5) ",
            ["Host=a", "Expect=100-continue", "Content-Length=5"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "get / origin / a 1.1 none KU",
            ["Host=a", "!Connection=Upgrade", "!Upgrade=websocket"]),
        AcceptedRow(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "get / origin / a 1.1 none K", ["Host=a", "!Upgrade=websocket"]),
        AcceptedRow(
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "get / origin / a 1.0 none ",
            ["Host=a", "!Connection=Upgrade", "!Upgrade=websocket"]),
        AcceptedRow(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
            "options / origin / a 1.1 none Km=3", ["Host=a", "Max-Forwards=3"]),
        AcceptedRow(
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 99999999999999999999999\r\n\r\n",
            "trace / origin / a 1.1 none Km=1000000",
            ["Host=a", "Max-Forwards=99999999999999999999999"]),
        AcceptedRow(
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n",
            "trace / origin / a 1.1 none K", ["Host=a", "Max-Forwards=-1"]),
        AcceptedRow(
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nMax-Forwards: 2\r\n\r\n",
            "trace / origin / a 1.1 none K", ["Host=a", "Max-Forwards=1", "Max-Forwards=2"]),
    ]
}

/// The reading of a complete head, as AcceptedRow writes it.
func reading(_ head: RequestHead, _ source: [UInt8]) -> String {
    let flags =
        (head.keepAlive ? "K" : "") + (head.expectContinue ? "E" : "")
        + (head.wantsUpgrade ? "U" : "") + (head.pathNeedsSlash ? "/" : "")
        + (head.maxForwards.map { "m=\($0)" } ?? "")
    return
        "\(head.method) \(head.target.text(source)) \(head.targetForm) \(head.path.text(source)) "
        + "\(head.authority.text(source)) 1.\(head.versionMinor) \(head.framing) \(flags)"
}

@Suite struct RequestHeadTests {
    @Test(arguments: AcceptedRow.all)
    func isRead(row: AcceptedRow) throws {
        let source = bytes(row.head)
        let bench = RequestBench()
        let outcome = bench.parse(source)
        guard case .complete(let headBytes) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(reading(bench.head, source) == row.reading)
        #expect(bench.fields(source) == row.fields)
        #expect(source[..<headBytes].suffix(4).elementsEqual(bytes("\r\n\r\n")))
        // Lines tile the head from the first field to the closing empty line.
        var next = headBytes - 2
        for index in (0..<bench.head.fields.count).reversed() {
            let field = bench.head.fields[index]
            #expect(field.line.end == next)
            #expect(field.name.offset == field.line.offset)
            next = field.line.start
        }
    }

    @Test(arguments: AcceptedRow.all)
    func isIncompleteAtEveryTruncation(row: AcceptedRow) throws {
        let source = bytes(row.head)
        let bench = RequestBench()
        guard case .complete(let headBytes) = bench.parse(source) else {
            Issue.record("not complete")
            return
        }
        for count in 0..<headBytes {
            #expect(bench.parse(source[..<count]) == .incomplete, "at \(count)")
        }
        for count in headBytes...source.count {
            #expect(bench.parse(source[..<count]) == .complete(headBytes: headBytes))
        }
        // Whatever follows the head does not change its reading.
        for tail in [
            "X", "\r\n", "\0\0\0\0", "GET / HTTP/1.1\r\n", String(repeating: "z", count: 40),
        ] {
            let longer = source[..<headBytes] + bytes(tail)
            #expect(bench.parse(longer) == .complete(headBytes: headBytes))
            #expect(reading(bench.head, Array(longer)) == row.reading)
        }
    }

    @Test(arguments: RefusedRow.all)
    func isRefused(row: RefusedRow) {
        #expect(RequestBench().parse(bytes(row.head)) == .invalid(row.fault))
    }

    // Once refused, always refused, and for the same reason: a proxy answers the same however the
    // network splits the head.
    @Test(arguments: RefusedRow.all)
    func isNeverCompleteWhenTruncated(row: RefusedRow) {
        let source = bytes(row.head)
        let bench = RequestBench()
        var refused = false
        // A row of many bytes needs no look at each of its fillers.
        let step = source.count > 4_096 ? 61 : 1
        for count in stride(from: 0, through: source.count, by: step) {
            switch bench.parse(source[..<count]) {
            case .complete: Issue.record("complete at \(count)")
            case .incomplete: #expect(!refused, "incomplete at \(count) after a refusal")
            case .invalid(let fault):
                #expect(fault == row.fault, "at \(count)")
                refused = true
            }
        }
    }

    @Test func statusesAreThoseOfTheRFC() {
        for fault in HeadFault.allCases {
            let expected =
                switch fault {
                case .targetTooLong: 414
                case .badExpectation: 417
                case .headTooLarge, .tooManyFields, .tooManyConnectionOptions, .fieldNameTooLong,
                    .trailersTooLarge:
                    431
                case .methodTooLong, .unknownTransferCoding: 501
                case .unsupportedVersion: 505
                default: 400
                }
            #expect(fault.status == expected)
            #expect(fault.text.description.hasSuffix("."))
        }
    }

    @Test func aHeadThatWasRefusedLeavesNothingBehind() {
        let bench = RequestBench()
        let full = bytes(
            "POST http://h?q HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: x\r\n"
                + "Expect: 100-continue\r\nMax-Forwards: 4\r\nContent-Length: 3\r\n\r\n")
        let plain = bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _ = bench.parse(full)
        #expect(reading(bench.head, full).hasSuffix("length(3) EU/m=4"))
        _ = bench.parse(bytes("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n"))
        #expect(bench.head.fields.count == 0)
        #expect(bench.parse(plain) == .complete(headBytes: plain.count))
        #expect(reading(bench.head, plain) == "get / origin / a 1.1 none K")
        #expect(bench.fields(plain) == ["Host=a"])
    }

    @Test func methodsKnowWhatTheyAllow() {
        let safe = Method.allCases.filter(\.isSafe)
        let idempotent = Method.allCases.filter(\.isIdempotent)
        #expect(safe == [.get, .head, .options, .trace])
        #expect(idempotent == [.get, .head, .put, .delete, .options, .trace])
    }
}
