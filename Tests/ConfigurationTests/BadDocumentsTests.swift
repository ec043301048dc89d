import Configuration
import HTTP
import Testing

/// One fault of a document: what the reader has to say, and where.
struct Fault: Sendable, CustomTestStringConvertible {
    let text: String
    let code: DiagnosticCode
    let path: String
    let line: Int
    /// A part of the message or of the suggestion.
    let says: String

    init(_ text: String, _ code: DiagnosticCode, _ path: String, _ line: Int, _ says: String) {
        self.text = text
        self.code = code
        self.path = path
        self.line = line
        self.says = says
    }

    var testDescription: String { "\(code) \(path): \(text.suffix(60))" }
}

@Suite struct BadDocumentsTests {
    /// Exactly this fault, and no settings.
    private func expect(_ fault: Fault, _ text: String) {
        let result = lint(text)
        let report = LintReport.text(result)
        #expect(result.settings == nil, "\(report)")
        #expect(result.errors.map(\.code) == [fault.code], "\(report)")
        #expect(result.errors.map(\.path) == [fault.path], "\(report)")
        #expect(result.errors.map(\.line) == [fault.line], "\(report)")
        #expect(result.errors.allSatisfy { $0.column >= 1 }, "\(report)")
        let said = result.errors.map { $0.message + "; " + ($0.suggestion ?? "") }.joined()
        #expect(said.contains(fault.says), "\(report)")
    }

    // MARK: YAML

    @Test(arguments: [
        Fault("", .badYAML, "", 1, "empty"),
        Fault("# only a comment\n", .badYAML, "", 1, "empty"),
        Fault("---\n", .badYAML, "", 2, "empty"),
        Fault("~", .badYAML, "", 1, "empty"),
        Fault("a: 1\n---\nb: 2\n", .badYAML, "", 2, "second document"),
        Fault("- a\n", .wrongType, "", 1, "must be a mapping, is a list"),
        Fault("just text", .wrongType, "", 1, "must be a mapping, is just text"),
        Fault("limits:\n\tfields: 20\n", .badYAML, "", 2, "cannot start any token"),
        Fault("limits: {fields: 20\n", .badYAML, "", 2, "of line 1"),
        Fault("limits: {}\n fields: 20\n", .badYAML, "", 2, ""),
        Fault("a: \"open\n", .badYAML, "", 2, "quoted scalar"),
        Fault("a: *nowhere\n", .badYAML, "a", 1, "*nowhere"),
        Fault("a: &x [*x]\n", .badYAML, "a[0]", 1, "*x"),
        Fault("a: !env HOME\n", .badYAML, "a", 1, "!env"),
        Fault("? [a, b]\n: c\n", .badYAML, "", 1, "a key must be a text"),
        Fault("<<: 5\n", .badYAML, "", 1, "merges mappings"),
        Fault("%YAML 2.0\n---\na: 1\n", .badYAML, "", 1, "incompatible"),
        Fault("a: \u{1}\n", .badYAML, "", 1, "control characters"),
    ])
    func yaml(_ fault: Fault) { expect(fault, fault.text) }

    @Test func notUTF8() {
        let result = ConfigurationReader.read(
            text: Array("a: b\ncé: ".utf8) + [0xFF, 0x0A], file: "f")
        #expect(result.errors.map(\.code) == [.badYAML])
        #expect(result.errors.map(\.line) == [2])
        #expect(result.errors.map(\.column) == [5])
        #expect(result.errors[0].message.contains("UTF-8"))
        // UTF-16, with its mark.
        let wide = ConfigurationReader.read(text: [0xFF, 0xFE, 0x61, 0, 0x3A, 0], file: "f")
        #expect(wide.errors.map(\.code) == [.badYAML])
    }

    // MARK: Bounds

    @Test func boundsOfTheDocument() {
        func codes(_ text: String) -> [DiagnosticCode] { lint(text).errors.map(\.code) }
        let comment =
            "#" + String(repeating: "x", count: ConfigurationLimits.documentBytesMax) + "\n"
        #expect(codes(targets + comment) == [.tooLarge])
        // A megabyte of these took libyaml 7.6 s.
        let directives = (0..<60_000).map { "%TAG !a\($0)! x\n" }.joined() + "---\na: 1\n"
        #expect(codes(directives) == [.tooLarge])
        #expect(
            lint("%TAG !e! tag:yaml.org,2002:\n---\nlimits: {fields: !e!int 20}\n" + targets).errors
                .isEmpty)
        let deep = ConfigurationLimits.depthMax
        #expect(codes("a: " + String(repeating: "[", count: deep + 1)) == [.tooLarge])
        #expect(codes(String(repeating: "[", count: 500_000)) == [.tooLarge])
        #expect(codes(String(repeating: "{a: ", count: 200_000)) == [.tooLarge])
        #expect(
            codes("a: [" + String(repeating: "1,", count: ConfigurationLimits.nodesMax) + "]") == [
                .tooLarge
            ])
    }

    /// Ten aliases of ten aliases of … ten: ten thousand million values in twelve lines.
    @Test func aliasBombs() {
        var text = "a0: &a0 {k: v}\n"
        for level in 1...10 {
            let names = repeatElement("*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(names)]\n"
        }
        let result = lint(text)
        #expect(result.errors.map(\.code) == [.tooLarge])
        #expect(result.errors[0].message.contains("aliases repeat"))

        var merges = "a0: &a0 {k0: v}\n"
        for level in 1...25 {
            merges += "a\(level): &a\(level) {<<: [*a\(level - 1), *a\(level - 1)], k\(level): v}\n"
        }
        #expect(lint(merges).errors.contains { $0.code == .tooLarge })
    }

    @Test func findingsAreBounded() {
        let text = (0..<5_000).map { "key\($0): 1" }.joined(separator: "\n")
        let result = lint(text)
        #expect(result.diagnostics.count == ConfigurationLimits.diagnosticsMax + 1)
        // 5,000 unknown keys and the missing providers.
        #expect(
            result.diagnostics.last?.message
                == "and \(5_001 - ConfigurationLimits.diagnosticsMax) further findings, not listed")
    }

    @Test func longAndHostileTextsAreShownSafely() {
        let key = String(repeating: "k", count: 100_000)
        for text in [
            "? \(key)\n: 1\n", "version: \(key)", "\"\\e[31mred\\n\": 1\n",
            "version: \"\\e[2J\\u202E\"\n",
        ] {
            let report = LintReport.text(lint(text))
            #expect(report.utf8.count < 2_000)
            #expect(!report.contains("\u{1B}"))
            #expect(!report.contains("\u{202E}"))
        }
    }

    // MARK: Keys, types, ranges: each stands in line 5, behind two good targets

    @Test(arguments: [
        Fault("limit: {}", .unknownKey, "limit", 5, "did you mean limits?"),
        Fault(
            "limits: {headBytes: 1KiB}", .unknownKey, "limits.headBytes", 5,
            "did you mean head_bytes?"),
        Fault("limits: {feilds: 20}", .unknownKey, "limits.feilds", 5, "did you mean fields?"),
        Fault("limits: {zzz: 20}", .unknownKey, "limits.zzz", 5, "known here: head_bytes"),
        Fault("qps: 5", .unknownKey, "qps", 5, "did you mean traffic_mirror.limits.qps?"),
        Fault("zzz: 5", .unknownKey, "zzz", 5, "known here"),
        Fault("runtime: {listen: 1}", .unknownKey, "runtime.listen", 5, "stands at the top level"),
        Fault(
            "traffic_mirror: {shadow: next, qps: 5}", .unknownKey, "traffic_mirror.qps", 5,
            "did you mean traffic_mirror.limits.qps?"),
        Fault(
            "traffic_mirror: {shadow: next, rate: 1}", .unknownKey, "traffic_mirror.rate", 5,
            "did you mean sample_rate?"),
        Fault(
            "routes: [{path: /a}]", .unknownKey, "routes[0].path", 5,
            "did you mean routes[].match.path?"),
        Fault("version: '2'", .wrongType, "version", 5, "must be 1, is 2"),
        Fault("version:", .wrongType, "version", 5, "has no value"),
        Fault("limits: [1]", .wrongType, "limits", 5, "must be a mapping, is a list"),
        Fault(
            "limits: {fields: many}", .wrongType, "limits.fields", 5,
            "whole number from 8 to 1024, is many"),
        Fault("limits: {fields: \"20\"}", .wrongType, "limits.fields", 5, "without quotes"),
        Fault("limits: {fields: 2.5}", .wrongType, "limits.fields", 5, "is 2.5"),
        Fault("limits: {fields: [20]}", .wrongType, "limits.fields", 5, "is a list"),
        Fault("limits: {fields: 020}", .wrongType, "limits.fields", 5, "leading zero"),
        Fault("limits: {fields: -1}", .outOfRange, "limits.fields", 5, "from 8 to 1024, is -1"),
        Fault(
            "limits: {fields: 99999999999999999999}", .outOfRange, "limits.fields", 5,
            "from 8 to 1024"),
        Fault("limits: {fields: 20, fields: 30}", .duplicate, "limits.fields", 5, "line 5"),
        Fault("limits: {head_bytes: 64KB}", .wrongType, "limits.head_bytes", 5, "write 64KiB"),
        Fault("limits: {head_bytes: 64 kib}", .wrongType, "limits.head_bytes", 5, "write 64KiB"),
        Fault(
            "limits: {head_bytes: 512}", .outOfRange, "limits.head_bytes", 5,
            "from 1KiB to 1MiB, is 512"),
        Fault("limits: {head_bytes: 2MiB}", .outOfRange, "limits.head_bytes", 5, "is 2MiB"),
        Fault(
            "limits: {body_bytes: 9999999999GiB}", .outOfRange, "limits.body_bytes", 5,
            "is 9999999999GiB"),
        Fault(
            "limits: {body_bytes: 9223372036854775807GiB}",
            .outOfRange, "limits.body_bytes", 5, ""),
        Fault(
            "limits: {idle_timeout: 10}",
            .wrongType, "limits.idle_timeout", 5, "write 10s or 10ms"),
        Fault("limits: {idle_timeout: 10 sec}", .wrongType, "limits.idle_timeout", 5, "write 10s"),
        Fault(
            "limits: {idle_timeout: 0}", .outOfRange, "limits.idle_timeout", 5, "from 1ms to 24h"),
        Fault("limits: {idle_timeout: -5s}", .outOfRange, "limits.idle_timeout", 5, "is -5s"),
        Fault("limits: {idle_timeout: soon}", .wrongType, "limits.idle_timeout", 5, "a time"),
        Fault(
            "runtime: {workers: 0}", .outOfRange, "runtime.workers", 5,
            "auto, or a whole number from 1 to 256"),
        Fault("runtime: {workers: many}", .wrongType, "runtime.workers", 5, "auto"),
        Fault("runtime: {ring_depth: 1000}", .outOfRange, "runtime.ring_depth", 5, "power of two"),
        Fault(
            "runtime: {block_bytes: 5KiB}", .outOfRange, "runtime.block_bytes", 5, "power of two"),
        Fault(
            "runtime: {blocks_on_loan_max: 5000}", .conflict, "runtime.blocks_on_loan_max", 5,
            "more than there are blocks"),
        Fault(
            "runtime: {blocks_per_worker: 100, blocks_on_loan_max: 101}", .conflict,
            "runtime.blocks_on_loan_max", 5, "half of the blocks is a good start: 50"),
        Fault(
            "runtime: {blocks_per_worker: 1048576, block_bytes: 1MiB}", .outOfRange,
            "runtime.blocks_per_worker", 5, "at most 16GiB"),
        Fault("runtime: {pin_cpus: maybe}", .wrongType, "runtime.pin_cpus", 5, "true or false"),
        Fault("runtime: {pin_cpus: \"true\"}", .wrongType, "runtime.pin_cpus", 5, "without quotes"),
        Fault(
            "forwarding: {x_forwarded: apend}", .wrongType, "forwarding.x_forwarded", 5,
            "did you mean append?"),
        Fault("forwarding: {via: \"a b\"}", .wrongType, "forwarding.via", 5, "token"),
        Fault(
            "forwarding: {trusted_proxies: [10.0.0.0/33]}", .wrongType,
            "forwarding.trusted_proxies[0]", 5, "10.0.0.0/8"),
        Fault(
            "forwarding: {trusted_proxies: [proxy.test]}", .wrongType,
            "forwarding.trusted_proxies[0]", 5, "is proxy.test"),
        Fault(
            "forwarding: {trusted_proxies: [10.0.0.1/8]}", .outOfRange,
            "forwarding.trusted_proxies[0]", 5, "not its first one"),
        Fault(
            "forwarding: {trusted_proxies: [10.0.0.0/8, unix, 10.0.0.0/8]}", .duplicate,
            "forwarding.trusted_proxies[2]", 5, "keep one"),
        Fault("forwarding: {trace: yes}", .wrongType, "forwarding.trace", 5, "off or on or always"),
        Fault("access_log: on", .wrongType, "access_log", 5, "write {path: \"-\"}"),
        Fault("access_log: {path: \"\"}", .wrongType, "access_log.path", 5, "names no file"),
        Fault("access_log: {format: text}", .wrongType, "access_log.format", 5, "must be json"),
        Fault("event_log: on", .wrongType, "event_log", 5, "write {directory: umbra-events}"),
        Fault(
            "event_log: {directory: \"\"}", .wrongType, "event_log.directory", 5, "names no folder"),
        Fault(
            "event_log: {retention_days: 0}", .outOfRange, "event_log.retention_days", 5,
            "from 1 to 36500"),
        Fault(
            "event_log: {segment_bytes: 1KiB}", .outOfRange, "event_log.segment_bytes", 5,
            "from 64KiB to 4GiB"),
    ])
    func keysAndTypes(_ fault: Fault) { expect(fault, targets + fault.text + "\n") }

    // MARK: Addresses

    @Test(arguments: [
        Fault("listen: 8080", .badAddress, "listen", 5, "write 127.0.0.1:8080"),
        Fault("admin: {listen: \"0.0.0.0:9\"}", .adminExposed, "admin.listen", 5, "admin.token"),
        Fault("admin: {hosts: [\"http://a\"]}", .wrongType, "admin.hosts[0]", 5, "name alone"),
        Fault("admin: {hosts: [A, a]}", .duplicate, "admin.hosts[1]", 5, "keep one"),
        Fault("listen: \":8080\"", .badAddress, "listen", 5, "0.0.0.0:8080"),
        Fault("listen: \"*:8080\"", .badAddress, "listen", 5, "0.0.0.0:8080"),
        Fault("listen: 127.0.0.1", .badAddress, "listen", 5, "has no port"),
        Fault("listen: 127.0.0.1:", .badYAML, "", 5, "mapping values are not allowed"),
        Fault("listen: 127.0.0.1:http", .badAddress, "listen", 5, "no port after its last colon"),
        Fault("listen: 127.0.0.1:65536", .badAddress, "listen", 5, "0 to 65535"),
        Fault("listen: 127.0.0.256:80", .badAddress, "listen", 5, "no IP address"),
        Fault("listen: \"::1:80\"", .badAddress, "listen", 5, "write \"[::1]:80\""),
        Fault("listen: \"[::1:80\"", .badAddress, "listen", 5, "IPv6 address without brackets"),
        Fault("listen: \"[::g]:80\"", .badAddress, "listen", 5, "no IP address"),
        Fault(
            "listen: example.com:80", .badAddress, "listen", 5,
            "is a name; a listener takes an IP address"),
        Fault("listen: /run/u.sock", .badAddress, "listen", 5, "write unix:/run/u.sock"),
        Fault("listen: unix:run/u.sock", .badAddress, "listen", 5, "absolute path"),
        Fault(
            "listen: unix:/\(String(repeating: "x", count: 107))", .badAddress, "listen", 5,
            "at most 107 bytes"),
        Fault("listen: []", .outOfRange, "listen", 5, "1 to 64"),
        Fault("listen: [[127.0.0.1:1]]", .wrongType, "listen[0]", 5, "is a list"),
        Fault("listen: [127.0.0.1:1, 127.0.0.1:1]", .duplicate, "listen[1]", 5, "named twice"),
        Fault("listen: {}", .missingKey, "listen.address", 5, "required"),
        Fault(
            "listen: [{address: 127.0.0.1:1, adress: 2}]", .unknownKey, "listen[0].adress", 5,
            "did you mean address?"),
        Fault(
            "listen: [{address: \"[::]:8443\", tls: {certificate: a}}]", .missingKey,
            "listen[0].tls.key", 5, "PEM"),
        Fault(
            "listen: [{address: \"[::]:8443\", tls: {certificates: []}}]", .outOfRange,
            "listen[0].tls.certificates", 5, "at least one"),
        Fault(
            "listen: [{address: \"[::]:8443\", tls: {certificate: a, key: b, min_version: 1.1}}]",
            .wrongType, "listen[0].tls.min_version", 5, "1.2 or 1.3"),
        Fault(
            "listen: [{address: \"[::]:8443\", tls: {certificate: a, key: b, hsts: 1y}}]",
            .wrongType, "listen[0].tls.hsts", 5, "a time"),
        Fault(
            "listen: [{address: \"[::]:8443\", redirect_to_https: true, "
                + "tls: {certificate: a, key: b}}]",
            .conflict, "listen[0].redirect_to_https", 5, "nowhere to redirect"),
        Fault(
            "listen: [{address: \"[::]:80\", redirect_to_https: 70000}]", .wrongType,
            "listen[0].redirect_to_https", 5, "a port"),
        Fault("admin: {listen: nowhere}", .badAddress, "admin.listen", 5, "has no port"),
        Fault("admin: 127.0.0.1:5", .wrongType, "admin", 5, "must be a mapping"),
        Fault(
            "admin: {token: secret}", .wrongType, "admin.token", 5,
            "must be a mapping; the token itself does not belong here"),
        Fault("admin: {token: {}}", .missingKey, "admin.token.env", 5, "required"),
        Fault(
            "admin: {token: {env: \"A B\"}}", .wrongType, "admin.token.env", 5,
            "environment variable"),
        Fault("admin: {listen: 127.0.0.1:41002}", .conflict, "admin", 5, "both listen"),
        Fault("listen: 127.0.0.1:41003", .conflict, "listen", 5, "both listen"),
        Fault(
            "listen: 127.0.0.1:9002", .conflict, "providers.targets[1].base_url", 4,
            "gateway itself"),
    ])
    func addresses(_ fault: Fault) { expect(fault, targets + fault.text + "\n") }

    // MARK: Targets

    @Test(arguments: [
        Fault("version: 1", .missingKey, "providers", 1, "required"),
        Fault("providers: {}", .missingKey, "providers.targets", 1, "required"),
        Fault("providers: {targets: []}", .outOfRange, "providers.targets", 1, "names no target"),
        Fault("providers: {targets: app}", .wrongType, "providers.targets", 1, "must be a list"),
        Fault(
            "providers: {targets: [app]}", .wrongType, "providers.targets[0]", 1,
            "must be a mapping"),
        Fault(
            "providers: {targets: [{base_url: http://a}]}", .missingKey, "providers.targets[0].id",
            1, "required"),
        Fault(
            "providers: {targets: [{id: a}]}", .missingKey, "providers.targets[0].base_url", 1,
            "required"),
        Fault(
            "providers: {targets: [{id: \"a b\", base_url: http://a}]}", .wrongType,
            "providers.targets[0].id", 1, "a name of letters"),
        Fault(
            "providers:\n  targets:\n  - {id: a, base_url: http://a}\n"
                + "  - {id: a, base_url: http://b}",
            .duplicate, "providers.targets[1].id", 4, "providers.targets[0]"),
        Fault(
            "providers: {targets: [{id: a, provider: htttp, base_url: http://a}]}", .unknownKind,
            "providers.targets[0].provider", 1, "did you mean http?"),
        Fault(
            "providers: {targets: [{id: a, provider: antropic}]}", .unknownKind,
            "providers.targets[0].provider", 1, "did you mean anthropic?"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, secret_key_ref: {}}]}",
            .missingKey, "providers.targets[0].secret_key_ref.env", 1, "required"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, secret_key_ref: {env: \"A=B\"}}]}",
            .wrongType, "providers.targets[0].secret_key_ref.env", 1, "no name"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, secret_key_ref: {file: \"\"}}]}",
            .wrongType, "providers.targets[0].secret_key_ref.file", 1, "names no file"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, secret_key_ref: {env: A, file: b}}]}",
            .conflict, "providers.targets[0].secret_key_ref.env", 1, "beside file"),
        Fault(
            "providers: {targets: [{id: a, base_ur: http://a, base_url: http://a}]}", .unknownKey,
            "providers.targets[0].base_ur", 1, "did you mean base_url?"),
        Fault(
            "providers: {targets: [{id: a, base_url: http://a, secret_key_ref: {env: A}}]}",
            .conflict, "providers.targets[0].secret_key_ref", 1, "has none"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, secret_key_ref: {env: A}}, "
                + "{id: b, provider: openai}]}\n"
                + "traffic_mirror: {shadow: b, safety: {allow_fields: [authorization]}}",
            .conflict, "traffic_mirror.shadow", 2, "would get the key of a"),
        Fault(
            "providers: {targets: [{id: a, base_url: http://a}], traffic_mirror: {}}",
            .missingKey, "providers.traffic_mirror.shadow", 1, "required"),
        Fault(
            "providers: {targets: [{id: a, base_url: http://a}, {id: b, base_url: http://b}], "
                + "traffic_mirror: {shadow: b}}\ntraffic_mirror: {shadow: b}",
            .conflict, "providers.traffic_mirror", 1, "at the top level too"),
        Fault(
            "providers: {targets: [{id: a, base_url: http://a, azure: {}}]}",
            .conflict, "providers.targets[0].azure", 1, "has none"),
        Fault(
            "providers: {targets: [{id: a, provider: anthropic, azure: {}}]}",
            .conflict, "providers.targets[0].azure", 1, "provider openai"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, azure: {deployment: d, "
                + "api_version: 2024-10-21}}]}",
            .missingKey, "providers.targets[0].base_url", 1, "openai.azure.com"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, base_url: http://a, "
                + "azure: {deployment: d}}]}",
            .missingKey, "providers.targets[0].azure.api_version", 1, "2024-10-21"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, base_url: http://a, "
                + "azure: {deployment: d/../e, api_version: v}}]}",
            .wrongType, "providers.targets[0].azure.deployment", 1, "letters"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, base_url: http://a, "
                + "azure: {deployment: \"..\", api_version: v}}]}",
            .wrongType, "providers.targets[0].azure.deployment", 1, "way through folders"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, base_url: http://a, "
                + "azure: {deployment: a, api_version: c d}}]}",
            .wrongType, "providers.targets[0].azure.api_version", 1, "letters"),
        Fault(
            "providers: {targets: [{id: a, provider: openai, base_url: http://a/openai, "
                + "azure: {deployment: d, api_version: v}}]}",
            .conflict, "providers.targets[0].base_url", 1, "/openai is added"),
        Fault(
            "providers: {targets: [{id: a, base_url: http://a, max_tokens: 5}]}",
            .conflict, "providers.targets[0].max_tokens", 1, "has none"),
    ])
    func targetEntries(_ fault: Fault) { expect(fault, fault.text + "\n") }

    @Test(
        arguments: [
            ("127.0.0.1:80", DiagnosticCode.badAddress, "write http://127.0.0.1:80"),
            ("unix:/a", .badAddress, "write http+unix:///a"),
            ("https://", .badAddress, "names no host"),
            ("ftp://a", .badAddress, "no scheme"),
            ("http://", .badAddress, "names no host"),
            ("http://:80", .badAddress, "names no host"),
            ("http://u:p@a", .badAddress, "no user or password"),
            ("http://a?x=1", .badAddress, "has no query"),
            ("http://a/#x", .badAddress, "has no fragment"),
            ("http://a:0", .badAddress, "1 to 65535"),
            ("http://a:65536", .badAddress, "out of range"),
            ("http://a:x", .badAddress, "no port"),
            ("http://a:80:80", .badAddress, "without brackets"),
            ("http://::1", .badAddress, "brackets"),
            ("http://[::1", .badAddress, ""),
            ("http://[::1]x:80", .badAddress, ""),
            ("http://[127.0.0.1]", .badAddress, "no IPv6"),
            ("http://[fe80::1%25eth0]:80", .badAddress, "no IPv6"),
            ("http://127.0.0.256", .badAddress, "neither"),
            ("http://127.1", .badAddress, "neither"),
            ("http://0x7f000001", .badAddress, "neither"),
            ("http://2130706433", .badAddress, "neither"),
            ("http://a..b", .badAddress, "neither"),
            ("http://-a", .badAddress, "neither"),
            ("http://a b", .badAddress, "neither"),
            ("http://a/b c", .badAddress, "escaped"),
            ("http://a/%zz", .badAddress, "hexadecimal"),
            ("http://a/../b", .badAddress, "segment"),
            ("http://ä", .badAddress, "neither"),
            ("http+unix://a", .badAddress, "absolute"),
            ("http://a\\r\\nX: y", .wrongType, "control characters"),
            ("http://a\\0", .wrongType, "control characters"),
        ] as [(String, DiagnosticCode, String)])
    func baseURLs(_ url: String, _ code: DiagnosticCode, _ says: String) {
        let text = "providers:\n  targets:\n    - id: a\n      base_url: \"\(url)\"\n"
        expect(Fault(text, code, "providers.targets[0].base_url", 4, says), text)
    }

    // MARK: Routes

    @Test(arguments: [
        Fault("{target: nxt}", .undefinedName, "routes[0].target", 6, "did you mean next?"),
        Fault("{target: zzzzzz}", .undefinedName, "routes[0].target", 6, "defined are app, next"),
        Fault("app", .wrongType, "routes[0]", 6, "must be a mapping"),
        Fault("{name: \"a b\"}", .wrongType, "routes[0].name", 6, "a name of letters"),
        Fault("{name: default}", .duplicate, "routes[0].name", 6, "closing route"),
        Fault(
            "{name: x, match: {path: /}}\n  - {name: x}",
            .duplicate, "routes[1].name", 7, "line 6"),
        Fault(
            "{match: {path: /}}\n  - {name: route-1}", .duplicate, "routes[1].name", 7, "route-1"),
        Fault("{match: {path: static}}", .wrongType, "routes[0].match.path", 6, "write /static"),
        Fault("{match: {path: /a?b}}", .wrongType, "routes[0].match.path", 6, "leave out ?"),
        Fault(
            "{match: {path_prefix: \"/a b\"}}",
            .wrongType, "routes[0].match.path_prefix", 6, "%XX"),
        Fault("{match: {path_prefix: /ä}}", .wrongType, "routes[0].match.path_prefix", 6, "%XX"),
        Fault(
            "{match: {path_prefix: /%4}}", .wrongType, "routes[0].match.path_prefix", 6,
            "hexadecimal"),
        Fault(
            "{match: {path_prefix: /a/../b}}", .wrongType, "routes[0].match.path_prefix", 6,
            "segment"),
        Fault(
            "{match: {path_prefix: /a, path: /a}}", .conflict, "routes[0].match.path_prefix", 6,
            "beside path"),
        Fault(
            "{match: {path_prefx: /a}}", .unknownKey, "routes[0].match.path_prefx", 6,
            "did you mean path_prefix?"),
        Fault(
            "{match: {host: \"a:80\"}}", .badAddress, "routes[0].match.host", 6,
            "leave out the port: a"),
        Fault("{match: {host: \"*\"}}", .badAddress, "routes[0].match.host", 6, "leave host out"),
        Fault("{match: {host: \"a.*\"}}", .badAddress, "routes[0].match.host", 6, "*.NAME"),
        Fault(
            "{match: {host: \"http://a\"}}", .badAddress, "routes[0].match.host", 6, "host alone"),
        Fault("{match: {host: \"::1\"}}", .badAddress, "routes[0].match.host", 6, ""),
        Fault(
            "{match: {methods: GET}}", .wrongType, "routes[0].match.methods", 6, "must be a list"),
        Fault(
            "{match: {methods: []}}", .outOfRange, "routes[0].match.methods", 6, "names no method"),
        Fault("{match: {methods: [GET, get]}}", .duplicate, "routes[0].match.methods[1]", 6, "GET"),
        Fault(
            "{match: {methods: [\"G T\"]}}", .wrongType, "routes[0].match.methods[0]", 6,
            "no method"),
        Fault(
            "{match: {methods: [connect]}}", .outOfRange, "routes[0].match.methods[0]", 6,
            "never passed on"),
        Fault(
            "{match: {headers: {\"x y\": a}}}", .wrongType, "routes[0].match.headers.x y", 6,
            "no name of a field"),
        Fault(
            "{match: {headers: {x: [a]}}}", .wrongType, "routes[0].match.headers.x", 6,
            "a text, or null"),
        Fault(
            "{match: {headers: {x: \"a\\r\\nb\"}}}", .wrongType, "routes[0].match.headers.x", 6,
            "control"),
        Fault(
            "{match: {headers: {x: \" a\"}}}", .wrongType, "routes[0].match.headers.x", 6, "space"),
        Fault(
            "{match: {headers: {X: a, x: b}}}", .duplicate, "routes[0].match.headers.x", 6,
            "ignore case"),
        Fault(
            "{match: {headers: {Host: a}}}", .conflict, "routes[0].match.headers.Host", 6,
            "match: {host: NAME}"),
        Fault(
            "{rewrite_prefix: /a}", .conflict, "routes[0].rewrite_prefix", 6, "match.path_prefix"),
        Fault(
            "{match: {path: /a}, rewrite_prefix: /b}", .conflict, "routes[0].rewrite_prefix", 6,
            "match.path_prefix"),
        Fault(
            "{match: {path_prefix: /a}, rewrite_prefix: b}", .wrongType, "routes[0].rewrite_prefix",
            6, "must start with /"),
        Fault(
            "{mirror: {sample_rate: 0.5}}", .conflict, "routes[0].mirror", 6, "no traffic_mirror"),
        Fault(
            "{mirror: {limits: {qps: 5}}}\ntraffic_mirror: {shadow: next}", .conflict,
            "routes[0].mirror.limits", 6, "holds for the whole shadow, not for one route"),
        Fault(
            "{mirror: {timeout_ms: 5}}\ntraffic_mirror: {shadow: next}", .conflict,
            "routes[0].mirror.timeout_ms", 6, "set it as traffic_mirror.timeout_ms"),
        Fault(
            "{mirror: {safety: {strip_fields: [a]}}}\ntraffic_mirror: {shadow: next}", .conflict,
            "routes[0].mirror.safety.strip_fields", 6, "holds for the whole shadow"),
        Fault(
            "{mirror: {primary: app}}\ntraffic_mirror: {shadow: next}", .conflict,
            "routes[0].mirror.primary", 6, "the whole of traffic_mirror"),
        Fault(
            "{mirror: {shadow: app}}\ntraffic_mirror: {shadow: next}", .undefinedName,
            "routes[0].mirror.shadow", 6, "its shadows are next"),
        Fault(
            "{mirror: {sample_rate: 2}}\ntraffic_mirror: {shadow: next}", .outOfRange,
            "routes[0].mirror.sample_rate", 6, "0 to 1"),
        Fault(
            "{mirror: {guard: {}}}\ntraffic_mirror: {shadow: next}", .conflict,
            "routes[0].mirror.guard", 6, "the whole of traffic_mirror"),
        Fault(
            "{mirror: true}\ntraffic_mirror: {shadow: next}", .wrongType, "routes[0].mirror", 6,
            "must be a mapping"),
    ])
    func routes(_ fault: Fault) { expect(fault, targets + "routes:\n  - " + fault.text + "\n") }

    @Test func methodsThatNoRequestMayHave() {
        let long = String(repeating: "M", count: HTTP.Limits.methodBytesMax)
        func codes(_ method: String) -> [DiagnosticCode] {
            lint(targets + "routes: [{match: {methods: [\(method)]}}]").errors.map(\.code)
        }
        #expect(codes(long) == [])
        #expect(codes(long + "M") == [.wrongType])
    }

    // MARK: Mirror

    @Test(arguments: [
        Fault("{primary: app}", .missingKey, "traffic_mirror.shadow", 5, "app, next"),
        Fault(
            "{primary: ap, shadow: next}", .undefinedName, "traffic_mirror.primary", 5,
            "did you mean app?"),
        Fault("{shadow: nexd}", .undefinedName, "traffic_mirror.shadow", 5, "did you mean next?"),
        Fault(
            "{shadow: next, shadows: [{shadow: next}]}", .conflict, "traffic_mirror.shadows", 5,
            "beside shadow"),
        Fault("{shadows: []}", .outOfRange, "traffic_mirror.shadows", 5, "no shadow"),
        Fault(
            "{shadows: [next]}",
            .wrongType, "traffic_mirror.shadows[0]", 5, "write {shadow: next}"),
        Fault(
            "{shadows: [{sample_rate: 1}]}", .missingKey, "traffic_mirror.shadows[0].shadow", 5,
            "required"),
        Fault(
            "{shadows: [{shadow: next}, {shadow: next}]}", .duplicate,
            "traffic_mirror.shadows[1].shadow", 5, "already"),
        Fault(
            "{shadows: [{shadow: next, primary: app}]}", .conflict,
            "traffic_mirror.shadows[0].primary", 5, "the whole of traffic_mirror"),
        Fault(
            "{shadows: [{shadow: next, limits: {qps: -1}}]}", .outOfRange,
            "traffic_mirror.shadows[0].limits.qps", 5, "from 0"),
        Fault("[{shadow: next}]", .wrongType, "traffic_mirror", 5, "must be a mapping, is a list"),
        Fault("{shadow: next, async: false}", .conflict, "traffic_mirror.async", 5, "never waits"),
        Fault(
            "{shadow: next, sample_rate: 1.5}", .outOfRange, "traffic_mirror.sample_rate", 5,
            "0 to 1"),
        Fault(
            "{shadow: next, sample_rate: 101%}", .outOfRange, "traffic_mirror.sample_rate", 5,
            "100%"),
        Fault(
            "{shadow: next, sample_rate: -0.1}", .outOfRange, "traffic_mirror.sample_rate", 5,
            "0 to 1"),
        Fault(
            "{shadow: next, sample_rate: 1e-10}", .outOfRange, "traffic_mirror.sample_rate", 5,
            "at least 1e-09"),
        Fault(
            "{shadow: next, limits: {qps: 1e-300}}", .outOfRange, "traffic_mirror.limits.qps", 5,
            "must be 0, or at least 0.001"),
        Fault(
            "{shadow: next, safety: {methods: GET}}", .wrongType, "traffic_mirror.safety.methods",
            5, "write [GET]"),
        Fault(
            "{shadow: next, sample_rate: nan}", .wrongType, "traffic_mirror.sample_rate", 5,
            "is nan"),
        Fault(
            "{shadow: next, sample_rate: .inf}", .wrongType, "traffic_mirror.sample_rate", 5,
            "is .inf"),
        Fault(
            "{shadow: next, sample_rate: 1e999}", .outOfRange, "traffic_mirror.sample_rate", 5,
            "0 to 1"),
        Fault(
            "{shadow: next, sample_rate: \"0.5\"}", .wrongType, "traffic_mirror.sample_rate", 5,
            "without quotes"),
        Fault(
            "{shadow: next, sample_by: header}", .wrongType, "traffic_mirror.sample_by", 5,
            "header:NAME"),
        Fault(
            "{shadow: next, sample_by: reqest}", .wrongType, "traffic_mirror.sample_by", 5,
            "did you mean request?"),
        Fault(
            "{shadow: next, sample_by: x-user-id}", .wrongType, "traffic_mirror.sample_by", 5,
            "did you mean header:x-user-id?"),
        Fault(
            "{shadow: next, sample_by: \"header:\"}", .wrongType, "traffic_mirror.sample_by", 5,
            "no name of a field"),
        Fault(
            "{shadow: next, sample_by: {header: x}}", .wrongType, "traffic_mirror.sample_by", 5,
            "write header:x-user-id"),
        Fault(
            "{shadow: next, timeout_ms: 0}", .outOfRange, "traffic_mirror.timeout_ms", 5,
            "from 1ms to 1h"),
        Fault(
            "{shadow: next, limits: {qps: lots}}", .wrongType, "traffic_mirror.limits.qps", 5,
            "a number"),
        Fault(
            "{shadow: next, limits: {qps: 1000001}}", .outOfRange, "traffic_mirror.limits.qps", 5,
            "1000000"),
        Fault(
            "{shadow: next, limits: {in_flight: 0}}", .outOfRange,
            "traffic_mirror.limits.in_flight", 5, "from 1"),
        Fault(
            "{shadow: next, safety: {methods: []}}", .outOfRange, "traffic_mirror.safety.methods",
            5, "names no method"),
        Fault(
            "{shadow: next, safety: {strip_fields: [host]}}", .outOfRange,
            "traffic_mirror.safety.strip_fields[0]", 5, "framing"),
        Fault(
            "{shadow: next, safety: {strip_fields: [\"a:\"]}}", .wrongType,
            "traffic_mirror.safety.strip_fields[0]", 5, "no name of a field"),
        Fault(
            "{shadow: next, safety: {strip_fields: [X], allow_fields: [x]}}", .conflict,
            "traffic_mirror.safety.allow_fields", 5, "keep one"),
        Fault(
            "{shadow: next, safety: {strip_query: [\"a=b\"]}}", .wrongType,
            "traffic_mirror.safety.strip_query[0]", 5, "query member"),
        Fault(
            "{shadow: next, breaker: {open: 1m, open_max: 1s}}", .conflict,
            "traffic_mirror.breaker.open", 5, "longer than open_max"),
        Fault(
            "{shadow: next, model_mapping: {a: [b]}}", .wrongType,
            "traffic_mirror.model_mapping.a", 5, "the name of a model"),
        Fault(
            "{shadow: next, model_mapping: {a: \"\"}}", .wrongType,
            "traffic_mirror.model_mapping.a", 5, "names no model"),
        Fault(
            "{shadow: next, capture_bytes: 2MiB}", .outOfRange, "traffic_mirror.capture_bytes",
            5, "to 1MiB"),
        Fault(
            "{shadow: next, compare_metrics: [latncy]}", .wrongType,
            "traffic_mirror.compare_metrics[0]", 5, "did you mean latency?"),
        Fault(
            "{shadow: next, mirror_target: next}", .conflict, "traffic_mirror.mirror_target", 5,
            "another name for shadow"),
        Fault(
            "{shadow: next, log_shadow_response: true, log_mirror_response: true}", .conflict,
            "traffic_mirror.log_mirror_response", 5, "another name for log_shadow_response"),
        Fault(
            "{shadow: next, tags: {model: x}}", .unknownKey, "traffic_mirror.tags.model", 5,
            "model_rev"),
        Fault(
            "{shadow: next, safety: {tools: forbid}}", .wrongType,
            "traffic_mirror.safety.tools", 5, "client"),
    ])
    func mirror(_ fault: Fault) { expect(fault, targets + "traffic_mirror: " + fault.text + "\n") }

    // MARK: All at once

    @Test func allFaultsAreReportedInOrder() {
        let result = lint(
            """
            versio: 1
            listen: nowhere
            limits:
              fields: 2
              head_bytes: big
            providers:
              targets:
                - {id: app, base_url: "http://a", base_ur: x}
                - {id: app, base_url: "http://u@b"}
            routes:
              - {match: {path: x, path_prefix: y}, target: nope}
            traffic_mirror: {shadow: nope, sample_rate: 7, guard: 1}
            """)
        let places = result.errors.map { "\($0.line) \($0.code.rawValue) \($0.path)" }
        #expect(
            places == [
                "1 E002 versio",
                "2 E011 listen",
                "4 E005 limits.fields",
                "5 E004 limits.head_bytes",
                "8 E002 providers.targets[0].base_ur",
                "9 E008 providers.targets[1].id",
                "9 E011 providers.targets[1].base_url",
                "11 E004 routes[0].match.path",
                "11 E009 routes[0].match.path_prefix",
                "11 E004 routes[0].match.path_prefix",
                "11 E006 routes[0].target",
                "12 E006 traffic_mirror.shadow",
                "12 E005 traffic_mirror.sample_rate",
                "12 E004 traffic_mirror.guard",
            ])
        #expect(result.errors[0].column == 1)
        #expect(result.errors[2].column == 11)
    }
}
