import Foundation
import Proxy
import Testing

@testable import Admin

@Suite struct DoctorTests {
    @Test(arguments: [
        (33_024, 16_384, "ok"), (1_048_576, 16_384, "ok"), (33_023, 16_384, "warning"),
        (20_000, 16_384, "warning"), (1_024, 16_384, "problem"), (0, 16_384, "problem"),
        (1_024, 256, "ok"),
    ])
    func fileLimits(_ limit: Int, _ connections: Int, _ verdict: String) {
        let finding = DoctorJudgement.fileLimit(limit, connections: connections)
        #expect(finding.verdict.rawValue == verdict)
        #expect((finding.remedy == nil) == (verdict == "ok"))
    }

    @Test(arguments: [
        (-400, "problem"), (-1, "problem"), (0, "warning"), (13, "warning"), (90, "ok"),
    ])
    func certificates(_ days: Int, _ verdict: String) {
        #expect(DoctorJudgement.certificate("a", daysLeft: days).verdict.rawValue == verdict)
        #expect(DoctorJudgement.certificate("a", daysLeft: nil).verdict == .warning)
    }

    @Test func clocks() {
        let now: UInt64 = 1_795_806_197_000
        #expect(DoctorJudgement.clock(wallMs: now, isSynchronised: true).verdict == .ok)
        #expect(DoctorJudgement.clock(wallMs: now, isSynchronised: nil).verdict == .ok)
        #expect(DoctorJudgement.clock(wallMs: now, isSynchronised: false).verdict == .warning)
        #expect(DoctorJudgement.clock(wallMs: 0, isSynchronised: true).verdict == .problem)
        #expect(DoctorJudgement.clock(wallMs: .max / 2, isSynchronised: true).verdict == .problem)
    }

    @Test func figuresOfTheMachine() {
        #expect(DoctorJudgement.backlog(128).verdict == .warning)
        #expect(DoctorJudgement.backlog(4_096).verdict == .ok)
        #expect(DoctorJudgement.workers(3, cpus: 2).verdict == .warning)
        #expect(DoctorJudgement.workers(2, cpus: 2).verdict == .ok)
        // 2 × 4,096 blocks of 16 KiB, and 256 MiB for the shadow process.
        let runtime = RuntimeSettings()
        func memory(_ mebibytes: UInt64, _ hasShadows: Bool) -> DoctorFinding.Verdict {
            DoctorJudgement.memory(
                runtime, workers: 2, hasShadows: hasShadows, bytes: mebibytes << 20
            ).verdict
        }
        #expect(memory(384, true) == .ok && memory(383, true) == .warning)
        #expect(memory(128, false) == .ok && memory(127, false) == .warning)
        #expect(DoctorJudgement.room("/a", free: 1 << 40, total: 1 << 41).verdict == .ok)
        #expect(DoctorJudgement.room("/a", free: 1 << 30, total: 1 << 40).verdict == .warning)
        #expect(DoctorJudgement.room("/a", free: 1 << 20, total: 1 << 21).verdict == .warning)
        #expect(DoctorJudgement.room("/a", free: 0, total: 0).verdict == .warning)
    }

    @Test func targets() {
        func verdict(_ outcome: DoctorProbe.Outcome) -> DoctorFinding.Verdict {
            DoctorJudgement.target("app", outcome, connectTimeoutMs: 2_000).verdict
        }
        #expect(verdict(.reached(address: "a", connectNs: 300_000, tls: nil)) == .ok)
        #expect(verdict(.reached(address: "a", connectNs: 1_000_000_001, tls: nil)) == .warning)
        #expect(verdict(.refused(address: "a", why: "no")) == .problem)
        #expect(verdict(.insecure(address: "a", why: "no")) == .problem)
        #expect(verdict(.unresolved(why: "no")) == .problem)
    }

    @Test func reports() throws {
        var report = DoctorReport(file: "a\"b.yaml")
        #expect(!report.hasProblem)
        report.findings = [
            DoctorFinding(.clock, .ok, "time", "fine"),
            DoctorFinding(.target, .warning, "app", "slow\u{1b}[2J", remedy: "look"),
        ]
        #expect(!report.hasProblem)
        report.findings.append(DoctorFinding(.port, .problem, "p", "taken", remedy: "ss"))
        #expect(report.hasProblem)
        #expect(report.text.contains("→ look") && report.text.contains("3 checks: 1 problems, 1"))
        #expect(!report.text.contains("\u{1b}"))
        let object = try #require(
            JSONSerialization.jsonObject(with: Data(report.json.utf8)) as? [String: Any])
        #expect(object["file"] as? String == "a\"b.yaml")
        #expect(object["ok"] as? Bool == false && object["problems"] as? Int == 1)
        let findings = try #require(object["findings"] as? [[String: Any]])
        #expect(findings.count == 3 && findings[0]["remedy"] is NSNull)
    }
}
