/// Collects the faults of one document. Used by one thread, while one file is read.
final class Findings {
    private var listed: [Diagnostic] = []
    private var errors = 0
    private var unlisted = 0

    init() {}

    var hasErrors: Bool { errors > 0 }

    /// Whether a further finding is only counted: its remedy need not be looked for, which may cost
    /// a comparison with a thousand names for each of ten thousand faults.
    var isFull: Bool { listed.count == ConfigurationLimits.diagnosticsMax }

    func add(_ diagnostic: Diagnostic) {
        if diagnostic.severity == .error { errors += 1 }
        // One value can be reached over several ways (a merge, an overlay): one report is enough.
        guard !listed.contains(where: { Self.same($0, diagnostic) }) else { return }
        if listed.count == ConfigurationLimits.diagnosticsMax {
            unlisted += 1
        } else {
            listed.append(diagnostic)
        }
    }

    func add(
        _ code: DiagnosticCode, _ place: Place, _ message: String, _ suggestion: String? = nil
    ) {
        add(
            Diagnostic(
                code, path: place.path, line: place.line, column: place.column,
                message: message, suggestion: suggestion))
    }

    private static func same(_ a: Diagnostic, _ b: Diagnostic) -> Bool {
        a.line == b.line && a.column == b.column && a.code == b.code && a.path == b.path
            && a.message == b.message
    }

    /// In the order of the text. Where some were left out, a last entry says how many.
    func sorted() -> [Diagnostic] {
        var all = listed.enumerated().sorted { a, b in
            (a.element.line, a.element.column, a.offset) < (
                b.element.line, b.element.column, b.offset
            )
        }.map(\.element)
        if unlisted > 0 {
            all.append(
                Diagnostic(.tooLarge, message: "and \(unlisted) further findings, not listed"))
        }
        return all
    }
}

/// Where a value stands: its path in the document and its place in the text.
struct Place: Equatable {
    var path: String
    var line: Int
    var column: Int

    init(_ path: String, _ node: YAMLNode) {
        self.path = path
        line = node.line
        column = node.column
    }

    init(_ path: String, line: Int, column: Int) {
        self.path = path
        self.line = line
        self.column = column
    }
}
