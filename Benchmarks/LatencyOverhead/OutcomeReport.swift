import CoreLoop
import Load

extension Outcome {
    /// The interval of the pairs' median ratio.
    func interval(seed: UInt64) -> (low: Double, high: Double)? {
        Statistics.medianInterval(ratios, seed: seed)
    }

    static var columns: [String] {
        [
            "shadow", "P50 off", "on", "P90 off", "on", "P99 off", "on", "P99.9 off", "on",
            "P99 on/off", "95 % interval",
            "CPU µs off", "on", "added", "mirrored", "answered",
        ]
    }

    func row(seed: UInt64) -> [String] {
        var cells = [shadow.name]
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            cells.append(milliseconds(off.latency.value(at: quantile)))
            cells.append(milliseconds(on.latency.value(at: quantile)))
        }
        cells.append(Statistics.median(ratios).map { fixed($0, 3) } ?? "-")
        cells.append(interval(seed: seed).map { "\(fixed($0.low, 3))–\(fixed($0.high, 3))" } ?? "-")
        cells += [fixed(cpuOffUs, 2), fixed(cpuOnUs, 2), fixed(cpuOnUs - cpuOffUs, 2)]
        cells += [fixed(mirroredShare * 100, 1) + " %", fixed(answeredShare * 100, 2) + " %"]
        return cells
    }

    func json(seed: UInt64) -> JSONText {
        let interval = interval(seed: seed)
        return .object([
            ("shadow", .text(shadow.name)),
            ("p99_ratio_median", Statistics.median(ratios).map { .number($0) } ?? .null),
            (
                "p99_ratio_interval",
                interval.map { .list([.number($0.low), .number($0.high)]) } ?? .null
            ),
            (
                "pairs",
                .list(
                    pairs.map { pair in
                        .object([
                            ("order", .text(pair.offFirst ? "off,on" : "on,off")),
                            ("p99_off_ms", .number(pair.off / 1e6)),
                            ("p99_on_ms", .number(pair.on / 1e6)),
                            ("ratio", .number(pair.on / pair.off)),
                        ])
                    })
            ),
            ("answered_on_in_all_pairs", .integer(answeredOnInAll)),
            ("pairs_repeated", .integer(repeated)), ("pairs_disturbed", .integer(disturbed)),
            ("cpu_us_per_request_off", .number(cpuOffUs)),
            ("cpu_us_per_request_on", .number(cpuOnUs)),
            ("cpu_us_per_request_added", .number(cpuOnUs - cpuOffUs)),
            ("mirrored_share", .number(mirroredShare)), ("answered_share", .number(answeredShare)),
            ("mirror", mirror.json), ("off", off.json), ("on", on.json),
            ("processes", .list(processes.map { .text($0) })),
            ("faults", .list(faults.map { .text($0) })),
        ])
    }
}
