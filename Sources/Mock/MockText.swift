import CoreLoop

/// Texts and tokens that follow from a prompt and a seed, and from nothing else.
enum MockText {
    /// What a model might say of anything. Each model takes some, in an order of its own, so that
    /// two of them answer alike but not the same.
    private static let sentences = [
        "In short, % is easier to understand by what it changes than by what it is.",
        "% describes a trade between what is quick today and what stays cheap tomorrow.",
        "The main idea behind % is to make each part do one thing and to say so.",
        "People who work with % usually begin with a small example and measure it.",
        "A common mistake with % is to treat the symptom and to leave its cause.",
        "There are three things to know about %: what it costs, who pays, and when.",
        "When % grows, the cost of every later change grows with it.",
        "It helps to write down the decisions about % while their reasons are still known.",
        "Teams that plan for % early spend less time on it later.",
        "% is not good or bad in itself; it depends on what it is used for.",
        "The usual way to deal with % is to make it visible, to rank it, and to pay it back.",
        "A good test of % is whether a newcomer can explain it after a day.",
        "For example, a service that ignores % works well until the first busy day.",
        "Compared with the alternatives, % asks for more thought and less code.",
        "Finally, % should be reviewed from time to time, because what surrounds it changes.",
        "In practice % is a matter of habits more than of tools.",
    ]

    /// A hash of bytes that is the same in every process (FNV-1a).
    static func hash(_ bytes: some Sequence<UInt8>, seed: UInt64 = 0) -> UInt64 {
        var value = 0xCBF2_9CE4_8422_2325 ^ seed
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return value
    }

    /// An answer to `prompt`.
    static func answer(to prompt: String, seed: UInt64) -> String {
        let topic = topic(of: prompt)
        var random = FastRandom(seed: hash(prompt.utf8, seed: seed))
        var left = sentences
        var chosen: [String] = []
        for _ in 0..<Int.random(in: 4...8, using: &random) {
            let sentence = left.remove(at: Int.random(in: left.indices, using: &random))
            let isFirst = sentence.first == "%"
            chosen.append(replace(sentence, with: isFirst ? capitalised(topic) : topic))
        }
        return chosen.joined(separator: " ")
    }

    private static func replace(_ sentence: String, with topic: String) -> String {
        let parts = sentence.split(separator: "%", omittingEmptySubsequences: false)
        return parts.joined(separator: topic)
    }

    private static func capitalised(_ text: String) -> String {
        text.prefix(1).uppercased() + text.dropFirst()
    }

    /// The two longest words of a prompt, in its order.
    private static func topic(of prompt: String) -> String {
        let words = prompt.prefix(2_000).split { !$0.isLetter && !$0.isNumber }
        let longest = words.enumerated().sorted {
            ($0.element.count, $1.offset) > ($1.element.count, $0.offset)
        }.prefix(2).sorted { $0.offset < $1.offset }
        return longest.isEmpty ? "this" : longest.map(\.element).joined(separator: " ").lowercased()
    }

    /// A text in tokens, which joined are the text: words with the space before them, long ones in
    /// pieces, and no character divided.
    static func tokens(_ text: String) -> [String] {
        var tokens: [String] = []
        var token = ""
        var length = 0
        for character in text {
            let isBreak = character == " " || character == "\n"
            if length > 0, isBreak || length == 6 {
                tokens.append(token)
                token = ""
                length = 0
            }
            token.append(character)
            length += 1
        }
        if length > 0 { tokens.append(token) }
        return tokens
    }

    /// About as many as a tokenizer finds in so many bytes.
    static func count(bytes: Int) -> Int { (bytes + 3) / 4 }

    /// An id of `count` letters and digits.
    static func id(_ count: Int, _ random: inout FastRandom) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8)
        let bytes = (0..<count).map { _ in letters[Int.random(in: letters.indices, using: &random)]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
