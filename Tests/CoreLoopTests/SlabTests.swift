import CoreLoop
import Testing

/// The slab against a dictionary of its living elements and a list of the dead.
@Suite struct SlabTests {
    @Test(arguments: [1, 2, 3, 17, 64, 1_000])
    func randomUseKeepsElementsAndGenerations(capacity: Int) throws {
        let slab = try Slab<UInt64>(capacity: capacity)
        var random = FastRandom(seed: UInt64(capacity))
        var living: [Int: (value: UInt64, generation: UInt32)] = [:]
        var dead: [(slot: Int, generation: UInt32)] = []
        for step in 0..<10_000 {
            let inserts = random.next() % 8 < (step / 2_000 % 2 == 0 ? 5 : 3)
            if inserts {
                let value = random.next()
                let slot = slab.insert(value)
                try #require((slot == nil) == (living.count == capacity))
                guard let slot else { continue }
                try #require(living[slot] == nil && slot >= 0 && slot < capacity)
                let generation = slab.generation(slot)
                try #require(!dead.contains { $0 == (slot, generation) }, "a generation came again")
                living[slot] = (value, generation)
            } else if let (slot, entry) = living.randomElement(using: &random) {
                let value = slab[slot].pointee
                try #require(value == entry.value)
                slab.remove(slot)
                living[slot] = nil
                dead.append((slot, entry.generation))
            }
            try check(slab, living, dead.suffix(8), capacity)
        }
    }

    private func check(
        _ slab: borrowing Slab<UInt64>, _ living: [Int: (value: UInt64, generation: UInt32)],
        _ dead: ArraySlice<(slot: Int, generation: UInt32)>, _ capacity: Int
    ) throws {
        let (used, walkEnd) = (slab.usedCount, slab.walkEnd)
        try #require(used == living.count && walkEnd <= capacity)
        for (slot, generation) in dead {
            let live = slab.isLive(slot, generation)
            try #require(!live, "a freed slot's token still fits")
        }
        for slot in 0..<min(capacity, 64) {
            let isUsed = slab.isUsed(slot)
            try #require(isUsed == (living[slot] != nil))
            guard let entry = living[slot] else { continue }
            let (live, next) = (
                slab.isLive(slot, entry.generation), slab.isLive(slot, entry.generation &+ 1)
            )
            try #require(live && !next && slot < walkEnd)
        }
    }

    @Test func elementsKeepTheirAddress() throws {
        let slab = try Slab<UInt64>(capacity: 100)
        var addresses: [UnsafeMutablePointer<UInt64>] = []
        for value in 0..<100 {
            let inserted = slab.insert(UInt64(value))
            addresses.append(slab[try #require(inserted)])
        }
        for (value, address) in addresses.enumerated() { #expect(address.pointee == UInt64(value)) }
    }

    @Test func aSlotThatWasNeverUsedIsNotLive() throws {
        let slab = try Slab<UInt64>(capacity: 4)
        let answers = [
            slab.isLive(0, 0), slab.isLive(3, 1), slab.isUsed(0), slab.isLive(1 << 23, 0),
        ]
        #expect(answers == [false, false, false, false])
    }

    @Test func aSlotFreedTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let slab = try Slab<UInt64>(capacity: 4)
            guard let slot = slab.insert(1) else { return }
            slab.remove(slot)
            slab.remove(slot)
        }
    }

    @Test(arguments: [-1, 4, 1 << 20])
    func aSlotOutsideTraps(slot: Int) async {
        await #expect(processExitsWith: .failure) { [slot] in
            let slab = try Slab<UInt64>(capacity: 4)
            _ = slab.insert(1)
            slab.remove(slot)
        }
    }
}
