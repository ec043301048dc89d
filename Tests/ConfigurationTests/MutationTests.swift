import Configuration
import CoreLoop
import Foundation
import Mirror
import Proxy
import Testing

/// Good documents with something changed: the reader has to say yes or no, and never trap.
@Suite struct MutationTests {
    private static let pieces = [
        "null", "~", "[]", "{}", "*a", "&a ", "<<: *a", "!!str ", "-1", "0", "1e999",
        "99999999999999999999", "\"", "'",
        "{", "}", "[", "]", ":", ": ", "\n", "\n  ", "- ", "\t", "#", "|", ">", "%", "\u{0}",
        "\u{FEFF}", "é", "true", "off",
        "header:", "10%", "64KiB", "http://", "https://", "unix:", "[::1]:80", "default", "app",
        "next", "/", "*",
    ].map { Array($0.utf8) }

    private func changed(_ text: [UInt8], _ numbers: inout FastRandom) -> [UInt8] {
        func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &numbers) }
        var text = text
        for _ in 0...below(4) where !text.isEmpty {
            let at = below(text.count)
            let length = min(below(12), text.count - at)
            switch below(6) {
            case 0: text[at] = UInt8(below(256))
            case 1: text.removeSubrange(at..<(at + length))
            case 2: text.insert(contentsOf: Self.pieces[below(Self.pieces.count)], at: at)
            case 3:
                text.replaceSubrange(
                    at..<(at + length), with: Self.pieces[below(Self.pieces.count)])
            case 4: text.insert(contentsOf: text[at..<(at + length)], at: below(text.count))
            default:
                // A value of one key in the place of another's.
                let lines = text.split(separator: 0x0A, omittingEmptySubsequences: false).map(
                    Array.init)
                var shuffled = lines
                shuffled[below(lines.count)] = lines[below(lines.count)]
                text = Array(shuffled.joined(separator: [0x0A]))
            }
        }
        return text
    }

    @Test(arguments: exampleFiles())
    func mutated(_ file: String) throws {
        let text = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        var numbers = FastRandom(seed: 20_260_101)
        var valid = 0
        for round in 0..<1_500 {
            let result = ConfigurationReader.read(text: changed(text, &numbers), file: "m\(round)")
            if let settings = result.settings {
                valid += 1
                #expect(result.errors.isEmpty)
                #expect(!settings.listen.isEmpty && !settings.targets.isEmpty)
                #expect(settings.routes.last?.name == "default")
                #expect(settings.routes.allSatisfy { settings.targets.indices.contains($0.target) })
                #expect(
                    settings.shadows.allSatisfy { settings.targets.indices.contains($0.target) })
                #expect(
                    settings.routes.flatMap(\.lanes).allSatisfy {
                        settings.shadows.indices.contains($0.shadow)
                    })
            } else {
                #expect(!result.errors.isEmpty)
            }
            _ = LintReport.json(result)
        }
        // Both ways out are taken.
        #expect(valid > 10 && valid < 1_490)
    }

    @Test(arguments: exampleFiles())
    func truncated(_ file: String) throws {
        let text = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        for end in text.indices {
            let result = ConfigurationReader.read(text: Array(text[..<end]), file: "t\(end)")
            #expect((result.settings == nil) == !result.errors.isEmpty)
        }
    }
}
