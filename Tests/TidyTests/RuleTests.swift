import Testing

/// Each rule on small texts: what it finds, and what it must leave alone.
@Suite struct RuleTests {
    struct Row: CustomTestStringConvertible, Sendable {
        var rule: Rule
        var path = "Sources/CoreLoop/A.swift"
        var text: String
        /// The lines that are found.
        var lines: [Int]
        var testDescription: String { "\(rule.name): \(text.prefix(60))" }
    }

    static let importRows: [Row] = [
        Row(rule: .imports, text: "import CLinux\npublic import Synchronization\n", lines: []),
        Row(rule: .imports, text: "import HTTP\n", lines: [1]),
        Row(rule: .imports, text: "\n@testable import struct Mirror.Sampler\n", lines: [2]),
        Row(rule: .imports, text: "@preconcurrency public import Foundation\n", lines: [1]),
        Row(rule: .imports, text: "import FoundationEssentials\n", lines: [1]),
        Row(
            rule: .imports, text: "// import HTTP\nlet a = \"\"\"\n  import HTTP\n  \"\"\"\n",
            lines: []),
        Row(
            rule: .imports, path: "Sources/Mirror/A.swift", text: "import Proxy\nimport HTTP\n",
            lines: [1]),
        Row(
            rule: .imports, path: "Sources/umbra/A.swift", text: "import Admin\nimport Load\n",
            lines: []),
        Row(
            rule: .imports, path: "Sources/Admin/A.swift", text: "import Load\nimport Proxy\n",
            lines: [1]),
        Row(
            rule: .imports, path: "Benchmarks/Load/A.swift", text: "import HTTP\nimport CoreLoop\n",
            lines: [1]),
        Row(
            rule: .imports, path: "Benchmarks/HeadParse/A.swift",
            text: "import HTTP\nimport Load\n",
            lines: [2]),
        Row(
            rule: .imports, path: "Tests/HTTPTests/A.swift",
            text: "import Testing\nimport Foundation\n@testable import HTTP\nimport Mirror\n",
            lines: [4]),
        Row(rule: .imports, path: "Tests/UnknownTests/A.swift", text: "import Glibc\n", lines: [1]),
        Row(rule: .imports, path: "Sources/Unknown/A.swift", text: "import Glibc\n", lines: [1]),
    ]

    private static let long = String(repeating: "x", count: 100)

    static let layoutRows: [Row] = [
        Row(rule: .layout, text: String(repeating: "x", count: 100) + "\n", lines: []),
        Row(rule: .layout, text: "\n" + String(repeating: "x", count: 101) + "\n", lines: [2]),
        Row(rule: .layout, text: String(repeating: "ü", count: 100) + "\n", lines: []),
        Row(
            rule: .layout, path: "Tests/XTests/A.swift", text: "x(\"\(long)\")\n// \(long)\n",
            lines: [2]),
        Row(rule: .layout, text: "x(\"\(long)\")\n", lines: [1]),
        Row(rule: .layout, text: "    \"\(long)\"\n", lines: []),
        Row(rule: .layout, text: "x(\"\"\"\n  \(long)\n  \"\"\")\n// \(long)\n", lines: [4]),
        Row(rule: .layout, text: "a\n\tb\n", lines: [2]),
        Row(rule: .layout, text: "a \nb\n", lines: [1]),
        Row(rule: .layout, text: "a\r\nb\n", lines: [1]),
        Row(rule: .layout, text: "a\nb", lines: [2]),
        Row(rule: .layout, text: "a\n\n", lines: [2]),
        Row(rule: .fileLength, text: String(repeating: "a\n", count: 500), lines: []),
        Row(rule: .fileLength, text: String(repeating: "a\n", count: 501), lines: [1]),
        Row(rule: .fileLength, text: String(repeating: "a\n// b\n\n", count: 500), lines: []),
    ]

    static let callRows: [Row] = [
        Row(rule: .bannedCalls, text: "let d = Date()\n", lines: [1]),
        Row(rule: .bannedCalls, text: "let d = HTTPDate(1)\nlet e = x.Date(1)\n", lines: []),
        Row(
            rule: .bannedCalls, text: "print(1)\nx.print(1)\nfunc print(a: Int) {}\n", lines: [1]),
        Row(rule: .bannedCalls, text: "// print(1)\nlet a = \"print(1)\"\n", lines: []),
        Row(rule: .bannedCalls, text: "let a = \"\\(f(print(1)))\"\n", lines: [1]),
        Row(rule: .bannedCalls, path: "Sources/umbra/A.swift", text: "print(1)\n", lines: []),
        Row(
            rule: .bannedCalls, path: "Benchmarks/Load/A.swift", text: "print(1)\n", lines: []),
        Row(
            rule: .bannedCalls, text: "try! f()\ntry f()\ntry? f()\nlet a = b as! C\n",
            lines: [1, 4]),
        Row(rule: .bannedCalls, text: "fatalError()\nfatalError(\"why\")\n", lines: [1]),
        Row(rule: .bannedCalls, text: "Thread.sleep(forTimeInterval: 1)\n", lines: [1]),
        Row(
            rule: .openEnds, text: "// TODO: later\nlet TODO = 1\n/* FIXME */\n// TODOs\n",
            lines: [1, 3]),
        Row(rule: .openEnds, path: "Tests/X/A.swift", text: "let a = 1 // TODO\n", lines: [1]),
        Row(
            rule: .names, text: "struct PoolManager {}\nfinal class A {}\nenum StringUtils {}\n",
            lines: [1, 3]),
        Row(
            rule: .names, path: "Sources/CoreLoop/TestHelper.swift", text: "struct Managers {}\n",
            lines: [1]),
        Row(rule: .names, text: "let manager = 1 // struct AManager\n", lines: []),
    ]

    static let documentationRows: [Row] = [
        Row(rule: .documentation, text: "public struct A {}\n", lines: [1]),
        Row(rule: .documentation, text: "/// An A.\npublic struct A {}\n", lines: []),
        Row(rule: .documentation, text: "/// An A.\n@inlinable\npublic func a() {\n}\n", lines: []),
        Row(
            rule: .documentation, text: "@inlinable @inline(__always)\npublic func a() {}\n",
            lines: [2]),
        Row(rule: .documentation, text: "@inlinable public static var a: Int { 1 }\n", lines: [1]),
        Row(rule: .documentation, text: "    public private(set) var a = 1\n", lines: [1]),
        Row(rule: .documentation, text: "/// An A.\n\npublic struct A {}\n", lines: [3]),
        Row(rule: .documentation, text: "// An A.\npublic struct A {}\n", lines: [2]),
        // One comment for a group of lines, ended by a blank one or a body.
        Row(
            rule: .documentation,
            text: "/// Two.\npublic let a = 1\npublic let b = 2\n\npublic let c = 3\n",
            lines: [5]),
        Row(
            rule: .documentation, text: "/// A.\npublic struct A {\n    public let a = 1\n}\n",
            lines: [3]),
        Row(
            rule: .documentation, text: "public init() {}\npublic init(rawValue: Int) {\n}\n",
            lines: []),
        Row(
            rule: .documentation, text: "public static func == (a: A, b: A) -> Bool { true }\n",
            lines: []),
        Row(rule: .documentation, text: "public static func += (a: A, b: A) {}\n", lines: [1]),
        Row(
            rule: .documentation, text: "public import HTTP\nlet public = 1\nfunc a() {}\n",
            lines: []),
        Row(rule: .documentation, text: "package func a() {}\ncase b\n", lines: []),
    ]

    @Test(arguments: importRows + layoutRows + callRows + documentationRows)
    func aRuleFinds(row: Row) {
        let findings = row.rule.check(SourceFile(path: row.path, text: row.text))
        #expect(findings.map(\.line) == row.lines, "\(findings)")
        #expect(findings.allSatisfy { $0.path == row.path })
    }

    struct Spans: Sendable {
        var text: String
        var counts: [Int]
    }

    static let spans: [Spans] = [
        Spans(text: "func a() {\n  b()\n}\n", counts: [3]),
        Spans(text: "func a() { b() }\nlet c = 1\n", counts: [1]),
        Spans(
            text: "public static func a(\n  b: Int\n) throws(E) -> C\nwhere D: E\n{\n}\n",
            counts: [6]),
        Spans(
            text: "protocol P {\n  func a()\n  func b() -> Int\n  var c: Int { get }\n}\n",
            counts: [1]),
        Spans(text: "init?(a: Int = { 1 }()) {\n  if b {\n  }\n}\ndeinit {\n}\n", counts: [4, 2]),
        Spans(text: "var a: Int {\n  1\n}\nlet b = c {\n}\nvar d = e {\n}\n", counts: [3]),
        Spans(text: "func a() {\n  let s = \"}\" // }\n  /* } */\n}\n", counts: [4]),
        Spans(text: "func a() {\n  func b() {\n  }\n}\n", counts: [4, 2]),
        Spans(text: "@inlinable @inline(__always) subscript(_ a: Int) -> B {\n}\n", counts: [2]),
        Spans(
            text:
                "func a() {\n  let r = #\"} \" \\(x) \"#\n  let m = \"\"\"\n"
                + "  } \\(f(\"}\")) }\n  \"\"\"\n}\n",
            counts: [6]),
    ]

    @Test(arguments: spans)
    func functionsAreMeasured(row: Spans) {
        let file = SourceFile(path: "Sources/CoreLoop/A.swift", text: row.text)
        #expect(FunctionSpan.all(in: file).map(\.lineCount) == row.counts)
    }

    @Test(arguments: [68, 69])
    func aFunctionOfTooManyLinesIsFound(body: Int) {
        let text = "func a() {\n" + String(repeating: "  b()\n", count: body) + "}\n"
        let findings = Rule.functionLength.check(
            SourceFile(path: "Sources/HTTP/A.swift", text: text))
        #expect(findings.count == (body == 68 ? 0 : 1))
    }
}
