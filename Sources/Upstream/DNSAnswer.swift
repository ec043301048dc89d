import CLinux
public import CoreLoop

/// One question to the DNS: the addresses of one family that a name has (RFC 1035 §4.1.2).
public struct DNSQuestion: Equatable, Sendable {
    /// Drawn anew for each try: with the port it is all that tells an answer from a forgery.
    public let id: UInt16
    /// `DNSAnswer.typeA` or `typeAAAA`.
    public let type: UInt16
    /// In lower case, each label behind its length, without the closing zero.
    let name: [UInt8]

    /// A question for `host`; nil where that cannot be a DNS name.
    public init?(_ host: String, type: UInt16, id: UInt16) {
        guard let name = Self.wire(host) else { return nil }
        self.name = name
        self.type = type
        self.id = id
    }

    private static func wire(_ host: String) -> [UInt8]? {
        var name: [UInt8] = []
        let text = host.last == "." ? host.dropLast() : host[...]
        for label in text.utf8.split(separator: 0x2E, omittingEmptySubsequences: false) {
            guard (1...63).contains(label.count) else { return nil }
            name.append(UInt8(label.count))
            name += label.map { $0 >= 0x41 && $0 <= 0x5A ? $0 | 0x20 : $0 }
        }
        return name.count < DNSAnswer.nameBytesMax ? name : nil
    }

    /// The message: recursion is asked for, and nothing more than every server knows.
    public var bytes: [UInt8] {
        var bytes: [UInt8] = [UInt8(id >> 8), UInt8(id & 0xFF), 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        bytes += name
        bytes += [0, UInt8(type >> 8), UInt8(type & 0xFF), 0, UInt8(DNSAnswer.classInternet)]
        return bytes
    }
}

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
        /// Not a whole answer.
        case malformed
        /// Only addresses that no server can have (0.0.0.0, ::, multicast).
        case unusable
        /// Of another question, or none at all: somebody guesses, or it came too late.
        case stray
        /// The answer did not fit and has to be asked for over TCP; what there was of it.
        case cut(DNSAnswer?)
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
    /// Bytes of a name (RFC 1035 §2.3.4).
    static let nameBytesMax = 255

    /// Reads what came as an answer to `question`. Addresses get `port`.
    public static func read(
        _ bytes: [UInt8], to question: DNSQuestion, port: UInt16 = 0
    ) -> Outcome {
        var reader = Reader(bytes: bytes)
        guard let id = reader.word(), id == question.id, let flags = reader.word(),
            flags & 0x8000 != 0, flags & 0x7800 == 0
        else { return .stray }
        guard let questions = reader.word(), let answers = reader.word(), reader.skip(4) else {
            return .malformed
        }
        let code = flags & 0xF
        // A server that understands nothing may leave the question out of its refusal.
        if questions == 0, code != 0, code != 3 { return .refused }
        guard questions == 1, let asked = reader.name(), asked == question.name,
            let type = reader.word(), type == question.type, let kind = reader.word(),
            kind == classInternet
        else { return .stray }
        switch code {
        case 0: break
        case 3: return .noName
        default: return .refused
        }
        let isCut = flags & 0x0200 != 0
        guard let records = Records(&reader, count: Int(answers), type: type, port: port) else {
            return isCut ? .cut(nil) : .malformed
        }
        let outcome = records.outcome(for: asked)
        guard isCut else { return outcome }
        if case .found(let answer) = outcome { return .cut(answer) }
        return .cut(nil)
    }
}

/// The records of an answer that may lead to an address.
private struct Records {
    private var aliases: [(name: [UInt8], ttl: UInt32, target: [UInt8])] = []
    private var found: [(name: [UInt8], ttl: UInt32, address: SocketAddress)] = []
    private var hasMore = false

    /// Nil where they are malformed.
    init?(_ reader: inout Reader, count: Int, type: UInt16, port: UInt16) {
        hasMore = count > UpstreamLimits.dnsRecordsMax
        for _ in 0..<min(count, UpstreamLimits.dnsRecordsMax) {
            guard let record = reader.record() else { return nil }
            guard record.isInternet else { continue }
            if record.type == DNSAnswer.typeCNAME {
                var inner = reader
                inner.place = record.data.lowerBound
                guard let target = inner.name(), inner.place == record.data.upperBound else {
                    return nil
                }
                if aliases.count < UpstreamLimits.dnsAliasesMax {
                    aliases.append((record.name, record.ttl, target))
                }
            } else if record.type == type {
                guard let address = Self.address(reader.bytes[record.data], type, port) else {
                    return nil
                }
                found.append((record.name, record.ttl, address))
            }
        }
    }

    private static func address(
        _ data: ArraySlice<UInt8>, _ type: UInt16, _ port: UInt16
    ) -> SocketAddress? {
        guard data.count == (type == DNSAnswer.typeA ? 4 : 16) else { return nil }
        return data.withUnsafeBytes { raw in
            if type == DNSAnswer.typeA {
                let word = UInt64(raw.loadUnaligned(as: UInt32.self))
                return SocketAddress(words: (UInt64(AF_INET) << 32 | UInt64(port), word, 0))
            }
            return SocketAddress(
                words: (
                    UInt64(AF_INET6) << 32 | UInt64(port), raw.loadUnaligned(as: UInt64.self),
                    raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                ))
        }
    }

    /// Only what belongs to the name, by way of its aliases: a record beside it is no answer.
    func outcome(for name: [UInt8]) -> DNSAnswer.Outcome {
        var owner = name
        var ttl = UInt32.max
        for _ in 0..<UpstreamLimits.dnsAliasesMax {
            guard let alias = aliases.first(where: { $0.name == owner }) else { break }
            owner = alias.target
            ttl = min(ttl, alias.ttl)
        }
        let own = found.filter { $0.name == owner }
        guard !own.isEmpty else { return .noName }
        var answer = DNSAnswer(addresses: [], ttlMs: 0, isTruncated: hasMore)
        for record in own where record.address.isUnicast {
            ttl = min(ttl, record.ttl)
            if answer.addresses.contains(record.address) { continue }
            if answer.addresses.count < UpstreamLimits.addressesMax {
                answer.addresses.append(record.address)
            } else {
                answer.isTruncated = true
            }
        }
        guard !answer.addresses.isEmpty else { return .unusable }
        answer.ttlMs = Int(min(ttl, 1 << 30)) * 1_000
        return .found(answer)
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
    /// back, so that none can go in circles, and not often, so that no chain of them costs time.
    mutating func name() -> [UInt8]? {
        var name: [UInt8] = []
        var at = place
        var end: Int?
        var pointers = 0
        while at < bytes.count {
            let length = bytes[at]
            switch length & 0xC0 {
            case 0xC0:
                guard at + 1 < bytes.count else { return nil }
                let target = Int(length & 0x3F) << 8 | Int(bytes[at + 1])
                pointers += 1
                guard target < at, pointers <= UpstreamLimits.dnsPointersMax else { return nil }
                end = end ?? at + 2
                at = target
            case 0:
                let next = at + 1 + Int(length)
                guard next <= bytes.count, name.count + Int(length) + 1 <= DNSAnswer.nameBytesMax
                else { return nil }
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
