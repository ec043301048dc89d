/// What `Package.swift` has to keep.
enum Manifest {
    /// What takes checks away: preconditions stripped by `-Ounchecked`, exclusivity not enforced,
    /// and compiler flags that could do either. Linker flags may stand where each is one.
    static func faults(_ text: String) -> [String] {
        let file = SourceFile(path: "Package.swift", text: text)
        let tokens = file.tokens.flatMap { $0 }
        var faults: [String] = []
        for word in ["Ounchecked", "enforce-exclusivity", "remove-runtime-asserts"]
        where text.contains(word) { faults.append(word) }
        // The flags themselves are in strings, which tokens leave empty: they are read beside them.
        let flags = unsafeFlags(text)
        let places = tokens.count { $0 == "unsafeFlags" }
        if flags.count != places { faults.append("unsafeFlags without a list of literals") }
        for use in flags {
            if use.setting != "linkerSettings" {
                faults.append("unsafeFlags in \(use.setting)")
            } else if !isForTheLinkerAlone(use.flags) {
                faults.append("unsafeFlags \(use.flags)")
            }
        }
        if !text.contains(".treatAllWarnings(as: .error)") { faults.append("warnings are errors") }
        return faults
    }

    /// Pairs of `-Xlinker` and what it is to hand over, or which form of the runtime it links.
    private static func isForTheLinkerAlone(_ flags: [Substring]) -> Bool {
        if flags == ["-static-stdlib"] { return true }
        return flags.count % 2 == 0
            && stride(from: 0, to: flags.count, by: 2).allSatisfy { flags[$0] == "-Xlinker" }
    }

    /// Each `.unsafeFlags([…])` outside of comments: its flags, and the setting it stands in.
    private static func unsafeFlags(_ text: String) -> [(setting: Substring, flags: [Substring])] {
        let code = withoutComments(text)
        let settings = ["cSettings", "cxxSettings", "swiftSettings", "linkerSettings"]
        var uses: [(Substring, [Substring])] = []
        var setting: Substring = "no setting"
        var rest = code[...]
        while !rest.isEmpty {
            if let name = settings.first(where: { rest.hasPrefix($0 + ":") }) {
                setting = rest.prefix(name.count)
            }
            if rest.hasPrefix(".unsafeFlags(["), let end = rest.firstIndex(of: "]") {
                let list = rest[..<end].drop { $0 != "[" }.dropFirst()
                let pieces = list.split(separator: "\"", omittingEmptySubsequences: false)
                // Text and what stands between texts take turns.
                uses.append((setting, pieces.indices.filter { $0 % 2 == 1 }.map { pieces[$0] }))
                rest = rest[end...]
                continue
            }
            rest.removeFirst()
        }
        return uses
    }

    private static func withoutComments(_ text: String) -> String {
        let file = SourceFile(path: "Package.swift", text: text)
        return zip(file.lines, file.comments).map { line, comment in
            String(zip(line, comment).map { $1 == " " ? $0 : " " })
        }.joined(separator: "\n")
    }

    /// The folders of all targets, in order: a target's name where no path says otherwise.
    static func targets(_ text: String) -> [String] {
        let starts = [
            "        library(\"", "        tool(\"", "        tests(\"", "        counting(\"",
            "        .systemLibrary(name: \"",
            "            name: \"",
        ]
        return withoutComments(text).split(separator: "\n").compactMap { line in
            guard starts.contains(where: { line.hasPrefix($0) }) else { return nil }
            let pieces = line.split(separator: "\"", omittingEmptySubsequences: false)
            let path = pieces.firstIndex { $0.hasSuffix("path: ") }
            if let path { return pieces[path + 1].split(separator: "/").last.map(String.init) }
            return String(pieces[1])
        }
    }
}
