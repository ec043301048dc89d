public import CoreLoop

/// What an answer of the DNS says of one name (RFC 1035 §4). Pure: bytes in, addresses out; every
/// length is checked, every loop is bounded.
public struct DNSAnswer: Equatable, Sendable {
    /// What an answer was good for.
    public enum Outcome: Equatable, Sendable {
        /// At least one address.
        case found(DNSAnswer)
        /// The name exists not, or has no such address.
        case noName
        /// The server cannot or will not say (SERVFAIL, REFUSED, …).
        case refused
        /// Not a whole answer to this question.
        case malformed
        /// Only addresses that no server can have (0.0.0.0, ::, multicast).
        case unusable
    }

    /// At most `UpstreamLimits.addressesMax`, in the answer's order.
    public var addresses: [SocketAddress]
    /// The least time to live on the way to them, milliseconds, as it was sent.
    public var ttlMs: Int
    /// Whether there were more than are kept.
    public var isTruncated = false

    /// Types of records (RFC 1035 §3.2.2, RFC 3596).
    public static let typeA: UInt16 = 1
    public static let typeAAAA: UInt16 = 28
    static let typeCNAME: UInt16 = 5
    static let classInternet: UInt16 = 1

    /// Reads an answer to the question for `type` (A or AAAA) of any name: the resolver below has
    /// compared question and answer already. Addresses get `port`.
    public static func read(_ bytes: [UInt8], type: UInt16, port: UInt16) -> Outcome {
        var reader = Reader(bytes: bytes)
        guard reader.skip(2), let flags = reader.word(), let questions = reader.word(),
            let answers = reader.word(), reader.skip(4), flags & 0x8000 != 0, questions == 1,
            let asked = reader.name(), let askedType = reader.word(),
            reader.word() == classInternet, askedType == type
        else { return .malformed }
        switch flags & 0xF {
        case 0: break
        case 3: return .noName
        default: return .refused
        }
        var aliases: [(name: [UInt8], ttl: UInt32, target: [UInt8])] = []
        var found: [(name: [UInt8], ttl: UInt32, address: SocketAddress)] = []
        for _ in 0..<answers {
            guard let record = reader.record() else { return .malformed }
            guard record.isInternet else { continue }
            if record.type == typeCNAME {
                var inner = reader
                inner.place = record.data.lowerBound
                guard let target = inner.name(), inner.place == record.data.upperBound else {
                    return .malformed
                }
                if aliases.count < UpstreamLimits.dnsAliasesMax {
                    aliases.append((record.name, record.ttl, target))
                }
            } else if record.type == type {
                guard let address = address(bytes[record.data], type, port) else {
                    return .malformed
                }
                found.append((record.name, record.ttl, address))
            }
        }
        // Only what belongs to the name, by way of its aliases: a record beside it is no answer.
        var owner = asked
        var ttl = UInt32.max
        for _ in 0..<UpstreamLimits.dnsAliasesMax {
            guard let alias = aliases.first(where: { $0.name == owner }) else { break }
            owner = alias.target
            ttl = min(ttl, alias.ttl)
        }
        let own = found.filter { $0.name == owner }
        guard !own.isEmpty else { return .noName }
        var addresses: [SocketAddress] = []
        var isTruncated = false
        for record in own where record.address.isUnicast {
            ttl = min(ttl, record.ttl)
            if addresses.contains(record.address) { continue }
            if addresses.count < UpstreamLimits.addressesMax {
                addresses.append(record.address)
            } else {
                isTruncated = true
            }
        }
        guard !addresses.isEmpty else { return .unusable }
        return .found(
            DNSAnswer(
                addresses: addresses, ttlMs: Int(min(ttl, 1 << 30)) * 1_000,
                isTruncated: isTruncated))
    }

    private static func address(
        _ data: ArraySlice<UInt8>, _ type: UInt16, _ port: UInt16
    ) -> SocketAddress? {
        guard data.count == (type == typeA ? 4 : 16) else { return nil }
        let text =
            type == typeA
            ? data.map { "\($0)" }.joined(separator: ".")
            : stride(from: data.startIndex, to: data.endIndex, by: 2).map {
                String(UInt16(data[$0]) << 8 | UInt16(data[$0 + 1]), radix: 16)
            }.joined(separator: ":")
        return SocketAddress(host: text, port: port)
    }
}

/// A place in a DNS message.
private struct Reader {
    let bytes: [UInt8]
    var place = 0

    struct Record {
        var name: [UInt8]
        var type: UInt16
        var isInternet: Bool
        var ttl: UInt32
        var data: Range<Int>
    }

    mutating func skip(_ count: Int) -> Bool {
        guard bytes.count - place >= count else { return false }
        place += count
        return true
    }

    mutating func word() -> UInt16? {
        guard bytes.count - place >= 2 else { return nil }
        defer { place += 2 }
        return UInt16(bytes[place]) << 8 | UInt16(bytes[place + 1])
    }

    /// A name in lower case, its labels with their lengths. Pointers (RFC 1035 §4.1.4) only lead
    /// back, so that none can go in circles.
    mutating func name() -> [UInt8]? {
        var name: [UInt8] = []
        var at = place
        var end: Int?
        while at < bytes.count {
            let length = bytes[at]
            switch length & 0xC0 {
            case 0xC0:
                guard at + 1 < bytes.count else { return nil }
                let target = Int(length & 0x3F) << 8 | Int(bytes[at + 1])
                guard target < at else { return nil }
                end = end ?? at + 2
                at = target
            case 0:
                let next = at + 1 + Int(length)
                guard next <= bytes.count, name.count + Int(length) + 1 <= 255 else { return nil }
                if length == 0 {
                    place = end ?? next
                    return name
                }
                name.append(length)
                for byte in bytes[(at + 1)..<next] {
                    name.append(byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte)
                }
                at = next
            default: return nil
            }
        }
        return nil
    }

    mutating func record() -> Record? {
        guard let name = name(), let type = word(), let kind = word(), let high = word(),
            let low = word(), let length = word(), bytes.count - place >= Int(length)
        else { return nil }
        defer { place += Int(length) }
        let ttl = UInt32(high) << 16 | UInt32(low)
        // A time to live with its first bit set counts as none (RFC 2181 §8).
        return Record(
            name: name, type: type, isInternet: kind == DNSAnswer.classInternet,
            ttl: ttl >> 31 == 1 ? 0 : ttl, data: place..<place + Int(length))
    }
}
