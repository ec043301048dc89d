import Configuration
import Testing

@Suite struct WarningsTests {
    @Test(
        arguments: [
            ("admin: {listen: \"[::]:9\", token: {env: T}}", nil, "", 0),
            (
                "traffic_mirror: {shadow: next, limits: {qps: 0}}", DiagnosticCode.neverMirrored,
                "traffic_mirror.shadow", 5
            ),
            (
                "traffic_mirror: {shadow: next, sample_rate: 0}", .neverMirrored,
                "traffic_mirror.shadow", 5
            ),
            (
                "traffic_mirror: {shadows: [{shadow: next, enabled: false}]}", .neverMirrored,
                "traffic_mirror.shadows[0].shadow", 5
            ),
            (
                "traffic_mirror: {shadow: next, enabled: false}\n"
                    + "routes: [{target: app, mirror: {enabled: true}}]",
                .neverMirrored, "traffic_mirror.enabled", 5
            ),
            (
                "traffic_mirror: {shadow: next}\nruntime: {blocks_on_loan_max: 32}", .tightMemory,
                "traffic_mirror.shadow", 5
            ),
            (
                "traffic_mirror: {shadow: next, guard: {}}", .blindGuard, "traffic_mirror.guard", 5
            ),
            (
                "traffic_mirror: {shadow: next, sample_by: header:x, sample_rate: 0.1, guard: {}}",
                .blindGuard, "traffic_mirror.guard", 5
            ),
            ("traffic_mirror: {shadow: next, sample_rate: 0.1, guard: {}}", nil, "", 0),
            ("runtime: {blocks_on_loan_max: 3000}", .tightMemory, "runtime.blocks_on_loan_max", 5),
            (
                "runtime: {blocks_per_worker: 3000, blocks_on_loan_max: 1501}", .tightMemory,
                "runtime.blocks_on_loan_max", 5
            ),
            ("runtime: {blocks_per_worker: 3000, blocks_on_loan_max: 1500}", nil, "", 0),
            // The default of blocks_on_loan_max follows.
            ("runtime: {blocks_per_worker: 3000}", nil, "", 0),
            ("runtime: {blocks_per_worker: 64}", nil, "", 0),
            ("listen: 127.0.0.1:0", .chosenPort, "listen", 5),
            ("listen: 0.0.0.0:9001", .unreachable, "providers.targets[0].base_url", 3),
            (
                "routes:\n  - {name: all, target: next}\n  - {match: {path: /a}, target: app}",
                .unreachable, "routes[1]", 7
            ),
            (
                "routes:\n  - {match: {path_prefix: /}, target: next}\n"
                    + "  - {match: {path: /a}, target: app}",
                .unreachable, "routes[1]", 7
            ),
            (
                "routes: [{match: {path_prefix: /a/*}, target: next}]", .unreachable,
                "routes[0].match.path_prefix", 5
            ),
            (
                "routes: [{match: {path_prefix: /a/}, rewrite_prefix: /b, target: next}]",
                .rewriteSlashes, "routes[0].rewrite_prefix", 5
            ),
            (
                "routes: [{match: {path_prefix: /a}, rewrite_prefix: /, target: next}]",
                .rewriteSlashes, "routes[0].rewrite_prefix", 5
            ),
            (
                "routes: [{match: {path_prefix: /a/}, rewrite_prefix: /b/, target: next}]", nil, "",
                0
            ),
        ] as [(String, DiagnosticCode?, String, Int)])
    func warnings(_ text: String, _ code: DiagnosticCode?, _ path: String, _ line: Int) {
        // Where the mirror does not use the second target, a route does.
        let uses =
            text.contains("next") ? "" : "\ntraffic_mirror: {shadow: next, max_body_bytes: 0}"
        let result = lint(targets + text + uses + "\n")
        let report = LintReport.text(result)
        #expect(result.settings != nil, "\(report)")
        #expect(result.diagnostics.map(\.code) == (code.map { [$0] } ?? []), "\(report)")
        #expect(result.diagnostics.map(\.path) == (code == nil ? [] : [path]), "\(report)")
        #expect(result.diagnostics.map(\.line) == (code == nil ? [] : [line]), "\(report)")
    }

    @Test func shadowsOfThemselves() {
        let primary = lint(targets + "traffic_mirror: {primary: app, shadow: app}\n")
        #expect(primary.warnings.map(\.code) == [.unreachable, .selfMirrored])
        let route = lint(
            targets
                + "traffic_mirror: {primary: app, shadow: next}\n"
                + "routes: [{match: {path: /}, target: next, mirror: {sample_rate: 1}}]\n"
        )
        #expect(route.warnings.map(\.code) == [.selfMirrored])
        #expect(route.warnings.map(\.path) == ["routes[0].mirror"])
    }

    @Test func unusedTargets() {
        let result = lint(targets)
        #expect(result.warnings.map(\.path) == ["providers.targets[1].base_url"])
        #expect(result.warnings.map(\.line) == [4])
    }

    /// Every request of it would be dropped as unmapped.
    @Test(arguments: [
        ("", true), (", model_mapping: {gpt: claude}", false),
        (", primary: claude", false), (", primary: site", false),
    ])
    func anotherAPIWithoutModels(_ keys: String, _ isWarned: Bool) {
        let shadow = keys.contains("claude}") || !keys.contains("primary") ? "claude" : "gpt"
        let text = """
            providers:
              targets:
                - {id: gpt, provider: openai}
                - {id: claude, provider: \(keys.contains("primary: claude") ? "openai" : "anthropic")}
                - {id: site, base_url: "http://127.0.0.1:9002"}
            traffic_mirror: {shadow: \(shadow)\(keys)}
            """
        let found = lint(text).warnings.filter {
            $0.code == .neverMirrored && $0.message.contains("another API")
        }
        #expect(found.count == (isWarned ? 1 : 0))
    }
}
