import CoreLoop
import HTTP

/// What becomes of the fields that say where a request comes from (X-Forwarded-For, -Proto, -Host,
/// Forwarded), for one kind of peer: worked out once, at start.
struct OriginPlan: BitwiseCopyable {
    enum Writing: UInt8 {
        case nothing
        /// The peer, whatever came in.
        case peer
        /// The chain that came in, and the peer behind it.
        case chain
        /// The client that the chain names, alone.
        case client
    }

    var leftOut: UInt64 = 0
    var forwardedFor = Writing.nothing
    var forwarded = Writing.nothing
    /// Whether an X-Forwarded-Proto or -Host that came in stays.
    var keepsRest = true

    /// With trusted proxies named, what others say is never passed on: nobody behind could tell it
    /// from the truth.
    init(_ settings: ForwardingSettings, peerIsTrusted: Bool) {
        let asks = !settings.trustedProxies.isEmpty || settings.trustsUnix
        let rest = FieldName.xForwardedProto.bit | FieldName.xForwardedHost.bit
        forwardedFor = Self.writing(settings.forwardedFor, asks: asks, peerIsTrusted)
        forwarded = Self.writing(settings.forwarded, asks: asks, peerIsTrusted)
        let takesAway = asks && !peerIsTrusted
        keepsRest = forwardedFor != .peer && !takesAway
        if forwardedFor != .nothing || takesAway { leftOut |= FieldName.xForwardedFor.bit }
        if !keepsRest { leftOut |= rest }
        if forwarded != .nothing || takesAway { leftOut |= FieldName.forwarded.bit }
    }

    private static func writing(
        _ mode: ForwardingSettings.ForwardedFor, asks: Bool, _ peerIsTrusted: Bool
    ) -> Writing {
        switch mode {
        case .off: .nothing
        case .append: asks && !peerIsTrusted ? .peer : .chain
        case .replace: peerIsTrusted ? .client : .peer
        }
    }
}

extension Forwarding {
    /// Writes the fields of `plan`.
    @inline(__always)
    func writeOrigin(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, _ peer: Peer, _ plan: OriginPlan,
        _ writer: inout HeadWriter
    ) {
        if plan.forwardedFor != .nothing { writeForwardedFor(head, bytes, peer, plan, &writer) }
        if plan.forwarded != .nothing { writeForwarded(head, bytes, peer, plan, &writer) }
    }

    private func writeForwardedFor(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, _ peer: Peer, _ plan: OriginPlan,
        _ writer: inout HeadWriter
    ) {
        writer.append("X-Forwarded-For: ")
        if plan.forwardedFor == .chain, head.fields.contains(.xForwardedFor) {
            for index in 0..<head.fields.count where head.fields[index].known == .xForwardedFor {
                append(bytes, head.fields[index].value, &writer)
                writer.append(", ")
            }
        }
        if plan.forwardedFor == .client {
            append(chain.client(head.fields, bytes, peer), &writer)
        } else {
            append(peer.address, &writer)
        }
        // A proxy in front of us knows better than we do what the user's own request said.
        if !plan.keepsRest || !head.fields.contains(.xForwardedProto) {
            writer.append("\r\nX-Forwarded-Proto: http")
            if peer.isTLS { writer.append(byte: 0x73) }
        }
        if !head.authority.isEmpty, !plan.keepsRest || !head.fields.contains(.xForwardedHost) {
            writer.append("\r\nX-Forwarded-Host: ")
            append(bytes, head.authority, &writer)
        }
        writer.append("\r\n")
    }

    /// RFC 7239 §4: one element for the hop to us, behind those that came in where they are
    /// believed. A chain with one malformed field is begun anew: what is behind it could be read in
    /// two ways.
    @inline(never)
    private func writeForwarded(
        _ head: RequestHead, _ bytes: UnsafeRawPointer, _ peer: Peer, _ plan: OriginPlan,
        _ writer: inout HeadWriter
    ) {
        writer.append("Forwarded: ")
        if plan.forwarded == .chain, head.fields.contains(.forwarded),
            isForwardedValid(head.fields, bytes)
        {
            for index in 0..<head.fields.count where head.fields[index].known == .forwarded {
                append(bytes, head.fields[index].value, &writer)
                writer.append(", ")
            }
        }
        let isClient = plan.forwarded == .client
        appendNode(isClient ? chain.client(head.fields, bytes, peer) : peer.address, &writer)
        let host =
            isClient ? believed(.xForwardedHost, head, bytes) ?? head.authority : head.authority
        if !host.isEmpty {
            writer.append(";host=")
            appendQuoted(bytes, host, &writer)
        }
        if isClient, let scheme = believed(.xForwardedProto, head, bytes) {
            writer.append(";proto=")
            append(bytes, scheme, &writer)
            writer.append("\r\n")
        } else {
            writer.append(peer.isTLS ? ";proto=https\r\n" : ";proto=http\r\n")
        }
    }

    private func isForwardedValid(_ fields: borrowing FieldList, _ bytes: UnsafeRawPointer) -> Bool
    {
        for index in 0..<fields.count where fields[index].known == .forwarded {
            let value = fields[index].value
            guard
                ForwardedReader.isValid(
                    UnsafeRawBufferPointer(start: bytes + value.start, count: Int(value.count)))
            else { return false }
        }
        return true
    }

    /// The one value of a trusted proxy's field, made of nothing but what a host or a scheme needs.
    private func believed(_ name: FieldName, _ head: RequestHead, _ bytes: UnsafeRawPointer)
        -> ByteRange?
    {
        guard head.fields.repeated & name.bit == 0, let place = head.fields.first(name) else {
            return nil
        }
        let value = head.fields[place].value
        for index in value.start..<value.end {
            switch bytes.load(fromByteOffset: index, as: UInt8.self) {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E: break
            case 0x3A, 0x5B, 0x5D: guard name == .xForwardedHost else { return nil }
            default: return nil
            }
        }
        return value.isEmpty ? nil : value
    }

    private func append(_ address: AddressText, _ writer: inout HeadWriter) {
        withUnsafeBytes(of: address.bytes) { raw in
            writer.append(UnsafeRawBufferPointer(rebasing: raw[..<Int(address.count)]))
        }
    }

    /// §6: IPv6 stands in brackets, and so in quotes; a Unix socket's client is `unknown`.
    private func appendNode(_ address: AddressText, _ writer: inout HeadWriter) {
        let isV6 = address.isV6
        writer.append(isV6 ? "for=\"[" : "for=")
        append(address, &writer)
        if isV6 { writer.append("]\"") }
    }

    /// A host is a token without its port and its brackets, else a quoted string. It holds neither
    /// quotes nor backslashes (`Authority`).
    private func appendQuoted(
        _ bytes: UnsafeRawPointer, _ range: ByteRange, _ writer: inout HeadWriter
    ) {
        var isToken = true
        for index in range.start..<range.end {
            switch bytes.load(fromByteOffset: index, as: UInt8.self) {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: break
            default: isToken = false
            }
        }
        if !isToken { writer.append(byte: 0x22) }
        append(bytes, range, &writer)
        if !isToken { writer.append(byte: 0x22) }
    }
}
