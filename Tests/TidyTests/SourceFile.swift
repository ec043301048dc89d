/// A Swift file cut into what the compiler reads and what people read.
///
/// `code` and `comments` have the same lines and columns as the file. In `code` all comments and
/// the insides of string literals are spaces (their quotes stay, interpolated code too); in
/// `comments` everything else is.
struct SourceFile {
    /// From the package's root, as `Sources/CoreLoop/Ring.swift`.
    let path: String
    let lines: [Substring]
    let code: [Substring]
    let comments: [Substring]
    /// The words and signs of each line of code.
    let tokens: [[Substring]]
    let endsWithNewline: Bool

    init(path: String, text: String) {
        var lexer = Lexer(text)
        lexer.run()
        self.path = path
        lines = Self.split(text)
        code = Self.split(String(decoding: lexer.code, as: UTF8.self))
        comments = Self.split(String(decoding: lexer.comments, as: UTF8.self))
        tokens = code.map(Self.tokens)
        endsWithNewline = text.utf8.last == UInt8(ascii: "\n")
    }

    /// The target's name: the folder under `Sources`, `Benchmarks` or `Tests`.
    var target: String { String(path.split(separator: "/").dropFirst().first ?? "") }

    /// `Sources`, `Benchmarks` or `Tests`.
    var folder: String { String(path.prefix { $0 != "/" }) }

    private static func split(_ text: String) -> [Substring] {
        // By bytes: to Swift, CR LF is one character, and no newline.
        let newline = UInt8(ascii: "\n")
        var lines = text.utf8.split(separator: newline, omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        return lines.map { Substring($0) }
    }

    /// Identifiers and numbers as wholes, every other visible character for itself.
    static func tokens(of line: Substring) -> [Substring] {
        var tokens: [Substring] = []
        var rest = line[...]
        while let first = rest.first {
            let word = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
            let token = word.isEmpty ? rest.prefix(1) : word
            if !first.isWhitespace { tokens.append(token) }
            rest = rest.dropFirst(token.count)
        }
        return tokens
    }
}

/// Tells code, comments and string literals apart, one byte after the other.
private struct Lexer {
    private enum Mode {
        /// `parentheses` counts the open ones of an interpolation; 0 outside of any.
        case code(parentheses: Int)
        case lineComment
        case blockComment(depth: Int)
        case string(hashes: Int, quotes: Int)
    }

    private let bytes: [UInt8]
    private var position = 0
    private var modes = [Mode.code(parentheses: 0)]
    private(set) var code: [UInt8]
    private(set) var comments: [UInt8]

    init(_ text: String) {
        bytes = Array(text.utf8)
        let blank = bytes.map { $0 == UInt8(ascii: "\n") ? $0 : UInt8(ascii: " ") }
        code = blank
        comments = blank
    }

    mutating func run() {
        while position < bytes.count {
            switch modes[modes.count - 1] {
            case .code(let parentheses): stepCode(parentheses)
            case .lineComment:
                if bytes[position] == UInt8(ascii: "\n") { modes.removeLast() }
                keepComment(1)
            case .blockComment(let depth): stepBlockComment(depth)
            case .string(let hashes, let quotes): stepString(hashes, quotes)
            }
        }
    }

    private func starts(_ text: StaticString, at offset: Int = 0) -> Bool {
        let from = position + offset
        guard from + text.utf8CodeUnitCount <= bytes.count else { return false }
        return (0..<text.utf8CodeUnitCount).allSatisfy { bytes[from + $0] == text.utf8Start[$0] }
    }

    private func count(of byte: UInt8, at offset: Int) -> Int {
        bytes[(position + offset)...].prefix { $0 == byte }.count
    }

    private mutating func keepCode(_ count: Int) {
        for index in position..<min(position + count, bytes.count) { code[index] = bytes[index] }
        position += count
    }

    private mutating func keepComment(_ count: Int) {
        for index in position..<min(position + count, bytes.count) {
            comments[index] = bytes[index]
        }
        position += count
    }

    private mutating func stepCode(_ parentheses: Int) {
        if starts("//") {
            modes.append(.lineComment)
            return keepComment(2)
        }
        if starts("/*") {
            modes.append(.blockComment(depth: 1))
            return keepComment(2)
        }
        let hashes = count(of: UInt8(ascii: "#"), at: 0)
        if starts("\"", at: hashes) {
            let quotes = starts("\"\"\"", at: hashes) ? 3 : 1
            modes.append(.string(hashes: hashes, quotes: quotes))
            return keepCode(hashes + quotes)
        }
        if parentheses > 0, starts("(") { replace(.code(parentheses: parentheses + 1)) }
        if parentheses > 0, starts(")") {
            if parentheses == 1 {
                modes.removeLast()
            } else {
                replace(.code(parentheses: parentheses - 1))
            }
        }
        keepCode(1)
    }

    private mutating func stepBlockComment(_ depth: Int) {
        if starts("*/") {
            if depth == 1 { modes.removeLast() } else { replace(.blockComment(depth: depth - 1)) }
            return keepComment(2)
        }
        if starts("/*") {
            replace(.blockComment(depth: depth + 1))
            return keepComment(2)
        }
        keepComment(1)
    }

    private mutating func stepString(_ hashes: Int, _ quotes: Int) {
        let closes = quotes == 3 ? starts("\"\"\"") : starts("\"")
        if closes, count(of: UInt8(ascii: "#"), at: quotes) >= hashes {
            modes.removeLast()
            return keepCode(quotes + hashes)
        }
        if quotes == 1, starts("\n") {
            modes.removeLast()
            return
        }
        guard starts("\\"), count(of: UInt8(ascii: "#"), at: 1) >= hashes else {
            position += 1
            return
        }
        if starts("(", at: 1 + hashes) {
            modes.append(.code(parentheses: 1))
            position += 1 + hashes
            return keepCode(1)
        }
        position += 2 + hashes
    }

    private mutating func replace(_ mode: Mode) { modes[modes.count - 1] = mode }
}
