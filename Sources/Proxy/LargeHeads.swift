import CoreLoop
import HTTP

/// Buffers for heads and trailer sections that outgrow a block: few, bounded, allocated when first
/// needed.
final class LargeHeads {
    /// Bytes of each buffer.
    let byteCount: Int
    // Pointers and not arrays: the look at one would check for exclusive access in each request.
    private let buffers: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private let free: UnsafeMutablePointer<Int32>
    private var freeCount = ProxyLimits.largeHeadsMax

    init(bytesEach: Int) {
        // Trailer sections are gathered here too, however small heads are to be.
        byteCount = max(bytesEach, HTTP.Limits.trailerBytesMax) + ProxyLimits.headGrowthMax
        buffers = .allocate(capacity: freeCount)
        buffers.initialize(repeating: nil, count: freeCount)
        free = .allocate(capacity: freeCount)
        for place in 0..<freeCount { free[place] = Int32(freeCount - 1 - place) }
    }

    deinit {
        for number in 0..<ProxyLimits.largeHeadsMax { buffers[number]?.deallocate() }
        buffers.deallocate()
        free.deallocate()
    }

    /// A buffer's number; -1 where all are in use.
    func take() -> Int32 {
        guard freeCount > 0 else { return -1 }
        freeCount -= 1
        let number = free[freeCount]
        if buffers[Int(number)] == nil {
            buffers[Int(number)] = .allocate(byteCount: byteCount, alignment: 16)
        }
        return number
    }

    func giveBack(_ number: Int32) {
        precondition(freeCount < ProxyLimits.largeHeadsMax)
        free[freeCount] = number
        freeCount += 1
    }

    func pointer(_ number: Int32) -> UnsafeMutableRawPointer {
        precondition(number >= 0 && number < ProxyLimits.largeHeadsMax)
        return buffers[Int(number)]!
    }
}

/// What is written whole and sent from blocks.
extension ProxyWorker {
    /// Lets `write` write a head of any size that the limits allow, and `place` bring it to where
    /// it is sent from. Nil where there is no buffer, the head is too long, or `place` says so.
    func writeLarge<Placed>(
        _ place: (UnsafeRawBufferPointer) -> Placed?, _ write: (inout HeadWriter) -> Void
    ) -> Placed? {
        let buffer = largeHeads.take()
        guard buffer >= 0 else { return nil }
        defer { largeHeads.giveBack(buffer) }
        var writer = HeadWriter(
            UnsafeMutableRawBufferPointer(
                start: largeHeads.pointer(buffer), count: largeHeads.byteCount))
        write(&writer)
        return writer.overflowed ? nil : place(writer.written)
    }

    /// Copies a head that is larger than a block into blocks, listed in `headParts`. Returns how
    /// many; nil where there are not enough.
    func spread(_ head: UnsafeRawBufferPointer) -> Int? {
        var parts = 0
        let isWhole = copy(head, blocksMax: ProxyLimits.headPartsMax) { part in
            headParts[parts] = part
            parts += 1
        }
        if isWhole { return parts }
        releaseHead(parts)
        return nil
    }

    /// Lets go of the first `parts` of `headParts`.
    func releaseHead(_ parts: Int) {
        for place in 0..<parts { blocks.release(headParts[place].slot) }
    }

    /// Bytes copied into fresh blocks, whose references are the caller's; nil where there are not
    /// enough.
    func makeBlocks(of bytes: UnsafeRawBufferPointer) -> [Slice]? {
        var made: [Slice] = []
        if copy(bytes, blocksMax: .max, { made.append($0) }) { return made }
        for slice in made { blocks.release(slice.slot) }
        counters.add(.blocksExhausted)
        return nil
    }

    /// Copies bytes into fresh blocks and gives each to `take`, its reference with it. False where
    /// there are not enough.
    private func copy(
        _ bytes: UnsafeRawBufferPointer, blocksMax: Int, _ take: (Slice) -> Void
    ) -> Bool {
        var offset = 0
        var taken = 0
        while offset < bytes.count {
            let block = taken < blocksMax ? blocks.take() : BlockPool.none
            guard block != BlockPool.none else { return false }
            let count = min(blockBytes, bytes.count - offset)
            blocks.pointer(block).copyMemory(from: bytes.baseAddress! + offset, byteCount: count)
            take(Slice(slot: block, offset: 0, count: count))
            taken += 1
            offset += count
        }
        return true
    }
}
