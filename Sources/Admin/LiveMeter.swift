import CoreLoop
import Proxy

/// The latencies of requests that were mirrored beside those that could have been: sampling
/// assigned them at random, so that the ratio of the two is what mirroring costs the users.
///
/// Counted since the board was made, over all workers; whole answers only.
struct LiveMeter {
    let mirrored: HistogramSnapshot
    let unmirrored: HistogramSnapshot

    /// Reads both sides now.
    init(_ board: Board) {
        mirrored = Self.sum(board) { $0.mirrored }
        unmirrored = Self.sum(board) { $0.unmirrored }
    }

    /// One histogram summed over all workers.
    static func sum(_ board: Board, _ part: (WorkerBoard) -> Histogram) -> HistogramSnapshot {
        var total = HistogramSnapshot()
        for worker in board.workers { total.add(part(worker).snapshot()) }
        return total
    }

    /// P99 of one side in nanoseconds, interpolated; nil with fewer than
    /// `AdminLimits.meterSamplesMin` samples.
    private static func p99(_ side: HistogramSnapshot) -> Double? {
        side.count >= AdminLimits.meterSamplesMin ? side.value(at: 0.99) : nil
    }

    var mirroredP99Ns: Double? { Self.p99(mirrored) }
    var unmirroredP99Ns: Double? { Self.p99(unmirrored) }

    /// P99 mirrored over P99 unmirrored; nil unless both sides have enough samples.
    var p99Ratio: Double? {
        guard let with = mirroredP99Ns, let without = unmirroredP99Ns, without > 0 else {
            return nil
        }
        return with / without
    }
}
