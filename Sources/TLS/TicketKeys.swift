import CLinux
import CoreLoop
import Synchronization

/// One generation of the keys that session tickets are sealed with (RFC 5077 §4).
struct TicketKey: BitwiseCopyable {
    /// Says in the ticket which key it was sealed with.
    var name: (UInt64, UInt64) = (0, 0)
    var cipher: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var mac: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
}

/// The ticket keys of all workers, in shared memory: the supervisor makes them, workers map them
/// read-only, so that whichever worker a client comes back to opens its ticket.
///
/// Generation `g` lies in slot `g % ticketKeysKept`. A reader takes the present one and the one
/// before it, which a rotation does not write over; that takes two further rotations.
public struct TicketKeys {
    private let generation: Cell
    private let keys: UnsafeMutablePointer<TicketKey>

    /// Bytes of the memory, whole pages.
    public static var byteCount: Int {
        var plan = MemoryPlan()
        _ = TicketKeys(plan: &plan)
        plan.alignToPage()
        return plan.byteCount
    }

    private init?(plan: inout MemoryPlan) {
        let generation = plan.take(Atomic<UInt64>.self, count: 1)
        let keys = plan.take(TicketKey.self, count: TLSLimits.ticketKeysKept)
        guard let generation, let keys else { return nil }
        self.generation = Cell(generation)
        self.keys = keys
    }

    /// The keys at `base`, `byteCount` bytes that are zero or were filled by `rotate`.
    public static func map(_ base: UnsafeMutableRawPointer) -> TicketKeys {
        var plan = MemoryPlan(base: base)
        return TicketKeys(plan: &plan)!
    }

    /// Makes the next generation the present one. For the supervisor only.
    public func rotate() {
        let next = generation.value + 1
        let place = keys + Int(next % UInt64(TLSLimits.ticketKeysKept))
        fillRandom(UnsafeMutableRawBufferPointer(start: place, count: MemoryLayout<TicketKey>.size))
        generation.publish(next)
    }

    private func fillRandom(_ memory: UnsafeMutableRawBufferPointer) {
        var filled = 0
        while filled < memory.count {
            let count = getrandom(memory.baseAddress! + filled, memory.count - filled, 0)
            if count < 0, lastErrno == EINTR { continue }
            precondition(count > 0, "the kernel has no random bytes: no key can be made")
            filled += count
        }
    }

    /// Whether there is a key at all.
    var isReady: Bool { generation.acquired > 0 }

    /// The key that new tickets are sealed with.
    var present: UnsafePointer<TicketKey> {
        UnsafePointer(keys + Int(generation.acquired % UInt64(TLSLimits.ticketKeysKept)))
    }

    /// The key of this name, and whether a newer one has taken its place; nil where it is none of
    /// ours or too old.
    func find(_ name: UnsafeRawPointer) -> (key: UnsafePointer<TicketKey>, isOld: Bool)? {
        let present = generation.acquired
        for age in 0..<UInt64(TLSLimits.ticketKeysAccepted) where present > age {
            let key = keys + Int((present - age) % UInt64(TLSLimits.ticketKeysKept))
            if memcmp(key, name, MemoryLayout.size(ofValue: key.pointee.name)) == 0 {
                return (UnsafePointer(key), age > 0)
            }
        }
        return nil
    }
}
