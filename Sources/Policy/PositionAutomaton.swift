/// All patterns of a filter as one automaton whose states are the letters that may have come last
/// (Glushkov 1961): without empty moves, so that its size is that of the patterns.
struct PositionAutomaton {
    typealias Conditions = Expression.Conditions

    /// A letter that may come, and what has to hold in front of it.
    struct Edge: Hashable {
        let position: UInt16
        let conditions: Conditions
    }

    /// By position: what it is.
    private(set) var letters: [ByteSet] = []
    /// What may come first, and behind each position.
    private(set) var starts: [Edge] = []
    private(set) var follow: [[Edge]] = []
    /// By position: under what conditions a pattern ends with it.
    private(set) var ends: [[Conditions]] = []
    private var edges = 0
    private var steps = 0

    /// A part of an expression while it is built.
    private struct Part {
        /// The conditions under which it may be empty.
        var empty: [Conditions]
        var first: [Edge]
        var last: [Edge]
    }

    /// Adds a pattern.
    mutating func add(_ expression: Expression) throws(ExpressionFault) {
        let part = try build(expression)
        guard part.empty.isEmpty else {
            throw ExpressionFault(text: "is found in an empty text, and so everywhere")
        }
        starts += part.first.filter { !$0.conditions.contains(.end) }
        for edge in part.last where !edge.conditions.contains(.start) {
            ends[Int(edge.position)].append(edge.conditions)
        }
    }

    private mutating func build(_ expression: Expression) throws(ExpressionFault) -> Part {
        // Repetitions of what is empty make no letters that could be counted.
        steps += 1
        guard steps <= Limits.edgesMax else { throw ExpressionFault(text: "is too intricate") }
        switch expression {
        case .empty: return Part(empty: [[]], first: [], last: [])
        case .assertion(let conditions):
            return Part(empty: [conditions], first: [], last: [])
        case .bytes(let set):
            guard letters.count < Limits.positionsMax else {
                throw ExpressionFault(
                    text: "makes the filter larger than \(Limits.positionsMax) letters")
            }
            let edge = Edge(position: UInt16(letters.count), conditions: [])
            letters.append(set)
            follow.append([])
            ends.append([])
            return Part(empty: [], first: [edge], last: [edge])
        case .sequence(let parts):
            var whole = Part(empty: [[]], first: [], last: [])
            for part in parts { whole = try join(whole, try build(part)) }
            return whole
        case .choice(let branches):
            var whole = Part(empty: [], first: [], last: [])
            for branch in branches {
                let part = try build(branch)
                whole.empty = try merged(whole.empty + part.empty)
                whole.first += part.first
                whole.last += part.last
            }
            return whole
        case .repetition(let inner, let least, let most):
            return try repetition(inner, least, most)
        }
    }

    private mutating func repetition(
        _ inner: Expression, _ least: Int, _ most: Int?
    ) throws(ExpressionFault) -> Part {
        var whole = Part(empty: [[]], first: [], last: [])
        // The last that is required may go round.
        for count in 0..<least {
            var part = try build(inner)
            if most == nil, count == least - 1 { try loop(&part) }
            whole = try join(whole, part)
        }
        guard let most else {
            guard least == 0 else { return whole }
            var part = try build(inner)
            try loop(&part)
            part.empty = [[]]
            return part
        }
        // Each that may come stands in the one before it: (a(a(a)?)?)?
        var rest: Part?
        for _ in 0..<(most - least) {
            var part = try build(inner)
            if let inside = rest { part = try join(part, inside) }
            part.empty = [[]]
            rest = part
        }
        return rest == nil ? whole : try join(whole, rest!)
    }

    /// Adds the way from the part's end to its beginning.
    private mutating func loop(_ part: inout Part) throws(ExpressionFault) {
        try connect(part.last, part.first)
    }

    private mutating func join(_ a: Part, _ b: Part) throws(ExpressionFault) -> Part {
        try connect(a.last, b.first)
        var empty: [Conditions] = []
        for one in a.empty { for other in b.empty { empty.append(one.union(other)) } }
        return Part(
            empty: try merged(empty), first: a.first + Self.under(a.empty, b.first),
            last: b.last + Self.under(b.empty, a.last))
    }

    /// `edges` where what stands before or behind them is empty.
    private static func under(_ empty: [Conditions], _ edges: [Edge]) -> [Edge] {
        empty.flatMap { conditions in
            edges.compactMap { edge in
                let all = edge.conditions.union(conditions)
                return all.isImpossible ? nil : Edge(position: edge.position, conditions: all)
            }
        }
    }

    private mutating func connect(_ last: [Edge], _ first: [Edge]) throws(ExpressionFault) {
        for one in last {
            for other in first {
                let conditions = one.conditions.union(other.conditions)
                // Between two letters there is neither the text's start nor its end.
                guard conditions.isDisjoint(with: [.start, .end]), !conditions.isImpossible else {
                    continue
                }
                let edge = Edge(position: other.position, conditions: conditions)
                guard !follow[Int(one.position)].contains(edge) else { continue }
                edges += 1
                guard edges <= Limits.edgesMax else {
                    throw ExpressionFault(text: "is too intricate")
                }
                follow[Int(one.position)].append(edge)
            }
        }
    }

    private func merged(_ empty: [Conditions]) throws(ExpressionFault) -> [Conditions] {
        var unique: [Conditions] = []
        for one in empty where !one.isImpossible && !unique.contains(one) { unique.append(one) }
        // What holds always needs no others beside it.
        if unique.contains([]) { return [[]] }
        guard unique.count <= Limits.emptinessMax else {
            throw ExpressionFault(text: "is too intricate")
        }
        return unique
    }
}
