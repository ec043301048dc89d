import CLinux
import CoreLoop
import Testing

/// The pool against a table of counts, with a stamp in each taken block that must survive.
@Suite struct BlockPoolTests {
    static let blockBytes = 4_096

    @Test(arguments: UInt64(1)...8)
    func randomUseKeepsCountsAndContents(seed: UInt64) throws {
        let count = [1, 2, 63, 64, 65, 200, 300, 128][Int(seed - 1)]
        let memory = try SharedMemory.create(name: "pool", byteCount: count * Self.blockBytes)
        let pool = BlockPool(
            base: memory.base, blockBytes: Self.blockBytes, count: count, fd: memory.fd)
        var random = FastRandom(seed: seed)
        var references = [UInt32](repeating: 0, count: count)
        var stamps = [UInt64](repeating: 0, count: count)
        var held: [UInt32] = []
        for step in 0..<20_000 {
            // Long phases of mostly taking and mostly releasing reach both ends.
            let takes = step / 1_000 % 2 == 0
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<(takes ? 55 : 25):
                let slot = pool.take()
                if references.allSatisfy({ $0 > 0 }) {
                    #expect(slot == BlockPool.none)
                    break
                }
                try #require(slot != BlockPool.none)
                try #require(references[Int(slot)] == 0, "a taken block was handed out again")
                references[Int(slot)] = 1
                held.append(slot)
                stamps[Int(slot)] = random.next()
                stamp(pool.pointer(slot), stamps[Int(slot)])
            case 55..<65:
                guard let slot = held.randomElement(using: &random) else { break }
                pool.retain(slot)
                references[Int(slot)] += 1
                held.append(slot)
            case 98:
                let trimmed = pool.trim()
                #expect(trimmed <= BlockPool.trimmedPerCallMax)
            default:
                guard !held.isEmpty else { break }
                let index = Int.random(in: 0..<held.count, using: &random)
                let slot = held.remove(at: index)
                try #require(isStamped(pool.pointer(slot), stamps[Int(slot)]), "a block changed")
                pool.release(slot)
                references[Int(slot)] -= 1
            }
            let taken = references.count { $0 > 0 }
            let (takenCount, freeCount) = (pool.takenCount, pool.freeCount)
            try #require(takenCount == taken && freeCount == count - taken)
            if let slot = held.randomElement(using: &random) {
                let isShared = pool.isShared(slot)
                try #require(isShared == (references[Int(slot)] > 1))
            }
        }
    }

    @Test func memoryComesBackToTheKernel() throws {
        let (count, blockBytes) = (256, 16_384)
        let memory = try SharedMemory.create(name: "trim", byteCount: count * blockBytes)
        let pool = BlockPool(base: memory.base, blockBytes: blockBytes, count: count, fd: memory.fd)
        for slot in takeAll(pool) {
            memset(pool.pointer(slot), 0xA5, blockBytes)
            pool.release(slot)
        }
        #expect(fileBytes(memory.fd) == count * blockBytes)
        #expect(residentBytes(memory.base) == count * blockBytes)

        // All blocks were needed since the pool began: nothing is cold yet.
        var trims: [Int] = []
        for _ in 0..<5 { trims.append(pool.trim()) }
        #expect(trims == [0, 64, 64, 64, 0])
        let kept = BlockPool.keptBlocks * blockBytes
        #expect(fileBytes(memory.fd) == kept)
        #expect(residentBytes(memory.base) == kept)

        // What is punched out comes back as zeros; what was kept is what was written.
        var zeros = 0
        let slots = takeAll(pool)
        for slot in slots where pool.pointer(slot).load(as: UInt64.self) == 0 { zeros += 1 }
        #expect(slots.count == count)
        #expect(zeros == count - BlockPool.keptBlocks)
        for slot in slots { pool.release(slot) }
    }

    @Test func blocksInEverydayUseAreNotTrimmed() throws {
        let (count, blockBytes) = (256, 4_096)
        let memory = try SharedMemory.create(name: "warm", byteCount: count * blockBytes)
        let pool = BlockPool(base: memory.base, blockBytes: blockBytes, count: count, fd: memory.fd)
        func use(_ number: Int) {
            var slots: [UInt32] = []
            for _ in 0..<number {
                let slot = pool.take()
                memset(pool.pointer(slot), 1, blockBytes)
                slots.append(slot)
            }
            for slot in slots { pool.release(slot) }
        }
        use(count)
        _ = pool.trim()
        var trimmed = 0
        for _ in 0..<10 {
            use(150)
            trimmed += pool.trim()
        }
        #expect(trimmed == count - 150)
        #expect(fileBytes(memory.fd) == 150 * blockBytes)
    }

    @Test func takenBlocksSurviveATrim() throws {
        let (count, blockBytes) = (256, 4_096)
        let memory = try SharedMemory.create(name: "held", byteCount: count * blockBytes)
        let pool = BlockPool(base: memory.base, blockBytes: blockBytes, count: count, fd: memory.fd)
        let slots = takeAll(pool)
        for slot in slots { stamp(pool.pointer(slot), UInt64(slot) + 1) }
        for slot in slots where slot % 3 == 0 { pool.release(slot) }
        for _ in 0..<5 { _ = pool.trim() }
        for slot in slots where slot % 3 != 0 {
            #expect(isStamped(pool.pointer(slot), UInt64(slot) + 1))
        }
    }

    @Test func plainMemoryIsNeverTrimmed() throws {
        let memory = try SharedMemory.plain(byteCount: 128 * 4_096)
        let pool = BlockPool(base: memory.base, blockBytes: 4_096, count: 128)
        for slot in takeAll(pool) { pool.release(slot) }
        var trimmed = 0
        for _ in 0..<4 { trimmed += pool.trim() }
        #expect(trimmed == 0)
    }

    @Test func aBlockReleasedTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let memory = try SharedMemory.plain(byteCount: 4_096)
            let pool = BlockPool(base: memory.base, blockBytes: 4_096, count: 1)
            let slot = pool.take()
            pool.release(slot)
            pool.release(slot)
        }
    }

    private func takeAll(_ pool: borrowing BlockPool) -> [UInt32] {
        var slots: [UInt32] = []
        while true {
            let slot = pool.take()
            if slot == BlockPool.none { return slots }
            slots.append(slot)
        }
    }

    private func stamp(_ block: UnsafeMutableRawPointer, _ value: UInt64) {
        block.storeBytes(of: value, as: UInt64.self)
        block.storeBytes(of: ~value, toByteOffset: Self.blockBytes - 8, as: UInt64.self)
    }

    private func isStamped(_ block: UnsafeMutableRawPointer, _ value: UInt64) -> Bool {
        block.load(as: UInt64.self) == value
            && block.load(fromByteOffset: Self.blockBytes - 8, as: UInt64.self) == ~value
    }

    /// The memory that a memfd holds, bytes.
    private func fileBytes(_ fd: Int32) -> Int {
        var status = stat()
        fstat(fd, &status)
        return Int(status.st_blocks) * 512
    }

    /// How much of the mapping that begins at `base` this process has mapped in, bytes.
    private func residentBytes(_ base: UnsafeMutableRawPointer) -> Int? {
        let start = String(UInt(bitPattern: base), radix: 16) + "-"
        var inside = false
        for line in readFile("/proc/self/smaps").split(separator: "\n") {
            if line.hasPrefix(start) { inside = true }
            guard inside, line.hasPrefix("Rss:") else { continue }
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map {
                $0 * 1_024
            }
        }
        return nil
    }
}

/// A whole file as text, read without Foundation.
func readFile(_ path: String) -> String {
    let fd = umbra_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard fd >= 0 else { return "" }
    defer { close(fd) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
        let n = read(fd, &chunk, chunk.count)
        if n <= 0 { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk[..<n]
    }
}
