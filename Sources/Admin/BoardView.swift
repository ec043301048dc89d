public import CoreLoop
public import Proxy
import Synchronization

/// The board as pages show it: what the present configuration's processes count, and what those of
/// former ones have (`carried`, written by the supervisor), added up in memory of this process.
public final class BoardView {
    /// The sums, as of the last `refresh`.
    public let board: Board
    private let memory: SharedMemory
    private let live: UnsafeMutablePointer<Atomic<UInt64>>
    private let carried: UnsafeMutablePointer<Atomic<UInt64>>
    private let settings: GatewaySettings

    /// A view of two boards of one shape, which stay mapped as long as this is used.
    public init(
        live: UnsafeMutableRawPointer, carried: UnsafeMutableRawPointer, shape: Board.Shape,
        settings: GatewaySettings
    ) throws(SystemError) {
        let memory = try SharedMemory.plain(byteCount: Board.byteCount(shape))
        board = .map(memory.base, shape)
        self.memory = consume memory
        self.live = live.assumingMemoryBound(to: Atomic<UInt64>.self)
        self.carried = carried.assumingMemoryBound(to: Atomic<UInt64>.self)
        self.settings = settings
    }

    /// Adds up anew: again, where that caught a worker between two cells that belong together.
    public func refresh() {
        for _ in 0..<AdminLimits.readingAttemptsMax {
            add()
            if settings.shadows.isEmpty || MirrorReading(board, settings).isWhole { return }
        }
    }

    private func add() {
        let sums = memory.base.assumingMemoryBound(to: Atomic<UInt64>.self)
        // Downwards: of cells that belong together, the one that is counted last comes first, so
        // that no part is ever larger than its whole.
        for place in stride(from: memory.byteCount / 8 - 1, through: 0, by: -1) {
            Cell(sums + place).set(Cell(live + place).value &+ Cell(carried + place).value)
        }
    }
}
