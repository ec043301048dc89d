/// Tells pictures, sound and files from texts.
public enum EncodedText {
    /// Whether a text is base64 and nothing else, with or without `data:…;base64,` in front, and
    /// longer than anything that somebody writes.
    static func holds(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count >= Limits.encodedBytesMin else { return false }
        return isBase64(UnsafeRawBufferPointer(rebasing: text[(dataURLContent(text) ?? 0)...]))
    }

    /// Whether a text is a `data:` URL (RFC 2397) whose content is said to be base64.
    public static func isDataURL(_ text: UnsafeRawBufferPointer) -> Bool {
        dataURLContent(text) != nil
    }

    /// Where such a URL's content begins.
    private static func dataURLContent(_ text: UnsafeRawBufferPointer) -> Int? {
        let head = text.prefix(Limits.dataURLHeadBytesMax)
        guard isWord("data:", head.prefix(5)),
            let comma = head.firstIndex(of: UInt8(ascii: ",")),
            isWord(";base64", head[..<comma].suffix(7))
        else { return nil }
        return comma + 1
    }

    /// Whether some bytes are `word`, in letters of either case.
    private static func isWord(_ word: StaticString, _ bytes: Slice<UnsafeRawBufferPointer>) -> Bool
    {
        let wanted = UnsafeRawBufferPointer(
            start: word.utf8Start, count: word.utf8CodeUnitCount)
        return bytes.count == wanted.count
            && zip(bytes, wanted).allSatisfy { $0 == $1 || ($0 | 0x20 == $1 && $1 >= 0x61) }
    }

    /// Whether a text has base64's letters alone.
    public static func isBase64(_ text: UnsafeRawBufferPointer) -> Bool {
        text.allSatisfy { byte in
            byte &- 0x30 < 10 || (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "+")
                || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "=")
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
        }
    }
}
