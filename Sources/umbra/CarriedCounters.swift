import CoreLoop
import Mirror
import Proxy

/// Keeps the gateway's counters going over reloads: what the processes of former configurations
/// have counted, and those that still finish their requests go on to count, is written beside the
/// present board, where the admin process adds it up.
///
/// By name (`Board.rows`): what a new configuration no longer has is forgotten. The counts of
/// workers that are no more go to those that are, so that no sum over the workers goes back.
final class CarriedCounters {
    private typealias Rows = [String: BoardRow]

    /// What the ended generations have counted.
    private var past: [String: [UInt64]] = [:]
    private var former: [(number: Int, rows: [String: [BoardRow]])] = []
    /// Where the sums are written: the same layout as the board.
    private var present: Rows = [:]
    private var source: Rows = [:]

    /// Follows `generation` from now on; the one before it goes on to be counted until `ended`.
    func follow(_ generation: Generation, after old: Generation?) {
        if let old { former.append((old.number, source.mapValues { [$0] })) }
        source = generation.board.rows(generation.launch.settings)
        present = generation.carried.rows(generation.launch.settings)
        for place in former.indices {
            former[place].rows = Dictionary(
                former[place].rows.map { (name($0.key, generation), $0.value) },
                uniquingKeysWith: +)
        }
        past = Dictionary(
            past.map { (name($0.key, generation), $0.value) },
            uniquingKeysWith: { first, second in zip(first, second).map { $0 &+ $1 } })
        write()
    }

    /// What `name` is called under `generation`: a worker or shadow process beyond its number
    /// counts on under one that there is.
    private func name(_ name: String, _ generation: Generation) -> String {
        guard present[name] == nil else { return name }
        var words = name.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count > 1, let index = Int(words[1]) else { return name }
        let ofShadows = words[0] == "gauges" || words[0] == "shadow-latency"
        let shape = generation.launch.shape.mirror
        let count = ofShadows ? shape.shadowProcesses : shape.workers
        guard count > 0, index >= count else { return name }
        words[1] = "\(index % count)"
        return words.joined(separator: "/")
    }

    /// A former generation has no process left: its counters stand still.
    func ended(_ generation: Generation) {
        guard let place = former.firstIndex(where: { $0.number == generation.number }) else {
            return
        }
        for (name, rows) in former[place].rows where present[name] != nil {
            var sums = past[name] ?? Array(repeating: 0, count: rows[0].cells.count)
            for row in rows where sums.count == row.cells.count {
                for index in sums.indices where row.kind(index) == .counter {
                    sums[index] &+= row.cells[index].value
                }
            }
            past[name] = sums
        }
        former.remove(at: place)
        let known = Set(former.flatMap(\.rows.keys)).union(present.keys)
        past = past.filter { known.contains($0.key) }
        write()
    }

    /// Writes the sums anew; to be called now and then while a former generation runs.
    func write() {
        for (name, row) in present {
            let sums = past[name]
            let others = former.flatMap { $0.rows[name] ?? [] }
            if sums == nil, others.isEmpty { continue }
            for index in 0..<row.cells.count where row.kind(index) != .own {
                var value = sums.map { index < $0.count ? $0[index] : 0 } ?? 0
                for other in others where index < other.cells.count {
                    value &+= other.cells[index].value
                }
                row.cells[index].set(value)
            }
        }
    }
}
