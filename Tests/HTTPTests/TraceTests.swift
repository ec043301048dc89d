import HTTP
import Testing

/// W3C Trace Context.
@Suite struct TraceTests {
    private static let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    private static func read(_ value: String) -> TraceParent? {
        GuardedMemory(bytesMax: 4_096).with(bytes(value)) { TraceParent($0) }
    }

    private static func text(_ trace: TraceParent) -> String {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { memory in
            var writer = HeadWriter(memory)
            trace.append(to: &writer)
            return String(decoding: writer.written, as: UTF8.self)
        }
    }

    @Test func whatIsReadIsWritten() throws {
        #expect(Self.text(try #require(Self.read(Self.valid))) == Self.valid)
    }

    @Test func everyTruncationIsMalformed() {
        for count in 0..<Self.valid.utf8.count {
            #expect(Self.read(String(Self.valid.prefix(count))) == nil, "\(count)")
        }
    }

    // Any byte in any place: hexadecimal digits in small letters where they belong, hyphens where
    // they belong, and nothing else.
    @Test func everyByteCounts() {
        let source = bytes(Self.valid)
        let hyphens: Set = [2, 35, 52]
        for place in source.indices {
            for byte in UInt8(0x21)...0x7E where byte != source[place] {
                var changed = source
                changed[place] = byte
                let isHex = (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
                let text = String(decoding: changed, as: UTF8.self)
                #expect((Self.read(text) != nil) == (isHex && !hyphens.contains(place)), "\(text)")
            }
        }
    }

    struct Row: Sendable {
        let value: String
        let result: String?
        init(_ value: String, _ result: String?) { (self.value, self.result) = (value, result) }
    }

    private static let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"

    @Test(arguments: [
        Row("00-\(ids)-00", "00-\(ids)-00"),
        Row("00-\(ids)-03", "00-\(ids)-03"),
        // Flags without a meaning are sent as 0 (§3.2.2.5.2).
        Row("00-\(ids)-ff", "00-\(ids)-03"),
        Row("00-\(ids)-01-", nil),
        Row("00-\(ids)-01-more", nil),
        // A later version is read by the parts that this one knows.
        Row("cc-\(ids)-01", "00-\(ids)-01"),
        Row("cc-\(ids)-01-what-the-future-will-be-like", "00-\(ids)-01"),
        Row("cc-\(ids)-01.what", nil),
        Row("ff-\(ids)-01", nil),
        Row("00-00000000000000000000000000000000-b7ad6b7169203331-01", nil),
        Row("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", nil),
        Row(
            "00-00000000000000010000000000000000-b7ad6b7169203331-01",
            "00-00000000000000010000000000000000-b7ad6b7169203331-01"),
        Row("", nil),
    ])
    func values(row: Row) { #expect(Self.read(row.value).map(Self.text) == row.result) }

    private let bench = RequestBench()

    private func head(_ lines: [String]) -> [UInt8] {
        bytes("GET / HTTP/1.0\r\n" + lines.map { $0 + "\r\n" }.joined() + "\r\n")
    }

    @Test func severalAreNone() {
        let line = "traceparent: \(Self.valid)"
        for (lines, isThere) in [([line], true), ([line, line], false), (["a: b"], false)] {
            let source = head(lines)
            _ = bench.parse(source)
            source.withUnsafeBytes {
                #expect((TraceParent(bench.head.fields, $0.baseAddress!) != nil) == isThere)
            }
        }
    }

    private func marked(_ values: [String]) -> String {
        let source = head(values.map { "tracestate: \($0)" })
        _ = bench.parse(source)
        return withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 8) { memory in
            var writer = HeadWriter(memory)
            source.withUnsafeBytes {
                TraceState.appendMarked(bench.head.fields, $0.baseAddress!, to: &writer)
            }
            return String(decoding: writer.written, as: UTF8.self)
        }
    }

    struct StateRow: Sendable {
        let values: [String]
        let result: String
        init(_ values: [String], _ result: String) { (self.values, self.result) = (values, result) }
    }

    @Test(arguments: [
        StateRow([], "umbra=shadow"),
        StateRow([""], "umbra=shadow"),
        StateRow(["a=1"], "umbra=shadow,a=1"),
        StateRow([" a=1 ,\tb=2, ,"], "umbra=shadow,a=1,b=2"),
        StateRow(["a=1", "t@v=2"], "umbra=shadow,a=1,t@v=2"),
        StateRow(["a=1,umbra=primary,b=2"], "umbra=shadow,a=1,b=2"),
        StateRow(["umbrage=1"], "umbra=shadow,umbrage=1"),
        // Malformed: all of it goes.
        StateRow(["a=1,b"], "umbra=shadow"),
        StateRow(["a=1,=2"], "umbra=shadow"),
        StateRow(["a="], "umbra=shadow"),
        StateRow(["A=1"], "umbra=shadow"),
        StateRow(["a=b=c"], "umbra=shadow"),
        StateRow(["a=\u{E9}"], "umbra=shadow"),
        StateRow([String(repeating: "k", count: 257) + "=1"], "umbra=shadow"),
        StateRow(["a=" + String(repeating: "v", count: 257)], "umbra=shadow"),
        StateRow(
            ["a=" + String(repeating: "v", count: 256)],
            "umbra=shadow,a=" + String(repeating: "v", count: 256)),
    ])
    func states(row: StateRow) { #expect(marked(row.values) == row.result) }

    @Test func membersBeyondTheLimitGoFromTheEnd() {
        let members = (0..<32).map { "k\($0)=v" }
        #expect(
            marked([members.joined(separator: ",")])
                == "umbra=shadow," + members.dropLast().joined(separator: ","))
        #expect(marked([(members + ["k32=v"]).joined(separator: ",")]) == "umbra=shadow")
        let long = (0..<3).map { "k\($0)=" + String(repeating: "v", count: 200) }
        #expect(marked(long) == "umbra=shadow," + long[...1].joined(separator: ","))
    }
}

/// RFC 7239.
@Suite struct ForwardedReaderTests {
    private static func nodes(_ value: String) -> [String?]? {
        GuardedMemory(bytesMax: 4_096).with(bytes(value)) { memory in
            var reader = ForwardedReader(memory)
            var nodes: [String?] = []
            while true {
                switch reader.next() {
                case .element(let node):
                    nodes.append(node.map { String(decoding: $0, as: UTF8.self) })
                case .end: return nodes
                case .malformed: return nil
                }
            }
        }
    }

    struct Row: Sendable {
        let value: String
        let nodes: [String?]?
        init(_ value: String, _ nodes: [String?]?) { (self.value, self.nodes) = (value, nodes) }
    }

    @Test(arguments: [
        Row("", []),
        Row(" , ,", []),
        Row("for=192.0.2.1", ["192.0.2.1"]),
        Row("For=\"[2001:db8:cafe::17]:4711\"", ["[2001:db8:cafe::17]:4711"]),
        Row(
            "for=192.0.2.43, for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com",
            ["192.0.2.43", "198.51.100.17"]),
        Row("proto=https;for=_hidden ; host=\"a,b;c=d\" , for=unknown", ["_hidden", "unknown"]),
        Row("proto=http", [nil]),
        Row(";;for=a;", ["a"]),
        Row("for=\"a\\\"b\"", [nil]),
        Row("for=\"\"", [""]),
        Row("for=a;for=b", nil),
        Row("for", nil),
        Row("for=", nil),
        Row("=a", nil),
        Row("for =a", nil),
        Row("for= a", nil),
        Row("for=2001:db8::1", nil),
        Row("for=[::1]", nil),
        Row("for=\"a", nil),
        Row("for=\"a\\", nil),
        Row("for=\"a\"b", nil),
        Row("for=a b", nil),
        Row("for=a, \"", nil),
    ])
    func values(row: Row) {
        #expect(Self.nodes(row.value) == row.nodes)
        bytes(row.value).withUnsafeBytes {
            #expect(ForwardedReader.isValid($0) == (row.nodes?.isEmpty == false))
        }
        // No truncation reads past its end, or loops.
        for count in 0..<row.value.utf8.count { _ = Self.nodes(String(row.value.prefix(count))) }
    }
}
