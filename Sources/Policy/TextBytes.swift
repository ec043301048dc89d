/// A text's bytes, with a 0 before and behind them: what looks at neighbours needs no bounds.
struct TextBytes {
    let bytes: UnsafeRawBufferPointer

    var count: Int { bytes.count }

    @inline(__always) subscript(_ place: Int) -> UInt8 {
        place >= 0 && place < bytes.count ? bytes[place] : 0
    }

    func isDigit(_ place: Int) -> Bool { self[place] &- 0x30 < 10 }

    func isLetter(_ place: Int) -> Bool { (self[place] | 0x20) &- 0x61 < 26 }

    func isAlphanumeric(_ place: Int) -> Bool { isDigit(place) || isLetter(place) }

    /// A letter, a digit, `_`, or a byte of a character beyond ASCII's.
    func isWord(_ place: Int) -> Bool {
        isAlphanumeric(place) || self[place] == 0x5F || self[place] >= 0x80
    }

    /// Whether `text`, in lower case, stands at `place` in either case.
    func has(_ text: StaticString, at place: Int) -> Bool {
        guard place >= 0, place + text.utf8CodeUnitCount <= count else { return false }
        for index in 0..<text.utf8CodeUnitCount {
            var byte = self[place + index]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            if byte != text.utf8Start[index] { return false }
        }
        return true
    }

    /// The same with regard to case.
    func hasExactly(_ text: StaticString, at place: Int) -> Bool {
        guard place >= 0, place + text.utf8CodeUnitCount <= count else { return false }
        for index in 0..<text.utf8CodeUnitCount where self[place + index] != text.utf8Start[index] {
            return false
        }
        return true
    }
}
