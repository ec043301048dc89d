/// One place that the style forbids.
struct Finding: Equatable, CustomStringConvertible {
    let path: String
    let line: Int
    let message: String

    var description: String { "\(path):\(line): \(message)" }
}

/// A rule of `CONTRIBUTING.md` that a program can check: all places of a file that break it.
struct Rule: Sendable, CustomStringConvertible {
    let name: String
    /// Whether it holds for the tests as well as for what ships.
    let coversTests: Bool
    let check: @Sendable (SourceFile) -> [Finding]

    var description: String { name }

    static let all = [
        imports, fileLength, functionLength, layout, bannedCalls, openEnds,
        documentation, names,
    ]

    /// Places that break a rule and may, each with its reason. A test fails where one is not
    /// needed.
    static let allowed: [(rule: String, path: String, reason: String)] = []
}

// MARK: Who may import whom

extension Rule {
    /// Each target may import what stands above it.
    static let order = [
        "CLinux", "CYAML", "COpenSSL", "CoreLoop", "HTTP", "Providers", "Policy", "Mock", "TLS",
        "EventLog", "Verdict", "Upstream", "Mirror", "Proxy", "Configuration", "Admin", "umbra",
    ]

    /// Targets outside the order, and all they may import.
    static let besides: [String: [String]] = [
        "Load": ["CLinux", "CoreLoop", "TLS"],
        "LoadTool": ["CLinux", "CoreLoop", "TLS", "Load"],
        "EventLogTool": ["CLinux", "CoreLoop", "EventLog", "Load"],
        "LatencyOverhead": ["CLinux", "CoreLoop", "Load"],
        "SamplingAccuracy": ["CLinux", "CoreLoop", "Load"],
        "AllocationCount": [],
        "HeadParse": ["AllocationCount", "CLinux", "CoreLoop", "HTTP"],
        "Translate": ["AllocationCount", "CLinux", "CoreLoop", "Providers"],
    ]

    /// What each test target may import of ours.
    static let tests: [String: [String]] = [
        "CoreLoopTests": ["CLinux", "CoreLoop"],
        "HTTPTests": ["CoreLoop", "HTTP"],
        "ProvidersTests": ["CoreLoop", "HTTP", "Providers"],
        "PolicyTests": ["CoreLoop", "Providers", "Policy"],
        "MockTests": ["CoreLoop", "Providers", "Mock"],
        "Certificates": ["TLS"],
        "TLSTests": ["CLinux", "Certificates", "CoreLoop", "TLS"],
        "EventLogTests": ["CLinux", "CoreLoop", "EventLog"],
        "VerdictTests": [
            "CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "EventLog", "Verdict",
        ],
        "LoadTests": ["CLinux", "CoreLoop", "TLS", "Load"],
        "UpstreamTests": ["CLinux", "CoreLoop", "Providers", "Upstream"],
        "MirrorTests": [
            "CLinux", "CoreLoop", "HTTP", "Providers", "TLS", "EventLog", "Verdict", "Upstream",
            "Mirror",
        ],
        "ProxyTests": [
            "CLinux", "Certificates", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog",
            "Verdict", "Upstream", "Mirror", "Proxy",
        ],
        "ConfigurationTests": [
            "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict", "Upstream",
            "Mirror", "Proxy", "Configuration",
        ],
        "AdminTests": [
            "CLinux", "CoreLoop", "HTTP", "Providers", "Policy", "TLS", "EventLog", "Verdict",
            "Upstream", "Mirror", "Proxy", "Configuration", "Admin",
        ],
        "SimulationTests": ["CLinux", "CoreLoop", "HTTP", "TLS", "Upstream", "Mirror", "Proxy"],
        "TidyTests": [],
    ]

    /// What belongs to the language or the C library, and everyone may import.
    static let common = ["Glibc", "Synchronization"]

    static func mayImport(_ target: String) -> [String]? {
        if let listed = besides[target] { return listed + common }
        // Built by a script of its own, as one module with the files of HTTP.
        if target == "Fuzz" { return common }
        if let listed = tests[target] { return listed + common + ["Foundation", "Testing"] }
        guard let place = order.firstIndex(of: target) else { return nil }
        // `umbra demo` brings its own load.
        return order[..<place] + common + (target == "umbra" ? ["Load"] : [])
    }

    static let imports = Rule(name: "imports", coversTests: true) { file in
        guard let allowed = mayImport(file.target) else {
            return [
                Finding(
                    path: file.path, line: 1,
                    message: "target \(file.target) has no place in the import order: Rules.swift")
            ]
        }
        var findings: [Finding] = []
        for (index, tokens) in file.tokens.enumerated() {
            guard let module = imported(tokens), !allowed.contains(module) else { continue }
            let message =
                module.hasPrefix("Foundation")
                ? "\(module) costs each process megabytes: use CLinux, Glibc, CoreLoop"
                : "\(file.target) may not import \(module), only \(allowed.joined(separator: ", "))"
            findings.append(Finding(path: file.path, line: index + 1, message: message))
        }
        return findings
    }

    /// The module that a line imports.
    private static func imported(_ tokens: [Substring]) -> String? {
        guard let place = tokens.firstIndex(of: "import") else { return nil }
        let before = Set(tokens[..<place].map(String.init))
        let modifiers: Set = [
            "@", "testable", "preconcurrency", "_exported", "public", "package",
            "internal", "private", "fileprivate",
        ]
        guard before.isSubset(of: modifiers) else { return nil }
        let kinds: Set<Substring> = [
            "struct", "class", "enum", "protocol", "func", "var", "let",
            "typealias",
        ]
        return tokens[(place + 1)...].first { !kinds.contains($0) }.map(String.init)
    }
}

// MARK: Lengths and layout

extension Rule {
    static let fileLinesMax = 500
    static let functionLinesMax = 70
    static let columnsMax = 100

    /// Lines with code count; comments are free, so that nobody cuts them to fit.
    static let fileLength = Rule(name: "file length", coversTests: false) { file in
        let lines = file.tokens.count { !$0.isEmpty }
        guard lines > fileLinesMax else { return [] }
        return [
            Finding(
                path: file.path, line: 1,
                message: "\(lines) lines of code, \(fileLinesMax) at most: one idea a file")
        ]
    }

    static let functionLength = Rule(name: "function length", coversTests: false) { file in
        FunctionSpan.all(in: file).filter { $0.lineCount > functionLinesMax }.map {
            Finding(
                path: file.path, line: $0.firstLine,
                message: "a function of \($0.lineCount) lines, \(functionLinesMax) at most")
        }
    }

    /// Lines that are text, not code: a literal from the first column on, a part of one of several
    /// lines, and in tests each row of a table that holds one.
    private static func isText(_ file: SourceFile, _ index: Int) -> Bool {
        let code = file.code[index].drop { $0 == " " }
        if code.isEmpty { return file.comments[index].allSatisfy { $0 == " " } }
        return code.hasPrefix("\"") || (file.folder == "Tests" && code.contains("\""))
    }

    static let layout = Rule(name: "layout", coversTests: true) { file in
        var findings: [Finding] = []
        for (index, line) in file.lines.enumerated() {
            func add(_ message: String) {
                findings.append(Finding(path: file.path, line: index + 1, message: message))
            }
            // Bytes first: only a line that may be too long is counted in characters.
            if line.utf8.count > columnsMax, line.count > columnsMax, !isText(file, index) {
                add("\(line.count) columns, \(columnsMax) at most")
            }
            if line.utf8.contains(9) { add("a tab: indent by four spaces") }
            if line.utf8.last == 32 || line.utf8.last == 13 { add("white space ends the line") }
        }
        if !file.endsWithNewline || file.lines.last?.isEmpty == true {
            findings.append(
                Finding(
                    path: file.path, line: max(1, file.lines.count),
                    message: "a file ends with one newline"))
        }
        return findings
    }
}

// MARK: Calls and words

extension Rule {
    /// A sequence of tokens that may not stand in code, and what to write instead.
    struct Ban: Sendable {
        let tokens: [Substring]
        let instead: String
        /// Targets (or all of `Benchmarks`) where it may stand.
        var exempt: [String] = []
        /// Whether `x.` may stand before it: then it is another thing of that name.
        var isFree = true
    }

    static let bans = [
        Ban(
            tokens: ["Date", "("], instead: "the turn's Instant, or WallClock for people"),
        Ban(
            tokens: ["print", "("], instead: "a counter or the access log; only commands print",
            exempt: ["umbra", "Benchmarks"]),
        Ban(tokens: ["try", "!"], instead: "a typed throw, or precondition with the reason"),
        Ban(tokens: ["as", "!"], instead: "as? with a guard"),
        Ban(tokens: ["fatalError", "(", ")"], instead: "fatalError with the reason in words"),
        Ban(
            tokens: ["preconditionFailure", "(", ")"],
            instead: "preconditionFailure with the reason in words"),
        Ban(tokens: ["Thread", ".", "sleep"], instead: "a timer of the wheel"),
        Ban(tokens: ["Task", ".", "sleep"], instead: "a timer of the wheel"),
    ]

    static let bannedCalls = Rule(name: "banned calls", coversTests: false) { file in
        var findings: [Finding] = []
        for ban in bans {
            if ban.exempt.contains(file.target) || ban.exempt.contains(file.folder) { continue }
            for (index, tokens) in file.tokens.enumerated() where contains(tokens, ban) {
                findings.append(
                    Finding(
                        path: file.path, line: index + 1,
                        message: "`\(ban.tokens.joined())` is banned: \(ban.instead)"))
            }
        }
        return findings
    }

    private static func contains(_ tokens: [Substring], _ ban: Ban) -> Bool {
        guard tokens.count >= ban.tokens.count else { return false }
        return (0...tokens.count - ban.tokens.count).contains { start in
            guard tokens[start] == ban.tokens[0],
                tokens[start...].starts(with: ban.tokens)
            else { return false }
            // A member or a declaration of that name is not the call that is meant.
            return start == 0 || (tokens[start - 1] != "." && tokens[start - 1] != "func")
        }
    }

    static let openEnds = Rule(name: "open ends", coversTests: true) { file in
        var findings: [Finding] = []
        for (index, comment) in file.comments.enumerated() where !comment.allSatisfy(\.isWhitespace)
        {
            let words = SourceFile.tokens(of: comment)
            for word in ["TODO", "FIXME"] where words.contains(Substring(word)) {
                findings.append(
                    Finding(
                        path: file.path, line: index + 1,
                        message: "\(word): do it now, or open an issue"))
            }
        }
        return findings
    }

    static let names = Rule(name: "names", coversTests: true) { file in
        let endings = ["Manager", "Helper", "Helpers", "Utils", "Util", "Utilities"]
        let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "actor", "typealias"]
        var findings: [Finding] = []
        func check(_ name: Substring, _ line: Int) {
            guard endings.contains(where: { name.hasSuffix($0) }) else { return }
            findings.append(
                Finding(
                    path: file.path, line: line,
                    message: "\(name) does not say what it is"))
        }
        let fileName = file.path.split(separator: "/").last ?? ""
        check(fileName.dropLast(".swift".count), 1)
        for (index, tokens) in file.tokens.enumerated() {
            for (kind, name) in zip(tokens, tokens.dropFirst()) where kinds.contains(kind) {
                check(name, index + 1)
            }
        }
        return findings
    }
}
