import Configuration
import EventLog
import Mirror
import Policy
import Proxy
import Testing
import Upstream

/// The document of the tutorial and the one of the reference pages, with all that they share.
@Suite struct GatewayFormsTests {
    private static let models = """
        providers:
          targets:
            - {id: openai, provider: openai}
            - {id: anthropic, provider: anthropic}

        """

    /// Warnings, but for the one that a second target gets no requests.
    private func warnings(_ result: ConfigurationResult) -> [String] {
        result.warnings.filter { $0.code != .unreachable }.map { "\($0.code.rawValue) \($0.path)" }
    }

    // MARK: traffic_mirror

    @Test func theTutorialsMirror() throws {
        let read = try settings(
            Self.models + """
                traffic_mirror:
                  enabled: true
                  primary: openai
                  shadow: anthropic
                  model_mapping:
                    gpt-4o-mini: claude-sonnet-4-20250514
                    gpt-4o: claude-opus-4
                  sample_rate: 1.0
                  async: true
                  log_shadow_response: true
                  compare_metrics: [latency, content_similarity]
                """)
        let shadow = try #require(read.shadows.first)
        #expect(shadow.modelMapping["gpt-4o-mini"] == "claude-sonnet-4-20250514")
        #expect(shadow.modelMapping["gpt-4o"] == "claude-opus-4")
        #expect(shadow.mappedModels == ["gpt-4o-mini", "gpt-4o"])
        #expect(shadow.logsResponse && !read.logsPrimaryResponse)
        #expect(read.compareMetrics == [.latency, .contentSimilarity])
        #expect(shadow.timeoutMs == 60_000)
        #expect(read.eventLog == EventLogSettings())
    }

    /// The reference's names, under `providers`.
    @Test func theOtherForm() throws {
        let text = """
            providers:
              targets: [{id: a, provider: openai}, {id: b, provider: openai}]
              traffic_mirror: {enabled: true, mirror_target: b, log_mirror_response: true,
                               timeout_ms: 5000, capture_bytes: 4KiB}
            """
        let read = try settings(text)
        #expect(read.mirrorEnabled && read.shadows.map(\.targetID) == ["b"])
        #expect(read.routes[0].target == 0)
        let shadow = read.shadows[0]
        #expect(shadow.logsResponse && shadow.timeoutMs == 5_000)
        #expect(shadow.captureBytes == 4_096 && read.captureBytes == 4_096)
        let silent = lint(text.replacing("enabled: true, ", with: ""))
        #expect(silent.settings?.mirrorEnabled == false)
        #expect(silent.warnings.map(\.code) == [.neverMirrored])
    }

    @Test func anEntryOfShadowsHasItsOwnModels() throws {
        let read = try settings(
            Self.models + """
                traffic_mirror:
                  model_mapping: {a: b}
                  shadows: [{shadow: anthropic, model_mapping: {c: d}}, {shadow: openai}]
                """)
        #expect(read.shadows.map(\.modelMapping) == [["c": "d"], ["a": "b"]])
        #expect(read.shadows.map(\.mappedModels) == [["c"], ["a"]])
    }

    @Test func timeoutsFollowTheKindOfShadow() throws {
        func timeouts(_ rest: String) throws -> [Int] {
            try settings(
                "providers: {targets: [{id: m, provider: openai}, {id: s, base_url: http://h}]}\n"
                    + "traffic_mirror: " + rest
            ).shadows.map(\.timeoutMs)
        }
        #expect(try timeouts("{primary: s, shadow: m}") == [60_000])
        #expect(try timeouts("{primary: m, shadow: s}") == [5_000])
        #expect(
            try timeouts("{timeout_ms: 7, shadows: [{shadow: m}, {shadow: s, timeout_ms: 8}]}") == [
                7, 8,
            ])
    }

    // MARK: Policies

    @Test func theListOfPolicies() throws {
        let read = try settings(
            Self.models + """
                policies:
                  - {name: people, type: pii_detector, action: block, detect: [email, secret]}
                  - {name: content-filter, type: content_filter, action: flag}
                  - {name: words, type: content-filter, action: block,
                     patterns: [Project Falcon, {regex: "a+b"}]}
                  - {type: audit-logger, immutable: false, retention_days: 30, log_all_access: true}
                """)
        var people = PIISettings()
        people.action = .block
        people.kinds = [.email, .secret]
        var words = ContentFilterSettings()
        words.action = .block
        words.patterns = [.literal("Project Falcon"), .expression("a+b")]
        #expect(
            read.policies == [
                PolicySettings(name: "people", kind: .piiDetector(people)),
                PolicySettings(
                    name: "content-filter", kind: .contentFilter(ContentFilterSettings())),
                PolicySettings(name: "words", kind: .contentFilter(words)),
                PolicySettings(name: "audit-logger", kind: .auditLogger),
            ])
        var log = EventLogSettings()
        log.isImmutable = false
        log.retentionDays = 30
        log.logsAllAccess = true
        #expect(read.eventLog == log)
    }

    @Test func theChainOfPolicies() throws {
        let read = try settings(
            targets + """
                pack: {name: p, version: 1.0.0, enabled: true, id: x, author: y, description: z}
                policies:
                  chain: [audit-logger, pii-detector, content-filter]
                  policy:
                    content_filter: {action: block}
                    audit-logger: {immutable: true, retention_days: 365, log_all_access: true}
                    pii_detector: {}
                """)
        #expect(read.pack == PackSettings(name: "p", version: "1.0.0"))
        #expect(read.policies.map(\.name) == ["audit-logger", "pii-detector", "content_filter"])
        // An audit-logger has a log even without LLM targets.
        #expect(read.eventLog?.logsAllAccess == true)
    }

    @Test func aPackThatIsOffHasNoPolicies() throws {
        let result = lint(
            Self.models + """
                pack: {name: p, version: 1.0.0, enabled: false}
                policies: [{type: content_filter}, {type: audit-logger, retention_days: 3}]
                """)
        #expect(result.settings?.policies.isEmpty == true)
        #expect(result.settings?.eventLog?.retentionDays == 365)
        #expect(warnings(result) == ["W009 pack.enabled"])
    }

    @Test func eventsAreLoggedWhereThereIsAProvider() throws {
        #expect(try settings(targets).eventLog == nil)
        #expect(try settings(Self.models).eventLog == EventLogSettings())
        #expect(try settings(Self.models + "event_log: off").eventLog == nil)
        let laid = try settings(
            Self.models + """
                event_log: {directory: d, retention_days: 9}
                policies: [{type: audit-logger, immutable: false}]
                """)
        #expect(laid.eventLog?.directory == "d" && laid.eventLog?.retentionDays == 9)
        #expect(laid.eventLog?.isImmutable == false)
    }

    @Test(
        arguments: [
            ("policies: [{type: content_filtr}]", .unknownKind, "policies[0].type", "did you mean"),
            ("policies: [{type: x}]", .unknownKind, "policies[0].type", "there are content_filter"),
            ("policies: [{name: x}]", .missingKey, "policies[0].type", "content_filter"),
            ("policies: x", .wrongType, "policies", "write [{type"),
            (
                "policies: [{type: content_filter, patern: [a]}]", .unknownKey,
                "policies[0].patern", "did you mean patterns?"
            ),
            (
                "policies: [{type: content_filter, action: redact}]", .wrongType,
                "policies[0].action", "knows flag and block"
            ),
            (
                "policies: [{type: content_filter, detect: [email]}]", .conflict,
                "policies[0].detect", "is a key of pii-detector"
            ),
            (
                "policies: [{type: pii-detector, detect: [emails]}]", .wrongType,
                "policies[0].detect[0]", "did you mean email?"
            ),
            (
                "policies: [{type: pii-detector, detect: []}]", .outOfRange,
                "policies[0].detect", "names nothing"
            ),
            (
                "policies: [{type: content_filter, patterns: []}]", .outOfRange,
                "policies[0].patterns", "nothing to look for"
            ),
            (
                "policies: [{type: content_filter, patterns: [\"\"]}]", .wrongType,
                "policies[0].patterns[0]", "everywhere"
            ),
            (
                "policies: [{type: content_filter}, {type: content_filter}]", .duplicate,
                "policies[1]", "give it another name"
            ),
            (
                "policies: [{type: audit-logger, retention_days: 0}]", .outOfRange,
                "policies[0].retention_days", "from 1 to 36500"
            ),
            (
                "policies: {chain: [audit-logger]}", .chainedWithoutBlock, "policies.chain[0]",
                "add policy: {audit-logger: {}}"
            ),
            (
                "policies: {chain: [audit-loger], policy: {audit-logger: {}}}", .unknownKind,
                "policies.chain[0]", "did you mean audit-logger?"
            ),
            (
                "policies: {chain: [], policy: {audit-loger: {}}}", .unknownKind,
                "policies.policy.audit-loger", "did you mean audit-logger?"
            ),
            (
                "policies: {chain: [audit-logger], policy: {audit-logger: {imutable: true}}}",
                .unknownKey, "policies.policy.audit-logger.imutable", "did you mean immutable?"
            ),
            ("policies: {policy: {}}", .missingKey, "policies.chain", "in their order"),
            (
                "policies: {chain: [pii-detector, pii_detector], policy: {pii-detector: {}}}",
                .duplicate, "policies.chain[1]", "already"
            ),
            (
                "event_log: off\npolicies: [{type: audit-logger}]", .conflict, "policies[0]",
                "event_log: off"
            ),
            (
                "event_log: {immutable: true}\npolicies: [{type: audit-logger, immutable: false}]",
                .conflict, "event_log.immutable", "something else"
            ),
            (
                "audit-logger: {immutable: true}", .unknownKey, "audit-logger",
                "did you mean policies.policy.audit-logger?"
            ),
            ("pack: {name: a}", .missingKey, "pack.version", "1.0.0"),
            ("pack: {version: 1.0.0}", .missingKey, "pack.name", "name"),
            ("pack: {name: a, version: 1.0}", .wrongType, "pack.version", "1.0.0"),
            ("pack: {name: a, version: 01.0.0}", .wrongType, "pack.version", "semver"),
            ("pack: {name: a, version: 1.0.0-01}", .wrongType, "pack.version", "semver"),
            (
                "pack: {name: \(String(repeating: "a", count: 201)), version: 1.0.0}", .outOfRange,
                "pack.name", "has 201"
            ),
        ] as [(String, DiagnosticCode, String, String)])
    func faults(_ text: String, _ code: DiagnosticCode, _ path: String, _ says: String) {
        let result = lint(Self.models + text + "\n")
        let report = LintReport.text(result)
        #expect(result.errors.map(\.code) == [code], "\(report)")
        #expect(result.errors.map(\.path) == [path], "\(report)")
        #expect(report.contains(says), "\(report)")
    }

    @Test(arguments: ["0.0.0", "10.20.30", "1.0.0-alpha.1", "1.0.0-0a+001.b", "1.0.0+20130313"])
    func semanticVersions(_ version: String) throws {
        #expect(
            try settings(targets + "pack: {name: a, version: \"\(version)\"}").pack?.version
                == version)
    }

    @Test func aBlockThatIsNotChainedIsToldOf() {
        let result = lint(
            Self.models + "policies: {chain: [], policy: {content_filter: {action: block}}}")
        #expect(warnings(result) == ["W009 policies.policy.content_filter"])
        #expect(result.settings?.policies.isEmpty == true)
    }

    /// Nothing but a detector takes anything out of what is stored.
    @Test(arguments: [
        ("[]", true), ("[{type: content_filter, patterns: [x]}]", true),
        ("[{type: pii-detector, action: redact}]", false),
        ("[{type: content_filter, patterns: [x]}, {type: pii-detector, action: block}]", false),
    ])
    func textsThatAreStoredRawAreToldOf(_ policies: String, _ isTold: Bool) {
        for isLogged in [true, false] {
            let result = lint(
                Self.models + "policies: \(policies)\ntraffic_mirror: {shadow: anthropic, "
                    + "log_primary_response: \(isLogged)}\n")
            let told = result.warnings.filter { $0.code == .rawTexts }.map(\.path)
            #expect(told == (isTold && isLogged ? ["traffic_mirror.log_primary_response"] : []))
        }
    }

    @Test func policiesWithoutAProviderAreToldOf() {
        let result = lint(targets + "policies: [{type: content_filter}]")
        #expect(result.warnings.map(\.code).contains(.withoutEffect))
    }

    // MARK: auth

    @Test func keysOfClients() throws {
        let read = try settings(
            targets + "auth: {keys: [{name: team, env: UMBRA_A}, {name: ci, file: k}]}")
        #expect(
            read.auth?.keys == [
                AuthSettings.Key(name: "team", source: .variable("UMBRA_A")),
                AuthSettings.Key(name: "ci", source: .file("k")),
            ])
        #expect(try settings(targets + "auth: none").auth == nil)
    }

    @Test(
        arguments: [
            ("auth: {}", .missingKey, "auth.keys"),
            ("auth: {keys: []}", .outOfRange, "auth.keys"),
            ("auth: {keys: [{env: A}]}", .missingKey, "auth.keys[0].name"),
            ("auth: {keys: [{name: a}]}", .missingKey, "auth.keys[0].env"),
            ("auth: {keys: [{name: a b, env: A}]}", .wrongType, "auth.keys[0].name"),
            ("auth: {keys: [{name: a, env: A, file: b}]}", .conflict, "auth.keys[0].env"),
            (
                "auth: {keys: [{name: a, env: A}, {name: a, env: B}]}", .duplicate,
                "auth.keys[1].name"
            ),
            ("auth: t0psecret", .wrongType, "auth"),
            ("auth: {keys: [t0psecret]}", .wrongType, "auth.keys[0]"),
            (
                "auth: {keys: [{name: a, env: t0psecret-0123456789abcdef}]}", .wrongType,
                "auth.keys[0].env"
            ),
        ] as [(String, DiagnosticCode, String)])
    func faultsOfAuth(_ text: String, _ code: DiagnosticCode, _ path: String) {
        let result = lint(targets + text + "\n")
        let report = LintReport.text(result)
        #expect(result.errors.map(\.code) == [code], "\(report)")
        #expect(result.errors.map(\.path) == [path], "\(report)")
        #expect(!report.contains("t0psecret"), "\(report)")
    }

    /// Where other machines reach LLM targets, the document has to say who may use them.
    @Test(
        arguments: [
            ("listen: 0.0.0.0:8080", false), ("listen: \"[::]:8080\"", false),
            ("listen: [127.0.0.1:8080, 10.0.0.1:8080]", false), ("listen: 127.0.0.1:8080", true),
            ("listen: unix:/run/u.sock", true), ("listen: 0.0.0.0:8080\nauth: none", true),
            ("listen: 0.0.0.0:8080\nauth: {keys: [{name: a, env: A}]}", true),
        ])
    func openGateways(_ text: String, _ isFit: Bool) {
        let result = lint(Self.models + text)
        #expect(result.errors.map(\.code) == (isFit ? [] : [.openGateway]))
        // Plain services need none.
        #expect(lint(targets + text).errors.isEmpty)
    }
}
