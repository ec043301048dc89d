import CoreLoop
import HTTP

/// Answers of the gateway's own that may be of any size.
extension ProxyWorker {
    /// Answers with a JSON object that is the client's own fault, whatever its size.
    func answer(_ slot: Int, status: Int, _ body: [UInt8]) {
        let client = clients[slot]
        let closes = client.pointee.flags.contains(.closeAfter)
        client.pointee.status = UInt16(truncatingIfNeeded: status)
        client.pointee.flags.insert(.answerBegun)
        counters.add(.gatewayAnswers)
        client.pointee.answerBytes = UInt64(body.count)
        nameRequest(slot)
        let isSent = withUnsafeTemporaryAllocation(byteCount: GatewayAnswer.bytesMax, alignment: 16)
        { scratch in
            var writer = HeadWriter(scratch)
            writer.append("HTTP/1.1 ")
            writer.append(decimal: UInt64(status))
            writer.append(byte: 0x20)
            writer.append(ReasonPhrase.text(status))
            writer.append("\r\n")
            forwarding.writeDate(wallMs, &writer)
            forwarding.writePolicy(secureEntry: client.pointee.secureEntry, &writer)
            writeRequestID(slot, &writer)
            // The SDKs send a 409 again unless they are told that it will not help.
            writer.append("Content-Type: application/json\r\nx-should-retry: false\r\n")
            writer.append("Content-Length: ")
            writer.append(decimal: UInt64(body.count))
            writer.append(closes ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n")
            return body.withUnsafeBytes { sendMade(slot, head: writer.written, $0) }
        }
        if isSent { finishExchange(slot) }
    }

    /// Gives a request that came without an X-Request-Id, and goes to nobody, one of its own: its
    /// line and its event can be found by what the client was told.
    func nameRequest(_ slot: Int) {
        let record = clients[slot].pointee.log
        guard record != AccessLog.none, let log, !log.hasRequestID(record) else { return }
        forwarding.makeID()
        withUnsafeTemporaryAllocation(byteCount: UUIDv7.textBytes, alignment: 8) { scratch in
            var writer = HeadWriter(scratch)
            forwarding.appendMadeID(to: &writer)
            log.setRequestID(record, writer.written)
        }
    }

    /// Appends the field that tells a client by which id its request is logged, where it is.
    func writeRequestID(_ slot: Int, _ writer: inout HeadWriter) {
        let record = clients[slot].pointee.log
        if record != AccessLog.none { log?.writeRequestID(record, &writer) }
    }

    /// Sends a head and a body that were made here, through blocks. False where the connection
    /// closed. The head is shorter than a block.
    func sendMade(_ slot: Int, head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer) -> Bool
    {
        var offset = -head.count
        var parts = 0
        repeat {
            let block = blocks.take()
            guard block != BlockPool.none else {
                batch.removeAll()
                releaseHead(parts)
                counters.add(.blocksExhausted)
                cutOff(slot)
                return false
            }
            let memory = UnsafeMutableRawBufferPointer(
                start: blocks.pointer(block), count: blockBytes)
            var writer = HeadWriter(memory)
            if offset < 0 {
                writer.append(head)
                offset = 0
            }
            let count = min(blockBytes - writer.count, body.count - offset)
            writer.append(UnsafeRawBufferPointer(rebasing: body[offset..<offset + count]))
            offset += count
            headParts[parts] = Slice(slot: block, offset: 0, count: writer.count)
            batch.add(headParts[parts], blocks)
            parts += 1
            if batch.isFull || offset == body.count {
                let isSent = sendToClient(slot)
                releaseHead(parts)
                parts = 0
                guard isSent else { return false }
            }
        } while offset < body.count
        return true
    }
}
