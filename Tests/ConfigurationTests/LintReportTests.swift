import Configuration
import Foundation
import Proxy
import Testing

@Suite struct LintReportTests {
    private func object(_ result: ConfigurationResult) throws -> [String: Any] {
        let data = Data(LintReport.json(result).utf8)
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    @Test func humanForm() {
        let bad = ConfigurationReader.read(
            text: Array((targets + "limits:\n  feilds: 20\n").utf8), file: "etc/umbra.yaml")
        #expect(
            LintReport.text(bad) == """
                etc/umbra.yaml:6:3: error[E002]: limits.feilds: unknown key; did you mean fields?
                etc/umbra.yaml: not valid: 1 error

                """)
        #expect(
            LintReport.text(
                lint(targets + "listen: 127.0.0.1:0\ntraffic_mirror: {shadow: next}\n"))
                    == """
                    t.yaml:5:9: warning[W007]: listen: port 0: the kernel chooses a port, \
                    another one at each start
                    t.yaml: valid: 2 targets, 1 route, 1 shadow, 1 warning

                    """)
    }

    @Test func jsonOfAValidFile() throws {
        let object = try object(lint(targets + "traffic_mirror: {shadow: next}"))
        #expect(Set(object.keys) == ["valid", "file", "pack", "chain", "policy_count", "warnings"])
        #expect(object["valid"] as? Bool == true)
        #expect(object["file"] as? String == "t.yaml")
        #expect(object["pack"] is NSNull)
        #expect(object["policy_count"] as? Int == 0)
        #expect((object["chain"] as? [Any])?.isEmpty == true)
        #expect((object["warnings"] as? [Any])?.isEmpty == true)
    }

    @Test func jsonOfAPack() throws {
        let text =
            targets + """
                pack: {name: 'edge "1"', version: 1.0.0}
                policies: {chain: [pii-detector, audit-logger],
                           policy: {audit-logger: {}, pii-detector: {}}}
                """
        let object = try object(lint(text))
        #expect(object["pack"] as? String == "edge \"1\"")
        #expect(object["chain"] as? [String] == ["pii-detector", "audit-logger"])
        #expect(object["policy_count"] as? Int == 2)
        #expect(LintReport.text(lint(text)).contains("0 shadows, 2 policies, 2 warnings\n"))
    }

    @Test func jsonOfAFaultyFile() throws {
        let text =
            targets
            + "\"a\\\"b\\\\c\\u0007é\": 1\nlimits: {fields: 2}\nlisten: 127.0.0.1:0\n"
        let object = try object(
            ConfigurationReader.read(text: Array(text.utf8), file: "a\"\u{1}\nb"))
        #expect(Set(object.keys) == ["valid", "file", "errors", "warnings"])
        #expect(object["valid"] as? Bool == false)
        #expect(object["file"] as? String == "a\"\u{1}\nb")
        let errors = try #require(object["errors"] as? [[String: Any]])
        #expect(
            errors.map { Set($0.keys) }
                == Array(repeating: ["code", "path", "line", "message", "suggestion"], count: 2))
        #expect(errors.map { $0["code"] as? String } == ["E002", "E005"])
        #expect(errors.map { $0["line"] as? Int } == [5, 6])
        #expect(errors[0]["path"] as? String == "a\"b\\c\\u{7}é")
        #expect(errors[1]["suggestion"] is NSNull)
        #expect((object["warnings"] as? [Any])?.count == 1)
    }

    @Test func oneLineOfJSON() {
        let json = LintReport.json(lint("a: \"\\n\u{2028}\"\n"))
        #expect(json.filter { $0 == "\n" }.count == 1)
        #expect(json.hasSuffix("}\n"))
    }

    // MARK: Files

    @Test func files() throws {
        let folder =
            NSTemporaryDirectory()
            + "umbra-configuration-\(ProcessInfo.processInfo.processIdentifier)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func errors(_ path: String) -> [Diagnostic] {
            ConfigurationReader.readFile(path).diagnostics
        }

        let missing = errors(folder + "/none.yaml")
        #expect(missing.map(\.code) == [.unreadable])
        #expect(missing[0].message == "cannot open it: No such file or directory")
        #expect(
            missing[0].text(file: "x")
                == "x: error[E014]: cannot open it: No such file or directory; "
                + "give the path of a YAML file"
        )

        let directory = errors(folder)
        #expect(directory.map(\.code) == [.unreadable])
        #expect(directory[0].message == "cannot read it: Is a directory")

        #expect(errors("/dev/zero").map(\.code) == [.tooLarge])
        #expect(errors("/dev/null").map(\.code) == [.badYAML])

        let good = folder + "/good.yaml"
        try Data(targets.utf8).write(to: URL(fileURLWithPath: good))
        let result = ConfigurationReader.readFile(good)
        #expect(result.settings?.targets.count == 2)
        #expect(result.file == good)
    }

    /// A secret in the wrong place is not repeated in what ends in logs.
    @Test(arguments: [
        targets + "admin: {token: t0psecret}", targets + "admin: {token: {env: \"t0psecret x\"}}",
        targets + "admin: {token: {env: t0psecret-0123-4567-89ab}}",
        "providers: {targets: [{id: app, base_url: \"http://user:t0psecret@app:80\"}]}",
    ])
    func secretsAreNotRepeated(_ document: String) {
        let result = lint(document)
        #expect(result.settings == nil)
        #expect(!LintReport.text(result).contains("t0psecret"), "\(LintReport.text(result))")
        #expect(!LintReport.json(result).contains("t0psecret"))
    }
}
