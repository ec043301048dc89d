import HTTP
import Testing

@testable import Mirror

@Suite struct NameVerdictsTests {
    private func find(_ verdicts: borrowing NameVerdicts, _ name: String) -> NameVerdict? {
        Array(name.utf8).withUnsafeBytes {
            verdicts.find($0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, $0.count)
        }
    }

    private func keep(
        _ verdicts: borrowing NameVerdicts, _ verdict: NameVerdict, _ name: String
    ) {
        Array(name.utf8).withUnsafeBytes { verdicts.keep(verdict, for: $0.baseAddress!, $0.count) }
    }

    @Test func nothingIsKnownAtFirst() {
        let verdicts = NameVerdicts()
        for name in ["", "a", "X-Token", String(repeating: "\0", count: 8)] {
            #expect(find(verdicts, name) == nil, "\(name)")
        }
    }

    @Test(arguments: [NameVerdict.drop, .keep, .keepUnlessBearer])
    func whatIsKeptIsFound(_ verdict: NameVerdict) {
        for count in 1...NameVerdicts.nameBytesMax {
            let verdicts = NameVerdicts()
            let name = String(repeating: "n", count: count)
            keep(verdicts, verdict, name)
            #expect(find(verdicts, name) == verdict)
            // One byte more, fewer, or another anywhere is another name.
            #expect(find(verdicts, name + "n") == nil)
            #expect(find(verdicts, String(name.dropLast())) == nil)
            for index in 0..<count {
                let other = name.prefix(index) + "m" + name.dropFirst(index + 1)
                #expect(find(verdicts, String(other)) == nil, "\(other)")
            }
        }
    }

    @Test func theExactBytesCount() {
        let verdicts = NameVerdicts()
        keep(verdicts, .drop, "X-Token")
        for other in ["x-token", "X-TOKEN", "X_Token", "X-Token\0", "\0X-Token", "X-Toke"] {
            #expect(find(verdicts, other) == nil, "\(other)")
        }
        keep(verdicts, .keep, "x-token")
        #expect(find(verdicts, "X-Token") == .drop && find(verdicts, "x-token") == .keep)
    }

    @Test func theLastWordCounts() {
        let verdicts = NameVerdicts()
        keep(verdicts, .drop, "X-A")
        keep(verdicts, .keep, "X-A")
        #expect(find(verdicts, "X-A") == .keep)
    }

    @Test func emptyAndLongNamesAreNotKept() {
        let verdicts = NameVerdicts()
        let longest = String(repeating: "a", count: NameVerdicts.nameBytesMax)
        keep(verdicts, .keep, "")
        keep(verdicts, .keep, longest + "b")
        keep(verdicts, .keep, String(repeating: "a", count: 8_192))
        #expect(find(verdicts, "") == nil)
        #expect(find(verdicts, longest) == nil)
        #expect(find(verdicts, longest + "b") == nil)
    }

    /// Far more names than entries: whatever is still found is right, and each was found at once
    /// after it was kept. The names differ in four bytes alone, in each word in its turn.
    @Test(arguments: [0, 7, 14, 21, 28])
    func collisionsForgetAndNeverMistake(_ sameBytes: Int) {
        let verdicts = NameVerdicts()
        let all: [NameVerdict] = [.drop, .keep, .keepUnlessBearer]
        let names = (0..<8 * NameVerdicts.entryCount).map {
            String(repeating: "x", count: sameBytes) + "\(1_000 + $0)"
                + String(repeating: "y", count: 28 - sameBytes)
        }
        for (index, name) in names.enumerated() {
            keep(verdicts, all[index % 3], name)
            #expect(find(verdicts, name) == all[index % 3])
        }
        var found = 0
        for (index, name) in names.enumerated() {
            guard let verdict = find(verdicts, name) else { continue }
            found += 1
            #expect(verdict == all[index % 3], "\(name)")
        }
        // No more than there are entries, and the hash leaves few of them empty.
        #expect(found <= NameVerdicts.entryCount)
        #expect(found > NameVerdicts.entryCount / 2)
    }

    // MARK: In the sanitizer

    private func clean(_ sanitizer: Sanitizer, _ lines: [String]) -> String? {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n" + lines.map { $0 + "\r\n" }.joined() + "\r\n"
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 80 << 10, alignment: 8)
        defer { memory.deallocate() }
        var writer = HeadWriter(memory)
        let isWritten = Array(head.utf8).withUnsafeBytes {
            sanitizer.write(head: $0, framing: .none, id: SanitizerTests.id, to: &writer)
        }
        return isWritten ? String(decoding: writer.written, as: UTF8.self) : nil
    }

    /// The names of all other tests, with a harmless value and a bearer token, in three spellings:
    /// a sanitizer that has seen them says what one says that has seen nothing.
    @Test func secondSightChangesNothing() {
        var settings = ShadowSettings(targetID: "s", target: 0)
        settings.stripFields = ["x-tenant", "user-agent"]
        settings.allowFields = ["x-session-id"]
        func sanitizer() -> Sanitizer {
            Sanitizer(settings: settings, pathPrefix: "", authority: "shadow.test")
        }
        let worn = sanitizer()
        var dropped = 0
        let names =
            SanitizerTests.secretFields + SanitizerTests.harmlessFields
            + ["X-Umbra-Shadow-Id", "Idempotency-Key", String(repeating: "n", count: 49)]
        for round in 0..<3 {
            for name in names {
                for spelling in [name, name.lowercased(), name.uppercased()] {
                    // The token comes first in one round, so that the verdict is made on it.
                    for value in round == 1 ? ["Bearer abc", "7"] : ["7", "Bearer abc"] {
                        let line = "\(spelling): \(value)"
                        let expected = clean(sanitizer(), [line])
                        #expect(clean(worn, [line]) == expected, "round \(round): \(line)")
                        if expected?.contains(line) == false { dropped += 1 }
                    }
                }
            }
        }
        #expect(dropped > 9 * names.count)
    }

    /// What one request's field is judged to be holds for its trailers too.
    @Test func aVerdictOnAHeadHoldsForTrailers() {
        let worn = Sanitizer(
            settings: ShadowSettings(targetID: "s", target: 0), pathPrefix: "",
            authority: "shadow.test")
        #expect(clean(worn, ["X-Vault-Token: a", "X-Sum: b"])?.contains("X-Sum: b") == true)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1_024, alignment: 8)
        defer { memory.deallocate() }
        var writer = HeadWriter(memory)
        let section = "X-Vault-Token: a\r\nX-Sum: b\r\nX-Sum: Bearer c\r\n"
        #expect(
            Array(section.utf8).withUnsafeBytes { worn.write(trailers: $0, to: &writer) })
        #expect(String(decoding: writer.written, as: UTF8.self) == "X-Sum: b\r\n")
    }
}
