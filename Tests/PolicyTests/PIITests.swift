import Policy
import Testing

/// A text with placeholders for what was found.
private func redacted(_ text: String, _ kinds: PIIKinds = .all) throws -> String {
    var detector = PIISettings()
    detector.kinds = kinds
    return try PolicyChain([PolicySettings(name: "p", kind: .piiDetector(detector))]).redacted(text)
}

@Suite struct PIITests {
    @Test(arguments: [
        // Mail.
        ("Write to anna.muster+x@example.co.uk, please.", "Write to [EMAIL], please."),
        ("<a_b@c-d.org>", "<[EMAIL]>"), ("müller@bäckerei.de", "[EMAIL]"),
        ("mailto:bob@example.com.", "mailto:[EMAIL]."), ("邮箱abc@x.com好", "邮箱[EMAIL]好"),
        ("(x@y.io)", "([EMAIL])"), ("a@b.c@d.ef", "a@[EMAIL]"),
        // Telephones.
        ("+49 170 1234567", "[PHONE]"), ("Ring +1-202-555-0173 now", "Ring [PHONE] now"),
        ("+442079460958", "[PHONE]"), ("+49 (0)30 123456", "[PHONE]"),
        ("+49.170.1234567", "[PHONE]"),
        ("(415) 555-2671", "[PHONE]"), ("415-555-2671.", "[PHONE]."), ("415.555.2671", "[PHONE]"),
        ("1-415-555-2671", "[PHONE]"), ("030 1234567", "[PHONE]"), ("0171/1234567", "[PHONE]"),
        ("06 12 34 56 78", "[PHONE]"), ("0049 170 1234567", "[PHONE]"),
        ("(030) 123-4567", "[PHONE]"),
        ("phone: 4155552671", "phone: [PHONE]"), ("Tel. 555 123 4567", "Tel. [PHONE]"),
        ("my téléphone is 612345678", "my téléphone is [PHONE]"),
        ("030\u{A0}123\u{202F}4567", "[PHONE]"), ("+49\u{2011}170\u{2013}1234567", "[PHONE]"),
        // Cards: test numbers of the issuers.
        ("4111 1111 1111 1111", "[CARD]"), ("4111-1111-1111-1111 exp 12/27", "[CARD] exp 12/27"),
        ("Card 5555555555554444, thanks", "Card [CARD], thanks"), ("378282246310005", "[CARD]"),
        ("data:image/png;base64,4111111111111111", "data:image/png;base64,[CARD]"),
        ("3782 822463 10005", "[CARD]"), ("6011111111111117", "[CARD]"),
        ("30569309025904", "[CARD]"),
        ("3530111333300000", "[CARD]"), ("2223003122003222", "[CARD]"), ("4222222222222", "[CARD]"),
        // Accounts: the examples of SWIFT's registry.
        ("DE89 3704 0044 0532 0130 00", "[IBAN]"), ("GB29NWBK60161331926819", "[IBAN]"),
        ("iban: fr14 2004 1010 0505 0001 3m02 606.", "iban: [IBAN]."),
        ("NO9386011117947", "[IBAN]"),
        ("MT84MALT011000012345MTLCAST001S", "[IBAN]"),
        // Addresses.
        ("from 203.0.113.7:443", "from [IP]:443"), ("10.1.2.3/24", "[IP]/24"),
        ("8.8.8.8.", "[IP]."),
        // Keys and tokens.
        ("sk-proj-abcdEFGH1234567890abcd_x", "[SECRET]"),
        ("key=sk-ant-api03-AbCdEf0123456789-_xyz!", "key=[SECRET]!"),
        ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[SECRET]"),
        ("AIzaSyA-1234567890abcdefghijklmnopqrstuvw", "[SECRET]"),
        ("xoxb-123456789012-abcdefABCDEF", "[SECRET]"),
        (
            "Authorization: Bearer abcdef0123456789abcdef==",
            "Authorization: Bearer [SECRET]"
        ),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
            "[SECRET]"
        ),
        (
            "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIabc+/=\n-----END RSA PRIVATE KEY-----\ny",
            "x\n[SECRET]\ny"
        ),
        ("postgres://app:s3cr3t@db.internal/x", "postgres://app:[SECRET]@db.internal/x"),
        // Several.
        (
            "a@b.de, +49 170 1234567 and 10.0.0.1; 4111111111111111",
            "[EMAIL], [PHONE] and [IP]; [CARD]"
        ),
    ])
    func found(_ text: String, _ wanted: String) throws {
        #expect(try redacted(text) == wanted)
        // In the middle of other text as well.
        #expect(try redacted("Überall: " + text + " – Ende") == "Überall: " + wanted + " – Ende")
    }

    @Test(arguments: [
        // Plain numbers.
        "0", "12345", "1234567", "1234567890", "4155552671", "1700000000000", "1700000000000000000",
        "31415926535897932384", "3.14159265358979", "1,234,567.89", "1 234 567", "1.234.567,89",
        "+12345678.90", "+1000000", "x = a +123456", "-273.15", "1e10", "0x1F", "007",
        "100 000 000",
        "200 300 4000", "5 6 7 8 9 10 11 12", "2024-01-02", "01-02-2024", "01/02/2024 12:30",
        "2024-01-02T03:04:05.678901234Z", "12:34:56", "16 : 9", "0.5 1234567", "1/2", "50%",
        "ISBN 978-3-16-148410-0", "v1.2.3.4", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.02.03.04",
        "127.0.0.1", "0.0.0.0", "$4,111,111.11", "§ 4111", "line 12345678 of 23456789",
        // Like cards, but for the check digit, the issuer or the length.
        "4111 1111 1111 1112", "1234567812345678", "9999999999999995", "411111111111111",
        "41111111111111111111", "4111 11 11 1111 1111",
        "550e8400-e29b-41d4-a716-446655440000", "a4111111111111111", "4111111111111111b",
        "3.4111111111111111",
        // Like accounts.
        "DE89 3704 0044 0532 0130 01", "XX89370400440532013000", "DE8937040044", "IN12345678901234",
        // Like mail.
        "@name", "a@b", "user@localhost", "@Test(arguments: x)", "x @ y.z", "git@", "a@.com",
        // Like keys.
        "sk-learn", "sk-this-is-a-sentence-without-any", "the bearer of good news and of more",
        "task-0123456789012345678901234567", "eyJhbGci", "AKIA", "-----BEGIN CERTIFICATE-----",
        "http://host:80/x@y", "Explain CORS in simple terms.",
        "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
        "SELECT * FROM t WHERE id IN (1001, 1002, 1003) LIMIT 100",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "", " ", "@", "+", "(", "-----", "é", "1", "(1", "+(", "00", "0 ",
    ])
    func nothingFound(_ text: String) throws {
        #expect(try redacted(text) == text)
        #expect(try redacted("x " + text + " y") == "x " + text + " y")
    }

    @Test func aKeyWithoutItsEndIsOneToTheTextsEnd() throws {
        #expect(try redacted("k: -----BEGIN PRIVATE KEY-----\nMIIabc\nx") == "k: [SECRET]")
    }

    /// Texts made to have the same bytes looked at again and again: a megabyte of each.
    @Test(arguments: [
        "sk-", "eyJ-", "eyJaaaaaaaaaa.", "a@", "://a:b", "-----BEGIN ", "AA11 ", "+1 (",
    ])
    func textsMadeToBeSlow(_ part: String) throws {
        let text = String(repeating: part, count: 1 << 20 / part.utf8.count)
        #expect(try redacted(text).utf8.count <= text.utf8.count)
    }

    @Test func onlyWhatIsAskedFor() throws {
        let text = "a@b.de 8.8.8.8 +49 170 1234567"
        #expect(try redacted(text, [.email]) == "[EMAIL] 8.8.8.8 +49 170 1234567")
        #expect(try redacted(text, [.ipv4, .phone]) == "a@b.de [IP] [PHONE]")
    }

    /// Every part of a text with findings: never a trap, never outside of the text.
    @Test func cutAnywhere() {
        let text = Array(
            ("sk-proj-abcdEFGH1234567890 müller@x.de +49 170 1234567 (030) 12 34-567 DE89 3704 0044 "
                + "0532 0130 00 8.8.8.8 eyJhbGciOiJIUzI1.eyJzdWIiOiIx.doz4jgNryP4J "
                + "-----BEGIN PRIVATE KEY-----x-----END PRIVATE KEY----- https://u:p@h/").utf8)
        for start in text.indices {
            for end in stride(from: start, through: text.count, by: 3) {
                text[start..<end].withUnsafeBytes { bytes in
                    var floor = 0
                    for finding in PIIScanner.find(bytes, .all) {
                        #expect(finding.range.lowerBound >= floor && !finding.range.isEmpty)
                        floor = finding.range.upperBound
                    }
                    #expect(floor <= bytes.count)
                }
            }
        }
    }

    /// One number in ten passes Luhn's check; with the issuer one of 25 with 16 digits is left.
    @Test func plainNumbersAreRarelyCards() {
        var state: UInt64 = 1
        var found = 0
        for _ in 0..<20_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let digits = Array("\(state >> 1)".utf8.prefix(16))
            found += digits.withUnsafeBytes { PIIScanner.find($0, .all).count }
        }
        #expect(found < 20_000 / 20)
    }
}
