import CLinux
import CoreLoop
import Mirror

/// The caps of all shadows, each in memory of its own that every shadow process maps, also those of
/// the generation before: so no second holds more than its cap while a reload changes hands.
final class CapPages {
    fileprivate final class Page {
        let capacity: Int
        let memory: SharedMemory
        let cap: QPSCap

        init(capacity: Int) throws(SystemError) {
            self.capacity = capacity
            let memory = try SharedMemory.create(
                name: "umbra-cap", byteCount: QPSCap.byteCount(capacity: capacity))
            cap = .map(memory.base, capacity: capacity)
            self.memory = consume memory
        }
    }

    /// One generation's caps, in the order of its shadows.
    struct Set {
        fileprivate let pages: [(id: String, page: Page)]

        /// The memory of each, for its shadow processes.
        var fds: [Int32] { pages.map { $0.page.memory.fd } }
    }

    /// Caps that are kept, of shadows that are no longer configured too.
    private static let keptMax = 64
    private var present: [String: Page] = [:]

    /// The caps for `shadows`: those that are there, and new ones where there is none or it is too
    /// small or too large. Changes nothing yet.
    func plan(_ shadows: [ShadowSettings]) throws(SystemError) -> Set {
        var pages: [(id: String, page: Page)] = []
        for shadow in shadows {
            let capacity = QPSCap.capacity(for: shadow.qps)
            if let page = present[shadow.targetID], page.capacity == capacity {
                pages.append((shadow.targetID, page))
            } else {
                pages.append((shadow.targetID, try Page(capacity: capacity)))
            }
        }
        return Set(pages: pages)
    }

    /// Has these caps hold from now on. Where one takes another's place, the old one lets nothing
    /// more go, and the new one nothing until what the old one let go is a window old.
    func adopt(_ set: Set, now: Instant) {
        let windowMs = Int((QPSCap.secondNs + QPSCap.marginNs) / 1_000_000)
        for (id, page) in set.pages {
            if let old = present[id], old !== page {
                old.cap.close(until: Instant(nanoseconds: .max))
                page.cap.close(until: now.adding(ms: windowMs))
            }
            present[id] = page
        }
        // Kept for a while: a shadow that comes back may find its former processes still sending.
        guard present.count > Self.keptMax else { return }
        let known = Swift.Set(set.pages.map(\.id))
        present = present.filter { known.contains($0.key) }
    }
}
