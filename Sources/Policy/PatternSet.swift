/// Looks for the patterns of one filter in texts, all at once, byte by byte.
///
/// A deterministic automaton is worked out as texts ask for it and kept in a table of bounded size
/// (as RE2 does: Cox 2010), so that no text can make a pattern slow: a byte costs a look into the
/// table, and what working states out may cost is bounded for each request.
public final class PatternSet {
    /// What became of a search.
    public enum Outcome: Sendable {
        case found, absent
        /// The texts asked for more states than one request may.
        case undecided
    }

    /// What the automaton knows behind some bytes of a text.
    private struct State: Hashable {
        /// The letters that may have come last, in order.
        var positions: [UInt16]
        /// Whether the last byte is a word's.
        var isInWord: Bool
        var isAtStart: Bool
    }

    private static let unknown = UInt16.max
    /// In the table: a pattern has ended.
    private static let found = UInt16.max - 1

    private let automaton: PositionAutomaton
    /// The class of each byte; all bytes of a class are the same to all patterns.
    private let classOf: UnsafeMutablePointer<UInt8>
    /// One byte of each class.
    private let example: [UInt8]
    private let table: UnsafeMutablePointer<UInt16>
    private let statesMax: Int
    private var states: [State] = []
    private var endsHere: [Bool] = []
    private var known: [State: UInt16] = [:]
    private var stepsLeft = 0
    private var isMarked: [Bool]

    /// The patterns of a filter. Throws what is wrong with the first that cannot be looked for, and
    /// its place in the list.
    public init(_ patterns: [ContentFilterSettings.Pattern]) throws(PatternFault) {
        var automaton = PositionAutomaton()
        for (index, pattern) in patterns.enumerated() {
            do throws(ExpressionFault) {
                switch pattern {
                case .literal(let text): try automaton.add(.literal(text))
                case .expression(let text): try automaton.add(try ExpressionParser.parse(text))
                }
            } catch {
                throw PatternFault(index: index, text: error.text)
            }
        }
        self.automaton = automaton
        classOf = .allocate(capacity: 256)
        example = Self.classes(automaton.letters, into: classOf)
        statesMax = min(Limits.statesMax, Limits.tableCellsMax / example.count)
        table = .allocate(capacity: statesMax * example.count)
        isMarked = Array(repeating: false, count: automaton.letters.count)
        forgetStates()
    }

    deinit {
        classOf.deallocate()
        table.deallocate()
    }

    /// To be called before the texts of a request: they share what working states out may cost.
    public func beginRequest() { stepsLeft = Limits.stepsMax }

    /// Whether any pattern is in `text`, which is UTF-8.
    public func search(_ text: UnsafeRawBufferPointer) -> Outcome {
        guard !automaton.letters.isEmpty else { return .absent }
        // The start is the first state that is worked out.
        var state: UInt16 = 0
        let width = example.count
        for byte in text {
            let class_ = Int(classOf[Int(byte)])
            let next = table[Int(state) * width + class_]
            if next < Self.found {
                state = next
                continue
            }
            if next == Self.found { return .found }
            guard stepsLeft > 0 else { return .undecided }
            guard let made = step(&state, class_) else { return .found }
            state = made
        }
        return endsHere[Int(state)] ? .found : .absent
    }

    // MARK: States

    private func forgetStates() {
        states.removeAll(keepingCapacity: true)
        endsHere.removeAll(keepingCapacity: true)
        known.removeAll(keepingCapacity: true)
        table.update(repeating: Self.unknown, count: statesMax * example.count)
        _ = number(State(positions: [], isInWord: false, isAtStart: true))
    }

    /// The number of a state, which is given one where it has none.
    private func number(_ state: State) -> UInt16 {
        if let number = known[state] { return number }
        let number = UInt16(states.count)
        known[state] = number
        states.append(state)
        endsHere.append(endsAtEnd(state))
        return number
    }

    /// Works out where a class leads from `state`; nil where a pattern has ended. `state` gets its
    /// new number where all were forgotten.
    private func step(_ state: inout UInt16, _ class_: Int) -> UInt16? {
        if states.count == statesMax {
            let here = states[Int(state)]
            forgetStates()
            state = number(here)
        }
        let from = states[Int(state)]
        let byte = example[class_]
        let isWord = ByteSet.words.contains(byte)
        let isBoundary = from.isInWord != isWord
        var result = Self.found
        if !ends(from, isBoundary: isBoundary),
            let positions = follow(from, byte, isBoundary: isBoundary)
        {
            result = number(State(positions: positions, isInWord: isWord, isAtStart: false))
        }
        table[Int(state) * example.count + class_] = result
        return result == Self.found ? nil : result
    }

    /// Whether a pattern has ended in front of the next letter.
    private func ends(_ state: State, isBoundary: Bool) -> Bool {
        state.positions.contains { position in
            automaton.ends[Int(position)].contains {
                !$0.contains(.end) && Self.holds($0, isBoundary: isBoundary)
            }
        }
    }

    /// The positions behind `byte`; nil where a pattern ends with one of them, whatever follows.
    private func follow(_ state: State, _ byte: UInt8, isBoundary: Bool) -> [UInt16]? {
        var positions: [UInt16] = []
        var isEnd = false
        func take(_ edges: [PositionAutomaton.Edge]) {
            stepsLeft -= edges.count
            for edge in edges {
                let place = Int(edge.position)
                guard !isMarked[place], automaton.letters[place].contains(byte),
                    Self.holds(edge.conditions, isBoundary: isBoundary),
                    !edge.conditions.contains(.start) || state.isAtStart
                else { continue }
                isMarked[place] = true
                positions.append(edge.position)
                if automaton.ends[place].contains([]) { isEnd = true }
            }
        }
        take(automaton.starts)
        for position in state.positions { take(automaton.follow[Int(position)]) }
        for position in positions { isMarked[Int(position)] = false }
        stepsLeft -= 1
        if isEnd { return nil }
        positions.sort()
        return positions
    }

    private func endsAtEnd(_ state: State) -> Bool {
        state.positions.contains { position in
            // Behind the end there is no word.
            automaton.ends[Int(position)].contains {
                Self.holds($0, isBoundary: state.isInWord)
            }
        }
    }

    private static func holds(_ conditions: Expression.Conditions, isBoundary: Bool) -> Bool {
        if conditions.contains(.boundary), !isBoundary { return false }
        if conditions.contains(.inside), isBoundary { return false }
        return true
    }

    /// Gives each byte its class, and one byte of each.
    private static func classes(
        _ letters: [ByteSet], into classOf: UnsafeMutablePointer<UInt8>
    ) -> [UInt8] {
        var numbers = [Int](repeating: 0, count: 256)
        var count = 1
        for set in [ByteSet.words] + Set(letters) {
            // Each class that the set divides becomes two.
            var halves: [Int: Int] = [:]
            var isSplit = [Bool](repeating: false, count: count)
            var hasOthers = [Bool](repeating: false, count: count)
            for byte in 0..<256 {
                if set.contains(UInt8(byte)) {
                    isSplit[numbers[byte]] = true
                } else {
                    hasOthers[numbers[byte]] = true
                }
            }
            for byte in 0..<256 where set.contains(UInt8(byte)) {
                let number = numbers[byte]
                guard isSplit[number], hasOthers[number] else { continue }
                if halves[number] == nil {
                    halves[number] = count
                    count += 1
                }
                numbers[byte] = halves[number]!
            }
        }
        var example = [UInt8](repeating: 0, count: count)
        for byte in (0..<256).reversed() {
            classOf[byte] = UInt8(numbers[byte])
            example[numbers[byte]] = UInt8(byte)
        }
        return example
    }
}

/// Which pattern of a filter cannot be looked for, and why.
public struct PatternFault: Error, Equatable, Sendable {
    /// Its place in the list.
    public let index: Int
    /// What is wrong with it; follows the pattern.
    public let text: String
}
