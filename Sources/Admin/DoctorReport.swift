/// One thing that the doctor looked at.
public struct DoctorFinding: Sendable, Equatable {
    /// How it is: a problem keeps the gateway from doing what its configuration says.
    public enum Verdict: String, Sendable, CaseIterable { case ok, warning, problem }

    /// What kind of thing.
    public enum Check: String, Sendable, CaseIterable {
        case configuration, target, certificate, folder, limit, clock, port, token
    }

    /// What was looked at, and how it is.
    public let check: Check
    public let verdict: Verdict
    /// Which of its kind: a target's endpoint, a file, an address.
    public let subject: String
    /// What was found, and what to do about it: nil where all is well.
    public let detail: String
    public let remedy: String?

    init(
        _ check: Check, _ verdict: Verdict, _ subject: String, _ detail: String,
        remedy: String? = nil
    ) {
        self.check = check
        self.verdict = verdict
        self.subject = subject
        self.detail = detail
        self.remedy = remedy
    }
}

/// What `umbra doctor` found.
public struct DoctorReport: Sendable {
    /// The configuration, as it was asked for.
    public let file: String
    /// In the order of the checks.
    public var findings: [DoctorFinding] = []

    /// Nothing looked at yet.
    public init(file: String) { self.file = file }

    /// Whether there is any problem; warnings are none.
    public var hasProblem: Bool { count(.problem) > 0 }

    private func count(_ verdict: DoctorFinding.Verdict) -> Int {
        findings.count { $0.verdict == verdict }
    }

    /// A line for each finding, its remedy below it, and a line that sums up.
    public var text: String {
        var lines: [String] = []
        for finding in findings {
            let kind = finding.check.rawValue
            lines.append(
                Self.padded(finding.verdict.rawValue, 9) + Self.padded(kind, 15)
                    + "\(finding.subject): \(finding.detail)")
            if let remedy = finding.remedy {
                lines.append(String(repeating: " ", count: 24) + "→ \(remedy)")
            }
        }
        lines.append(
            "\(findings.count) checks: \(count(.problem)) problems, \(count(.warning)) warnings")
        // What a peer or a file says has no say over a terminal.
        return lines.map(Self.printable).joined(separator: "\n") + "\n"
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.utf8.count))
    }

    private static func printable(_ line: String) -> String {
        var result = ""
        for scalar in line.unicodeScalars {
            let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
            result.unicodeScalars.append(isControl ? "?" : scalar)
        }
        return result
    }

    /// One JSON object in one line.
    public var json: String {
        JSONText.object([
            ("file", .text(file)), ("ok", .flag(!hasProblem)),
            ("problems", .integer(UInt64(count(.problem)))),
            ("warnings", .integer(UInt64(count(.warning)))),
            (
                "findings",
                .list(
                    findings.map { finding in
                        .object([
                            ("check", .text(finding.check.rawValue)),
                            ("verdict", .text(finding.verdict.rawValue)),
                            ("subject", .text(finding.subject)),
                            ("detail", .text(finding.detail)),
                            ("remedy", .optional(finding.remedy)),
                        ])
                    })
            ),
        ]).written
    }
}
