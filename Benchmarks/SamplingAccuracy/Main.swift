import CoreLoop
import Glibc
import Load

@main
enum Main {
    static func main() {
        ChildProcess.becomeIfAsked()
        let words = Array(CommandLine.arguments.dropFirst())
        if words.contains("--help") || words.contains("-h") {
            Standard.out(Settings.help)
            return
        }
        var code: Int32
        do {
            code = try run(Settings(words))
        } catch {
            Standard.endProgress()
            Standard.error("SamplingAccuracy: \(error)\n")
            code = 2
        }
        Cleanup.run()
        exit(code)
    }

    private static func run(_ settings: Settings) throws -> Int32 {
        guard access(settings.umbra, X_OK) == 0 else {
            throw ArgumentList.Fault(
                "no gateway at \(settings.umbra); build it with: swift build -c release --product umbra"
            )
        }
        // Before the first thread: they inherit which signals are blocked.
        Cleanup.runOnSignal()
        let directory = try Directory.makeTemporary("umbra-sampling")
        Cleanup.add { Directory.remove(directory) }
        let machine = Machine.json
        var reports: [PartReport] = []
        for part in settings.parts {
            let report =
                switch part {
                case .ratio: try RatioPart.run(settings, directory)
                case .bias: try BiasPart.run(settings, directory)
                case .position: try PositionPart.run(settings, directory)
                case .sticky: try StickyPart.run(settings, directory)
                case .cap: try CapPart.run(settings, directory)
                }
            Standard.endProgress()
            show(report)
            reports.append(report)
        }
        let violated = reports.flatMap(\.findings).filter { !$0.held }
        if let file = settings.jsonFile {
            let json = JSONText.object([
                ("benchmark", .text("SamplingAccuracy")), ("machine", machine),
                ("settings", settings.json),
                ("parts", .list(reports.map(\.json))), ("passed", .flag(violated.isEmpty)),
            ])
            try Standard.writeFile(file, json.written() + "\n")
        }
        let count = reports.reduce(0) { $0 + $1.findings.count }
        Standard.out("\(count - violated.count) of \(count) bounds held\n")
        return violated.isEmpty ? 0 : 1
    }

    private static func show(_ report: PartReport) {
        Standard.out("\n== \(report.part.rawValue)\n\n")
        for table in report.tables { Standard.out(table + "\n") }
        for finding in report.findings {
            Standard.out(
                "\(finding.held ? "held    " : "VIOLATED")  \(finding.name): \(finding.measured)\n")
        }
    }
}
