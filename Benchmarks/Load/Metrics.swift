public import CoreLoop

/// The samples of one scrape in the Prometheus text format.
public struct Metrics: Sendable {
    /// One line of a scrape.
    public struct Sample: Sendable {
        /// The metric's name.
        public let name: String
        /// Its labels, unescaped.
        public let labels: [String: String]
        /// Its value.
        public let value: Double
    }

    /// In the order of the text.
    public private(set) var samples: [Sample] = []

    /// Reads samples; comments and what is no sample are passed over.
    public init(text: String) {
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            if let sample = Self.sample(line) { samples.append(sample) }
        }
    }

    /// Fetches /metrics of an admin listener. Throws `Scrape.Fault`.
    public static func fetch(_ admin: SocketAddress) throws(Scrape.Fault) -> Metrics {
        let answer = try Scrape.get(admin, "/metrics")
        guard answer.status == 200 else { throw Scrape.Fault("/metrics answered \(answer.status)") }
        return Metrics(text: String(decoding: answer.body, as: UTF8.self))
    }

    /// The sum of all samples of `name` whose labels include `labels`.
    public func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
        select(name, labels).reduce(0) { $0 + $1.value }
    }

    /// Whether there is any sample of `name`.
    public func has(_ name: String) -> Bool { samples.contains { $0.name == name } }

    /// All samples of `name` whose labels include `labels`.
    public func select(_ name: String, _ labels: [String: String] = [:]) -> [Sample] {
        samples.filter { sample in
            sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
        }
    }

    private static func sample(_ line: Substring) -> Sample? {
        guard let brace = line.firstIndex(of: "{") else {
            let parts = line.split(separator: " ")
            guard parts.count >= 2, let value = Double(parts[1]) else { return nil }
            return Sample(name: String(parts[0]), labels: [:], value: value)
        }
        var labels: [String: String] = [:]
        var at = line.index(after: brace)
        while at < line.endIndex, line[at] != "}" {
            guard let equals = line[at...].firstIndex(of: "=") else { return nil }
            let name = String(line[at..<equals])
            at = line.index(after: equals)
            guard at < line.endIndex, line[at] == "\"" else { return nil }
            at = line.index(after: at)
            var value = ""
            while at < line.endIndex, line[at] != "\"" {
                if line[at] == "\\" {
                    at = line.index(after: at)
                    guard at < line.endIndex else { return nil }
                    value.append(line[at] == "n" ? "\n" : line[at])
                } else {
                    value.append(line[at])
                }
                at = line.index(after: at)
            }
            guard at < line.endIndex else { return nil }
            labels[name] = value
            at = line.index(after: at)
            if at < line.endIndex, line[at] == "," { at = line.index(after: at) }
        }
        guard at < line.endIndex else { return nil }
        let rest = line[line.index(after: at)...].split(separator: " ")
        guard let first = rest.first, let value = Double(first) else { return nil }
        return Sample(name: String(line[..<brace]), labels: labels, value: value)
    }
}
