import HTTP
import Testing

@Suite struct AuthorityTests {
    // RefusedRow.hosts holds the other half.
    @Test(arguments: [
        "a", "A.b-C.d", "localhost", "localhost:8080", "a:", "a:0", "a:65535", "a:00080",
        "127.0.0.1",
        "127.0.0.1:1", "a_b.c", "xn--e1afmkfd.example", "a~b", "a!$&'()*+;=b", "_dmarc.a:1", "-",
        ".", "a..b", "1",
        "[::]", "[::1]", "[::1]:80", "[::1]:", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]",
        "[::2:3:4:5:6:7:8]",
        "[1::8]", "[2001:DB8::ff]", "[::ffff:1.2.3.4]", "[::1.2.3.4]", "[1:2:3:4:5:6:1.2.3.4]",
        "[1::1.2.3.4]",
        "[abcd:ef01:2345:6789:ABCD:EF01:2345:6789]:65535", "[1::]",
        "abcdefghijklmnop", "abcdefghijklmno:1",
        "abcdefghijklmnopq.rstuvwxyz0123456789-abcdefgh:65535",
    ])
    func isAllowed(host: String) {
        let bench = RequestBench()
        for head in [
            "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n",
            "GET / HTTP/1.0\r\nhost:\(host)\r\nA: b\r\n\r\n",
            "GET http://\(host)/p HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET https://\(host)?q HTTP/1.1\r\nHost: other\r\n\r\n",
        ] {
            let source = bytes(head)
            #expect(bench.parse(source) == .complete(headBytes: source.count))
            #expect(bench.head.authority.text(source) == host)
        }
    }

    @Test(arguments: RefusedRow.hosts.filter { $0.fault == .badHost })
    func isRefusedInATargetToo(row: RefusedRow) {
        let host = row.head.components(between: "Host: ", and: "\r\n\r\n")
        let isSplit = host.contains { " \t/?#\u{E9}\u{A0}\u{FF}".contains($0) }
        guard let host = Optional(host), !isSplit, !host.isEmpty else { return }
        let outcome = RequestBench().parse(bytes("GET http://\(host)/ HTTP/1.1\r\nHost: a\r\n\r\n"))
        #expect(outcome == .invalid(.badAuthority))
    }
}

extension String {
    /// What stands between two marks; empty where they are not there.
    func components(between first: String, and last: String) -> String {
        let scalars = Array(unicodeScalars)
        let start = Array(first.unicodeScalars)
        let end = Array(last.unicodeScalars)
        func find(_ mark: [Unicode.Scalar], from: Int) -> Int? {
            (from...max(from, scalars.count - mark.count)).first {
                $0 + mark.count <= scalars.count && Array(scalars[$0..<($0 + mark.count)]) == mark
            }
        }
        guard let from = find(start, from: 0), let to = find(end, from: from + start.count) else {
            return ""
        }
        return String(String.UnicodeScalarView(scalars[(from + start.count)..<to]))
    }
}
