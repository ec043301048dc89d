import CoreLoop
import HTTP

extension ProxyWorker {
    /// Answers a request of a plain listener with the same address under https: 301 for GET and
    /// HEAD, else 308, which keeps the method (RFC 9110 §15.4).
    func redirect(_ slot: Int, _ bytes: UnsafeRawPointer, headBytes: Int, toPort port: UInt16) {
        let client = clients[slot]
        guard !requestHead.authority.isEmpty else {
            consumeHead(slot, headBytes)
            gatewayAnswer(slot, .hostMissing)
            return
        }
        // A body is not read for an answer that does not look at it.
        let closes =
            client.pointee.flags.contains(.closeAfter)
            || !client.pointee.flags.contains(.requestRead)
        if closes { client.pointee.flags.insert(.closeAfter) }
        let isPlainRead = client.pointee.method == .get || client.pointee.method == .head
        client.pointee.status = isPlainRead ? 301 : 308
        client.pointee.flags.insert(.answerBegun)
        counters.add(.gatewayAnswers)
        let isSent = withUnsafeTemporaryAllocation(byteCount: 512 + headBytes, alignment: 16) {
            scratch in
            var writer = HeadWriter(scratch)
            writer.append(
                isPlainRead
                    ? "HTTP/1.1 301 Moved Permanently\r\n"
                    : "HTTP/1.1 308 Permanent Redirect\r\n")
            forwarding.writeDate(wallMs, &writer)
            writer.append("Location: https://")
            writeLocation(bytes, port, &writer)
            writer.append("\r\nContent-Length: 0")
            writer.append(closes ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n")
            consumeHead(slot, headBytes)
            return sendMade(slot, writer.written)
        }
        if isSent {
            afterRequestBytes(slot)
            finishExchange(slot)
        }
    }

    /// The request's host with the port of https, and its path and query as they came.
    private func writeLocation(
        _ bytes: UnsafeRawPointer, _ port: UInt16, _ writer: inout HeadWriter
    ) {
        func append(_ start: Int, _ count: Int) {
            writer.append(UnsafeRawBufferPointer(start: bytes + start, count: count))
        }
        let authority = requestHead.authority
        var hostCount = Int(authority.count)
        // A colon behind the last bracket begins the port; those inside belong to an IPv6 address.
        var place = hostCount
        while place > 0 {
            let byte = bytes.load(fromByteOffset: authority.start + place - 1, as: UInt8.self)
            if byte == UInt8(ascii: "]") { break }
            if byte == UInt8(ascii: ":") {
                hostCount = place - 1
                break
            }
            place -= 1
        }
        append(authority.start, hostCount)
        if port != 443 {
            writer.append(byte: UInt8(ascii: ":"))
            writer.append(decimal: UInt64(port))
        }
        if requestHead.targetForm == .asterisk || requestHead.path.isEmpty
            || requestHead.pathNeedsSlash
        {
            writer.append(byte: UInt8(ascii: "/"))
        }
        if requestHead.targetForm != .asterisk {
            append(requestHead.path.start, Int(requestHead.path.count))
        }
    }
}
