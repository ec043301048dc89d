import Testing

@testable import Verdict

@Suite struct EmbedderTests {
    private func similarity(_ one: String, _ other: String) -> Double {
        let there = Embedder.lexical.similarity(one, other)
        let back = Embedder.lexical.similarity(other, one)
        #expect(abs(there - back) < 1e-9)
        return there
    }

    @Test(arguments: [
        "", "a", "Kubernetes is a system.", "…!?", "日本語の文章です", "🙂🙂", "\u{0}\u{1F}",
    ])
    func equalTextsAreTheSame(text: String) {
        #expect(similarity(text, text) == 1)
    }

    @Test(arguments: [
        ("", "words"), ("…", "words"), ("one two three four", "five six seven eight"),
        ("日本語", "中国"),
    ])
    func nothingInCommonIsNothing(one: String, other: String) {
        #expect(similarity(one, other) == 0)
    }

    /// Case, punctuation and white space do not count; digits and letters of all scripts do.
    @Test(arguments: [
        ("Hello, World!", "hello world"), ("A\n\n- B", "a b"), ("ÄPFEL", "äpfel"),
        ("ΣΊΓΜΑ", "σίγμα"), ("x=1", "X 1"),
    ])
    func spellingDoesNotCount(one: String, other: String) {
        #expect(similarity(one, other) > 0.999_999)
    }

    @Test func theOrderCounts() {
        let same = similarity(
            "the shadow answers before the primary", "the primary answers before the shadow")
        #expect(same > 0.7 && same < 0.999)
    }

    /// A reworded answer is nearer than one about something else.
    @Test func nearerIsNearer() {
        let base =
            "Technical debt is the cost of choosing a quick solution now over a better approach."
        let reworded =
            "Technical debt describes the cost of a quick solution chosen over a better one."
        let other =
            "Kubernetes schedules containers on the nodes of a cluster and restarts those that fail."
        let (near, far) = (similarity(base, reworded), similarity(base, other))
        #expect(near > 0.4 && far < 0.15)
        #expect(near > far + 0.3)
    }

    @Test func longTextsAreBounded() {
        let long = String(repeating: "word another ", count: 100_000)
        #expect(similarity(long, long + "end") > 0.99)
    }
}
