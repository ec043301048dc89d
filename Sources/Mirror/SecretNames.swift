/// Which names say that what follows them is a secret: fields, query members, path parameters.
///
/// In doubt a name counts as secret. A copy that lost a harmless field is a small loss, and
/// `safety.allow_fields` brings it back; a credential at the shadow cannot be called back.
enum SecretNames {
    /// A name in its plain form: lower case, `_` as `-` (many servers read `X_API_KEY` as
    /// `X-Api-Key`).
    struct Name {
        let bytes: UnsafeRawBufferPointer

        func equals(_ text: StaticString) -> Bool {
            bytes.count == text.utf8CodeUnitCount && matches(text, at: 0)
        }

        func hasPrefix(_ text: StaticString) -> Bool {
            bytes.count >= text.utf8CodeUnitCount && matches(text, at: 0)
        }

        func hasSuffix(_ text: StaticString) -> Bool {
            bytes.count >= text.utf8CodeUnitCount
                && matches(text, at: bytes.count - text.utf8CodeUnitCount)
        }

        /// Whether `text` stands at `start`, which leaves room for it.
        @inline(__always)
        func matches(_ text: StaticString, at start: Int) -> Bool {
            var index = 0
            while index < text.utf8CodeUnitCount {
                if bytes[start + index] != text.utf8Start[index] { return false }
                index += 1
            }
            return true
        }
    }

    /// Fields that carry what proves who the client is, or that would let the shadow act for it.
    static func isSecretField(_ name: Name) -> Bool {
        if containsSecretWord(name) || contains(name, "token") { return true }
        if name.hasPrefix("x-auth") || name.hasPrefix("auth-") || name.equals("auth") { return true }
        if name.hasPrefix("cf-access-") || name.hasPrefix("x-vault-") { return true }
        if name.hasPrefix("ssl-client-") || name.hasPrefix("x-ssl-client-") { return true }
        if name.hasPrefix("x-client-verify") || name.hasPrefix("x-ms-client-principal") { return true }
        if name.hasSuffix("-key") || name.hasSuffix("-auth") || name.hasSuffix("-otp") { return true }
        return name.equals("dpop") || name.equals("x-goog-iap-email") || name.equals("x-pin")
    }

    /// Fields that make the copy do more than the request says: an override turns a read into a
    /// write, an idempotency key joins the copy to the user's own write.
    static func isSideEffectField(_ name: Name) -> Bool {
        name.hasSuffix("idempotency-key") || name.hasSuffix("method-override")
            || name.equals("x-http-method") || name.equals("x-original-method")
            || name.equals("x-rewrite-method") || name.equals("x-forwarded-method")
    }

    /// Members of a query, a fragment or a path's parameters whose value is a secret.
    static func isSecretMember(_ name: Name) -> Bool {
        if containsSecretWord(name) || name.hasSuffix("token") { return true }
        if name.hasSuffix("-key") || name.hasSuffix("-sig") || name.hasSuffix("-pwd") { return true }
        if name.hasSuffix("-otp") || name.hasSuffix("-auth") || name.hasSuffix("-pass") { return true }
        if name.hasPrefix("auth-") { return true }
        let exact = Self.exactMembers
        for index in exact.indices where name.equals(exact[index]) { return true }
        return false
    }

    private static var exactMembers: InlineArray<15, StaticString> {
        [
            "key", "sig", "code", "auth", "pass", "pwd", "passcode", "pin", "otp", "totp", "sid",
            "ticket", "code-verifier", "hdnts", "hdnea",
        ]
    }

    /// Words that make every name a secret one that contains them.
    private static var words: InlineArray<27, StaticString> {
        [
            "secret", "session", "sessid", "signature", "saml", "password", "passwd", "passphrase",
            "private-key", "privatekey", "api-key", "apikey", "access-key", "accesskey", "authoriz",
            "authoris", "authentic", "assertion", "credential", "csrf", "cookie", "client-cert",
            "clientcert", "xsrf", "hmac", "jwt", "bearer",
        ]
    }

    private static func containsSecretWord(_ name: Name) -> Bool {
        if contains(name, "oauth") || contains(name, "oidc") { return true }
        let words = Self.words
        // The letters that the words start with: most places of most names need no further look.
        let firsts: UInt32 = bits("abcjhpsx")
        var start = 0
        while start + 3 <= name.bytes.count {
            let letter = name.bytes[start] &- 0x61
            if letter < 26, firsts &>> UInt32(letter) & 1 == 1 {
                for index in words.indices
                where words[index].utf8CodeUnitCount <= name.bytes.count - start
                    && name.matches(words[index], at: start)
                {
                    return true
                }
            }
            start += 1
        }
        return false
    }

    private static func bits(_ letters: StaticString) -> UInt32 {
        var bits: UInt32 = 0
        for index in 0..<letters.utf8CodeUnitCount {
            bits |= 1 << UInt32(letters.utf8Start[index] - 0x61)
        }
        return bits
    }

    private static func contains(_ name: Name, _ text: StaticString) -> Bool {
        var start = 0
        while start + text.utf8CodeUnitCount <= name.bytes.count {
            if name.matches(text, at: start) { return true }
            start += 1
        }
        return false
    }
}
