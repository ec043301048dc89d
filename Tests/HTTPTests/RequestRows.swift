import HTTP
import Testing

/// A request head that must be refused, with the fault that must be named.
struct RefusedRow: Sendable, CustomTestStringConvertible {
    let name: String
    let head: String
    let fault: HeadFault
    var testDescription: String { name }

    init(_ name: String, _ head: String, _ fault: HeadFault) {
        self.name = name
        self.head = head
        self.fault = fault
    }

    /// A head with a good request line and Host, and `lines` between.
    static func fields(_ name: String, _ lines: String, _ fault: HeadFault) -> RefusedRow {
        RefusedRow(name, "POST /x HTTP/1.1\r\nHost: a\r\n\(lines)\r\n\r\n", fault)
    }

    static func line(_ name: String, _ line: String, _ fault: HeadFault) -> RefusedRow {
        RefusedRow(name, "\(line)\r\nHost: a\r\n\r\n", fault)
    }

    static func host(_ host: String) -> RefusedRow {
        RefusedRow("host [\(host)]", "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n", .badHost)
    }
}

extension RefusedRow {
    static let requestLines: [RefusedRow] = [
        .line("two spaces behind method", "GET  / HTTP/1.1", .badRequestLine),
        .line("two spaces before version", "GET /  HTTP/1.1", .badVersion),
        .line("tab behind method", "GET\t/ HTTP/1.1", .badMethod),
        .line("tab before version", "GET /\tHTTP/1.1", .badTarget),
        .line("space before method", " GET / HTTP/1.1", .badMethod),
        .line("space behind version", "GET / HTTP/1.1 ", .badVersion),
        .line("no version", "GET /", .badRequestLine),
        .line("no target", "GET HTTP/1.1", .badRequestLine),
        .line("method alone", "GET", .badRequestLine),
        .line("space in target", "GET /a b HTTP/1.1", .badVersion),
        .line("form feed as separator", "GET\u{0C}/ HTTP/1.1", .badMethod),
        .line("vertical tab as separator", "GET /\u{0B}HTTP/1.1", .badTarget),
        .line("NUL in target", "GET /\u{00} HTTP/1.1", .badTarget),
        .line("DEL in target", "GET /\u{7F} HTTP/1.1", .badTarget),
        .line("raw UTF-8 in target", "GET /\u{C3}\u{A9} HTTP/1.1", .badTarget),
        .line("NBSP in target", "GET /\u{A0}x HTTP/1.1", .badTarget),
        .line("fragment", "GET /a#b HTTP/1.1", .badTarget),
        .line("fragment behind query", "GET /a?b#c HTTP/1.1", .badTarget),
        .line("bare CR in target", "GET /a\rb HTTP/1.1", .badRequestLine),
        .line("bare LF for version", "GET /\nHTTP/1.1", .badRequestLine),
        .line("quoted method", "\"GET\" / HTTP/1.1", .badMethod),
        .line("method with colon", "GET: / HTTP/1.1", .badMethod),
        .line("method with obs-text", "G\u{CB}T / HTTP/1.1", .badMethod),
        .line("method with brackets", "G=\":<>(e),[T];?\" / HTTP/1.1", .badMethod),
        .line("long method", String(repeating: "A", count: 33) + " / HTTP/1.1", .methodTooLong),
        .line("empty method", " / HTTP/1.1", .badMethod),
        .line("relative target", "GET index.html HTTP/1.1", .badTarget),
        .line("backslash target", "GET \\ HTTP/1.1", .badTarget),
        .line("query alone", "GET ?a HTTP/1.1", .badTarget),
        .line("lower-case version", "GET / http/1.1", .badVersion),
        .line("mixed-case version", "GET / Http/1.1", .badVersion),
        .line("version without minor", "GET / HTTP/1", .badVersion),
        .line("version with two digits", "GET / HTTP/1.10", .badVersion),
        .line("version with leading digit", "GET / HTTP/11.1", .badVersion),
        .line("version 01.1", "GET / HTTP/01.1", .badVersion),
        .line("version with space", "GET / HTTP/ 1.1", .badVersion),
        .line("version with comma", "GET / HTTP/1,1", .badVersion),
        .line("version with plus", "GET / HTTP/+1.1", .badVersion),
        .line("version with letter", "GET / HTTP/1.x", .badVersion),
        .line("version with CR inside", "GET / HTTP/\r1.1", .badVersion),
        .line("other protocol", "GET / HTCPCP/1.0", .badVersion),
        .line("other protocol of one length", "GET / HTTQ/1.1", .badVersion),
        .line("RTSP", "GET / RTSP/1.0", .badVersion),
        .line("version 2.0", "GET / HTTP/2.0", .unsupportedVersion),
        .line("version 0.9", "GET / HTTP/0.9", .unsupportedVersion),
        .line("version 3.1", "GET / HTTP/3.1", .unsupportedVersion),
        RefusedRow("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .unsupportedVersion),
        RefusedRow("line ends in LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", .bareLF),
        RefusedRow("line ends in CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", .bareCR),
        RefusedRow("line ends in CRCRLF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", .bareCR),
        RefusedRow("everything in LF", "GET / HTTP/1.1\nHost: a\n\n", .bareLF),
        RefusedRow("TLS hello", "\u{16}\u{03}\u{01}\u{02}\u{00}\u{01}", .badMethod),
        RefusedRow("NUL first", "\u{00}GET / HTTP/1.1\r\nHost: a\r\n\r\n", .badMethod),
        RefusedRow("BOM first", "\u{EF}\u{BB}\u{BF}GET / HTTP/1.1\r\n\r\n", .badMethod),
        RefusedRow("LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", .bareLF),
        RefusedRow("CR first", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", .bareCR),
        RefusedRow("CR CR LF first", "\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", .bareCR),
        RefusedRow(
            "five empty lines", String(repeating: "\r\n", count: 5) + "GET / HTTP/1.1\r\n\r\n",
            .leadingLines),
        RefusedRow("answer instead of request", "HTTP/1.1 200 OK\r\n\r\n", .badMethod),
    ]

    static let targets: [RefusedRow] = [
        .line("asterisk with GET", "GET * HTTP/1.1", .asteriskWithoutOptions),
        .line("two asterisks", "OPTIONS ** HTTP/1.1", .badTarget),
        .line("asterisk and path", "OPTIONS */x HTTP/1.1", .badTarget),
        .line("ftp", "GET ftp://a/ HTTP/1.1", .badTarget),
        .line("scheme alone", "GET http: HTTP/1.1", .badTarget),
        .line("one slash", "GET http:/a HTTP/1.1", .badTarget),
        .line("no authority", "GET http:///a HTTP/1.1", .badAuthority),
        .line("no authority, no path", "GET http:// HTTP/1.1", .badAuthority),
        .line("no authority, query", "GET http://?a HTTP/1.1", .badAuthority),
        .line("user information", "GET http://u@h/ HTTP/1.1", .badAuthority),
        .line("user and password", "GET https://u:p@h/ HTTP/1.1", .badAuthority),
        .line("absolute with two ports", "GET http://h:1:2/ HTTP/1.1", .badAuthority),
        .line("absolute with large port", "GET http://h:65536/ HTTP/1.1", .badAuthority),
        .line("absolute with port alone", "GET http://:80/ HTTP/1.1", .badAuthority),
        .line("absolute with backslash", "GET http://a\\b/ HTTP/1.1", .badAuthority),
        .line("absolute with percent", "GET http://a%2eb/ HTTP/1.1", .badAuthority),
        .line("absolute with fragment", "GET http://a/#x HTTP/1.1", .badTarget),
        .line("CONNECT with path", "CONNECT /x HTTP/1.1", .badAuthority),
        .line("CONNECT without port", "CONNECT h HTTP/1.1", .badAuthority),
        .line("CONNECT with empty port", "CONNECT h: HTTP/1.1", .badAuthority),
        .line("CONNECT with URI", "CONNECT http://h:1/ HTTP/1.1", .badAuthority),
        .line("CONNECT with user", "CONNECT u@h:1 HTTP/1.1", .badAuthority),
        .line("CONNECT with asterisk", "CONNECT * HTTP/1.1", .badAuthority),
        .line("CONNECT with IPv6 without port", "CONNECT [::1] HTTP/1.1", .badAuthority),
        .line("authority with GET", "GET h:80 HTTP/1.1", .badTarget),
        RefusedRow(
            "absolute with bad Host", "GET http://a/ HTTP/1.1\r\nHost: u@h\r\n\r\n", .badHost),
        RefusedRow("absolute without Host", "GET http://a/ HTTP/1.1\r\n\r\n", .missingHost),
        RefusedRow(
            "TRACE with content",
            "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", .contentInTrace),
    ]

    static let hosts: [RefusedRow] =
        [
            "u@h", "u:p@h", "h:1:2", "h:80:", "h:65536", "h:99999", "h:123456", "h:8x", "h:-1",
            "h:+1",
            "h: 80", "h :80", "a b", "a\tb", "a/b", "a\\b", "a?b", "a#b", "http://a", "a,b", "a, b",
            "a%2fb", "a%", "\u{E9}", "\u{A0}a", "a\u{FF}", "<a>", "a\"b", "a{b}", "a|b", "a^b",
            "a`b", ":80", ":",
            "[]", "[::1", "::1", "[::1]x", "[::1]:", "[::1]:x", "[::1]:65536", "[::1]:80:80",
            "[:::1]", "[1::2::3]", "[1:2:3:4:5:6:7]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[g::]",
            "[1:2:3:4:5:6:7:8::]", "[::1:2:3:4:5:6:7:8]", "[1:]", "[:1]", "[1:2:3:4:5:6:7:]",
            "[::1.2.3]", "[::1.2.3.256]", "[::1.2.3.4.5]", "[::01.2.3.4]", "[1.2.3.4]",
            "[::1.2.3.4:1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[v1.x]", "[ ::1]", "a[::1]",
            "[[::1]]", "@", "a@", "@a", "",
        ].filter { $0 != "[::1]:" }.map(RefusedRow.host) + [
            RefusedRow("no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", .missingHost),
            RefusedRow("no fields", "GET / HTTP/1.1\r\n\r\n", .missingHost),
            RefusedRow("no Host in 1.2", "GET / HTTP/1.2\r\n\r\n", .missingHost),
            RefusedRow(
                "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", .repeatedHost),
            RefusedRow(
                "two equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", .repeatedHost),
            RefusedRow(
                "two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", .repeatedHost),
            RefusedRow("empty Host in 1.0", "GET / HTTP/1.0\r\nHost:\r\n\r\n", .badHost),
        ]

    static let fieldLines: [RefusedRow] = [
        .fields("space before colon", "A : b", .spaceBeforeColon),
        .fields("tab before colon", "A\t: b", .spaceBeforeColon),
        .fields("two spaces before colon", "A  : b", .spaceBeforeColon),
        .fields("Content-Length with space", "Content-Length : 5", .spaceBeforeColon),
        .fields("Transfer-Encoding with space", "Transfer-Encoding : chunked", .spaceBeforeColon),
        .fields("space in name", "Transfer Encoding: chunked", .badFieldName),
        .fields("name and value without colon", "Content-Length 5", .badFieldName),
        .fields("no colon", "abc", .missingColon),
        .fields("empty name", ": b", .emptyFieldName),
        .fields("colon alone", ":", .emptyFieldName),
        .fields("folded value", "A: b\r\n c", .foldedLine),
        .fields("folded by tab", "A: b\r\n\tc", .foldedLine),
        .fields("folded Transfer-Encoding", "Transfer-Encoding:\r\n chunked", .foldedLine),
        .fields("folded Content-Length", "Content-Length:\r\n 5", .foldedLine),
        .fields("line of spaces", "A: b\r\n  ", .foldedLine),
        .fields("LF in value", "A: b\nC: d", .bareLF),
        .fields("LF folds", "Transfer-Encoding:\n chunked", .bareLF),
        .fields("CR in value", "A: b\rC: d", .bareCR),
        .fields("CR at value's start", "Transfer-Encoding:\rchunked", .bareCR),
        .fields("CR at value's end", "Transfer-Encoding: chunked\r", .bareCR),
        .fields("CR in name", "Transfer\r-Encoding: chunked", .bareCR),
        .fields("LF in name", "Transfer\n-Encoding: chunked", .bareLF),
        .fields("NUL in value", "A: b\u{00}c", .controlByte),
        .fields("NUL and CR in value", "A: v\u{00}\ralue", .controlByte),
        .fields("vertical tab in value", "A:\u{0B}b", .controlByte),
        .fields("form feed in value", "A: b\u{0C}", .controlByte),
        .fields("escape in value", "A: \u{1B}[0m", .controlByte),
        .fields("DEL in value", "A: b\u{7F}", .controlByte),
        .fields(
            "0x1F behind a long value", "A: " + String(repeating: "v", count: 90) + "\u{1F}",
            .controlByte),
        .fields("NUL in name", "A\u{00}: b", .badFieldName),
        .fields("control in name", "A\u{01}B: b", .badFieldName),
        .fields("obs-text in name", "Transf\u{82}r-Encoding: chunked", .badFieldName),
        .fields("obs-text before name", "\u{FF}Transfer-Encoding: chunked", .badFieldName),
        .fields("bracket in name", "A[]: b", .badFieldName),
        .fields("quote in name", "\"A\": b", .badFieldName),
        .fields("at sign in name", "A@: b", .badFieldName),
        .fields("slash in name", "A/B: b", .badFieldName),
        .fields("comma in name", "A,B: b", .badFieldName),
        .fields("semicolon in name", "A;B: b", .badFieldName),
        .fields("brace in name", "{A}: b", .badFieldName),
        .fields("long name", String(repeating: "n", count: 1_025) + ": b", .fieldNameTooLong),
        .fields("long name without colon", String(repeating: "n", count: 1_200), .fieldNameTooLong),
        .fields("CRLF CR then field", "A: b\r\n\rC: d", .bareCR),
        RefusedRow("space before first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", .leadingSpace),
        RefusedRow(
            "tab before first field", "GET / HTTP/1.1\r\n\tContent-Length: 1\r\n\r\nX",
            .leadingSpace),
        RefusedRow(
            "space line before first field", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", .leadingSpace
        ),
        RefusedRow("last line ends in LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", .bareLF),
        RefusedRow("field ends in LF", "GET / HTTP/1.1\r\nHost: a\n\r\n", .bareLF),
        RefusedRow("empty line is CR", "GET / HTTP/1.1\r\nHost: a\r\n\rX", .bareCR),
    ]

    static let contentLengths: [RefusedRow] =
        [
            "", "+5", "-5", "5 5", "5\t5", "5,5", "5, 5", "5,", ",5", "0x5", "5a", "a5", "1_0",
            "5.0",
            "5e1", "05", "00", "007", "\u{22}5\u{22}", "5;", "9223372036854775808",
            "18446744073709551616", "18446744073709551621", "99999999999999999999",
            "340282366920938463463374607431768211456", "\u{A0}5", "5\u{A0}", "\u{85}5", "\u{B2}",
            "５".unicodeScalars.map { _ in "\u{EF}\u{BC}\u{95}" }.joined(), "chunked",
            "0000000000000000000000000000005", "5 \u{22}\u{22}",
        ].map { .fields("Content-Length [\($0)]", "Content-Length: \($0)", .badContentLength) } + [
            .fields("two equal", "Content-Length: 5\r\nContent-Length: 5", .repeatedContentLength),
            .fields(
                "two different", "Content-Length: 5\r\ncontent-length: 6", .repeatedContentLength),
            .fields(
                "zero and other", "Content-Length: 0\r\nA: b\r\nContent-Length: 44",
                .repeatedContentLength),
            .fields(
                "one of two empty", "Content-Length: 5\r\nContent-Length:", .repeatedContentLength),
            .fields(
                "with Transfer-Encoding", "Content-Length: 5\r\nTransfer-Encoding: chunked",
                .lengthAndTransferEncoding),
            .fields(
                "behind Transfer-Encoding", "Transfer-Encoding: chunked\r\nContent-Length: 0",
                .lengthAndTransferEncoding),
            .fields(
                "with bad Transfer-Encoding", "Transfer-Encoding: xchunked\r\nContent-Length: 4",
                .lengthAndTransferEncoding),
            .fields("underscore", "Content_Length: 5", .disguisedFramingField),
            .fields("underscore, upper case", "CONTENT_LENGTH: 5", .disguisedFramingField),
        ]

    static let transferEncodings: [RefusedRow] =
        [
            "", "xchunked", "chunkedx", "chunk", "chunked, chunked", "chunked,chunked", "chunked,",
            ",chunked", ", chunked", "chunked ,", "chunked;q=1", "chunked; a=b", "chunked;",
            "chunked x",
            "\"chunked\"", "'chunked'", "identity", "identity, chunked", "chunked, identity", "cow",
            "cow, chunked", "chunked, cow", "cow chunked bar", "chunked, gzip",
            "gzip, chunked, gzip",
            "gzip;q=1, chunked", "gzip chunked", "gzip,,chunked", "gzip,", "chunked\u{00A0}",
            "\u{A0}chunked", "\u{85}chunked", "\u{FF}chunked", "ch\u{96}nked",
            "\u{212A}".unicodeScalars.map { _ in "chun\u{E2}\u{84}\u{AA}ed" }.joined(),
            "[chunked]", "chunked\\", "%63hunked", "chunked\u{22}", "br, chunked",
            "Chunked, Chunked",
            "trailers", "chunked:", "x: chunked",
        ].map {
            .fields("Transfer-Encoding [\($0)]", "Transfer-Encoding: \($0)", .badTransferEncoding)
        }
        + [
            "gzip", "gzip, chunked", "deflate,chunked", "x-gzip , chunked",
            "compress, gzip, chunked", "GZIP",
        ].map {
            .fields("Transfer-Encoding [\($0)]", "Transfer-Encoding: \($0)", .unknownTransferCoding)
        }
        + [
            .fields(
                "twice chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                .repeatedTransferEncoding),
            .fields(
                "chunked and identity", "Transfer-Encoding: chunked\r\ntransfer-encoding: identity",
                .repeatedTransferEncoding),
            .fields(
                "gzip and chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
                .repeatedTransferEncoding),
            .fields(
                "empty and chunked", "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
                .repeatedTransferEncoding),
            .fields(
                "vertical tab", "Transfer-Encoding:\u{0B}chunked", .controlByte),
            .fields("underscore", "Transfer_Encoding: chunked", .disguisedFramingField),
            RefusedRow(
                "in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                .transferEncodingInHTTP10),
            RefusedRow(
                "in HTTP/1.0 with length",
                "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                .transferEncodingInHTTP10),
        ]

    static let others: [RefusedRow] =
        [
            "", "100", "100-continued", "x", "100-continue, x", "100-continue,", "100-continue;q=1",
            "\"100-continue\"", "200-ok",
        ].map { .fields("Expect [\($0)]", "Expect: \($0)", .badExpectation) } + [
            .fields(
                "two expectations", "Expect: 100-continue\r\nExpect: 100-continue", .badExpectation),
            .fields(
                "many connection options",
                "Connection: " + (0..<33).map { "x\($0)" }.joined(separator: ","),
                .tooManyConnectionOptions),
            .fields(
                "many fields", (0..<128).map { "A\($0): b" }.joined(separator: "\r\n"),
                .tooManyFields),
            .line(
                "long target", "GET /" + String(repeating: "a", count: 16 * 1024) + " HTTP/1.1",
                .targetTooLong),
        ]

    static let all =
        requestLines + targets + hosts + fieldLines + contentLengths + transferEncodings + others
}
