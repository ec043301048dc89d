import HTTP
import Testing

@Suite struct HeadWriterTests {
    private func written(_ capacity: Int, _ body: (inout HeadWriter) -> Void) -> (String, Bool) {
        var memory = [UInt8](repeating: 0xEE, count: capacity + 8)
        return memory.withUnsafeMutableBytes { raw in
            var writer = HeadWriter(UnsafeMutableRawBufferPointer(rebasing: raw[..<capacity]))
            body(&writer)
            #expect(raw[capacity...].allSatisfy { $0 == 0xEE }, "wrote behind the end")
            #expect(raw[writer.count..<capacity].allSatisfy { $0 == 0xEE })
            return (String(decoding: writer.written, as: UTF8.self), writer.overflowed)
        }
    }

    @Test func appends() {
        let result = written(200) { writer in
            writer.append("HTTP/1.1 ")
            writer.append(decimal: 200)
            writer.append(byte: 0x20)
            [UInt8]("OK".utf8).withUnsafeBytes { writer.append($0) }
            writer.append(UnsafeRawBufferPointer(start: nil, count: 0))
            writer.append("")
            writer.append("\r\n")
        }
        #expect(result == ("HTTP/1.1 200 OK\r\n", false))
    }

    @Test(arguments: [
        0, 1, 9, 10, 11, 99, 100, 999, 1_000, 65_535, 4_294_967_296, 9_223_372_036_854_775_807,
        9_999_999_999_999_999_999, 10_000_000_000_000_000_000, UInt64.max,
    ])
    func numbers(number: UInt64) {
        #expect(written(20) { $0.append(decimal: number) } == ("\(number)", false))
        #expect(written(16) { $0.append(hex: number) } == (String(number, radix: 16), false))
        let digits = "\(number)".count
        #expect(written(digits - 1) { $0.append(decimal: number) } == ("", true))
    }

    @Test func powersOfTwoInHex() {
        for shift in 0..<64 {
            let number: UInt64 = 1 << UInt64(shift)
            #expect(written(16) { $0.append(hex: number) }.0 == String(number, radix: 16))
            #expect(written(16) { $0.append(hex: number - 1) }.0 == String(number - 1, radix: 16))
        }
        #expect(written(16) { $0.append(hex: 0xAB, digits: 4) } == ("00ab", false))
        #expect(written(16) { $0.append(decimal: 7, digits: 3) } == ("007", false))
    }

    @Test func nothingIsWrittenPastTheEnd() {
        for capacity in 0..<12 {
            let result = written(capacity) {
                $0.append("abcd")
                $0.append(byte: 0x2D)
                $0.append(decimal: 1234)
                $0.append(hex: 0xFF)
            }
            let whole = ["", "abcd", "abcd-", "abcd-1234", "abcd-1234ff"]
            #expect(result.1 == (capacity < 11))
            #expect(whole.contains(result.0) && result.0.count <= capacity)
        }
    }

    // What fits behind something that did not is not written: half a head is worse than none.
    @Test func anOverflowStays() {
        #expect(
            written(4) {
                $0.append("abcde")
                $0.append("x")
            } == ("", true))
        #expect(
            written(4) {
                $0.append("abcd")
                $0.append("")
            } == ("abcd", false))
    }

    @Test func reasonPhrasesAreRegistered() {
        #expect(
            "\(ReasonPhrase.text(200))" == "OK" && "\(ReasonPhrase.text(431))".hasPrefix("Request"))
        for status in 100...599 { #expect(ReasonPhrase.text(status).utf8CodeUnitCount > 0) }
        for fault in HeadFault.allCases {
            #expect("\(ReasonPhrase.text(fault.status))" != "Unknown")
        }
        for status in [408, 411, 413, 502, 503, 504] {
            #expect("\(ReasonPhrase.text(status))" != "Unknown")
        }
    }
}

@Suite struct HTTPDateTests {
    private func text(_ seconds: Int64) -> String {
        var memory = [UInt8](repeating: 0, count: HTTPDate.bytesCount)
        return memory.withUnsafeMutableBytes { raw in
            var writer = HeadWriter(raw)
            HTTPDate.append(seconds, to: &writer)
            #expect(writer.count == HTTPDate.bytesCount && !writer.overflowed)
            return String(decoding: writer.written, as: UTF8.self)
        }
    }

    private func seconds(_ text: String) -> Int64? {
        bytes(text).withUnsafeBytes { HTTPDate.parse($0) }
    }

    // By `date -u -d @N`.
    @Test(arguments: [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
        (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ])
    func isWrittenAndRead(unix: Int64, date: String) {
        #expect(text(unix) == date)
        #expect(seconds(date) == unix)
    }

    @Test func roundTrips() {
        var generator = SeededGenerator(seed: 9110)
        for _ in 0..<20_000 {
            let unix = Int64.random(in: 0...HTTPDate.secondsMax, using: &generator)
            #expect(seconds(text(unix)) == unix)
        }
    }

    @Test func isHeldWithinFourDigits() {
        #expect(text(-1) == text(0))
        #expect(text(.max) == text(HTTPDate.secondsMax))
    }

    @Test(arguments: [
        "", "Sun, 06 Nov 1994 08:49:37 UTC", "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 06 Nov 1994 08:49:3x GMT",
        "Sun, 06 Nov +994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ", " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun  06 Nov 1994 08:49:37 GMT",
        "Thu, 01 Jan 1969 00:00:00 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT", "120",
    ])
    func isRefused(date: String) { #expect(seconds(date) == nil) }

    @Test func aLeapSecondIsTheOneBefore() {
        #expect(
            seconds("Sat, 31 Dec 2016 23:59:60 GMT") == seconds("Sat, 31 Dec 2016 23:59:59 GMT"))
    }
}
