import Load

/// One bound and whether it held.
struct Finding {
    let name: String
    let held: Bool
    /// What was measured, in words.
    let measured: String

    var json: JSONText {
        .object([("name", .text(name)), ("held", .flag(held)), ("measured", .text(measured))])
    }
}

/// What one part found: bounds, a table for the terminal, and figures for JSON.
struct PartReport {
    let part: Settings.Part
    var findings: [Finding] = []
    var tables: [String] = []
    var figures: [(String, JSONText)] = []

    init(_ part: Settings.Part) { self.part = part }

    mutating func expect(_ held: Bool, _ name: String, _ measured: String) {
        findings.append(Finding(name: name, held: held, measured: measured))
    }

    /// Expects that every sampled request became a copy. Drops are not random (a full queue prefers
    /// large bodies), so with any the tests of chance say nothing.
    mutating func expectNoDrops(_ metrics: Metrics, _ name: String) {
        let reasons = metrics.select("umbra_mirror_dropped_total").filter { $0.value > 0 }.map {
            "\($0.labels["reason"] ?? "?") \(Int($0.value))"
        }
        let measured = reasons.isEmpty ? "0" : reasons.joined(separator: ", ")
        expect(
            reasons.isEmpty, name,
            reasons.isEmpty ? measured : measured + "; on a busy machine lower --rate")
    }

    /// Expects that a test of chance does not speak against chance. One in 10,000 sound runs is
    /// accused wrongly.
    mutating func expectChance(_ test: (value: Double, p: Double)?, _ name: String) {
        guard let test else {
            expect(false, name, "too few classes for a test")
            return
        }
        expect(test.p >= 1e-4, name, "chi-squared \(fixed(test.value, 1)), p = \(fixed(test.p, 4))")
    }

    var json: JSONText {
        .object(
            [("part", .text(part.rawValue)), ("findings", .list(findings.map(\.json)))] + figures)
    }
}
