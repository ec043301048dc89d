import HTTP
import Testing

@Suite struct TrailerParserTests {
    private let memory = GuardedMemory()

    private func parse(_ text: String, limits: HeadLimits = HeadLimits()) -> (HeadOutcome, [String])
    {
        let source = bytes(text)
        let list = FieldList(capacity: 8)
        let outcome = memory.with(source) { TrailerParser.parse($0, into: list, limits: limits) }
        let fields = (0..<list.count).map {
            let field = list[$0]
            return (field.isHopByHop ? "!" : "") + field.name.text(source) + "="
                + field.value.text(source)
        }
        return (outcome, fields)
    }

    @Test func reads() {
        #expect(parse("") == (.complete(headBytes: 0), []))
        #expect(parse("A: b\r\n") == (.complete(headBytes: 6), ["A=b"]))
        let text = "Grpc-Status: 0\r\nX-Checksum:\t\u{FF} \r\nServer-Timing: a\r\n"
        #expect(
            parse(text) == (
                .complete(headBytes: bytes(text).count),
                ["Grpc-Status=0", "X-Checksum=\u{FF}", "Server-Timing=a"]
            ))
    }

    @Test func everyTruncationIsIncompleteOrEndsWithALine() {
        let text = "A: b\r\nCc: dd\r\nE:\r\n"
        for count in 0...text.unicodeScalars.count {
            let prefix = String(String.UnicodeScalarView(text.unicodeScalars.prefix(count)))
            let expected: HeadOutcome =
                prefix.isEmpty || prefix.unicodeScalars.last == "\n"
                ? .complete(headBytes: count) : .incomplete
            #expect(parse(prefix).0 == expected, "at \(count)")
        }
    }

    @Test(arguments: [
        "Content-Length", "Transfer-Encoding", "Host", "Connection", "TE", "Trailer", "Upgrade",
        "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Content-Type", "Expect",
        "Content-Encoding", "Content-Range", "Cache-Control", "If-Match", "if-none-match", "IF-",
        "Range",
        "Max-Forwards", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via", "X-Umbra-Shadow",
        "Location", "Vary", "Date", "Retry-After", "WWW-Authenticate", "Keep-Alive", "X-Request-Id",
    ])
    func isForbidden(name: String) {
        #expect(parse("\(name): 1\r\n").1 == ["!\(name)=1"])
    }

    @Test(arguments: [
        "A", "If", "Iff-x", "ETag", "Digest", "Content-Digest", "Traceparent", "Rangex",
    ])
    func isAllowed(name: String) {
        #expect(parse("\(name): 1\r\n").1 == ["\(name)=1"])
    }

    @Test(arguments: [
        ("A : b\r\n", HeadFault.spaceBeforeColon), (" A: b\r\n", .leadingSpace),
        ("A: b\r\n c\r\n", .foldedLine), ("A: b\n", .bareLF), ("A: b\rC\r\n", .bareCR),
        ("A\r\n", .missingColon), (": b\r\n", .emptyFieldName), ("A: \u{00}\r\n", .controlByte),
        ("A: b\r\n\r\n", .badTrailer), ("\r\n", .badTrailer), ("A(: b\r\n", .badFieldName),
        ("Content_Length: 5\r\n", .disguisedFramingField),
        (String(repeating: "A: b\r\n", count: 9), .tooManyFields),
    ])
    func isRefused(text: String, fault: HeadFault) {
        #expect(parse(text) == (.invalid(fault), []))
    }

    @Test func limits() {
        let limits = HeadLimits(headBytesMax: 20, fieldsMax: 2)
        #expect(parse("A: b\r\nA: b\r\n", limits: limits).0 == .complete(headBytes: 12))
        #expect(parse("A:\r\nA:\r\nA:\r\n", limits: limits).0 == .invalid(.tooManyFields))
        #expect(
            parse("A: bcdefghijklmnopqrst\r\n", limits: limits).0 == .invalid(.trailersTooLarge))
    }
}
