import Glibc

/// What measures how near two answers are in content. Values of two embedders are never averaged,
/// so each event names its own.
public enum Embedder: Sendable {
    /// Words and pairs of words, counted: see `LexicalText`.
    case lexical

    /// As events name it.
    public var id: String {
        switch self {
        case .lexical: "lexical-v1"
        }
    }

    /// 1 − ΔS of two answers, 0 to 1: two empty ones are the same, an empty one and another have
    /// nothing in common.
    public func similarity(_ one: String, _ other: String) -> Double {
        if one == other { return 1 }
        switch self {
        case .lexical: return LexicalText(one).similarity(to: LexicalText(other))
        }
    }
}

/// A text as a vector of its words: each word and each pair of neighbours is a dimension, weighted
/// by 1 + ln(count); pairs count half, words of up to three letters too, as they say little of what
/// a text is about. Case does not count, nor does what is neither letter nor digit. Scripts without
/// spaces between words are taken character by character.
struct LexicalText {
    private var weights: [Int: Double] = [:]
    private var square = 0.0

    init(_ text: String) {
        var counts: [Int: (count: Double, factor: Double)] = [:]
        var before: Int?
        var words = 0
        Self.forEachWord(text) { word in
            var hasher = Hasher()
            hasher.combine(word)
            let hash = hasher.finalize()
            counts[hash, default: (0, word.utf8.count <= 3 ? 0.5 : 1)].count += 1
            if let before {
                var hasher = Hasher()
                hasher.combine(before)
                hasher.combine(hash)
                counts[hasher.finalize(), default: (0, 0.5)].count += 1
            }
            before = hash
            words += 1
            return words < VerdictLimits.wordsMax
        }
        weights.reserveCapacity(counts.count)
        for (dimension, value) in counts {
            let weight = value.factor * (1 + log(value.count))
            weights[dimension] = weight
            square += weight * weight
        }
    }

    /// The cosine of the angle between the two, 0 to 1; 0 where one of them has no words.
    func similarity(to other: LexicalText) -> Double {
        guard square > 0, other.square > 0 else { return 0 }
        let (small, large) =
            weights.count <= other.weights.count
            ? (weights, other.weights) : (other.weights, weights)
        let product = small.reduce(0.0) { $0 + $1.value * (large[$1.key] ?? 0) }
        return min(1, max(0, product / (square * other.square).squareRoot()))
    }

    /// Calls `body` with each word in lower case, until it returns false.
    private static func forEachWord(_ text: String, _ body: (String) -> Bool) {
        var word = ""
        for scalar in text.unicodeScalars {
            let isPart =
                scalar.isASCII
                ? isLetterOrDigit(UInt8(scalar.value))
                : scalar.properties.isAlphabetic
                    || scalar.properties.numericType != nil
            let isAlone = isPart && scalar.properties.isIdeographic
            if !isPart || isAlone {
                if !word.isEmpty, !body(word) { return }
                word.removeAll(keepingCapacity: true)
            }
            guard isPart else { continue }
            if scalar.isASCII {
                let byte = UInt8(scalar.value)
                word.unicodeScalars.append(
                    Unicode.Scalar(byte &- 0x41 < 26 ? byte | 0x20 : byte))
            } else {
                word += scalar.properties.lowercaseMapping
            }
            if isAlone {
                if !body(word) { return }
                word.removeAll(keepingCapacity: true)
            }
        }
        if !word.isEmpty { _ = body(word) }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26
    }
}
