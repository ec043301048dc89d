/// The secret that an `Authorization: Bearer` field must carry (RFC 6750 §2.1).
struct BearerToken {
    private let secret: [UInt8]

    /// The token `text`. An empty one fits nothing.
    init(_ text: String) { secret = Array(text.utf8) }

    /// Whether the value of an Authorization field carries this token. The time it takes depends on
    /// the value's length only, so that it cannot be guessed byte by byte.
    func fits(_ value: UnsafeRawBufferPointer) -> Bool {
        let scheme = Array("bearer".utf8)
        guard value.count > scheme.count, value[scheme.count] == 0x20,
            zip(value, scheme).allSatisfy({ ($0 | 0x20) == $1 })
        else { return false }
        // 1*SP stands between scheme and token (RFC 9110 §11.4).
        let start = value[scheme.count...].firstIndex { $0 != 0x20 } ?? value.endIndex
        return fits(token: UnsafeRawBufferPointer(rebasing: value[start...]))
    }

    private func fits(token: UnsafeRawBufferPointer) -> Bool {
        guard !secret.isEmpty else { return false }
        var difference: UInt8 = token.count == secret.count ? 0 : 1
        var place = 0
        for byte in token {
            difference |= byte ^ secret[place]
            place = place + 1 == secret.count ? 0 : place + 1
        }
        return difference == 0
    }
}
