/// Groups of digits that may be one number: `+49 170 1234567`, `4111-1111-1111-1111`.
struct NumberForm {
    /// What stands between two groups.
    struct Gap: OptionSet {
        let rawValue: UInt8
        static let space = Gap(rawValue: 1 << 0)
        static let hyphen = Gap(rawValue: 1 << 1)
        static let dot = Gap(rawValue: 1 << 2)
        static let slash = Gap(rawValue: 1 << 3)
        static let parenthesis = Gap(rawValue: 1 << 4)
    }

    let text: TextBytes
    /// Where the form begins, which may be in front of its first digit.
    let start: Int
    let hasPlus: Bool
    let hasParenthesis: Bool
    private(set) var groups: [Range<Int>] = []
    /// By group: what stands behind it, empty at the last.
    private(set) var gaps: [Gap] = []

    /// Reads from a digit, a `+` or a `(` in front of one.
    init(_ text: TextBytes, at start: Int) {
        self.text = text
        self.start = start
        var place = start
        hasPlus = text[place] == UInt8(ascii: "+")
        if hasPlus { place += 1 }
        hasParenthesis = text[place] == UInt8(ascii: "(")
        if hasParenthesis { place += 1 }
        while groups.count < Limits.digitGroupsMax {
            let first = place
            while text.isDigit(place) { place += 1 }
            guard place > first else { break }
            groups.append(first..<place)
            let (gap, end) = gap(at: place)
            guard text.isDigit(end), end > place else {
                gaps.append([])
                break
            }
            gaps.append(gap)
            place = end
        }
    }

    /// One separator, or two of which one is a parenthesis.
    private func gap(at place: Int) -> (Gap, end: Int) {
        var gap: Gap = []
        var end = place
        for _ in 0..<3 {
            guard let (kind, length) = separator(at: end) else { break }
            let isSecond = !gap.isEmpty
            guard !isSecond || kind == .parenthesis || gap.contains(.parenthesis) else { break }
            gap.insert(kind)
            end += length
        }
        return (gap, end)
    }

    private func separator(at place: Int) -> (Gap, Int)? {
        switch text[place] {
        case 0x20: return (.space, 1)
        case UInt8(ascii: "-"): return (.hyphen, 1)
        case UInt8(ascii: "."): return (.dot, 1)
        case UInt8(ascii: "/"): return (.slash, 1)
        case UInt8(ascii: "("), UInt8(ascii: ")"): return (.parenthesis, 1)
        // U+00A0, the space that does not break.
        case 0xC2 where text[place + 1] == 0xA0: return (.space, 2)
        case 0xE2 where text[place + 1] == 0x80:
            switch text[place + 2] {
            // U+2010 to U+2013, hyphens and the dash of figures; U+202F, the narrow space.
            case 0x90...0x93: return (.hyphen, 3)
            case 0xAF: return (.space, 3)
            default: return nil
            }
        default: return nil
        }
    }

    private func digits(_ groups: ArraySlice<Range<Int>>) -> Int {
        groups.reduce(0) { $0 + $1.count }
    }

    private func value(_ group: Int) -> Int {
        groups[group].prefix(9).reduce(0) { $0 * 10 + Int(text[$1] - 0x30) }
    }

    private func digit(_ group: Int, _ place: Int = 0) -> Int {
        Int(text[groups[group].lowerBound + place]) - 0x30
    }

    /// Whether the text goes on as one number does behind `end`: `.5`, `,5`, or a letter.
    private func goesOn(_ end: Int) -> Bool {
        if text.isAlphanumeric(end) || text[end] == 0x5F { return true }
        let isPoint = text[end] == UInt8(ascii: ".") || text[end] == UInt8(ascii: ",")
        return isPoint && text.isDigit(end + 1)
    }

    /// Whether what is in front belongs to the same number or token: `3.14…`, `a716-44…`.
    private var isInside: Bool {
        let before = start - 1
        switch text[before] {
        case UInt8(ascii: ":"): return text.isDigit(before - 1)
        case UInt8(ascii: "."), UInt8(ascii: ","):
            var place = before - 1
            while place > before - 20, text.isDigit(place) { place -= 1 }
            // The digits of a word are no number: `base64,4111…`.
            return place < before - 1 && !text.isWord(place)
        case UInt8(ascii: "-"):
            var place = before - 1
            while place >= 0, place > before - 40, text.isAlphanumeric(place) {
                if text.isDigit(place) { return true }
                place -= 1
            }
            return false
        default: return text.isWord(before) && text[before] < 0x80
        }
    }

    // MARK: Cards

    /// The end of a card's number; nil where there is none. By the issuer's digits, the length and
    /// the check digit (ISO/IEC 7812-1): of plain numbers with 16 digits one in 25 passes them.
    func card() -> Int? {
        guard !hasPlus, !hasParenthesis, !isInside else { return nil }
        var found: Int?
        for last in groups.indices {
            if last > 0 {
                let gap = gaps[last - 1]
                // Printed in groups, it begins with four digits.
                guard gap == .space || gap == .hyphen, groups[0].count == 4,
                    groups[last].count >= 3
                else { break }
            }
            let count = digits(groups[...last])
            guard count <= 19 else { break }
            let end = groups[last].upperBound
            if count >= 13, !goesOn(end), isIssued(count), passesLuhn(last) { found = end }
        }
        return found
    }

    private func isIssued(_ count: Int) -> Bool {
        var prefix = 0
        var taken = 0
        for group in groups {
            for place in group where taken < 4 {
                prefix = prefix * 10 + Int(text[place] - 0x30)
                taken += 1
            }
        }
        switch prefix {
        case 4000...4999: return count == 13 || count == 16 || count == 19
        case 5100...5599, 2221...2720: return count == 16
        case 3400...3499, 3700...3799: return count == 15
        case 3000...3059, 3600...3699, 3800...3999: return count >= 14
        case 6011, 6440...6599, 3528...3589, 6200...6299, 8100...8199: return count >= 16
        case 5000...5099, 5600...5899, 6300...6399, 6700...6799: return count >= 13
        default: return false
        }
    }

    /// Luhn's check (US patent 2,950,048) over the groups up to `last`.
    private func passesLuhn(_ last: Int) -> Bool {
        var sum = 0
        var isDoubled = false
        for group in groups[...last].reversed() {
            for place in group.reversed() {
                var digit = Int(text[place] - 0x30)
                if isDoubled {
                    digit *= 2
                    if digit > 9 { digit -= 9 }
                }
                sum += digit
                isDoubled.toggle()
            }
        }
        return sum % 10 == 0
    }

    // MARK: Addresses

    /// The end of an IPv4 address; nil where there is none. Those of the machine itself tell
    /// nothing of anybody.
    func address() -> Int? {
        guard !hasPlus, !hasParenthesis, !isInside, groups.count >= 4 else { return nil }
        for index in 0..<4 {
            guard groups[index].count <= 3, value(index) <= 255,
                groups[index].count == 1 || digit(index) != 0
            else { return nil }
            if index < 3, gaps[index] != .dot { return nil }
        }
        let end = groups[3].upperBound
        guard !goesOn(end), value(0) != 127, value(0) != 0 else { return nil }
        return end
    }

    // MARK: Telephones

    /// The end of a telephone number; nil where there is none. `isNamed`: a word in front says that
    /// it is one.
    func phone(isNamed: Bool) -> Int? {
        guard !groups.isEmpty, !isInside else { return nil }
        if hasPlus { return text[start - 1] == UInt8(ascii: "+") ? nil : international() }
        if let end = northAmerican() { return end }
        if let end = national() { return end }
        return isNamed ? named() : nil
    }

    /// How many groups make at most `most` digits, as long as `fits` holds of what is between.
    private func groupCount(most: Int, _ fits: (Gap) -> Bool) -> Int {
        var count = 0
        var sum = 0
        for index in groups.indices {
            if index > 0, !fits(gaps[index - 1]) { break }
            sum += groups[index].count
            if sum > most { break }
            count += 1
        }
        return count
    }

    /// `+` and up to 15 digits (ITU-T E.164). Written in one it has ten at least: a sign in front
    /// of a number is more frequent than short numbers with one.
    private func international() -> Int? {
        guard digit(0) != 0 else { return nil }
        // Points part the groups of a telephone number or the fraction of a plain one.
        let points = gaps.count { $0 == .dot }
        let count = groupCount(most: 15) { $0 != .dot || points >= 2 }
        guard count > 0 else { return nil }
        let sum = digits(groups[..<count])
        let end = groups[count - 1].upperBound
        guard sum >= (count == 1 ? 10 : 8), !goesOn(end) else { return nil }
        return end
    }

    /// `(415) 555-2671`, `415-555-2671`, `1-415-555-2671`.
    private func northAmerican() -> Int? {
        var first = 0
        if groups[0].count == 1, digit(0) == 1, gaps[0] != [] { first = 1 }
        guard groups.count >= first + 3, groups[first].count == 3, groups[first + 1].count == 3,
            groups[first + 2].count == 4, digit(first) >= 2, digit(first + 1) >= 2
        else { return nil }
        let gap = gaps[first]
        let second = gaps[first + 1]
        let isBracketed = gap.contains(.parenthesis)
        guard isBracketed || (gap == second && (gap == .hyphen || gap == .dot)) else { return nil }
        let end = groups[first + 2].upperBound
        return goesOn(end) ? nil : end
    }

    /// A leading 0 and groups: `030 1234567`, `06 12 34 56 78`, `0049 170 1234567`.
    private func national() -> Int? {
        guard digit(0) == 0, groups[0].count >= 2, groups.count >= 2, !followsNumber else {
            return nil
        }
        let isForeign = groups[0].count >= 3 && digit(0, 1) == 0 && digit(0, 2) != 0
        guard isForeign || digit(0, 1) != 0, !isDate else { return nil }
        let count = groupCount(most: isForeign ? 17 : 12) { !$0.contains(.dot) }
        guard count >= 2 else { return nil }
        let sum = digits(groups[..<count])
        guard sum >= (isForeign ? 10 : 9), groups[..<count].allSatisfy({ $0.count >= 2 }) else {
            return nil
        }
        let end = groups[count - 1].upperBound
        return goesOn(end) ? nil : end
    }

    /// A group of digits in front: these are the rest of a longer number.
    private var followsNumber: Bool {
        (text[start - 1] == 0x20 || text[start - 1] == UInt8(ascii: "-"))
            && text.isDigit(start - 2)
    }

    /// `01-02-2024`, `01/02/2024`.
    private var isDate: Bool {
        groups.count >= 3 && groups[0].count == 2 && groups[1].count == 2 && groups[2].count == 4
            && gaps[0] == gaps[1] && (gaps[0] == .hyphen || gaps[0] == .slash)
    }

    private func named() -> Int? {
        let count = groupCount(most: 15) { !$0.contains(.dot) }
        guard count > 0, !isDate else { return nil }
        let sum = digits(groups[..<count])
        guard sum >= 7, groups[..<count].allSatisfy({ count == 1 || $0.count >= 2 }) else {
            return nil
        }
        let end = groups[count - 1].upperBound
        return goesOn(end) ? nil : end
    }
}
