/// Keys and tokens by the forms that their issuers give them.
enum SecretForms {
    private struct Form {
        let prefix: StaticString
        /// Bytes behind the prefix, at least.
        let least: Int
    }

    /// As the issuers document them, and as secret scanners look for them.
    private static let forms: [Form] = [
        Form(prefix: "sk-", least: 20), Form(prefix: "sk_live_", least: 16),
        Form(prefix: "sk_test_", least: 16), Form(prefix: "rk_live_", least: 16),
        Form(prefix: "whsec_", least: 24), Form(prefix: "AKIA", least: 16),
        Form(prefix: "ASIA", least: 16), Form(prefix: "AIza", least: 35),
        Form(prefix: "ya29.", least: 20), Form(prefix: "ghp_", least: 36),
        Form(prefix: "gho_", least: 36), Form(prefix: "ghu_", least: 36),
        Form(prefix: "ghs_", least: 36), Form(prefix: "ghr_", least: 36),
        Form(prefix: "github_pat_", least: 22), Form(prefix: "glpat-", least: 20),
        Form(prefix: "xoxb-", least: 16), Form(prefix: "xoxp-", least: 16),
        Form(prefix: "xoxa-", least: 16), Form(prefix: "xoxs-", least: 16),
        Form(prefix: "xoxe-", least: 16), Form(prefix: "xapp-", least: 16),
        Form(prefix: "npm_", least: 36), Form(prefix: "pypi-", least: 32),
        Form(prefix: "hf_", least: 30), Form(prefix: "SG.", least: 40),
        Form(prefix: "gsk_", least: 40), Form(prefix: "dop_v1_", least: 64),
        Form(prefix: "shpat_", least: 32), Form(prefix: "xai-", least: 40),
    ]

    /// What a key may begin with, and go on with: few words do.
    private static let (firstBytes, secondBytes): (ByteSet, ByteSet) = {
        var sets = (ByteSet(), ByteSet())
        // Besides the forms a web token's `eyJ`, and `bearer` in either case.
        for prefix in forms.map(\.prefix) + ["ey", "be", "BE", "Be", "bE"] {
            sets.0.insert(prefix.utf8Start[0])
            sets.1.insert(prefix.utf8Start[1])
        }
        return sets
    }()

    /// The range of a key that begins at `place`, where a word does; nil where none does. `next` is
    /// moved behind what holds no key, so that no byte is looked at again and again.
    static func find(_ text: TextBytes, at place: Int, next: inout Int) -> Range<Int>? {
        let first = text[place]
        guard firstBytes.contains(first), secondBytes.contains(text[place + 1]) else { return nil }
        for form in forms
        where form.prefix.utf8Start[0] == first && text.hasExactly(form.prefix, at: place) {
            let start = place + form.prefix.utf8CodeUnitCount
            let end = tokenEnd(text, from: start)
            guard end - start >= form.least else { continue }
            if hasDigit(text, start..<end) { return place..<end }
            next = max(next, end)
        }
        if text.hasExactly("eyJ", at: place) { return webToken(text, at: place, next: &next) }
        if text.has("bearer ", at: place) {
            var end = place + 7
            while isCredential(text[end]), end - place < Limits.tokenBytesMax { end += 1 }
            let range = (place + 7)..<end
            return range.count >= 20 && hasDigit(text, range) ? range : nil
        }
        return nil
    }

    /// A JSON Web Token (RFC 7519): three parts of base64url, the first of which is an object.
    private static func webToken(
        _ text: TextBytes, at place: Int, next: inout Int
    ) -> Range<Int>? {
        var end = place
        for part in 0..<3 {
            let start = end
            while isBase64URL(text[end]), end - place < Limits.tokenBytesMax { end += 1 }
            if part == 0 { next = max(next, end) }
            guard end - start >= 10 else { return nil }
            if part < 2 {
                guard text[end] == UInt8(ascii: ".") else { return nil }
                end += 1
            }
        }
        return place..<end
    }

    /// A private key in PEM (RFC 7468), from its first line to its last, or to the text's end.
    static func privateKey(_ text: TextBytes, at place: Int) -> Range<Int>? {
        guard text.hasExactly("-----BEGIN ", at: place) else { return nil }
        var at = place + 11
        while at < place + 40, !text.hasExactly("PRIVATE KEY-----", at: at) { at += 1 }
        guard text.hasExactly("PRIVATE KEY-----", at: at) else { return nil }
        while at < text.count {
            if text.hasExactly("-----END ", at: at) {
                var end = at + 9
                while end < text.count, end < at + 60, !text.hasExactly("-----", at: end) {
                    end += 1
                }
                return place..<min(text.count, end + 5)
            }
            at += 1
        }
        return place..<text.count
    }

    /// The password of `scheme://user:password@host`, whose `@` is at `place`.
    static func password(_ text: TextBytes, at place: Int) -> Range<Int>? {
        var colon: Int?
        var at = place - 1
        while at >= 0, place - at < 256 {
            switch text[at] {
            case UInt8(ascii: "/"):
                guard let colon, text.hasExactly("://", at: at - 2), colon + 1 < place else {
                    return nil
                }
                return (colon + 1)..<place
            case UInt8(ascii: ":"): colon = at
            case 0...0x20, UInt8(ascii: "@"), UInt8(ascii: "\""), UInt8(ascii: "<"): return nil
            default: break
            }
            at -= 1
        }
        return nil
    }

    private static func tokenEnd(_ text: TextBytes, from start: Int) -> Int {
        var end = start
        while isBase64URL(text[end])
            || (text[end] == UInt8(ascii: ".") && isBase64URL(text[end + 1])),
            end - start < Limits.tokenBytesMax
        {
            end += 1
        }
        return end
    }

    private static func hasDigit(_ text: TextBytes, _ range: Range<Int>) -> Bool {
        range.contains { text.isDigit($0) }
    }

    private static func isBase64URL(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "-")
            || byte == UInt8(ascii: "_")
    }

    private static func isCredential(_ byte: UInt8) -> Bool {
        isBase64URL(byte) || ".~+/=".utf8.contains(byte)
    }
}
