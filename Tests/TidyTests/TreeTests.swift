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

    @Test func thePackageKeepsItsChecks() throws {
        let manifest = try SourceTree.text("Package.swift")
        #expect(Manifest.faults(manifest) == [])
    }

    /// The rule sees each way to take the checks away, and lets the linker's flags pass.
    @Test(arguments: [
        ("swiftSettings: [.unsafeFlags([\"-Ounchecked\"])]", false),
        ("swiftSettings: [.unsafeFlags([\"-enforce-exclusivity=unchecked\"])]", false),
        ("cSettings: [.unsafeFlags([\"-O3\"])]", false),
        (".unsafeFlags([\"-O\"])", false),
        ("linkerSettings: [.linkedLibrary(\"m\")], swiftSettings: [.unsafeFlags([\"-O\"])]", false),
        ("linkerSettings: [.unsafeFlags([\"-O\"])]", false),
        (
            "linkerSettings: [.unsafeFlags([\"-Xlinker\", \"--defsym=a=b\", \"-assume-single\"])]",
            false
        ),
        ("linkerSettings: [.unsafeFlags(flags)]", false),
        ("linkerSettings: [.unsafeFlags([\"-Xlinker\", \"--defsym=a=b\"])]", true),
        ("linkerSettings: [.unsafeFlags([\"-static-stdlib\"])]", true),
        ("linkerSettings: [.unsafeFlags([\"-static-stdlib\", \"-O\"])]", false),
        (
            "linkerSettings: [\n    .unsafeFlags([\n \"-Xlinker\", \"-z\", \"-Xlinker\", \"now\",\n])]",
            true
        ),
        ("// unsafeFlags would take them away.", true),
        ("", true),
    ])
    func manifestRule(_ text: String, _ isKept: Bool) {
        let faults = Manifest.faults(text + "\n.treatAllWarnings(as: .error)")
        #expect(faults.isEmpty == isKept, "\(faults)")
    }

    @Test func aManifestWithoutWarningsAsErrorsIsFound() {
        #expect(Manifest.faults("let a = 1") == ["warnings are errors"])
    }

    @Test func theRulesKnowEveryTarget() throws {
        let targets = Manifest.targets(try SourceTree.text("Package.swift"))
        #expect(targets.count > 20)
        for name in targets {
            #expect(Rule.mayImport(name) != nil, "Rules.swift: target \(name)")
        }
        for name in Rule.order + Rule.besides.keys + Rule.tests.keys {
            #expect(targets.contains(name), "Rules.swift: there is no target \(name)")
        }
    }
}
