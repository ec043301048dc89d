import Providers
import Testing

@testable import Upstream

@Suite struct ProviderKeyTests {
    static let rows: [(String, String?)] = [
        ("sk-1", "sk-1"), (" \t sk-1\r\n", "sk-1"), ("", nil), (" \n", nil), ("two words", nil),
        ("a\r\nX-Evil: b", nil), ("caf\u{e9}", nil), ("a\u{7f}", nil),
        (
            String(repeating: "k", count: UpstreamLimits.keyBytesMax),
            String(repeating: "k", count: 4_096)
        ),
        (String(repeating: "k", count: UpstreamLimits.keyBytesMax + 1), nil),
    ]

    /// What cannot stand in a field is no key: it could end the line and begin another.
    @Test(arguments: rows) func reads(_ text: String, _ wanted: String?) {
        #expect(ProviderKey(Array(text.utf8))?.text == wanted)
    }

    @Test func describesItselfAsNothing() throws {
        let key = try #require(ProviderKey(Array("sk-secret".utf8)))
        #expect(!"\(key)".contains("secret"))
        var provider = ProviderSettings(.openAI)
        provider.key = key
        #expect(!"\(provider)".contains("secret"))
        #expect(provider.keyLine == "Authorization: Bearer sk-secret\r\n")
        #expect(!provider.lacksKey)
        provider.key = nil
        provider.keySource = .variable("A")
        #expect(provider.lacksKey && provider.keyLine == "")
    }
}
