import HTTP
import Testing

@Suite struct FieldTextTests {
    private func text<R>(_ string: String, _ body: (FieldText) -> R) -> R {
        Array(string.utf8).withUnsafeBytes { body(FieldText($0)) }
    }

    @Test(arguments: [
        ("x-api-key", true, true, true), ("X-API-Key", true, true, true),
        ("X_API_KEY", false, true, false), ("x-api-keys", false, false, true),
        ("x-api-ke", false, false, false), ("", false, false, false),
        ("x-api-ke\u{0B}", false, false, false),
    ])
    func comparesWithoutCase(_ name: String, isSame: Bool, isFolded: Bool, begins: Bool) {
        #expect(text(name) { $0.equals("x-api-key") } == isSame)
        #expect(text(name) { $0.equalsFolded("x-api-key") } == isFolded)
        #expect(text(name) { $0.hasPrefix("x-api-key") } == begins)
    }

    /// Only letters have two cases: `@` and `` ` `` differ by the same bit, `[` and `{` too.
    @Test func leavesOtherBytesAlone() {
        #expect(!text("@") { $0.equals("`") })
        #expect(!text("[") { $0.equals("{") })
        #expect(text("Z") { $0.equals("z") })
    }

    @Test func readsARangeOfAHead() {
        Array("Host: a\r\nRetry-After: 5".utf8).withUnsafeBytes {
            let name = FieldText(ByteRange(9, 20), of: $0.baseAddress!)
            #expect(name.equals("retry-after"))
        }
    }
}
