public import CLinux

/// An IPv4 or IPv6 address as one number, IPv4 as IPv6 carries it (`::ffff:a.b.c.d`, RFC 4291
/// §2.5.5.2): a listener for both families shows IPv4 peers in that form.
public struct IPAddress: BitwiseCopyable, Sendable, Equatable {
    /// The 128 bits, the first byte uppermost.
    public let bits: UInt128

    static let v4Prefix: UInt128 = 0xFFFF << 32

    init(bits: UInt128) { self.bits = bits }

    /// Whether this is an IPv4 address, in either form.
    public var isV4: Bool { bits >> 32 == 0xFFFF }

    /// The address of a socket's peer; nil for a Unix socket.
    public init?(_ storage: UnsafePointer<sockaddr_storage>) {
        let raw = UnsafeRawPointer(storage)
        switch Int32(storage.pointee.ss_family) {
        case AF_INET:
            let word = raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self).bigEndian
            bits = Self.v4Prefix | UInt128(word)
        case AF_INET6:
            let high = raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self).bigEndian
            let low = raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self).bigEndian
            bits = UInt128(high) << 64 | UInt128(low)
        default: return nil
        }
    }

    /// An address from its text, without brackets, port or zone; nil where the text is none.
    /// Allocates nothing. As strict as `inet_pton`: no leading zeros, no shortened IPv4.
    public init?(text: UnsafeRawBufferPointer) {
        guard text.count >= 2, text.count <= Self.textBytesMax else { return nil }
        if text.contains(0x3A) {
            guard let bits = Self.readV6(text) else { return nil }
            self.bits = bits
        } else {
            guard let word = Self.readV4(text, from: 0) else { return nil }
            bits = Self.v4Prefix | UInt128(word)
        }
    }

    /// Characters of the longest text form: eight groups, the last two as IPv4.
    public static let textBytesMax = 45

    private static func readV4(_ text: UnsafeRawBufferPointer, from start: Int) -> UInt32? {
        var index = start
        var word: UInt32 = 0
        for part in 0..<4 {
            let first = index
            var value: UInt32 = 0
            while index < text.count, text[index] &- 0x30 < 10, index - first < 3 {
                value = value * 10 + UInt32(text[index] - 0x30)
                index += 1
            }
            guard index > first, value <= 255 else { return nil }
            if index - first > 1, text[first] == 0x30 { return nil }
            word = word << 8 | value
            if part < 3 {
                guard index < text.count, text[index] == 0x2E else { return nil }
                index += 1
            }
        }
        return index == text.count ? word : nil
    }

    /// The groups before `::` and behind it, gathered apart and put together at the end.
    private static func readV6(_ text: UnsafeRawBufferPointer) -> UInt128? {
        var parts: (before: UInt128, behind: UInt128) = (0, 0)
        var counts = (before: 0, behind: 0)
        var isElided = false
        var index = 0
        if text[0] == 0x3A {
            guard text[1] == 0x3A else { return nil }
            isElided = true
            index = 2
        }
        while index < text.count {
            let first = index
            var group: UInt128 = 0
            while index < text.count, let digit = hexDigit(text[index]), index - first < 4 {
                group = group << 4 | UInt128(digit)
                index += 1
            }
            guard index > first, counts.before + counts.behind < 8 else { return nil }
            var width = 1
            if index < text.count, text[index] == 0x2E {
                guard let word = readV4(text, from: first) else { return nil }
                group = UInt128(word)
                width = 2
                index = text.count
            }
            if isElided {
                parts.behind = parts.behind << UInt128(16 * width) | group
                counts.behind += width
            } else {
                parts.before = parts.before << UInt128(16 * width) | group
                counts.before += width
            }
            if index == text.count { break }
            guard text[index] == 0x3A, index + 1 < text.count else { return nil }
            index += 1
            if text[index] == 0x3A {
                guard !isElided else { return nil }
                isElided = true
                index += 1
            }
        }
        let count = counts.before + counts.behind
        guard isElided else { return count == 8 ? parts.before : nil }
        // `::` stands for at least one group.
        guard count <= 7 else { return nil }
        return parts.before << UInt128(16 * (8 - counts.before)) | parts.behind
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }
}

/// A block of addresses that share their first bits (CIDR, RFC 4632 §3.1): `10.0.0.0/8`,
/// `2001:db8::/32`; an address without a length is a block of its own.
public struct IPNetwork: BitwiseCopyable, Sendable, Equatable {
    private let first: UInt128
    private let mask: UInt128
    /// Whether the text named an address inside the block instead of its first one.
    public let hasHostBits: Bool

    /// A network from its text; nil where the text is none.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let host = parts.first,
            let address = Array(host.utf8).withUnsafeBytes({ IPAddress(text: $0) })
        else { return nil }
        // An IPv4 address that is written as IPv6 has its length counted so as well.
        let isShort = !host.contains(":")
        let widest = isShort ? 32 : 128
        var length = widest
        if parts.count == 2 {
            guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                let number = Int(parts[1]), number <= widest
            else { return nil }
            length = number
        }
        if isShort { length += 96 }
        mask = length == 0 ? 0 : ~UInt128(0) << UInt128(128 - length)
        first = address.bits & mask
        hasHostBits = address.bits != first
    }

    /// The first address, and the length where it is not a block of one.
    public var text: String {
        let isV4 = first >> 32 == 0xFFFF && mask.nonzeroBitCount >= 96
        var bytes = first.bigEndian
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        withUnsafeBytes(of: &bytes) {
            _ = inet_ntop(
                isV4 ? AF_INET : AF_INET6, $0.baseAddress! + (isV4 ? 12 : 0), &text,
                socklen_t(text.count))
        }
        let address = String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let length = mask.nonzeroBitCount - (isV4 ? 96 : 0)
        return length == (isV4 ? 32 : 128) ? address : "\(address)/\(length)"
    }

    /// Whether the address lies in the block. `::/0` holds IPv6 alone, as `0.0.0.0/0` IPv4.
    @inlinable
    public func contains(_ address: IPAddress) -> Bool { holds(address) }

    @usableFromInline
    func holds(_ address: IPAddress) -> Bool {
        address.bits & mask == first && address.isV4 == (first >> 32 == 0xFFFF)
    }
}
