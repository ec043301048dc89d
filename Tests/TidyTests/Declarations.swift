/// From a function's first line to its closing brace.
struct FunctionSpan: Equatable {
    let firstLine: Int
    let lineCount: Int

    /// All functions, initialisers, subscripts and computed properties with a body.
    static func all(in file: SourceFile) -> [FunctionSpan] {
        file.tokens.indices.compactMap { index in
            guard let declaration = Declaration(file.tokens[index]), declaration.mayHaveBody else {
                return nil
            }
            return end(of: file.tokens, from: index).map {
                FunctionSpan(firstLine: index + 1, lineCount: $0 - index + 1)
            }
        }
    }

    /// The line of the brace that closes the body that begins at or after `first`; nil where the
    /// declaration has none.
    private static func end(of lines: [[Substring]], from first: Int) -> Int? {
        var (round, curly) = (0, 0)
        for index in first..<lines.count {
            // A header that goes on says so at the line's start, unless a parenthesis is open.
            if index > first, round == 0, curly == 0,
                let start = lines[index].first, !goesOn.contains(start)
            {
                return nil
            }
            for token in lines[index] {
                switch token {
                case "(", "[": round += 1
                case ")", "]": round -= 1
                case "{": curly += 1
                case "}":
                    curly -= 1
                    // A closure among the default arguments ends no body.
                    if curly == 0, round == 0 { return index }
                    if curly < 0 { return nil }
                default: break
                }
            }
        }
        return nil
    }

    private static let goesOn: Set<Substring> = [
        "{", "-", "throws", "async", "where", ")", "rethrows",
    ]
}

/// What a line declares, read from its tokens: modifiers, keyword, name.
struct Declaration {
    let isPublic: Bool
    let keyword: String
    /// The name, or the tokens after the keyword for initialisers and operators.
    let rest: ArraySlice<Substring>

    private static let modifiers: Set<Substring> = [
        "public", "package", "internal", "private", "fileprivate", "open", "static", "class",
        "final",
        "mutating", "nonmutating", "borrowing", "consuming", "override", "required", "convenience",
        "lazy", "weak", "unowned", "indirect", "nonisolated", "dynamic", "optional", "prefix",
        "postfix", "infix", "isolated",
    ]
    private static let keywords: Set<Substring> = [
        "func", "init", "deinit", "subscript", "var", "let", "struct", "enum", "class", "actor",
        "protocol", "typealias", "associatedtype", "case", "extension", "macro",
    ]

    init?(_ tokens: [Substring]) {
        var isPublic = false
        var index = 0
        while index < tokens.count {
            let token = tokens[index]
            let next = index + 1 < tokens.count ? tokens[index + 1] : ""
            if token == "@" {
                index = Self.skipArguments(tokens, index + 2)
            } else if Self.keywords.contains(token), token != "class" || !Self.isModifier(next) {
                keyword = String(token)
                rest = tokens[(index + 1)...]
                self.isPublic = isPublic
                return
            } else if Self.modifiers.contains(token) {
                if token == "public" || token == "open" { isPublic = true }
                index = Self.skipArguments(tokens, index + 1)
            } else {
                return nil
            }
        }
        return nil
    }

    private static func isModifier(_ token: Substring) -> Bool {
        modifiers.contains(token) || keywords.contains(token)
    }

    /// Behind the parentheses that begin at `index`, as in `private(set)`; `index` without such.
    private static func skipArguments(_ tokens: [Substring], _ index: Int) -> Int {
        guard index < tokens.count, tokens[index] == "(" else { return index }
        return (tokens[index...].firstIndex(of: ")") ?? tokens.count - 1) + 1
    }

    /// Functions, and properties that do not end on their line before a brace opens.
    var mayHaveBody: Bool {
        switch keyword {
        case "func", "init", "deinit", "subscript": true
        case "var": rest.contains("{") && !rest.prefix { $0 != "{" }.contains("=")
        default: false
        }
    }

    /// Members whose meaning a protocol or the language fixes: they need no words.
    var isSelfExplaining: Bool {
        let text = rest.joined()
        switch keyword {
        case "init":
            return text.hasPrefix("()") || text.hasPrefix("(rawValue:") || text.hasPrefix("(from")
        case "func":
            return text.hasPrefix("==(") || text.hasPrefix("<(") || text.hasPrefix("hash(into")
                || text.hasPrefix("encode(to")
        case "var":
            return ["description", "debugDescription", "rawValue", "hashValue", "errorDescription"]
                .contains(rest.first)
        case "typealias": return ["RawValue", "Element", "Index"].contains(rest.first)
        case "extension": return true
        default: return false
        }
    }
}

extension Rule {
    /// Every public declaration has its `///`. One comment may stand over several declarations of
    /// one line each that follow each other without a blank line.
    static let documentation = Rule(name: "documentation", coversTests: false) { file in
        // What a command declares, nobody imports.
        if file.target == "umbra" { return [] }
        return file.tokens.indices.compactMap { index in
            guard let declaration = Declaration(file.tokens[index]), declaration.isPublic,
                !declaration.isSelfExplaining, !isDocumented(file, index)
            else { return nil }
            let name = declaration.rest.first ?? ""
            return Finding(
                path: file.path, line: index + 1,
                message: "public \(declaration.keyword) \(name) without `///`")
        }
    }

    private static func isDocumented(_ file: SourceFile, _ index: Int) -> Bool {
        for above in stride(from: index - 1, through: 0, by: -1) {
            let line = file.lines[above].drop { $0 == " " }
            if line.hasPrefix("///") { return true }
            let tokens = file.tokens[above]
            // Plain comments and attributes may stand between.
            if line.hasPrefix("//") || isAttribute(tokens) { continue }
            guard isWholeOnItsLine(tokens) else { return false }
        }
        return false
    }

    private static func isAttribute(_ tokens: [Substring]) -> Bool {
        tokens.first == "@" && Declaration(tokens) == nil
    }

    /// A declaration of one line, its braces closed: it may share the comment above it.
    private static func isWholeOnItsLine(_ tokens: [Substring]) -> Bool {
        guard Declaration(tokens) != nil else { return false }
        return tokens.count { $0 == "{" } == tokens.count { $0 == "}" }
            && tokens.count { $0 == "(" } == tokens.count { $0 == ")" }
    }
}
