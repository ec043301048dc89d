import HTTP
import Testing

@Suite struct FieldNameTests {
    private let bench = RequestBench()
    private let answers = ResponseBench()

    private func known(_ name: String) -> FieldName? {
        let source = bytes("GET / HTTP/1.0\r\n\(name): 1\r\n\r\n")
        _ = bench.parse(source)
        return bench.head.fields.count == 1 ? bench.head.fields[0].known : nil
    }

    // Names that the head's judge takes apart need values that it accepts, so an answer's head is
    // asked, which looks at fewer.
    private func knownInAnswer(_ name: String, value: String) -> FieldName? {
        let source = bytes("HTTP/1.1 200 OK\r\n\(name): \(value)\r\n\r\n")
        guard case .complete = answers.parse(source), answers.head.fields.count == 1 else {
            return nil
        }
        return answers.head.fields[0].known
    }

    @Test(arguments: FieldName.allCases.filter { $0 != .other })
    func isRecognisedInEachCase(known: FieldName) {
        let name = "\(known.text)"
        let value = known == .transferEncoding ? "chunked" : "1"
        #expect(knownInAnswer(name, value: value) == known)
        #expect(knownInAnswer(name.uppercased(), value: value) == known)
        let mixed = String(name.enumerated().map { $0 % 2 == 0 ? Character($1.uppercased()) : $1 })
        #expect(knownInAnswer(mixed, value: value) == known)
    }

    // Every name one byte away from a known one is other, or refused as no token, or a known name
    // in other case.
    @Test(arguments: FieldName.allCases.filter { $0 != .other })
    func itsNeighboursAreOther(known: FieldName) {
        let name = bytes("\(known.text)")
        for index in name.indices {
            for byte in UInt8.min...UInt8.max where byte != 0x0D && byte != 0x0A {
                var neighbour = name
                neighbour[index] = byte
                let text = neighbour.reduce(into: "") {
                    $0.unicodeScalars.append(Unicode.Scalar($1))
                }
                let found = knownInAnswer(text, value: "1")
                if text.lowercased() == "\(known.text)" { continue }
                #expect(found == nil || found == .other, "\(text)")
            }
        }
        #expect(knownInAnswer("\(known.text)x", value: "1") == .other)
        #expect(knownInAnswer("x\(known.text)", value: "1") == .other)
    }

    @Test func tokensAreThoseOfTheRFC() {
        let allowed = Set(
            bytes("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        for byte in UInt8.min...UInt8.max {
            let text = String(Unicode.Scalar(byte))
            #expect(
                (known("A\(text)B") != nil) == (allowed.contains(byte) || byte == 0x3A), "\(byte)")
            // In places where one vector ends and the next begins.
            let long = String(repeating: "a", count: 15) + text + "bcd"
            #expect((known(long) != nil) == (allowed.contains(byte) || byte == 0x3A), "\(byte)")
        }
    }

    @Test func valuesMayHoldAllButControls() {
        for byte in UInt8.min...UInt8.max {
            for filler in [0, 1, 14, 15, 16, 17, 31, 40] {
                let text =
                    String(repeating: "v", count: filler) + String(Unicode.Scalar(byte)) + "w"
                let source = bytes("HTTP/1.1 204 N\r\nA: \(text)\r\n\r\n")
                let outcome = answers.parse(source)
                let allowed = byte == 0x09 || (byte >= 0x20 && byte != 0x7F)
                #expect(
                    (outcome == .complete(headBytes: source.count)) == allowed, "\(byte) \(filler)")
            }
        }
    }

    @Test func firstAndPresentAgreeWithTheList() {
        let source = bytes(
            "GET / HTTP/1.1\r\nA: 1\r\nHost: a\r\nCookie: x\r\nVia: p\r\ncookie: y\r\n\r\n")
        let bench = RequestBench()
        #expect(bench.parse(source) == .complete(headBytes: source.count))
        #expect(bench.head.fields.first(.host) == 1)
        #expect(bench.head.fields.first(.cookie) == 2)
        #expect(bench.head.fields.first(.via) == 3)
        #expect(bench.head.fields.first(.date) == nil)
        #expect(bench.head.fields.first(.other) == nil)
        #expect(bench.head.fields.repeated == FieldName.cookie.bit)
        #expect(bench.head.fields.contains(.via) && !bench.head.fields.contains(.te))
    }
}
