import CLinux
import CoreLoop
import HTTP
import TLS

/// Sending: the cleaned head from scratch, the body straight from the worker's blocks.
extension ShadowWorker {
    /// Sends the copy that the connection carries, if the cap lets it go now.
    ///
    /// A place under the cap is used where bytes go out and nowhere else: not for a connect that
    /// fails, and not before one that takes its time.
    func begin(_ slot: Int, isRendered: Bool) {
        let connection = pool.connections[slot]
        let shadow = connection.pointee.shadow
        let state = shadows + shadow
        if !isRendered, !render(&connection.pointee.copy, pool.slices(slot), state) {
            endUnsent(slot, .invalidCopy, .nothing)
            return keep(slot)
        }
        guard board.control[.enabled].value != 0 else {
            endUnsent(slot, .switchedOff, .nothing)
            return keep(slot)
        }
        var taken = now
        let isTaken = (caps + shadow).pointee.take(qps: state.pointee.qps) {
            taken = clock()
            return taken
        }
        guard isTaken else {
            endUnsent(slot, .qpsCap, .nothing)
            return keep(slot)
        }
        markSent(connection.pointee.copy)
        connection.pointee.copy.firstByteNs = taken.nanoseconds
        connection.pointee.phase = .sending
        timers.schedule(slot, at: connection.pointee.copy.taken.adding(ms: state.pointee.timeoutMs))
        send(slot, isRendered: true)
    }

    /// Sends until all is sent or the kernel takes no more; goes on with the next event.
    func send(_ slot: Int, isRendered: Bool) {
        let connection = pool.connections[slot]
        if !isRendered, !renderAgain(slot) {
            endSent(slot, .error, .nothing)
            return close(slot, reset: true)
        }
        while true {
            let outcome =
                connection.pointee.copy.rewrite.isEdited
                ? exchanges.withBody(slot) { sendOnce(slot, body: $0) } : sendOnce(slot, body: nil)
            switch outcome {
            case .bytes(let sent):
                connection.pointee.copy.sentBytes += sent
                if connection.pointee.copy.sentBytes == connection.pointee.copy.messageBytes {
                    connection.pointee.phase = .awaiting
                    if connection.pointee.copy.rewrite.isEdited {
                        exchanges.bodyWasSent(
                            slot, isCaptured: connection.pointee.copy.isCaptured)
                    }
                    return
                }
            case .wouldBlock: return
            case .failed: return sendFailed(slot)
            }
        }
    }

    /// What is left, in one call. `body` stands in the place of the copy's own, nil leaves that.
    private func sendOnce(_ slot: Int, body: UnsafeRawBufferPointer?) -> WriteOutcome {
        let count = fillVectors(slot, body)
        let channel = pool.connections[slot].pointee.channel
        return count == 1
            ? channel.send(scratch.vectors[0].iov_base!, scratch.vectors[0].iov_len)
            : channel.send(vectors: scratch.vectors, count)
    }

    /// The peer is gone; an answer that it gave before may still be there.
    private func sendFailed(_ slot: Int) {
        let generation = pool.connections.generation(slot)
        read(slot, isOver: true)
        guard pool.connections.isLive(slot, generation),
            pool.connections[slot].pointee.phase == .sending,
            !pool.connections[slot].pointee.isUnread
        else { return }
        broken(slot)
    }

    /// Writes what stands around the body into scratch. False where the copy's head or trailers are
    /// none that may be sent.
    func render(
        _ copy: inout ShadowCopy, _ slices: UnsafeMutablePointer<Slice>,
        _ state: UnsafeMutablePointer<ShadowState>
    ) -> Bool {
        guard copy.headBytes <= scratch.head.count, copy.trailerBytes <= scratch.head.count else {
            return false
        }
        let sanitizer = state.pointee.sanitizer
        let framing = copy.framing
        var prefix = HeadWriter(scratch.prefix)
        let head = piece(copy, slices, from: 0, copy.headBytes)
        guard
            sanitizer.write(
                head: head, framing: framing, id: copy.id,
                primaryPrefixBytes: copy.primaryPrefixBytes, rewrite: copy.rewrite, to: &prefix)
        else { return false }
        copy.isHead = sanitizer.isHead
        var suffix = HeadWriter(scratch.suffix)
        if framing == .chunked {
            if copy.bodyBytes > 0 {
                prefix.append(hex: UInt64(copy.bodyBytes))
                prefix.append("\r\n")
                suffix.append("\r\n")
            }
            suffix.append("0\r\n")
            let start = copy.headBytes + copy.bodyBytes
            let section = piece(copy, slices, from: start, copy.trailerBytes)
            guard sanitizer.write(trailers: section, to: &suffix) else { return false }
            suffix.append("\r\n")
        }
        copy.prefixBytes = prefix.count
        copy.suffixBytes = suffix.count
        return !prefix.overflowed && !suffix.overflowed
    }

    /// Writes again what was sent in part: it was not kept, as it depends on the copy and its id
    /// alone.
    private func renderAgain(_ slot: Int) -> Bool {
        let connection = pool.connections[slot]
        var copy = connection.pointee.copy
        let bodyEnd = copy.prefixBytes + copy.contentBytes
        // Within the body, and with nothing behind it, there is nothing to write.
        if copy.sentBytes >= copy.prefixBytes && copy.suffixBytes == 0 { return true }
        guard render(&copy, pool.slices(slot), shadows + connection.pointee.shadow) else {
            return false
        }
        return copy.prefixBytes + copy.contentBytes == bodyEnd
            && copy.suffixBytes == connection.pointee.copy.suffixBytes
    }

    /// `count` bytes of the copy from `start` on in one piece: where they lie, or gathered in
    /// scratch.
    func piece(
        _ copy: ShadowCopy, _ slices: UnsafeMutablePointer<Slice>, from start: Int, _ count: Int
    ) -> UnsafeRawBufferPointer {
        var offset = 0
        var gathered = 0
        for index in 0..<copy.sliceCount where gathered < count {
            let slice = slices[index]
            let end = offset + Int(slice.count)
            let first = max(start + gathered, offset)
            if first < end {
                let source = links[copy.link].pointer(slice) + (first - offset)
                let length = min(end - first, count - gathered)
                if length == count { return UnsafeRawBufferPointer(start: source, count: count) }
                (scratch.head.baseAddress! + gathered).copyMemory(from: source, byteCount: length)
                gathered += length
            }
            offset = end
        }
        return UnsafeRawBufferPointer(rebasing: scratch.head[..<gathered])
    }

    /// Goes over the first bytes of a copy's own body, where they lie.
    @inline(__always)
    func forEachPiece(
        of copy: ShadowCopy, _ slices: UnsafeMutablePointer<Slice>, atMost count: Int,
        _ take: (UnsafeRawBufferPointer) -> Void
    ) {
        let end = copy.headBytes + min(copy.bodyBytes, count)
        var offset = 0
        for index in 0..<copy.sliceCount where offset < end {
            let slice = slices[index]
            let first = max(offset, copy.headBytes)
            let last = min(offset + Int(slice.count), end)
            if first < last {
                take(
                    UnsafeRawBufferPointer(
                        start: links[copy.link].pointer(slice) + (first - offset),
                        count: last - first))
            }
            offset += Int(slice.count)
        }
    }

    /// What is still to be sent, as buffers for one call. Returns how many.
    private func fillVectors(_ slot: Int, _ body: UnsafeRawBufferPointer?) -> Int {
        let copy = pool.connections[slot].pointee.copy
        var count = 0
        var skip = copy.sentBytes
        func add(_ start: UnsafeRawPointer, _ length: Int) {
            if length > skip {
                scratch.vectors[count] = iovec(
                    iov_base: UnsafeMutableRawPointer(mutating: start + skip),
                    iov_len: length - skip)
                count += 1
            }
            skip = max(0, skip - length)
        }
        add(UnsafeRawPointer(scratch.prefix.baseAddress!), copy.prefixBytes)
        if let body, let start = body.baseAddress { add(start, body.count) }
        if body == nil {
            forEachPiece(of: copy, pool.slices(slot), atMost: copy.bodyBytes) {
                add($0.baseAddress!, $0.count)
            }
        }
        add(UnsafeRawPointer(scratch.suffix.baseAddress!), copy.suffixBytes)
        return count
    }
}
