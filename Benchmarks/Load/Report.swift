public import CoreLoop

/// The quantiles that every report shows.
public let reportedQuantiles: [(name: String, value: Double)] = [
    ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1),
]

extension HistogramSnapshot {
    /// Quantiles in milliseconds, and the mean.
    public var json: JSONText {
        var members = reportedQuantiles.map { quantile in
            (
                quantile.name + "_ms",
                value(at: quantile.value).map { JSONText.number($0 / 1e6) } ?? .null
            )
        }
        members.append(
            ("mean_ms", count > 0 ? .number(Double(sumNs) / Double(count) / 1e6) : .null))
        return .object(members)
    }
}

extension LoadCounts {
    /// All counters.
    public var json: JSONText {
        .object([
            ("offered", .integer(self[.offered])), ("sent", .integer(self[.sent])),
            ("answered", .integer(self[.answered])),
            (
                "status",
                .object([
                    ("1xx", .integer(self[.status1xx])), ("2xx", .integer(self[.status2xx])),
                    ("3xx", .integer(self[.status3xx])), ("4xx", .integer(self[.status4xx])),
                    ("5xx", .integer(self[.status5xx])),
                ])
            ),
            (
                "failed",
                .object([
                    ("connect", .integer(self[.failedConnect])),
                    ("reset", .integer(self[.failedReset])),
                    ("timeout", .integer(self[.failedTimeout])),
                    ("bad_answer", .integer(self[.failedBadAnswer])),
                ])
            ),
            ("unanswered", .integer(self[.unanswered])),
            ("backlog_dropped", .integer(self[.backlogDropped])),
            ("wrong_length", .integer(self[.wrongLength])),
            ("stray_bytes", .integer(self[.strayBytes])),
            ("body_bytes", .integer(self[.bodyBytes])),
            ("connections_made", .integer(self[.connectionsMade])),
            ("resumed", .integer(self[.resumed])),
        ])
    }
}

extension LoadResult {
    /// All figures.
    public var json: JSONText {
        .object([
            ("seconds", .number(seconds)), ("answers_per_second", .number(answersPerSecond)),
            ("latency", latency.json), ("lateness", lateness.json),
            ("generator_cpu_us_per_request", .number(cpuNsPerRequest / 1_000)),
            ("measured", measured.json), ("total", total.json),
        ])
    }

    /// Some lines for a terminal.
    public var table: String {
        let counts = measured
        var figures = TextTable(["", "p50", "p90", "p99", "p99.9", "max"])
        for (name, histogram) in [("latency ms", latency), ("lateness ms", lateness)] {
            figures.add(
                [name] + reportedQuantiles.map { milliseconds(histogram.value(at: $0.value)) })
        }
        return """
            \(fixed(answersPerSecond, 0)) answers/s over \(fixed(seconds, 1)) s\
            ; generator \(fixed(cpuNsPerRequest / 1_000, 2)) µs CPU a request
            offered \(counts[.offered])  sent \(counts[.sent])  answered \(counts[.answered])\
              unanswered \(counts[.unanswered]) (backlog dropped \(counts[.backlogDropped]))
            status  2xx \(counts[.status2xx])  3xx \(counts[.status3xx])  4xx \(counts[.status4xx])\
              5xx \(counts[.status5xx])
            failed  connect \(counts[.failedConnect])  reset \(counts[.failedReset])\
              timeout \(counts[.failedTimeout])  bad answer \(counts[.failedBadAnswer])\
              wrong length \(counts[.wrongLength])  stray bytes \(counts[.strayBytes])
            \(figures.text)
            """
    }
}

extension Origin {
    /// All counters, and how many arrivals were kept.
    public var json: JSONText {
        var members: [(String, JSONText)] = [("listen", .text(address.text))]
        for name in OriginCounter.allCases { members.append(("\(name)", .integer(value(name)))) }
        members.append(("arrivals_kept", .integer(arrivalsKept)))
        return .object(members)
    }
}
