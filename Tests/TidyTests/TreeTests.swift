import Testing

/// The rules against the source tree. Each finding names its file and line.
@Suite struct TreeTests {
    @Test(arguments: Rule.all)
    func theTreeKeeps(rule: Rule) {
        for file in rule.coversTests ? SourceTree.files : SourceTree.shipped {
            if Rule.allowed.contains(where: { $0.rule == rule.name && $0.path == file.path }) {
                continue
            }
            for finding in rule.check(file) { Issue.record("\(finding)") }
        }
    }

    @Test func theTreeWasFound() {
        let paths = Set(SourceTree.files.map(\.path))
        #expect(paths.contains("Sources/CoreLoop/Ring.swift"))
        #expect(paths.contains("Tests/TidyTests/TreeTests.swift"))
        #expect(SourceTree.shipped.count < SourceTree.files.count)
    }

    @Test func everyAllowanceIsNeededAndSaysWhy() {
        for (name, path, reason) in Rule.allowed {
            let rule = Rule.all.first { $0.name == name }
            let file = SourceTree.files.first { $0.path == path }
            guard let rule, let file else {
                Issue.record("\(name) for \(path): no such rule or file")
                continue
            }
            #expect(!rule.check(file).isEmpty, "\(path) keeps \(name): take its allowance away")
            #expect(reason.count > 20, "\(path): say why")
        }
    }

    /// -Ounchecked strips preconditions, and unsafe flags may hide it.
    @Test func thePackageKeepsItsChecks() throws {
        let manifest = try SourceTree.text("Package.swift")
        for word in ["Ounchecked", "unsafeFlags", "enforce-exclusivity"] {
            #expect(!manifest.contains(word), "Package.swift: \(word)")
        }
        #expect(manifest.contains(".treatAllWarnings(as: .error)"))
    }
}
