import Testing

@testable import Providers

@Suite struct JSONTests {
    struct Fault: CustomTestStringConvertible, Sendable {
        var text: String
        var kind: JSONFault.Kind
        var offset: Int
        var testDescription: String { text }
    }

    static let faults: [Fault] = [
        Fault(text: "", kind: .empty, offset: 0),
        Fault(text: " \n", kind: .empty, offset: 2),
        Fault(text: "\u{FEFF}{}", kind: .byteOrderMark, offset: 0),
        Fault(text: "{", kind: .unexpectedEnd, offset: 1),
        Fault(text: "{\"a\"}", kind: .unexpectedByte, offset: 4),
        Fault(text: "{\"a\":}", kind: .unexpectedByte, offset: 5),
        Fault(text: "{\"a\":1,}", kind: .unexpectedByte, offset: 7),
        Fault(text: "{a:1}", kind: .unexpectedByte, offset: 1),
        Fault(text: "[1,]", kind: .unexpectedByte, offset: 3),
        Fault(text: "[1 2]", kind: .unexpectedByte, offset: 3),
        Fault(text: "[1}", kind: .unexpectedByte, offset: 2),
        Fault(text: "{}{}", kind: .textBehind, offset: 2),
        Fault(text: "01", kind: .badNumber, offset: 1),
        Fault(text: "-", kind: .unexpectedEnd, offset: 1),
        Fault(text: "1.", kind: .unexpectedEnd, offset: 2),
        Fault(text: "1.e3", kind: .badNumber, offset: 2),
        Fault(text: "1e+", kind: .unexpectedEnd, offset: 3),
        Fault(text: "+1", kind: .unexpectedByte, offset: 0),
        Fault(text: "NaN", kind: .unexpectedByte, offset: 0),
        Fault(text: "tru", kind: .unexpectedEnd, offset: 3),
        Fault(text: "nulL", kind: .unexpectedByte, offset: 3),
        Fault(text: "\"a", kind: .unexpectedEnd, offset: 2),
        Fault(text: "\"\\x\"", kind: .badEscape, offset: 2),
        Fault(text: "\"\\u12g4\"", kind: .badEscape, offset: 5),
        Fault(text: "\"a\nb\"", kind: .controlInString, offset: 2),
        Fault(text: "\"12345678901234567\u{1}\"", kind: .controlInString, offset: 18),
    ]

    @Test(arguments: faults) func refuses(_ row: Fault) {
        #expect(throws: JSONFault(row.kind, at: row.offset)) { try JSONDocument(row.text) }
    }

    static let badUTF8: [[UInt8]] = [
        [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xC3, 0x28], [0xE0, 0x9F, 0x80], [0xED, 0xA0, 0x80],
        [0xE2, 0x82, 0x28], [0xF0, 0x8F, 0x80, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80],
        [0xFF], [0xF0, 0x9F, 0x98, 0x22],
    ]

    /// At each distance from the start, so that both the wide and the bytewise steps meet it.
    @Test(arguments: badUTF8) func refusesWhatIsNoUTF8(_ bytes: [UInt8]) {
        for before in 0..<20 {
            let text = [0x22] + [UInt8](repeating: 0x61, count: before) + bytes + [0x22]
            #expect(throws: JSONFault(.badUTF8, at: before + 1)) {
                try JSONDocument(text + [UInt8](repeating: 0x20, count: 8))
            }
        }
    }

    /// Each truncation of a text with everything in it is refused and crashes nothing.
    @Test func everyTruncationIsRefused() throws {
        let text = Array(
            #"{"a":[1,-2.5e-7,true,false,null,{"é\u00e9\ud83d\ude00":"x\n😀"}],"b":""}"#.utf8)
        _ = try JSONDocument(text)
        for count in 0..<text.count {
            #expect(throws: JSONFault.self) { try JSONDocument(Array(text[..<count])) }
        }
    }

    /// Whatever byte stands wherever: an answer or a fault, and what is read is within bounds.
    @Test func everyByteAtEveryPlace() {
        let text = Array(#"{"a":[1,-2.5e7,"é\u00e9\n"],"b":{"c":null}}"#.utf8)
        for place in text.indices {
            for byte in UInt8.min...UInt8.max {
                var changed = text
                changed[place] = byte
                guard let document = try? JSONDocument(changed) else { continue }
                for member in document.root.members {
                    #expect(member.value.raw.endIndex <= changed.count)
                    _ = member.value.string
                }
            }
        }
    }

    @Test func deepNestingIsRefusedAndNotACrash() throws {
        for bracket in ["[", "{\"a\":"] {
            let text = String(repeating: bracket, count: 10_000)
            #expect(throws: JSONFault.self) { try JSONDocument(text) }
        }
        let deepest = Limits.depthMax
        _ = try JSONDocument(
            String(repeating: "[", count: deepest) + String(repeating: "]", count: deepest))
        #expect(throws: JSONFault(.tooDeep, at: deepest)) {
            try JSONDocument(String(repeating: "[", count: deepest + 1))
        }
    }

    @Test func valuesAreBounded() {
        #expect(throws: JSONFault(.tooManyValues, at: 5)) {
            try JSONDocument(Array("[1,2,3]".utf8).dropLast() + [], valuesMax: 3)
        }
        _ = #expect(throws: JSONFault(.tooLong, at: Limits.documentBytesMax)) {
            try JSONDocument([UInt8](repeating: 0x20, count: Limits.documentBytesMax + 1))
        }
    }

    @Test func numbersKeepTheirSpelling() throws {
        let document = try JSONDocument("[1.0, 1e2, 12345678901234567890123, -0, 0.1]")
        let spelt = document.root.elements.map { String(decoding: $0.raw, as: UTF8.self) }
        #expect(spelt == ["1.0", "1e2", "12345678901234567890123", "-0", "0.1"])
        #expect(document.root.elements.map(\.integer) == [nil, nil, nil, 0, nil])
        #expect(try JSONDocument("1e999").root.number == nil)
    }

    static let strings: [(String, String)] = [
        (#""""#, ""), (#""a\"b\\c\/""#, "a\"b\\c/"), (#""\b\f\n\r\t""#, "\u{8}\u{C}\n\r\t"),
        (#""\u00e9é""#, "éé"), (#""\ud83d\ude00""#, "😀"), (#""\ud83dx""#, "\u{FFFD}x"),
        (#""\ude00\ud83d""#, "\u{FFFD}\u{FFFD}"), (#""\ud83d\u0041""#, "\u{FFFD}A"),
        (#""\u0000""#, "\0"), (#""12345678\n12345678é1234567""#, "12345678\n12345678é1234567"),
    ]

    @Test(arguments: strings) func decodes(_ text: String, _ wanted: String) throws {
        #expect(try JSONDocument(text).root.string == wanted)
        // Written and read again it is the same.
        let written = JSONWriter.write { $0.value(wanted) }
        #expect(try JSONDocument(written).root.string == wanted)
        // Two halves of a surrogate pair that meet become the pair.
        if text.hasPrefix(#""\ude00"#) { return }
        let joined = JSONWriter.write { writer in
            guard let value = try? JSONDocument(text).root else { return }
            writer.value(joining: [value, value])
        }
        #expect(try JSONDocument(joined).root.string?.hasPrefix(wanted) == true)
    }

    @Test func repeatedNamesAreFoundAndTheLastCounts() throws {
        let document = try JSONDocument(#"{"a":1,"b":{"c":1,"\u0063":2},"a":3,"a":4}"#)
        #expect(Set(document.repeatedNames) == ["a", "c"])
        #expect(document.root["a"]?.integer == 4)
        #expect(document.root["b"]?["c"]?.integer == 2)
        #expect(document.root["d"] == nil)
        #expect(document.root["a"]?["a"] == nil)
    }

    /// A million members cost time in proportion: a bound no machine comes near.
    @Test func manyMembersAreLinear() throws {
        var text = "{"
        for index in 0..<100_000 { text += "\(index == 0 ? "" : ",")\"\(index)\":0" }
        let clock = ContinuousClock()
        var document: JSONDocument?
        let time = try clock.measure { document = try JSONDocument(text + "}") }
        #expect(document?.root.count == 100_000)
        #expect(document?.repeatedNames == [])
        #expect(time < .seconds(20))
    }

    @Test func writesWhatItIsTold() {
        let bytes = JSONWriter.write { writer in
            writer.object { writer in
                writer.member("a\"", "\u{1}\n\u{1F}é")
                writer.list("l") { list in
                    list.value(1)
                    list.object { _ in }
                    list.list { $0.null() }
                    list.value(Double.nan)
                    list.value(0.5)
                }
                writer.member("t", true)
            }
        }
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == #"{"a\"":"\u0001\n\u001fé","l":[1,{},[null],null,0.5],"t":true}"#)
    }
}
