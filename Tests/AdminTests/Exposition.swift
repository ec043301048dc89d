/// A strict reading of the Prometheus text format 0.0.4: what this refuses, some scraper refuses.
struct Exposition {
    struct Sample {
        let name: String
        let labels: [String: String]
        let value: String

        var number: Double { Double(value)! }
    }

    struct Family {
        let name: String
        let help: String
        let kind: String
        var samples: [Sample] = []
    }

    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    private(set) var families: [Family] = []

    init(_ text: String) throws {
        guard text.hasSuffix("\n") else { throw Fault(description: "no newline at the end") }
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        lines.removeLast()
        while let line = lines.popFirst() {
            if line.hasPrefix("# HELP ") {
                try begin(line, lines.popFirst() ?? "")
            } else {
                try add(line)
            }
        }
        for family in families { try Self.judge(family) }
        guard Set(families.map(\.name)).count == families.count else {
            throw Fault(description: "a family stands twice")
        }
    }

    private mutating func begin(_ help: Substring, _ type: Substring) throws {
        let words = help.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        let typed = type.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 4, typed.count == 4, typed[..<2] == ["#", "TYPE"],
            typed[2] == words[2], !words[3].isEmpty, !words[3].contains("\\")
        else { throw Fault(description: "\(help) / \(type)") }
        let kind = String(typed[3])
        guard ["counter", "gauge", "histogram"].contains(kind) else {
            throw Fault(description: "\(type)")
        }
        families.append(Family(name: String(words[2]), help: String(words[3]), kind: kind))
    }

    private mutating func add(_ line: Substring) throws {
        let sample = try Self.sample(line)
        guard let family = families.last else { throw Fault(description: "\(line): no family") }
        let suffixes = family.kind == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
        guard suffixes.contains(where: { family.name + $0 == sample.name }) else {
            throw Fault(description: "\(line) stands in \(family.name)")
        }
        families[families.count - 1].samples.append(sample)
    }

    private static func isName(_ name: Substring) -> Bool {
        guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return name.utf8.allSatisfy {
            (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                || $0 == 0x5F
        }
    }

    private static func sample(_ line: Substring) throws -> Sample {
        let fault = Fault(description: "no sample: \(line)")
        let name = line.prefix { $0 != "{" && $0 != " " }
        guard isName(name) else { throw fault }
        var rest = line[name.endIndex...]
        var labels: [String: String] = [:]
        if rest.first == "{" {
            repeat {
                rest = rest.dropFirst()
                let label = rest.prefix { $0 != "=" }
                rest = rest[label.endIndex...]
                guard isName(label), rest.hasPrefix("=\"") else { throw fault }
                rest = rest.dropFirst(2)
                var value = ""
                while let next = rest.popFirst(), next != "\"" {
                    guard next == "\\" else {
                        value.append(next)
                        continue
                    }
                    switch rest.popFirst() {
                    case "\\": value.append("\\")
                    case "\"": value.append("\"")
                    case "n": value.append("\n")
                    default: throw fault
                    }
                }
                guard labels.updateValue(value, forKey: String(label)) == nil else { throw fault }
            } while rest.first == ","
            guard rest.popFirst() == "}" else { throw fault }
        }
        guard rest.popFirst() == " ", !rest.contains(" "), let number = Double(rest),
            number.isFinite
        else { throw fault }
        return Sample(name: String(name), labels: labels, value: String(rest))
    }

    private static func judge(_ family: Family) throws {
        func fault(_ text: String) -> Fault { Fault(description: "\(family.name): \(text)") }
        guard !family.samples.isEmpty else { throw fault("no sample") }
        guard (family.kind == "counter") == family.name.hasSuffix("_total") else {
            throw fault("_total is for counters")
        }
        let series = family.samples.map { sample in
            sample.name + sample.labels.sorted { $0.key < $1.key }.map { "\($0)" }.joined()
        }
        guard Set(series).count == series.count else { throw fault("two samples of one series") }
        guard Set(family.samples.map { Set($0.labels.keys).subtracting(["le"]) }).count == 1 else {
            throw fault("labels differ")
        }
        guard family.samples.allSatisfy({ $0.number >= 0 }) else { throw fault("below 0") }
        if family.kind == "histogram" { try judgeHistogram(family) }
    }

    private static func judgeHistogram(_ family: Family) throws {
        let groups = Dictionary(grouping: family.samples) { sample in
            sample.labels.filter { $0.key != "le" }
        }
        for (labels, samples) in groups {
            let fault = Fault(description: "\(family.name)\(labels): no histogram")
            let buckets = samples.filter { $0.name.hasSuffix("_bucket") }
            let bounds = buckets.map { $0.labels["le"] ?? "" }
            let numbers = bounds.dropLast().compactMap { Double($0) }
            let counts = buckets.map(\.number)
            guard bounds.last == "+Inf", numbers.count == bounds.count - 1,
                zip(numbers, numbers.dropFirst()).allSatisfy({ $0 < $1 }),
                zip(counts, counts.dropFirst()).allSatisfy({ $0 <= $1 }),
                samples.count(where: { $0.name.hasSuffix("_sum") }) == 1,
                samples.filter({ $0.name.hasSuffix("_count") }).map(\.number) == [counts.last ?? -1]
            else { throw fault }
        }
    }

    func family(_ name: String) -> Family? { families.first { $0.name == name } }

    /// The value of the one sample that has all of `labels`, as it was written.
    func value(_ name: String, _ labels: [String: String] = [:]) -> String? {
        let found = select(name, labels)
        return found.count == 1 ? found[0].value : nil
    }

    func select(_ name: String, _ labels: [String: String] = [:]) -> [Sample] {
        families.flatMap(\.samples).filter { sample in
            sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
        }
    }

    func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
        select(name, labels).reduce(0) { $0 + $1.number }
    }
}
