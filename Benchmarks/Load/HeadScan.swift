import CLinux

/// What became of looking for a head in some bytes.
enum HeadOutcome { case complete, incomplete, bad }

/// The little that load generator and origin read of a message's head.
///
/// This is a measuring tool's reader, not the proxy's: it trusts its peers to write well-formed
/// fields, so that it costs some 50 ns a message.
struct HeadScan {
    /// Bytes up to and with the empty line.
    var headBytes = 0
    /// Bytes of the first line without its CRLF.
    var startLineBytes = 0
    /// -1 where there is none.
    var contentLength = -1
    var isChunked = false
    var closes = false
    var keepsAlive = false
    var expectsContinue = false
    /// `X-Umbra-Shadow` was there.
    var isShadow = false
    /// `X-Load-Serial`, `X-Load-Connection`; 0 where missing.
    var serial: UInt64 = 0
    var connection: UInt64 = 0

    private static let carriageReturn: UInt8 = 0x0D
    private static let lineFeed: UInt8 = 0x0A

    /// Reads the head at `base`. Changes nothing but this value.
    mutating func scan(_ base: UnsafePointer<UInt8>, _ count: Int) -> HeadOutcome {
        guard let first = memchr(base, Int32(Self.lineFeed), count) else { return .incomplete }
        var at = UnsafePointer(first.assumingMemoryBound(to: UInt8.self)) - base + 1
        guard at >= 2, base[at - 2] == Self.carriageReturn else { return .bad }
        startLineBytes = at - 2
        while true {
            guard at + 1 < count else { return .incomplete }
            let initial = base[at]
            if initial == Self.carriageReturn {
                guard base[at + 1] == Self.lineFeed else { return .bad }
                headBytes = at + 2
                return .complete
            }
            guard let end = memchr(base + at, Int32(Self.lineFeed), count - at) else {
                return .incomplete
            }
            let next = UnsafePointer(end.assumingMemoryBound(to: UInt8.self)) - base + 1
            guard readField(base + at, next - at - 1, initial | 0x20) else { return .bad }
            at = next
        }
    }

    /// One field line of `count` bytes, its CR included; `initial` is its first letter, lower case.
    @inline(__always)
    private mutating func readField(_ line: UnsafePointer<UInt8>, _ count: Int, _ initial: UInt8)
        -> Bool
    {
        switch initial {
        case UInt8(ascii: "c"):
            if Self.starts(line, count, "content-length:") {
                contentLength = Self.number(line + 15, count - 15)
                return contentLength >= 0
            }
            if Self.starts(line, count, "connection:") {
                closes = Self.contains(line + 11, count - 11, "close")
                keepsAlive = Self.contains(line + 11, count - 11, "keep-alive")
            }
        case UInt8(ascii: "t"):
            if Self.starts(line, count, "transfer-encoding:") {
                isChunked = Self.contains(line + 18, count - 18, "chunked")
            }
        case UInt8(ascii: "e"):
            if Self.starts(line, count, "expect:") {
                expectsContinue = Self.contains(line + 7, count - 7, "100-continue")
            }
        case UInt8(ascii: "x"):
            if Self.starts(line, count, "x-load-serial:") {
                serial = UInt64(max(0, Self.number(line + 14, count - 14)))
            } else if Self.starts(line, count, "x-load-connection:") {
                connection = UInt64(max(0, Self.number(line + 18, count - 18)))
            } else if Self.starts(line, count, "x-umbra-shadow:") {
                isShadow = true
            }
        default: break
        }
        return true
    }

    /// Whether the line starts with `name`, lower case and with its colon, in any case.
    @inline(__always)
    static func starts(_ line: UnsafePointer<UInt8>, _ count: Int, _ name: StaticString) -> Bool {
        let length = name.utf8CodeUnitCount
        guard count >= length else { return false }
        let pattern = name.utf8Start
        // The place of the colon tells most names apart, so look there first.
        guard line[length - 1] == pattern[length - 1] else { return false }
        var index = 0
        while index < length - 1 {
            // Setting bit 5 leaves dashes, colons and digits as they are.
            if line[index] | 0x20 != pattern[index] { return false }
            index += 1
        }
        return true
    }

    static func contains(_ text: UnsafePointer<UInt8>, _ count: Int, _ word: StaticString) -> Bool {
        let length = word.utf8CodeUnitCount
        var start = 0
        while start + length <= count {
            var index = 0
            while index < length, text[start + index] | 0x20 == word.utf8Start[index] { index += 1 }
            if index == length { return true }
            start += 1
        }
        return false
    }

    /// A decimal number after optional blanks; -1 where there is none or of more than 18 digits.
    static func number(_ text: UnsafePointer<UInt8>, _ count: Int) -> Int {
        var index = 0
        while index < count, text[index] == 0x20 || text[index] == 0x09 { index += 1 }
        var value = 0
        var digits = 0
        while index < count, text[index] >= 0x30, text[index] <= 0x39 {
            value = value &* 10 &+ Int(text[index] &- 0x30)
            digits += 1
            index += 1
        }
        return digits == 0 || digits > 18 ? -1 : value
    }
}
