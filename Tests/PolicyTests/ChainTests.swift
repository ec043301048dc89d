import Policy
import Providers
import Testing

@Suite struct ChainTests {
    private static func filter(
        _ name: String, _ action: ContentFilterSettings.Action,
        _ patterns: [ContentFilterSettings.Pattern]
    ) -> PolicySettings {
        var filter = ContentFilterSettings()
        filter.action = action
        filter.patterns = patterns
        return PolicySettings(name: name, kind: .contentFilter(filter))
    }

    private static func detector(
        _ action: PIISettings.Action, _ kinds: PIIKinds = .all
    ) -> PolicySettings {
        var detector = PIISettings()
        detector.action = action
        detector.kinds = kinds
        return PolicySettings(name: "pii", kind: .piiDetector(detector))
    }

    private func inspect(
        _ policies: [PolicySettings], _ body: String
    ) throws -> (PolicyChain.Decision, PolicyReport, PolicyChain) {
        let chain = try PolicyChain(policies)
        var report = PolicyReport()
        let decision = chain.inspect(try JSONDocument(body), &report)
        return (decision, report, chain)
    }

    private func text(_ decision: PolicyChain.Decision) -> String? {
        if case .replace(let bytes) = decision {
            String(decoding: bytes, as: UTF8.self)
        } else {
            nil
        }
    }

    /// Only the strings with something in them are spelt anew.
    @Test func redacts() throws {
        let (decision, report, chain) = try inspect(
            [Self.detector(.redact)],
            """
            { "model" : "gpt-4o", "temperature":1.50, "messages":[
              {"role":"user","content":"Mail \\u0061nna@example.com \\"now\\"\\n\\ud83d\\ude00"},
              {"role":"user","content":[{"type":"text","text":"IP 8.8.8.8"}, {"type":"text","text":"\\u00e9"}]}],
              "user":"bob@example.com","tools":[{"function":{"arguments":"{\\"to\\":\\"+49 170 1234567\\"}"}}] }
            """)
        #expect(
            text(decision) == """
                { "model" : "gpt-4o", "temperature":1.50, "messages":[
                  {"role":"user","content":"Mail [EMAIL] \\"now\\"\\n😀"},
                  {"role":"user","content":[{"type":"text","text":"IP [IP]"}, {"type":"text","text":"\\u00e9"}]}],
                  "user":"[EMAIL]","tools":[{"function":{"arguments":"{\\"to\\":\\"[PHONE]\\"}"}}] }
                """)
        #expect(report.verdict == .redact && report.isInspected)
        #expect(report.kinds == [.email, .ipv4, .phone])
        #expect(chain.names(report) == ["pii"])
        #expect(report.reason.map { "\($0)" } == "pii_redacted")
    }

    /// A tool's arguments are JSON in a string: their own escapes hide nothing.
    @Test func jsonInStringsIsReadToo() throws {
        let body =
            #"{"arguments":"{\"q\":\"proj\\u0065ct falcon bob\\u0040example.com\"}"}"#
        let (decision, report, _) = try inspect([Self.detector(.redact)], body)
        let clean = #"{"arguments":"{\"q\":\"project falcon [EMAIL]\"}"}"#
        #expect(text(decision) == clean)
        #expect(report.kinds == .email)
        let filter = Self.filter("words", .block, [.literal("project falcon")])
        guard case .refuse(policy: 0) = try inspect([filter], body).0 else {
            Issue.record("it passed")
            return
        }
        // A string is JSON too.
        let string = #"{"m":"\"{\\\"a\\\":\\\"bob\\\\u0040example.com\\\"}\""}"#
        let (other, _, _) = try inspect([Self.detector(.redact)], string)
        #expect(text(other) == #"{"m":"\"{\\\"a\\\":\\\"[EMAIL]\\\"}\""}"#)
        // A string in a string in a string, as far as anybody nests them.
        let inner = #"[\"[\\\"[\\\\\\\"f\\\\\\\\u0061lcon\\\\\\\"]\\\"]\"]"#
        let words = Self.filter("words", .block, [.literal("falcon")])
        guard case .refuse(policy: 0) = try inspect([words], "{\"x\":\"\(inner)\"}").0 else {
            Issue.record("it passed")
            return
        }
    }

    @Test func blocks() throws {
        let policies = [
            Self.filter("soft", .flag, [.literal("falcon")]),
            Self.filter("hard", .block, [.expression("fal.on")]), Self.detector(.block),
        ]
        let (decision, report, chain) = try inspect(policies, #"{"messages":["FALCON a@b.de"]}"#)
        guard case .refuse(let place) = decision else {
            Issue.record("\(decision)")
            return
        }
        #expect(place == 1 && chain.name(place) == "hard")
        #expect(report.verdict == .block && chain.names(report) == ["soft", "hard"])
        #expect(report.reason.map { "\($0)" } == "content_blocked")
        let (second, other, _) = try inspect(policies, #"{"messages":["a@b.de"]}"#)
        guard case .refuse(policy: 2) = second else {
            Issue.record("\(second)")
            return
        }
        #expect(other.reason.map { "\($0)" } == "pii_blocked")
        // The policy that blocks gives the reason, not one that found something before.
        let (_, third, _) = try inspect(
            [Self.detector(.redact), policies[1]], #"{"messages":["falcon a@b.de"]}"#)
        #expect(third.reason.map { "\($0)" } == "content_blocked" && third.kinds == .email)
    }

    @Test func flagsAndPasses() throws {
        let policies = [Self.filter("soft", .flag, [.literal("falcon")])]
        let (decision, report, _) = try inspect(policies, #"{"a":"The \u0046alcon"}"#)
        guard case .pass = decision else {
            Issue.record("\(decision)")
            return
        }
        #expect(report.verdict == .escalate && report.bits == 1)
        let (_, clean, _) = try inspect(policies, #"{"falcon":"x"}"#)
        #expect(clean.verdict == .allow && clean.isInspected && clean.reason == nil)
    }

    /// In the chain's order: what is replaced is not there for those behind it.
    @Test func theOrderHolds() throws {
        let body = #"{"m":"write to a@falcon.de"}"#
        let filter = Self.filter("soft", .flag, [.literal("falcon")])
        let (_, first, _) = try inspect([filter, Self.detector(.redact)], body)
        #expect(first.verdict == .escalate && first.bits == 3)
        let (decision, second, _) = try inspect([Self.detector(.redact), filter], body)
        #expect(second.verdict == .redact && second.bits == 1)
        #expect(text(decision) == #"{"m":"write to [EMAIL]"}"#)
    }

    @Test func strictness() throws {
        for (policy, isStrict) in [
            (Self.filter("f", .flag, [.literal("x")]), false),
            (Self.filter("f", .block, [.literal("x")]), true), (Self.detector(.redact), true),
        ] {
            #expect(try PolicyChain([policy]).isStrict == isStrict)
        }
    }

    @Test func nothingLooks() throws {
        let chain = try PolicyChain([PolicySettings(name: "audit-logger", kind: .auditLogger)])
        #expect(!chain.inspectsRequests && !chain.isStrict)
        var report = PolicyReport()
        guard case .pass = chain.inspect(try JSONDocument("1"), &report) else {
            Issue.record("looked")
            return
        }
        #expect(report == PolicyReport())
        #expect(chain.redacted("a@b.de") == "a@b.de")
    }

    /// Pictures are passed over, whatever their letters spell; texts of that size are not.
    @Test func pictures() throws {
        let noise = String(repeating: "QUJD+/4155551234", count: 100)
        for picture in [noise, "data:image/png;base64," + noise] {
            let (decision, report, _) = try inspect(
                [Self.filter("f", .block, [.literal("qujd")]), Self.detector(.redact)],
                "{\"url\":\"\(picture)\"}")
            guard case .pass = decision else {
                Issue.record("\(decision)")
                return
            }
            #expect(report.verdict == .allow)
        }
        let (decision, _, _) = try inspect(
            [Self.filter("f", .block, [.literal("qujd")])], "{\"url\":\"\(noise) \"}")
        guard case .refuse = decision else {
            Issue.record("\(decision)")
            return
        }
    }

    @Test func whatIsNotDecidedCountsAsFound() throws {
        var state: UInt64 = 5
        let letters = (0..<1 << 20).map { _ -> Character in
            state = state &* 6_364_136_223_846_793_005 &+ 1
            return state >> 63 == 0 ? "a" : "b"
        }
        let (decision, report, _) = try inspect(
            [Self.filter("f", .block, [.expression("(a|b)*a(a|b){500}c")])],
            "{\"m\":\"\(String(letters)) \"}")
        guard case .refuse = decision else {
            Issue.record("passed")
            return
        }
        #expect(report.isUndecided && report.reason.map { "\($0)" } == "not_decided")
    }

    /// More numbers than one request may have looked at: refused, and stored only up to there.
    @Test func moreThanMayBeLookedAt() throws {
        let text = String(repeating: "1234567 ", count: 140_000)
        let (decision, report, chain) = try inspect([Self.detector(.redact)], "{\"m\":\"\(text)\"}")
        guard case .refuse = decision else {
            Issue.record("passed")
            return
        }
        #expect(report.isUndecided && report.verdict == .block)
        #expect(chain.redacted(text).utf8.count < text.utf8.count)
        let fewer = String(repeating: "1234567 ", count: 1_000)
        let (other, _, _) = try inspect([Self.detector(.redact)], "{\"m\":\"\(fewer)\"}")
        guard case .pass = other else {
            Issue.record("\(other)")
            return
        }
    }

    @Test func answers() throws {
        let chain = try PolicyChain([
            Self.detector(.block), Self.filter("f", .block, [.literal("falcon")]),
        ])
        var report = PolicyReport()
        Array("The Falcon; a@b.de".utf8).withUnsafeBytes { chain.inspectAnswer($0, &report) }
        #expect(report.verdict == .escalate && chain.names(report) == ["f"])
        #expect(chain.redacted("The Falcon; a@b.de") == "The Falcon; [EMAIL]")
    }

    /// Texts that hold JSON, whole, cut off, in words or within itself: an escape hides no secret,
    /// and its letter is no part of the word behind it.
    @Test(arguments: [
        (
            #"{"t":"hi\njane@example.org\nk\nsk-proj-abcdEFGH1234567890abcd\n4111 1111 1111 1111"}"#,
            #"{"t":"hi\n[EMAIL]\nk\n[SECRET]\n[CARD]"}"#
        ),
        (
            #"so: f({"k":"x\tsk\u002dproj-abcdEFGH1234567890abcd", "to":"a\u0040example.org"#,
            #"so: f({"k":"x\t[SECRET]", "to":"[EMAIL]"#
        ),
        (#"[{\"c\":\"\\n4111\\u00201111\\u00201111\\u00201111\"}]"#, #"[{\"c\":\"\\n[CARD]\"}]"#),
        (#"https:\/\/user:hunter2x@h.example\/"#, #"https:\/\/user:[SECRET]@h.example\/"#),
        (#"{"sk\u002dproj-abcdEFGH1234567890abcd":1}"#, #"{"[SECRET]":1}"#),
        (#"C:\users\new \u00e9 \ud83d \"#, #"C:\users\new \u00e9 \ud83d \"#),
    ])
    func escapesHideNothingFromTheLog(_ text: String, _ wanted: String) throws {
        let chain = try PolicyChain([Self.detector(.block)])
        #expect(chain.redacted(text) == wanted)
    }

    /// A request for the log is what goes on of it; what could not be looked at is not stored.
    @Test func documentsForTheLog() throws {
        let chain = try PolicyChain([
            Self.filter("f", .block, [.literal("x")]), Self.detector(.block, .email),
        ])
        let body = #"{"x":["{\"a\":\"1\\na\\u0040b.de\"}","8.8.8.8"]}"#
        let clean = try #require(chain.redacted(try JSONDocument(body)))
        #expect(
            String(decoding: clean.bytes, as: UTF8.self)
                == #"{"x":["{\"a\":\"1\\n[EMAIL]\"}","8.8.8.8"]}"#)
        let many = String(repeating: "a@b ", count: 140_000)
        #expect(chain.redacted(try JSONDocument("{\"m\":\"\(many)\"}")) == nil)
        let none = try PolicyChain([Self.filter("f", .block, [.literal("x")])])
        let same = try JSONDocument(body)
        #expect(none.redacted(same) === same)
    }

    /// Only what says that it is base64 is passed over as such.
    @Test(arguments: [
        ("data:image/png;base64,", true), ("DATA:image/png;Base64,", true), ("data:,", false),
        ("data: a@b.de,", false), ("data:text/plain,", false), ("data:base64,", false),
    ])
    func dataURLs(_ head: String, _ isOne: Bool) throws {
        #expect(Array((head + "QUJD").utf8).withUnsafeBytes { EncodedText.isDataURL($0) } == isOne)
        let noise = String(repeating: "QUJD", count: 300)
        let (decision, _, _) = try inspect(
            [Self.filter("f", .block, [.literal("qujd")])], "{\"u\":\"\(head)\(noise)\"}")
        if case .pass = decision { #expect(isOne) } else { #expect(!isOne) }
    }

    @Test func escapesHideNothingInAnswers() throws {
        let chain = try PolicyChain([Self.filter("f", .flag, [.expression(#"\bfalcon\b"#)])])
        for text in [#"f({"t":"the\nfalcon\n"})"#, #"f({"t":"f\u0061lcon"#] {
            var report = PolicyReport()
            Array(text.utf8).withUnsafeBytes { chain.inspectAnswer($0, &report) }
            #expect(report.verdict == .escalate)
        }
    }

    @Test func refusals() throws {
        let chain = try PolicyChain([Self.filter("no-\"x\"", .block, [.literal("x")])])
        func string(_ dialect: Dialect) -> String {
            String(decoding: chain.refusal(dialect, policy: 0), as: UTF8.self)
        }
        let error =
            #""error":{"type":"policy_violation","message":"The policy no-\"x\" does not let this "#
            + #"request pass.","policy":"no-\"x\"","code":"policy_violation"}}"#
        #expect(string(.openAI) == "{" + error)
        #expect(string(.anthropic) == #"{"type":"error","# + error)
    }
}
