/// A regular expression, parsed.
indirect enum Expression: Sendable {
    case empty
    /// One byte of the set.
    case bytes(ByteSet)
    case sequence([Expression])
    case choice([Expression])
    /// `max` nil has no end.
    case repetition(Expression, min: Int, max: Int?)
    case assertion(Conditions)

    /// What has to hold between two letters.
    struct Conditions: OptionSet, Hashable, Sendable {
        let rawValue: UInt8
        static let start = Conditions(rawValue: 1 << 0)
        static let end = Conditions(rawValue: 1 << 1)
        /// A letter of a word on one side only.
        static let boundary = Conditions(rawValue: 1 << 2)
        static let inside = Conditions(rawValue: 1 << 3)

        /// Whether they exclude each other.
        var isImpossible: Bool { contains([.boundary, .inside]) }
    }

    /// A text as it stands, in either case.
    static func literal(_ text: String) -> Expression {
        .sequence(text.unicodeScalars.map { scalar($0) })
    }

    /// One character in either case.
    static func scalar(_ scalar: Unicode.Scalar) -> Expression {
        if scalar.isASCII {
            var set = ByteSet()
            set.insert(UInt8(scalar.value))
            return .bytes(set.caseless)
        }
        var forms = [String(Character(scalar))]
        for form in [scalar.properties.lowercaseMapping, scalar.properties.uppercaseMapping]
        where !forms.contains(form) {
            forms.append(form)
        }
        return .choice(forms.map { utf8($0) })
    }

    private static func utf8(_ text: String) -> Expression {
        .sequence(
            text.utf8.map { byte in
                var set = ByteSet()
                set.insert(byte)
                return .bytes(set)
            })
    }

    /// Any character beyond ASCII. The texts are UTF-8: what could be no character does not come.
    static let beyondASCII: Expression = {
        let next = Expression.bytes(ByteSet(0x80...0xBF))
        return .choice([
            .sequence([.bytes(ByteSet(0xC2...0xDF)), next]),
            .sequence([.bytes(ByteSet(0xE0...0xEF)), next, next]),
            .sequence([.bytes(ByteSet(0xF0...0xF4)), next, next, next]),
        ])
    }()
}

/// Why a text is no expression that can be looked for.
public struct ExpressionFault: Error, Equatable, Sendable {
    /// What is wrong, behind the pattern: `has a group without its end`.
    public let text: String
}

/// Reads POSIX extended regular expressions (IEEE 1003.1, section 9.4), with `\d \s \w`, `\b` and
/// `\B` as everybody writes them, and without back-references, which no automaton has.
struct ExpressionParser {
    private let scalars: [Unicode.Scalar]
    private var place = 0
    private var depth = 0

    static func parse(_ text: String) throws(ExpressionFault) -> Expression {
        var parser = ExpressionParser(scalars: Array(text.unicodeScalars))
        let expression = try parser.choice()
        guard parser.place == parser.scalars.count else {
            throw ExpressionFault(text: "has a ) that ends no group")
        }
        return expression
    }

    private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

    private var next: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        place += 1
        return true
    }

    private mutating func choice() throws(ExpressionFault) -> Expression {
        var branches = [try sequence()]
        while take("|") { branches.append(try sequence()) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(ExpressionFault) -> Expression {
        var parts: [Expression] = []
        while let scalar = next, scalar != "|", scalar != ")" {
            let (part, isLetter) = try atom()
            parts.append(isLetter ? try repeated(part) : part)
        }
        return parts.isEmpty ? .empty : .sequence(parts)
    }

    /// The next part, and whether it may be repeated.
    private mutating func atom() throws(ExpressionFault) -> (Expression, Bool) {
        let scalar = scalars[place]
        place += 1
        switch scalar {
        case "(": return (try group(), true)
        case "[": return (try BracketParser.parse(scalars, &place), true)
        case ".":
            return (.choice([.bytes(ByteSet(0x00...0x7F)), Expression.beyondASCII]), true)
        case "^": return (.assertion(.start), false)
        case "$": return (.assertion(.end), false)
        case "\\": return try escape()
        case "*", "+", "?", "{":
            throw ExpressionFault(text: "has a \(scalar) with nothing to repeat")
        default: return (.scalar(scalar), true)
        }
    }

    private mutating func group() throws(ExpressionFault) -> Expression {
        guard next != "?" else {
            throw ExpressionFault(text: "has a group (?…), which is no POSIX expression")
        }
        depth += 1
        guard depth <= Limits.groupDepthMax else {
            throw ExpressionFault(text: "has groups deeper than \(Limits.groupDepthMax)")
        }
        let inner = try choice()
        depth -= 1
        guard take(")") else { throw ExpressionFault(text: "has a group without its end") }
        return inner
    }

    private mutating func escape() throws(ExpressionFault) -> (Expression, Bool) {
        guard let scalar = next else { throw ExpressionFault(text: "ends in a backslash") }
        place += 1
        switch scalar {
        case "b": return (.assertion(.boundary), false)
        case "B": return (.assertion(.inside), false)
        case "1"..."9":
            throw ExpressionFault(text: "has a back-reference, which no automaton can follow")
        case "n": return (.bytes(ByteSet(0x0A...0x0A)), true)
        case "r": return (.bytes(ByteSet(0x0D...0x0D)), true)
        case "t": return (.bytes(ByteSet(0x09...0x09)), true)
        default:
            if let set = BracketParser.named(scalar) { return (.bytes(set), true) }
            if let set = BracketParser.namedComplement(scalar) {
                return (.choice([.bytes(set), Expression.beyondASCII]), true)
            }
            let isLetter = scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
            guard !isLetter else {
                throw ExpressionFault(text: "has \\\(scalar), which has no meaning here")
            }
            return (.scalar(scalar), true)
        }
    }

    // MARK: Repetition

    private mutating func repeated(_ atom: Expression) throws(ExpressionFault) -> Expression {
        var part = atom
        var times = 0
        while let scalar = next {
            switch scalar {
            case "*": part = .repetition(part, min: 0, max: nil)
            case "+": part = .repetition(part, min: 1, max: nil)
            case "?": part = .repetition(part, min: 0, max: 1)
            case "{":
                place += 1
                part = try braces(part)
                times += 1
                continue
            default: return part
            }
            place += 1
            times += 1
            guard times <= Limits.groupDepthMax else {
                throw ExpressionFault(text: "repeats what is repeated too often")
            }
        }
        return part
    }

    private mutating func braces(_ part: Expression) throws(ExpressionFault) -> Expression {
        let least = try number()
        var most: Int? = least
        if take(",") { most = next == "}" ? nil : try number() }
        guard take("}") else { throw ExpressionFault(text: "has a { without its end") }
        if let most, most < least { throw ExpressionFault(text: "repeats from more to less") }
        return .repetition(part, min: least, max: most)
    }

    private mutating func number() throws(ExpressionFault) -> Int {
        var value = 0
        var digits = 0
        while let scalar = next, ("0"..."9").contains(scalar) {
            value = value * 10 + Int(scalar.value - 0x30)
            digits += 1
            place += 1
            guard value <= Limits.repeatsMax else {
                throw ExpressionFault(text: "repeats more than \(Limits.repeatsMax) times")
            }
        }
        guard digits > 0 else { throw ExpressionFault(text: "has a { without a number") }
        return value
    }
}

/// `[…]` (IEEE 1003.1, section 9.3.5). A backslash escapes in it, as people expect.
enum BracketParser {
    /// Reads behind the opening bracket.
    static func parse(
        _ scalars: [Unicode.Scalar], _ place: inout Int
    ) throws(ExpressionFault) -> Expression {
        let open = ExpressionFault(text: "has a [ without its end")
        func scalar(_ at: Int) throws(ExpressionFault) -> Unicode.Scalar {
            guard at < scalars.count else { throw open }
            return scalars[at]
        }
        let isNegated = try scalar(place) == "^"
        if isNegated { place += 1 }
        var set = ByteSet()
        var others: [Unicode.Scalar] = []
        var isFirst = true
        while true {
            var first = try scalar(place)
            place += 1
            if first == "]", !isFirst { break }
            isFirst = false
            if first == "[", place < scalars.count, ":.=".unicodeScalars.contains(scalars[place]) {
                set.form(union: try named(scalars, &place))
                continue
            }
            if first == "\\" {
                first = try scalar(place)
                place += 1
                if let class_ = named(first) {
                    set.form(union: class_)
                    continue
                }
                first = ["n": "\n", "r": "\r", "t": "\t"][first] ?? first
            }
            guard try scalar(place) == "-", try scalar(place + 1) != "]" else {
                if first.isASCII { set.insert(UInt8(first.value)) } else { others.append(first) }
                continue
            }
            var last = try scalar(place + 1)
            place += 2
            if last == "\\" {
                last = try scalar(place)
                place += 1
            }
            guard first.isASCII, last.isASCII else {
                throw ExpressionFault(text: "has a range of letters beyond ASCII: list them")
            }
            guard first <= last else { throw ExpressionFault(text: "has a range that runs back") }
            set.insert(UInt8(first.value)...UInt8(last.value))
        }
        if isNegated {
            guard others.isEmpty else {
                throw ExpressionFault(text: "excludes letters beyond ASCII, which it cannot")
            }
            return .choice([.bytes(set.caseless.asciiComplement), Expression.beyondASCII])
        }
        let letters = others.map { Expression.scalar($0) }
        return letters.isEmpty
            ? .bytes(set.caseless) : .choice([.bytes(set.caseless)] + letters)
    }

    /// `[:digit:]` and its like; `place` is behind the inner bracket.
    private static func named(
        _ scalars: [Unicode.Scalar], _ place: inout Int
    ) throws(ExpressionFault) -> ByteSet {
        guard scalars[place] == ":" else {
            throw ExpressionFault(text: "has a collating element, which has no meaning here")
        }
        var name = ""
        var at = place + 1
        while at < scalars.count, scalars[at] != ":", name.utf8.count < 8 {
            name.unicodeScalars.append(scalars[at])
            at += 1
        }
        guard at + 1 < scalars.count, scalars[at] == ":", scalars[at + 1] == "]",
            let set = classes[name]
        else { throw ExpressionFault(text: "has [: without a class that is known") }
        place = at + 2
        return set
    }

    private static let classes: [String: ByteSet] = [
        "alpha": ByteSet(0x41...0x5A, 0x61...0x7A), "digit": .digits,
        "alnum": ByteSet(0x30...0x39, 0x41...0x5A, 0x61...0x7A),
        "upper": ByteSet(0x41...0x5A), "lower": ByteSet(0x61...0x7A), "space": .spaces,
        "blank": ByteSet(0x20...0x20, 0x09...0x09), "cntrl": ByteSet(0x00...0x1F, 0x7F...0x7F),
        "punct": ByteSet(0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E),
        "graph": ByteSet(0x21...0x7E), "print": ByteSet(0x20...0x7E),
        "xdigit": ByteSet(0x30...0x39, 0x41...0x46, 0x61...0x66),
    ]

    private static let asciiWords = ByteSet(
        0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A)

    /// What `\d`, `\w` and `\s` stand for.
    static func named(_ scalar: Unicode.Scalar) -> ByteSet? {
        switch scalar {
        case "d": .digits
        case "w": asciiWords
        case "s": .spaces
        default: nil
        }
    }

    /// What `\D`, `\W` and `\S` stand for, in ASCII.
    static func namedComplement(_ scalar: Unicode.Scalar) -> ByteSet? {
        switch scalar {
        case "D": ByteSet.digits.asciiComplement
        case "W": asciiWords.asciiComplement
        case "S": ByteSet.spaces.asciiComplement
        default: nil
        }
    }
}
