/// Which names say that what follows them is a secret: fields, query members, path parameters.
///
/// In doubt a name counts as secret. A copy that lost a harmless field is a small loss, and
/// `safety.allow_fields` brings it back; a credential at the shadow cannot be called back.
enum SecretNames {
    /// Words that make every name a secret one that contains them.
    static let words = [
        "secret", "session", "sessid", "signature", "saml", "password", "passwd", "passphrase",
        "private-key", "privatekey", "api-key", "apikey", "access-key", "accesskey", "authoriz",
        "authoris", "authentic", "assertion", "credential", "csrf", "cookie", "client-cert",
        "clientcert", "xsrf", "hmac", "jwt", "bearer", "oauth", "oidc",
    ]
    /// And those that do so in fields: in a query they may be `max_tokens`.
    static let fieldWords = words + ["token"]

    /// Members of a query, a fragment or a path's parameters that are secrets under this very name.
    static let members = [
        "key", "sig", "code", "auth", "pass", "pwd", "passcode", "pin", "otp", "totp", "sid",
        "ticket", "code-verifier", "hdnts", "hdnea",
    ]

    /// Fields that carry what proves who the client is, or that would let the shadow act for it,
    /// besides those with one of `fieldWords`.
    static func isSecretField(_ name: Name) -> Bool {
        if name.hasPrefix("x-auth") || name.hasPrefix("auth-") || name.equals("auth") {
            return true
        }
        if name.hasPrefix("cf-access-") || name.hasPrefix("x-vault-") { return true }
        if name.hasPrefix("ssl-client-") || name.hasPrefix("x-ssl-client-") { return true }
        if name.hasPrefix("x-client-verify") || name.hasPrefix("x-ms-client-principal") {
            return true
        }
        if name.hasSuffix("-key") || name.hasSuffix("-auth") || name.hasSuffix("-otp") {
            return true
        }
        return name.equals("dpop") || name.equals("x-goog-iap-email") || name.equals("x-pin")
    }

    /// Fields that make the copy do more than the request says: an override turns a read into a
    /// write, an idempotency key joins the copy to the user's own write.
    static func isSideEffectField(_ name: Name) -> Bool {
        name.hasSuffix("idempotency-key") || name.hasSuffix("method-override")
            || name.equals("x-http-method") || name.equals("x-original-method")
            || name.equals("x-rewrite-method") || name.equals("x-forwarded-method")
    }

    /// Members whose value is a secret, besides `members` and those with one of `words`.
    static func isSecretMember(_ name: Name) -> Bool {
        if name.hasSuffix("token") || name.hasPrefix("auth-") { return true }
        if name.hasSuffix("-key") || name.hasSuffix("-sig") || name.hasSuffix("-pwd") {
            return true
        }
        return name.hasSuffix("-otp") || name.hasSuffix("-auth") || name.hasSuffix("-pass")
    }

    /// A name in its plain form: lower case, `_` as `-` (many servers read `X_API_KEY` as
    /// `X-Api-Key`).
    struct Name {
        let bytes: UnsafeRawBufferPointer

        @inline(__always)
        func equals(_ text: StaticString) -> Bool {
            bytes.count == text.utf8CodeUnitCount && matches(text, at: 0)
        }

        @inline(__always)
        func hasPrefix(_ text: StaticString) -> Bool {
            bytes.count >= text.utf8CodeUnitCount && matches(text, at: 0)
        }

        @inline(__always)
        func hasSuffix(_ text: StaticString) -> Bool {
            bytes.count >= text.utf8CodeUnitCount
                && matches(text, at: bytes.count - text.utf8CodeUnitCount)
        }

        @inline(__always)
        private func matches(_ text: StaticString, at start: Int) -> Bool {
            var index = 0
            while index < text.utf8CodeUnitCount {
                if bytes[start + index] != text.utf8Start[index] { return false }
                index += 1
            }
            return true
        }
    }
}

/// Words that a name is searched for, in lists by their first letter.
///
/// Most letters of most names begin no word, so that a search is little more than a walk over the
/// name; as a plain list of literals it cost 20 µs a head.
struct WordTable: ~Copyable {
    private let bytes: UnsafeMutablePointer<UInt8>
    /// Where each word starts in `bytes`, in the order of first letters; one more for the end.
    private let starts: UnsafeMutablePointer<Int>
    /// By letter, the first of its words; one more for the end.
    private let firstWords: UnsafeMutablePointer<Int>

    /// - Parameter words: of lower-case letters and hyphens, each beginning with a letter.
    init(_ words: [String]) {
        let sorted = words.sorted()
        bytes = .allocate(capacity: sorted.reduce(1) { $0 + $1.utf8.count })
        starts = .allocate(capacity: sorted.count + 1)
        firstWords = .allocate(capacity: 27)
        firstWords.initialize(repeating: sorted.count, count: 27)
        var position = 0
        for (index, word) in sorted.enumerated() {
            starts[index] = position
            for byte in word.utf8 {
                bytes[position] = byte
                position += 1
            }
            let letter = Int(bytes[starts[index]]) - 0x61
            for later in 0...letter where firstWords[later] > index { firstWords[later] = index }
        }
        starts[sorted.count] = position
    }

    deinit {
        bytes.deallocate()
        starts.deallocate()
        firstWords.deallocate()
    }

    /// Whether one of the words stands anywhere in `name`.
    func occurs(in name: UnsafeRawBufferPointer) -> Bool {
        guard let base = name.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
        for position in 0..<name.count {
            let letter = Int(base[position] &- 0x61)
            guard letter < 26 else { continue }
            let last = firstWords[letter + 1]
            var word = firstWords[letter]
            while word < last {
                if stands(word, at: base + position, room: name.count - position) { return true }
                word += 1
            }
        }
        return false
    }

    @inline(__always)
    private func stands(_ word: Int, at place: UnsafePointer<UInt8>, room: Int) -> Bool {
        let text = bytes + starts[word]
        let count = starts[word + 1] - starts[word]
        guard count <= room else { return false }
        // The first letter is the same already.
        for index in 1..<count where place[index] != text[index] { return false }
        return true
    }
}

/// For pages that people see: whether a field's name says that its value is a secret.
public enum SecretField {
    /// By the names that the sanitiser goes by. `name` in any case.
    public static func isSecret(_ name: String) -> Bool {
        let plain = name.lowercased().map { $0 == "_" ? "-" : $0 }
        var bytes = Array(String(plain).utf8)
        return bytes.withUnsafeMutableBytes { raw in
            let name = UnsafeRawBufferPointer(raw)
            return WordTable(SecretNames.fieldWords).occurs(in: name)
                || SecretNames.isSecretField(SecretNames.Name(bytes: name))
        }
    }
}
