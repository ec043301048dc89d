public import CLinux

/// An IPv4, IPv6 or Unix-domain address, as the kernel takes it.
///
/// Text forms: `127.0.0.1:80`, `[::1]:80`, `unix:/run/umbra.sock`. Names are not resolved here.
public struct SocketAddress: Sendable, Equatable {
    /// Bytes of the longest Unix path, its closing NUL left out (sun_path is 108 bytes).
    public static let unixPathBytesMax = 107

    var storage: sockaddr_storage
    /// Bytes of the address that the kernel reads.
    public private(set) var length: socklen_t

    private init() {
        storage = sockaddr_storage()
        length = 0
    }

    /// An address read from text; nil where the text is none.
    public init?(_ text: String) {
        self.init()
        if text.hasPrefix("unix:") {
            guard setUnix(String(text.dropFirst(5))) else { return nil }
            return
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let portText = text[text.index(after: colon)...]
        guard !portText.isEmpty, portText.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            let port = UInt16(portText)
        else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard setInternet(host: host, port: port) else { return nil }
    }

    /// An address from an IP literal and a port; nil where `host` is no IPv4 or IPv6 literal.
    public init?(host: String, port: UInt16) {
        self.init()
        guard setInternet(host: host, port: port) else { return nil }
    }

    /// An address as `accept4`, `getsockname` or `getaddrinfo` left it.
    public init(copying address: UnsafePointer<sockaddr>, length: socklen_t) {
        self.init()
        precondition(Int(length) <= MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
        }
        self.length = length
    }

    private mutating func setInternet(host: String, port: UInt16) -> Bool {
        // inet_pton would read only as far as a NUL, and "127.0.0.1\0.evil" would pass.
        guard !host.utf8.contains(0) else { return false }
        var v4 = sockaddr_in()
        if inet_pton(AF_INET, host, &v4.sin_addr) == 1 {
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = port.bigEndian
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v4, as: sockaddr_in.self) }
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
            return true
        }
        var v6 = sockaddr_in6()
        guard inet_pton(AF_INET6, host, &v6.sin6_addr) == 1 else { return false }
        v6.sin6_family = sa_family_t(AF_INET6)
        v6.sin6_port = port.bigEndian
        withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v6, as: sockaddr_in6.self) }
        length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        return true
    }

    private mutating func setUnix(_ path: String) -> Bool {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, bytes.count <= Self.unixPathBytesMax, !bytes.contains(0) else {
            return false
        }
        withUnsafeMutableBytes(of: &storage) { raw in
            raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            for (index, byte) in bytes.enumerated() { raw[2 + index] = byte }
        }
        length = socklen_t(2 + bytes.count + 1)
        return true
    }

    /// The address family: `AF_INET`, `AF_INET6` or `AF_UNIX`.
    public var family: Int32 { Int32(storage.ss_family) }

    /// Whether this is the path of a Unix socket.
    public var isUnix: Bool { family == AF_UNIX }

    /// The port in host order; nil for a Unix address.
    public var port: UInt16? {
        switch family {
        case AF_INET: withRaw { $0.load(as: sockaddr_in.self).sin_port.bigEndian }
        case AF_INET6: withRaw { $0.load(as: sockaddr_in6.self).sin6_port.bigEndian }
        default: nil
        }
    }

    /// The path of a Unix address; nil for the others.
    public var unixPath: String? {
        guard isUnix else { return nil }
        return withRaw { raw in
            String(decoding: raw[2..<Int(length)].prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// True for 127.0.0.0/8, ::1 and Unix sockets.
    public var isLoopback: Bool {
        switch family {
        case AF_INET: withRaw { $0[4] == 127 }
        case AF_INET6: withRaw { raw in raw[8..<23].allSatisfy { $0 == 0 } && raw[23] == 1 }
        default: isUnix
        }
    }

    /// The host alone: an IP literal without brackets, or `unix:PATH`.
    public var hostText: String {
        if let path = unixPath { return "unix:" + path }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let offset = family == AF_INET ? 4 : 8
        withRaw { _ = inet_ntop(family, $0.baseAddress! + offset, &text, socklen_t(text.count)) }
        return String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// An IPv4 or IPv6 address as three words, for shared memory: family and port, and the
    /// address's bytes. Zero for Unix addresses.
    public var words: (UInt64, UInt64, UInt64) {
        guard let port else { return (0, 0, 0) }
        return withRaw { raw in
            let head = UInt64(family) << 32 | UInt64(port)
            if family == AF_INET {
                return (head, UInt64(raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self)), 0)
            }
            return (
                head, raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
                raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
            )
        }
    }

    /// The address that `words` came from; nil where they are none.
    public init?(words: (UInt64, UInt64, UInt64)) {
        self.init()
        let port = UInt16(truncatingIfNeeded: words.0)
        switch Int32(truncatingIfNeeded: words.0 >> 32) {
        case AF_INET:
            var v4 = sockaddr_in()
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = port.bigEndian
            v4.sin_addr.s_addr = UInt32(truncatingIfNeeded: words.1)
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v4, as: sockaddr_in.self) }
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
        case AF_INET6:
            var v6 = sockaddr_in6()
            v6.sin6_family = sa_family_t(AF_INET6)
            v6.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &v6.sin6_addr) {
                $0.storeBytes(of: words.1, as: UInt64.self)
                $0.storeBytes(of: words.2, toByteOffset: 8, as: UInt64.self)
            }
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v6, as: sockaddr_in6.self) }
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        default: return nil
        }
    }

    /// Whether a connection can be made to it: neither unspecified (0.0.0.0, ::) nor multicast nor
    /// broadcast.
    public var isUnicast: Bool {
        switch family {
        case AF_INET: withRaw { $0[4] != 0 && $0[4] < 224 }
        case AF_INET6: withRaw { raw in raw[8] != 0xFF && raw[8..<24].contains { $0 != 0 } }
        default: isUnix
        }
    }

    /// The text form that `init(_:)` reads.
    public var text: String {
        switch family {
        case AF_INET: "\(hostText):\(port!)"
        case AF_INET6: "[\(hostText)]:\(port!)"
        default: hostText
        }
    }

    @inline(__always)
    func withRaw<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        withUnsafeBytes(of: storage, body)
    }

    /// Calls `body` with the pointer and length that `bind`, `connect` and their like take.
    public func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withUnsafeBytes(of: storage) {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
        }
    }

    public static func == (a: SocketAddress, b: SocketAddress) -> Bool {
        guard a.length == b.length else { return false }
        return a.withRaw { left in
            b.withRaw { right in
                left.prefix(Int(a.length)).elementsEqual(right.prefix(Int(b.length)))
            }
        }
    }
}
