import Configuration
import Foundation
import Proxy
import Testing

/// The repository's root.
let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

func exampleFiles() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root + "/examples")) ?? []
    return names.filter { $0.hasSuffix(".yaml") }.sorted().map { root + "/examples/" + $0 }
}

@Suite struct DocumentationTests {
    @Test func thereAreExamples() {
        let names = exampleFiles().map { URL(fileURLWithPath: $0).lastPathComponent }
        #expect(
            names.contains("plain-site.yaml") && names.contains("mirror.yaml")
                && names.contains("tutorial.yaml") && names.contains("tutorial-sampled.yaml")
                && names.contains("tutorial-staging.yaml")
                && names.contains("openai-compatible.yaml")
                && names.contains("several-shadows.yaml"))
    }

    @Test(arguments: exampleFiles())
    func examplesAreValidWithoutWarnings(_ file: String) {
        // Keys come with the place that a gateway runs at.
        for name in [
            "OPENAI_API_KEY", "OPENAI_API_KEY_STAGING", "ANTHROPIC_API_KEY", "UMBRA_KEY_TEAM",
            "UMBRA_KEY_BATCH",
        ] {
            setenv(name, "sk-test", 1)
        }
        let result = ConfigurationReader.readFile(file)
        // It is printed without a traffic_mirror: its second target gets nothing, and lint says so.
        let expected = file.hasSuffix("tutorial-staging.yaml") ? ["W004"] : []
        #expect(
            result.settings != nil && result.diagnostics.map(\.code.rawValue) == expected,
            "\(LintReport.text(result))")
    }

    // MARK: The schema against the reader

    /// A document in which the key at `path` is `value`, with what else it needs.
    private func document(_ path: String, _ value: String) -> String {
        let isSecure = path.hasPrefix("providers.targets[].tls")
        let pair = ["certificate: a.pem", "key: a.key"]
        let companions: [String: [String]] = [
            "providers.targets[]":
                (path.contains(".secret_key_ref") || path.hasSuffix("annotate_provider")
                || path.hasSuffix("max_tokens"))
                ? ["id: app", "provider: openai"]
                : path.contains(".azure")
                    ? [
                        "id: app", "provider: openai", "base_url: \"http://127.0.0.1:9001\"",
                    ]
                    : path.contains(".endpoints")
                        ? ["id: app"]
                        : [
                            "id: app",
                            "base_url: \"\(isSecure ? "https" : "http")://127.0.0.1:9001\"",
                        ],
            "providers.targets[].azure": ["deployment: d", "api_version: 2024-10-21"],
            "providers.targets[].endpoints[]": ["url: \"http://127.0.0.1:9001\""],
            "providers.targets[].health": ["path: /healthz"],
            "providers.targets[].tls":
                ["certificate", "key"].contains { path.hasSuffix($0) } ? pair : [],
            "listen[]": ["address: 127.0.0.1:9000"],
            "listen[].tls": path.hasPrefix("listen[].tls.certificates") ? [] : pair,
            "listen[].tls.certificates[]": pair,
            "listen[].tls.client_certificates": ["ca: clients.pem"],
            "traffic_mirror":
                path.hasPrefix("traffic_mirror.shadows[]") || path.hasSuffix("mirror_target")
                ? [] : ["shadow: next"],
            "auth.keys[]":
                path.hasSuffix("name")
                ? ["env: A"] : path.hasSuffix("keys") ? [] : ["name: team"],
            "pack": ["name: edge", "version: 1.0.0"],
            "providers":
                path == "providers.traffic_mirror"
                ? ["targets: [{id: app, base_url: \"http://127.0.0.1:9001\"}]"] : [],
            "policies[]": ["type: \(kind(path))"],
            "policies":
                path.hasSuffix("policies.chain")
                ? ["policy: {pii-detector: {}, content_filter: {}}"]
                : path.hasSuffix("policies.policy")
                    ? ["chain: [content_filter, pii-detector]"] : ["chain: [\(kind(path))]"],
            "traffic_mirror.shadows[]": ["shadow: next"],
            "routes[]": path.hasSuffix("rewrite_prefix") ? ["match: {path_prefix: /a/}"] : [],
        ]
        var text = value
        var parts = path.split(separator: ".").map(String.init)
        while let part = parts.popLast() {
            let parent = parts.joined(separator: ".")
            let isEntry = part.hasSuffix("[]")
            let name = part == "*" ? "x-a" : isEntry ? String(part.dropLast(2)) : part
            let member = "\(name): \(isEntry ? "[\(text)]" : text)"
            if parts.isEmpty {
                text = member
            } else {
                let others = (companions[parent] ?? []).filter {
                    !$0.hasPrefix(name + ":")
                        && !(member.hasPrefix("shadows: ") && parent == "traffic_mirror"
                            && $0.hasPrefix("shadow:"))
                }
                text = "{\((others + [member]).joined(separator: ", "))}"
            }
        }
        let canary = "    - {id: canary, base_url: \"http://127.0.0.1:9004\"}\n"
        if !path.hasPrefix("providers") { text = targets + canary + text }
        if path.hasPrefix("routes[].mirror") { text += "\ntraffic_mirror: {shadow: next}" }
        return text + "\n"
    }

    /// The kind of policy that has the key at `path`.
    private func kind(_ path: String) -> String {
        let isAudit = ["immutable", "retention_days", "log_all_access", "audit-logger"].contains {
            path.hasSuffix($0)
        }
        if isAudit { return "audit-logger" }
        return path.contains("detect") ? "pii-detector" : "content_filter"
    }

    @Test(arguments: Schema.keys)
    func examplesOfKeysAreAccepted(_ key: SchemaKey) {
        let result = lint(document(key.path, key.example))
        #expect(result.settings != nil, "\(key.path): \(LintReport.text(result))")
    }

    /// A mapping, list or text of a wrong kind is refused for every key: each is really read.
    @Test(arguments: Schema.keys)
    func everyKeyIsRead(_ key: SchemaKey) {
        let result = lint(document(key.path, "[[\"\\u0007\"]]"))
        #expect(
            result.errors.contains {
                $0.path.replacing("[0]", with: "[]").hasPrefix(key.path.replacing("*", with: "x-a"))
            },
            "\(key.path): \(LintReport.text(result))")
    }

    /// What a key's scope says is what the reader does, in an entry of `shadows` and in a route.
    @Test(arguments: Schema.keys.filter { $0.scope != nil })
    func scopesOfMirrorKeys(_ key: SchemaKey) {
        let rest = String(key.path.dropFirst("traffic_mirror".count))
        guard rest != ".shadow" else { return }
        let inEntry = lint(document("traffic_mirror.shadows[]" + rest, key.example))
        let inRoute = lint(document("routes[].mirror" + rest, key.example))
        let conflict = [DiagnosticCode.conflict]
        #expect(
            inEntry.errors.map(\.code) == (key.scope == .block ? conflict : []),
            "\(LintReport.text(inEntry))")
        #expect(
            inRoute.errors.map(\.code) == (key.scope == .route ? [] : conflict),
            "\(LintReport.text(inRoute))")
    }

    /// Written out, a default changes nothing.
    @Test(arguments: Schema.keys.filter { $0.standard != "–" })
    func defaultsAreThoseOfTheSettings(_ key: SchemaKey) {
        let described = [
            "routes[].name", "routes[].target", "routes[].mirror.shadow", "traffic_mirror.primary",
            "providers.targets[].retries.attempts", "providers.targets[].annotate_provider",
            "providers.targets[].max_tokens", "policies[].name", "policies[].action",
            "policies[].patterns", "policies.policy.content_filter.patterns", "event_log",
        ]
        guard !described.contains(key.path) else { return }
        let written = lint(document(key.path, key.standard))
        // The same document with the key left out: its parents stay where they are.
        let parent = key.path.lastIndex(of: ".").map { String(key.path[..<$0]) }
        let needed = [
            "traffic_mirror": "{shadow: next}",
            "providers.targets[]": "{id: app, base_url: \"http://127.0.0.1:9001\"}",
            "providers.targets[].endpoints[]": "{url: \"http://127.0.0.1:9001\"}",
            "listen[]": "{address: 127.0.0.1:9000}",
            "providers.targets[].health": "{path: /healthz}",
            "listen[].tls": "{certificate: a.pem, key: a.key}",
            "listen[].tls.client_certificates": "{ca: clients.pem}",
            "pack": "{name: edge, version: 1.0.0}",
            "policies[]": "{type: \(kind(key.path))}",
        ]
        let bare = parent.map { needed[$0] ?? "{}" }
        let without = lint(
            parent.map { document($0, bare!) } ?? targets
                + "    - {id: canary, base_url: \"http://127.0.0.1:9004\"}\n")
        #expect(written.settings != nil, "\(key.path): \(LintReport.text(written))")
        #expect(written.settings == without.settings, "\(key.path)")
    }

    // MARK: docs/configuration.md

    private static let blocks = [
        "general", "runtime", "limits", "forwarding", "resolver", "providers", "routes",
        "traffic_mirror", "policies", "log", "access_log", "event_log",
    ]

    private func table(_ name: String) -> [String] {
        if name == "codes" {
            return ["| Code | Means |", "|---|---|"]
                + DiagnosticCode.allCases.map { "| \($0.rawValue) | \($0.meaning) |" }
        }
        let keys = Schema.keys.filter { key in
            let block = String(key.path.prefix { $0 != "." && $0 != "[" })
            return Self.blocks.contains(block) ? block == name : name == "general"
        }
        let isMirror = name == "traffic_mirror"
        let head =
            isMirror
            ? "| Key | Value | Default | Example | Also in | Meaning |"
            : "| Key | Value | Default | Example | Meaning |"
        return [head, isMirror ? "|---|---|---|---|---|---|" : "|---|---|---|---|---|"]
            + keys.map { key in
                let standard = key.standard == "–" ? "–" : "`\(key.standard)`"
                let also =
                    switch key.scope {
                    case .shadow: " `shadows[]` |"
                    case .route: " `shadows[]`, `routes[].mirror` |"
                    case .block: " – |"
                    case nil: isMirror ? " – |" : ""
                    }
                return
                    "| `\(key.path)` | \(key.type.text) | \(standard) | `\(key.example)` |"
                    + "\(also) \(key.meaning) |"
            }
    }

    /// The page with its tables written anew between `<!-- table: NAME -->` and `<!-- end -->`.
    private func renewed(_ page: String) -> (page: String, tables: [String]) {
        var lines: [Substring] = []
        var names: [String] = []
        var skipping = false
        for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == "<!-- end -->" { skipping = false }
            if !skipping { lines.append(line) }
            if line.hasPrefix("<!-- table: ") {
                let name = String(line.dropFirst("<!-- table: ".count).dropLast(" -->".count))
                names.append(name)
                lines += table(name).map { $0[...] }
                skipping = true
            }
        }
        return (lines.joined(separator: "\n"), names)
    }

    /// `UMBRA_WRITE_DOCS=1 swift test --filter ConfigurationTests` writes the tables.
    @Test func pageHasEveryKey() throws {
        let path = root + "/docs/configuration.md"
        let page = try String(contentsOfFile: path, encoding: .utf8)
        let renewed = renewed(page)
        #expect(renewed.tables.sorted() == (Self.blocks + ["codes"]).sorted())
        if ProcessInfo.processInfo.environment["UMBRA_WRITE_DOCS"] == "1" {
            try renewed.page.write(toFile: path, atomically: true, encoding: .utf8)
        } else {
            #expect(
                page == renewed.page,
                "not what the schema says: write it anew with UMBRA_WRITE_DOCS=1"
            )
        }
    }

    /// Each YAML block of the page is a document, or a part of one that two targets complete.
    @Test func pagesExamplesAreValid() throws {
        let page = try String(contentsOfFile: root + "/docs/configuration.md", encoding: .utf8)
        let parts = page.components(separatedBy: "```yaml\n").dropFirst().map {
            $0.components(separatedBy: "```")[0]
        }
        #expect(parts.count >= 5)
        for part in parts {
            let text = part.contains("providers:") ? part : targets + part
            let result = lint(text)
            #expect(result.settings != nil, "\(part)\n\(LintReport.text(result))")
        }
    }
}
