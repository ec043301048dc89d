import CoreLoop
import Testing

@testable import TLS

@Suite struct TicketKeysTests {
    /// Zeroed memory, as a new memfd is.
    private func page(_ work: (TicketKeys) throws -> Void) rethrows {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: TicketKeys.byteCount, alignment: 4_096)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: TicketKeys.byteCount)
        try work(TicketKeys.map(memory))
    }

    @Test func aNewPageHasNoKey() {
        page { keys in
            #expect(!keys.isReady)
            var name: (UInt64, UInt64) = (0, 0)
            #expect(keys.find(&name) == nil)
        }
    }

    /// A ticket opens with the key that sealed it and until the second rotation after it.
    @Test func theLastKeyIsTakenAndOlderOnesAreNot() {
        page { keys in
            keys.rotate()
            var name = keys.present.pointee.name
            let sealed = keys.present.pointee.cipher
            #expect(keys.find(&name)?.isOld == false)
            keys.rotate()
            let found = keys.find(&name)
            #expect(found?.isOld == true)
            #expect(found.map { $0.key.pointee.cipher == sealed } == true)
            keys.rotate()
            #expect(keys.find(&name) == nil)
        }
    }

    @Test func noTwoKeysAreAlike() {
        page { keys in
            var seen: Set<UInt64> = []
            for _ in 0..<64 {
                keys.rotate()
                let key = keys.present.pointee
                for word in [key.name.0, key.name.1, key.cipher.0, key.cipher.3, key.mac.0] {
                    #expect(seen.insert(word).inserted)
                }
            }
        }
    }
}
