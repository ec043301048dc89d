/// The name or the value of a field, to be compared with words: these are in lower case, and ASCII
/// letters are the same in both cases.
///
/// Byte by byte: for the few fields that `FieldName` does not know. Valid as long as its bytes.
public struct FieldText {
    /// What is compared.
    public let bytes: UnsafeRawBufferPointer

    /// The text that `bytes` are.
    @inlinable
    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// The text at `range` of the head that begins at `head`.
    @inlinable
    public init(_ range: ByteRange, of head: UnsafeRawPointer) {
        bytes = range.bytes(from: head)
    }

    /// Whether it is `word`.
    @inlinable
    public func equals(_ word: StaticString) -> Bool {
        bytes.count == word.utf8CodeUnitCount && hasPrefix(word)
    }

    /// Whether it is `word`, `_` read as `-`: many servers take `X_API_KEY` for `X-Api-Key`.
    @inlinable
    public func equalsFolded(_ word: StaticString) -> Bool {
        bytes.count == word.utf8CodeUnitCount && begins(with: word, folding: true)
    }

    /// Whether it begins with `word`.
    @inlinable
    public func hasPrefix(_ word: StaticString) -> Bool { begins(with: word, folding: false) }

    @inlinable
    func begins(with word: StaticString, folding: Bool) -> Bool {
        guard bytes.count >= word.utf8CodeUnitCount else { return false }
        for index in 0..<word.utf8CodeUnitCount {
            var byte = bytes[index]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            if folding, byte == UInt8(ascii: "_") { byte = UInt8(ascii: "-") }
            if byte != word.utf8Start[index] { return false }
        }
        return true
    }
}
