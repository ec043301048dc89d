import CoreLoop
import Mirror
import Proxy

/// The latency guard at work: reads both sides off the board, writes its word into the mirror's
/// control page, which workers read with each request.
struct LatencyWatch {
    /// Between two looks: each reads two histograms a worker.
    private static let lookMs = 1_000

    private var latencies: LatencyGuard
    private let overheadMax: Double
    private var nextLook = Instant(nanoseconds: 0)

    init(overheadMax: Double) {
        self.overheadMax = overheadMax
        latencies = LatencyGuard(overheadMax: overheadMax)
    }

    /// The same watch over other histograms, under the allowance of `newer`.
    func continued(as newer: LatencyWatch) -> LatencyWatch {
        var result = newer
        result.latencies = latencies.continued(overheadMax: newer.overheadMax)
        return result
    }

    mutating func look(at board: Board, now: Instant) {
        guard now >= nextLook else { return }
        nextLook = now.adding(ms: Self.lookMs)
        var mirrored = HistogramSnapshot()
        var unmirrored = HistogramSnapshot()
        for worker in board.workers {
            mirrored.add(worker.mirrored.snapshot())
            unmirrored.add(worker.unmirrored.snapshot())
        }
        let control = board.mirror.control
        switch latencies.look(mirrored: mirrored, unmirrored: unmirrored, now: now) {
        case .nothing: break
        case .hold(let ms, let ratio):
            control[.guardHolds].set(1)
            control.add(.guardHoldsTotal)
            let (found, allowed) = (Self.hundredths(ratio), Self.hundredths(1 + overheadMax))
            Console.log(
                .warn,
                "Mirroring is held for \(ms / 1_000) s: the P99 of mirrored requests is "
                    + "\(found) of the others', the guard allows \(allowed)")
        case .release:
            control[.guardHolds].set(0)
            Console.log(.info, "Mirroring goes on")
        }
    }

    private static func hundredths(_ value: Double) -> String {
        let scaled = Int((min(value, 1e6) * 100).rounded())
        return "\(scaled / 100)." + (scaled % 100 < 10 ? "0" : "") + "\(scaled % 100)"
    }
}
