import CLinux
import CoreLoop
import HTTP

/// What is known of the other end of a client's connection.
struct Peer: BitwiseCopyable {
    /// The address that the kernel names.
    var address = AddressText()
    /// One of `forwarding.trusted_proxies`: what it says of its own client is believed.
    var isTrusted = false
    /// The connection is encrypted.
    var isTLS = false
}

/// Tells which client a request comes from: the rightmost address of the chain that no trusted
/// proxy has (`forwarding.trusted_proxies`).
///
/// Networks are prepared as masks at start. Reading a chain allocates nothing and takes time linear
/// in the head, which its own limits bound.
struct ClientChain: ~Copyable {
    private let networks: UnsafeMutablePointer<IPNetwork>
    private let count: Int
    private let trustsUnix: Bool

    init(_ settings: ForwardingSettings) {
        count = settings.trustedProxies.count
        networks = .allocate(capacity: max(1, count))
        for (index, network) in settings.trustedProxies.enumerated() {
            (networks + index).initialize(to: network)
        }
        trustsUnix = settings.trustsUnix
    }

    deinit { networks.deallocate() }

    /// Whether a connection from this address is one of a trusted proxy.
    func trusts(_ storage: UnsafePointer<sockaddr_storage>) -> Bool {
        if let address = IPAddress(storage) { return trusts(address) }
        return trustsUnix && Int32(storage.pointee.ss_family) == AF_UNIX
    }

    private func trusts(_ address: IPAddress) -> Bool {
        for index in 0..<count where networks[index].contains(address) { return true }
        return false
    }

    /// The client of a request that came from `peer`. `Forwarded` is asked where there is no
    /// X-Forwarded-For.
    func client(_ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, _ peer: Peer)
        -> AddressText
    {
        let known = FieldName.xForwardedFor.bit | FieldName.forwarded.bit
        guard peer.isTrusted, fields.present & known != 0 else { return peer.address }
        var walk = Walk()
        if fields.contains(.xForwardedFor) {
            for place in 0..<fields.count where fields[place].known == .xForwardedFor {
                take(list: Self.value(fields[place], bytes), &walk)
            }
        } else {
            for place in 0..<fields.count where fields[place].known == .forwarded {
                take(forwarded: Self.value(fields[place], bytes), &walk)
            }
        }
        guard let found = walk.client else { return peer.address }
        var text = AddressText()
        text.set(found)
        return text
    }

    /// The chain read from its left, where it was begun, with the outcome of reading it from its
    /// right: an untrusted address hides everything before it; one that cannot be read does so too,
    /// and the proxy that reported it takes its place.
    private struct Walk {
        var client: UnsafeRawBufferPointer?
    }

    private func take(node: UnsafeRawBufferPointer?, _ walk: inout Walk) {
        guard let node, let text = Self.addressText(of: node), let address = IPAddress(text: text)
        else {
            walk.client = nil
            return
        }
        // Of trusted ones side by side the leftmost counts, unless an untrusted one stands before.
        if walk.client == nil || !trusts(address) { walk.client = text }
    }

    private func take(list value: UnsafeRawBufferPointer, _ walk: inout Walk) {
        var start = 0
        while start <= value.count {
            var end = start
            while end < value.count, value[end] != 0x2C { end += 1 }
            var (first, last) = (start, end)
            while first < last, value[first] == 0x20 || value[first] == 0x09 { first += 1 }
            while last > first, value[last - 1] == 0x20 || value[last - 1] == 0x09 { last -= 1 }
            start = end + 1
            // Empty members are to be passed over (RFC 9110 §5.6.1.2).
            if last > first {
                take(node: UnsafeRawBufferPointer(rebasing: value[first..<last]), &walk)
            }
        }
    }

    private func take(forwarded value: UnsafeRawBufferPointer, _ walk: inout Walk) {
        var reader = ForwardedReader(value)
        while true {
            switch reader.next() {
            case .element(let node): take(node: node, &walk)
            case .end: return
            case .malformed:
                walk.client = nil
                return
            }
        }
    }

    private static func value(_ field: Field, _ bytes: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes + field.value.start, count: Int(field.value.count))
    }

    /// The address in a node: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
    /// `[2001:db8::1]:80`. Nil for names, `unknown` and obfuscated identifiers.
    static func addressText(of node: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard let first = node.first else { return nil }
        var end = node.count
        var start = 0
        if first == 0x5B {
            guard let close = node.firstIndex(of: 0x5D) else { return nil }
            guard close + 1 == node.count || isPort(node, from: close + 1) else { return nil }
            guard node[1..<close].contains(0x3A) else { return nil }
            start = 1
            end = close
        } else if let colon = node.firstIndex(of: 0x3A), node.contains(0x2E),
            !node[(colon + 1)...].contains(0x3A)
        {
            guard isPort(node, from: colon) else { return nil }
            end = colon
        }
        return UnsafeRawBufferPointer(rebasing: node[start..<end])
    }

    private static func isPort(_ node: UnsafeRawBufferPointer, from colon: Int) -> Bool {
        let digits = node.count - colon - 1
        guard node[colon] == 0x3A, digits >= 1, digits <= 5 else { return false }
        return node[(colon + 1)...].allSatisfy { $0 &- 0x30 < 10 }
    }
}

extension AddressText {
    /// Takes a text of at most `bytesMax` bytes.
    mutating func set(_ text: UnsafeRawBufferPointer) {
        precondition(text.count <= Self.bytesMax)
        count = UInt8(text.count)
        withUnsafeMutableBytes(of: &bytes) { $0.copyMemory(from: text) }
    }

    /// Whether this is the text of an IPv6 address, which goes into brackets.
    var isV6: Bool {
        withUnsafeBytes(of: bytes) { $0.prefix(Int(count)).contains(0x3A) }
    }
}
