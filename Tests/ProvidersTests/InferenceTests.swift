import Testing

@testable import Providers

@Suite struct InferenceTests {
    static let paths: [(String, Inference?)] = [
        ("/v1/chat/completions", .chat), ("/chat/completions", .chat),
        ("/openai/deployments/x/chat/completions?api-version=1&messages", .chat),
        ("/v1/completions", .completions), ("/v1/responses", .responses),
        ("/v1/embeddings", .embeddings), ("/v1/messages", .messages),
        ("/v1/messages?beta=true", .messages), ("/messages", .messages),
        ("/v1/threads/messages", .messages),
        // Writes, other reads, and what only looks like one.
        ("/v1/threads/thread_1/messages", nil), ("/v1/threads/thread_1/messages?a=/messages", nil),
        ("/v1/messages/count_tokens", nil), ("/v1/messages/batches", nil),
        ("/v1/responses/r_1/cancel", nil), ("/v1/messages/", nil), ("/v1/my-messages", nil),
        ("messages", nil), ("/v1/files", nil), ("/v1/models", nil), ("/a?/v1/messages", nil),
        ("/", nil), ("", nil), ("?", nil), ("*", nil), ("/v1/chat/Completions", nil),
    ]

    @Test(arguments: paths) func tellsWhatAPathAsks(_ path: String, _ wanted: Inference?) {
        let found = Array(path.utf8).withUnsafeBytes { Inference(path: $0) }
        #expect(found == wanted)
    }

    @Test func counterpartsAreMutual() {
        for one in Inference.allCases {
            guard let other = one.counterpart else { continue }
            #expect(other.counterpart == one && other.dialect != one.dialect)
        }
    }
}
