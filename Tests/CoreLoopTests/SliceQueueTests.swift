import CoreLoop
import Testing

/// Slice queues against arrays of bytes.
@Suite struct SliceQueueTests {
    static let blockBytes = 64

    @Test(arguments: UInt64(1)...8)
    func randomUseEqualsArraysOfBytes(seed: UInt64) throws {
        let (blockCount, nodeCount, queueCount) = (16, 24, 3)
        let memory = try SharedMemory.plain(byteCount: blockCount * Self.blockBytes)
        let blocks = BlockPool(base: memory.base, blockBytes: Self.blockBytes, count: blockCount)
        let slices = SlicePool(capacity: nodeCount)
        var random = FastRandom(seed: seed)
        var queues = [SliceQueue](repeating: SliceQueue(), count: queueCount)
        var models = [[UInt8]](repeating: [], count: queueCount)
        for _ in 0..<20_000 {
            let index = Int.random(in: 0..<queueCount, using: &random)
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<50:
                let slot = blocks.take()
                guard slot != BlockPool.none else { break }
                let bytes = fill(blocks.pointer(slot), using: &random)
                let start = Int.random(in: 0...Self.blockBytes, using: &random)
                // One slice in eight is empty: it holds a block and no byte.
                let count =
                    random.next() % 8 == 0
                    ? 0 : Int.random(in: 0...Self.blockBytes - start, using: &random)
                let slice = Slice(slot: slot, offset: start, count: count)
                let full = slices.usedCount == nodeCount
                let appended = slices.append(slice, to: &queues[index], blocks)
                try #require(appended == !full)
                if appended { models[index] += bytes[start..<start + count] }
                blocks.release(slot)
            case 50..<95:
                let count = Int.random(in: 0...models[index].count, using: &random)
                slices.consume(count, from: &queues[index], blocks)
                models[index].removeFirst(count)
            default:
                slices.clear(&queues[index], blocks)
                models[index] = []
            }
            try check(queues, models, slices, blocks)
        }
        for index in 0..<queueCount { slices.clear(&queues[index], blocks) }
        let (used, taken) = (slices.usedCount, blocks.takenCount)
        #expect(used == 0 && taken == 0)
    }

    private func check(
        _ queues: [SliceQueue], _ models: [[UInt8]], _ slices: borrowing SlicePool,
        _ blocks: borrowing BlockPool
    ) throws {
        var nodes = 0
        for (queue, model) in zip(queues, models) {
            var bytes: [UInt8] = []
            var seen = 0
            slices.forEach(queue) { slice in
                let start = blocks.pointer(slice.slot) + Int(slice.offset)
                bytes += UnsafeRawBufferPointer(start: start, count: Int(slice.count))
                seen += 1
                return true
            }
            try #require(bytes == model)
            try #require(queue.byteCount == model.count && queue.sliceCount == seen)
            try #require(queue.isEmpty == (seen == 0))
            nodes += seen
        }
        // Every slice has a block of its own here, so blocks in use are slices in use.
        let (used, taken) = (slices.usedCount, blocks.takenCount)
        try #require(used == nodes && taken == nodes)
    }

    private func fill(_ block: UnsafeMutableRawPointer, using random: inout FastRandom) -> [UInt8] {
        let bytes = (0..<Self.blockBytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        block.copyMemory(from: bytes, byteCount: Self.blockBytes)
        return bytes
    }

    @Test func oneBlockMayLieInSeveralQueues() throws {
        let memory = try SharedMemory.plain(byteCount: 64)
        let blocks = BlockPool(base: memory.base, blockBytes: 64, count: 1)
        let slices = SlicePool(capacity: 4)
        let slot = blocks.take()
        var (first, second) = (SliceQueue(), SliceQueue())
        let appended = [
            slices.append(Slice(slot: slot, offset: 0, count: 10), to: &first, blocks),
            slices.append(Slice(slot: slot, offset: 10, count: 20), to: &first, blocks),
            slices.append(Slice(slot: slot, offset: 5, count: 5), to: &second, blocks),
        ]
        #expect(appended == [true, true, true])
        blocks.release(slot)
        slices.consume(30, from: &first, blocks)
        #expect(first.isEmpty && first.byteCount == 0)
        var taken = blocks.takenCount
        #expect(taken == 1)
        slices.consume(4, from: &second, blocks)
        taken = blocks.takenCount
        #expect(taken == 1 && second.byteCount == 1)
        slices.clear(&second, blocks)
        taken = blocks.takenCount
        #expect(taken == 0)
    }

    @Test func aWalkEndsWhereItsBodySaysSo() throws {
        let memory = try SharedMemory.plain(byteCount: 64)
        let blocks = BlockPool(base: memory.base, blockBytes: 64, count: 1)
        let slices = SlicePool(capacity: 4)
        let slot = blocks.take()
        var queue = SliceQueue()
        for count in 1...4 {
            let appended = slices.append(
                Slice(slot: slot, offset: 0, count: count), to: &queue, blocks)
            #expect(appended)
        }
        var seen: [UInt32] = []
        slices.forEach(queue) { slice in
            seen.append(slice.count)
            return slice.count < 2
        }
        #expect(seen == [1, 2])
    }

    @Test func consumingMoreThanThereIsTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = try SharedMemory.plain(byteCount: 64)
            let blocks = BlockPool(base: memory.base, blockBytes: 64, count: 1)
            var queue = SliceQueue()
            SlicePool(capacity: 1).consume(1, from: &queue, blocks)
        }
    }
}
