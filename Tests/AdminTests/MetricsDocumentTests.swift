import CoreLoop
import Foundation
import Mirror
import Proxy
import Testing

@testable import Admin

/// `docs/metrics.md` names every family, its type and its labels, and every reason for a drop.
@Suite struct MetricsDocumentTests {
    private static let document: String? = try? String(
        contentsOf: URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("docs/metrics.md"), encoding: .utf8)

    /// First, second and third cell of every table row that starts with a name in backquotes.
    private static func rows(_ text: String) -> [[String]] {
        text.split(separator: "\n").filter { $0.hasPrefix("| `") }.map { line in
            line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    @Test func theDocumentIsWhatIsRendered() throws {
        let text = try #require(Self.document)
        let bench = try Bench()
        bench.runAll()
        bench.board.supervisor[.pid].set(UInt64(getpid()))
        for _ in 0..<AdminLimits.meterSamplesMin {
            bench.board.workers[0].mirrored.record(1_000_000)
            bench.board.workers[0].unmirrored.record(1_000_000)
        }
        let rendered = Set(
            try bench.metrics().families.map { family in
                let labels = family.samples[0].labels.keys.filter { $0 != "le" }.sorted()
                return [family.name, family.kind, labels.joined(separator: ", "), family.help]
            })
        let written = Set(
            Self.rows(text).filter { $0[0].hasPrefix("`umbra_") && $0.count == 4 }.map { row in
                let labels = row[2] == "–" ? [] : row[2].components(separatedBy: ", ").sorted()
                let name = row[0].trimmingCharacters(in: ["`"])
                return [name, row[1], labels.joined(separator: ", "), row[3]]
            })
        #expect(written.subtracting(rendered).isEmpty, "written and not rendered")
        #expect(rendered.subtracting(written).isEmpty, "rendered and not written")
        let reasons = Self.rows(text).filter { $0.count == 2 }.map {
            $0[0].trimmingCharacters(in: ["`"])
        }
        #expect(Set(DropReason.allCases.map(\.label)).isSubset(of: reasons))
    }
}
