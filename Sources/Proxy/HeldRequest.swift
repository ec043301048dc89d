import CoreLoop
import Providers

/// What policies say of a request that is held.
enum HeldVerdict {
    /// It goes on as it came.
    case pass
    /// It goes on with this body, to the primary and to the mirror.
    case replaced([UInt8])
    /// It ends here: this JSON object is the answer, and clients are told not to try again.
    case answer(status: Int, body: [UInt8])
}

/// One request that waits in the worker until all of it is there, and what its answer's way back
/// must know of it.
///
/// The body lies densely in blocks of the worker's pool, whatever the pieces were that it came in:
/// a client that sends byte by byte holds no more blocks than another. A class, as few requests are
/// held and each is read as JSON besides, beside which one allocation is nothing.
final class HeldRequest {
    /// The head as it came: the worker parses it anew when the body is whole.
    let head: [UInt8]
    /// The language the client speaks.
    let dialect: Dialect
    /// The body's blocks, all full but the last, and their bytes in all.
    private(set) var body: [Slice] = []
    private(set) var byteCount = 0
    private var contiguous: [UInt8]?
    private var reading: Result<JSONDocument, JSONFault>?
    /// The way back of a translated request that was sent.
    var answer: TranslatedAnswer?

    init(head: [UInt8], dialect: Dialect) {
        self.head = head
        self.dialect = dialect
    }

    /// Takes more of the body. False where the blocks that this request may hold have run out: some
    /// stay for everybody else's reads.
    func append(_ bytes: UnsafeRawBufferPointer, _ blocks: borrowing BlockPool) -> Bool {
        var left = bytes
        while let start = left.baseAddress, left.count > 0 {
            var last = body.last ?? Slice(slot: BlockPool.none, offset: 0, count: 0)
            if last.slot == BlockPool.none || Int(last.count) == blocks.blockBytes {
                // No request holds more than what is left to the others (dynamic thresholds, as in
                // `queueRoom`): a few large ones that come slowly do not keep small ones out.
                let spare = blocks.freeCount - blocks.count / ProxyLimits.heldReserveShare
                guard spare > body.count else { return false }
                last = Slice(slot: blocks.take(), offset: 0, count: 0)
                guard last.slot != BlockPool.none else { return false }
                body.append(last)
            }
            let count = min(left.count, blocks.blockBytes - Int(last.count))
            (blocks.pointer(last.slot) + Int(last.count)).copyMemory(from: start, byteCount: count)
            body[body.count - 1].count += UInt32(count)
            byteCount += count
            left = UnsafeRawBufferPointer(rebasing: left[count...])
        }
        return true
    }

    /// Puts another body in the place of the one that came. False where blocks have run out.
    func replace(with bytes: [UInt8], _ blocks: borrowing BlockPool) -> Bool {
        release(blocks)
        contiguous = bytes
        return bytes.withUnsafeBytes { append($0, blocks) }
    }

    /// Lets go of the body's blocks.
    func release(_ blocks: borrowing BlockPool) {
        for slice in body { blocks.release(slice.slot) }
        body = []
        byteCount = 0
        contiguous = nil
        reading = nil
    }

    /// The body in one piece, copied once.
    func bytes(_ blocks: borrowing BlockPool) -> [UInt8] {
        if let contiguous { return contiguous }
        var joined: [UInt8] = []
        joined.reserveCapacity(byteCount)
        for slice in body {
            joined.append(
                contentsOf: UnsafeRawBufferPointer(
                    start: blocks.pointer(slice.slot), count: Int(slice.count)))
        }
        contiguous = joined
        return joined
    }

    /// The body read as JSON, once; throws what it is not.
    func document(_ blocks: borrowing BlockPool) throws(JSONFault) -> JSONDocument {
        if let reading { return try reading.get() }
        do throws(JSONFault) {
            let document = try JSONDocument(
                bytes(blocks), valuesMax: ProxyLimits.heldValuesMax)
            reading = .success(document)
            return document
        } catch {
            reading = .failure(error)
            throw error
        }
    }
}
