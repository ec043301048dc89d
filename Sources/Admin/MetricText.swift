import CoreLoop

/// Metrics in the Prometheus text format 0.0.4: families one after another, each with one HELP and
/// one TYPE line, and none where it has no sample.
struct MetricText {
    /// What a family counts.
    enum Kind: String { case counter, gauge, histogram }

    /// The text so far, UTF-8.
    private(set) var bytes: [UInt8] = []
    private var name = ""
    private var pendingHeader = ""

    /// The value of the Content-Type field.
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// Begins a family. `help` is one line without backslashes.
    mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        assert(kind != .counter || name.hasSuffix("_total"))
        self.name = name
        pendingHeader = "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    /// One sample of the family. `labels` come from `labels(_:)`, or are empty.
    mutating func sample(_ labels: String = "", _ value: UInt64) { line("", labels, "\(value)") }

    /// The same for a value that is no whole number; what is not finite is left out.
    mutating func sample(_ labels: String = "", ratio: Double) {
        if ratio.isFinite { line("", labels, "\(ratio)") }
    }

    /// The same for a time.
    mutating func sample(_ labels: String = "", nanoseconds: UInt64) {
        line("", labels, Self.seconds(nanoseconds))
    }

    /// Buckets, sum and count of a histogram of times. A bucket's bound is exact to the histogram's
    /// resolution, 1.6 %.
    mutating func histogram(
        _ labels: String = "", _ snapshot: HistogramSnapshot, bounds: [BucketBound]
    ) {
        let prefix = labels.isEmpty ? "{" : String(labels.dropLast()) + ","
        for bound in bounds {
            let count = snapshot.count(atMost: bound.nanoseconds)
            line("_bucket", "\(prefix)le=\"\(bound.text)\"}", "\(count)")
        }
        let count = snapshot.count
        line("_bucket", "\(prefix)le=\"+Inf\"}", "\(count)")
        line("_sum", labels, Self.seconds(snapshot.sumNs))
        line("_count", labels, "\(count)")
    }

    private mutating func line(_ suffix: String, _ labels: String, _ value: String) {
        bytes.append(contentsOf: pendingHeader.utf8)
        pendingHeader = ""
        bytes.append(contentsOf: name.utf8)
        bytes.append(contentsOf: suffix.utf8)
        bytes.append(contentsOf: labels.utf8)
        bytes.append(0x20)
        bytes.append(contentsOf: value.utf8)
        bytes.append(0x0A)
    }

    /// `{name="value",…}`, the values escaped. Names are ours; values may come from a
    /// configuration.
    static func labels(_ pairs: (String, String)...) -> String { labels(pairs) }

    /// The same for pairs that were gathered.
    static func labels(_ pairs: [(String, String)]) -> String {
        var text = "{"
        for (name, value) in pairs {
            if text.utf8.count > 1 { text += "," }
            text += "\(name)=\"\(escaped(value))\""
        }
        return text + "}"
    }

    private static func escaped(_ value: String) -> String {
        // Nearly every value: a number, a name.
        let isPlain = value.utf8.allSatisfy { $0 != 0x5C && $0 != 0x22 && $0 != 0x0A }
        if isPlain { return value }
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    /// Nanoseconds as seconds, exact: a Double would lose the last digits after 100 days.
    static func seconds(_ nanoseconds: UInt64) -> String {
        let whole = nanoseconds / 1_000_000_000
        let rest = nanoseconds % 1_000_000_000
        if rest == 0 { return "\(whole)" }
        let digits = "\(rest)"
        var text = "\(whole)." + String(repeating: "0", count: 9 - digits.utf8.count) + digits
        while text.utf8.last == 0x30 { text.removeLast() }
        return text
    }
}

/// The upper bound of a histogram's bucket.
struct BucketBound: Sendable, Equatable {
    /// Seconds, as the `le` label has them.
    let text: String
    let nanoseconds: UInt64

    /// The bound of so many microseconds.
    init(us: UInt64) {
        nanoseconds = us * 1_000
        text = MetricText.seconds(nanoseconds)
    }

    /// For requests: finest where an edge proxy's latencies lie.
    static let requests: [BucketBound] = [
        100, 250, 500, 750, 1_000, 1_500, 2_500, 5_000, 7_500, 10_000, 15_000, 25_000, 50_000,
        100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
        60_000_000,
    ].map { BucketBound(us: $0) }

    /// For the turns of an event loop.
    static let turns: [BucketBound] = [
        5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000,
        250_000, 1_000_000,
    ].map { BucketBound(us: $0) }
}
