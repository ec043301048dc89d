/// `host [":" port]` as Host and absolute-form carry it (RFC 9110 §7.2, RFC 3986 §3.2).
///
/// Stricter than the grammar where two spellings of one host, or two hosts in one spelling, would
/// let a peer route the message elsewhere: no user information, no percent-encoding, no comma, no
/// IPvFuture, no zone.
enum Authority {
    /// True where `range` is a host, with a port if `:` follows.
    @inline(__always)
    static func isValid(_ bytes: Bytes, _ range: ByteRange) -> Bool {
        guard !range.isEmpty else { return false }
        // Nearly every host is letters, digits, hyphens and dots, and ends there or at its port.
        let stop = bytes.firstNotHost(from: range.start)
        if stop >= range.end { return true }
        if stop > range.start, bytes[stop] == 0x3A {
            return isPort(bytes, stop &+ 1, range.end)
        }
        return isRareValid(bytes, range, stop: stop)
    }

    /// True where `range` is `host ":" port`, the port not empty: the target of CONNECT
    /// (RFC 9112 §3.2.3).
    static func isValidWithPort(_ bytes: Bytes, _ range: ByteRange) -> Bool {
        guard isValid(bytes, range) else { return false }
        var digits = range.end
        while digits > range.start, Bytes.isDigit(bytes[digits - 1]) { digits -= 1 }
        return digits < range.end && digits > range.start && bytes[digits - 1] == 0x3A
    }

    @inline(never)
    private static func isRareValid(_ bytes: Bytes, _ range: ByteRange, stop: Int) -> Bool {
        var end: Int
        if bytes[range.start] == 0x5B {
            end = range.start + 1
            while end < range.end, bytes[end] != 0x5D { end += 1 }
            guard end < range.end, isIPv6(bytes, range.start + 1, end) else { return false }
            end += 1
        } else {
            end = stop
            while end < range.end, isHostByte(bytes[end]) { end += 1 }
            guard end > range.start else { return false }
        }
        if end == range.end { return true }
        return bytes[end] == 0x3A && isPort(bytes, end + 1, range.end)
    }

    // reg-name without pct-encoded and without the comma.
    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true  // 0-9 A-Z a-z
        case 0x2D, 0x2E, 0x5F, 0x7E: true  // - . _ ~
        case 0x21, 0x24, 0x26...0x2B, 0x3B, 0x3D: true  // ! $ & ' ( ) * + ; =
        default: false
        }
    }

    // `host:` with nothing behind is allowed by the grammar and means the default port.
    private static func isPort(_ bytes: Bytes, _ start: Int, _ end: Int) -> Bool {
        guard end - start <= 5 else { return false }
        var port = 0
        for index in start..<end {
            guard Bytes.isDigit(bytes[index]) else { return false }
            port = port * 10 + Int(bytes[index] - 0x30)
        }
        return port <= 65_535
    }

    /// IPv6address of RFC 3986 §3.2.2: eight groups, or fewer around one `::`, the last two perhaps
    /// written as an IPv4 address.
    private static func isIPv6(_ bytes: Bytes, _ start: Int, _ end: Int) -> Bool {
        var index = start
        var groups = 0
        var elided = false
        if end - start >= 2, bytes[start] == 0x3A, bytes[start + 1] == 0x3A {
            elided = true
            index += 2
            if index == end { return true }
        }
        while true {
            let first = index
            while index < end, isHex(bytes[index]) { index += 1 }
            if index < end, bytes[index] == 0x2E {
                guard isIPv4(bytes, first, end) else { return false }
                groups += 2
                break
            }
            guard index > first, index - first <= 4 else { return false }
            groups += 1
            if index == end { break }
            guard bytes[index] == 0x3A, groups < 8 else { return false }
            index += 1
            if index < end, bytes[index] == 0x3A {
                guard !elided else { return false }
                elided = true
                index += 1
                if index == end { break }
            }
        }
        // `::` stands for at least one group.
        return elided ? groups <= 7 : groups == 8
    }

    private static func isIPv4(_ bytes: Bytes, _ start: Int, _ end: Int) -> Bool {
        var index = start
        for part in 0..<4 {
            let first = index
            var value = 0
            while index < end, Bytes.isDigit(bytes[index]), index - first < 3 {
                value = value * 10 + Int(bytes[index] - 0x30)
                index += 1
            }
            guard index > first, value <= 255 else { return false }
            if index - first > 1, bytes[first] == 0x30 { return false }
            if part < 3 {
                guard index < end, bytes[index] == 0x2E else { return false }
                index += 1
            }
        }
        return index == end
    }

    private static func isHex(_ byte: UInt8) -> Bool {
        Bytes.isDigit(byte) || Bytes.lower(byte) &- 0x61 < 6
    }
}
