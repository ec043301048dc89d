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
        let code: Int32
        do {
            code = try run(Settings(words))
        } catch let fault as CheckFault {
            Standard.endProgress()
            Standard.error("LatencyOverhead: check failed: \(fault)\n")
            code = 1
        } catch {
            Standard.endProgress()
            Standard.error("LatencyOverhead: \(error)\n")
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
        let directory = try Directory.makeTemporary("umbra-latency")
        Cleanup.add { Directory.remove(directory) }
        if let cpu = settings.loadCPU { ProcessControl.setAffinity([cpu]) }
        let machine = Machine.json
        let roundSeconds = settings.seconds + settings.warmUpSeconds + 0.5
        let total = roundSeconds * Double(settings.pairs * 2 * settings.shadows.count)
        Standard.error(
            "\(settings.shadows.count) shadows, \(settings.pairs) pairs each, \(fixed(settings.rate, 0)) \(settings.method)/s: "
                + "about \(fixed(total, 0)) s, "
                + "\(fixed(settings.patience, 0)) s more where the host disturbs\n"
        )
        let experiment = Experiment(settings: settings, directory: directory)
        var outcomes: [Outcome] = []
        var patience = settings.patience
        for shadow in settings.shadows {
            let outcome = try experiment.run(shadow, patience: &patience) {
                Standard.progress($0)
            }
            Standard.endProgress()
            outcomes.append(outcome)
            let ratio = Statistics.median(outcome.ratios).map { fixed($0, 3) } ?? "-"
            Standard.error("\(shadow.name): P99 on/off \(ratio)\n")
        }
        return report(settings, machine, outcomes)
    }

    private static func report(_ settings: Settings, _ machine: JSONText, _ outcomes: [Outcome])
        -> Int32
    {
        var table = TextTable(Outcome.columns)
        for outcome in outcomes { table.add(outcome.row(seed: settings.seed)) }
        Standard.out(
            "\nLatency in ms from the intended send time; CPU of all processes of a gateway for each request.\n\n"
        )
        Standard.out(table.text)
        var code: Int32 = 0
        for outcome in outcomes {
            for (reason, count) in outcome.mirror.droppedByReason.sorted(by: { $0.key < $1.key })
            where count > 0 {
                Standard.out("\(outcome.shadow.name): \(Int(count)) copies dropped: \(reason)\n")
            }
            if outcome.repeated + outcome.disturbed > 0 {
                let most = fixed(100 * Experiment.stolenShareMax, 1)
                Standard.out(
                    "\(outcome.shadow.name): the host took more than \(most) % of a CPU: "
                        + "\(outcome.repeated) pairs were repeated, "
                        + "\(outcome.disturbed) count though they were not (--patience)\n")
            }
            for fault in outcome.faults {
                Standard.error("check failed: \(outcome.shadow.name): \(fault)\n")
                code = 1
            }
            if let most = settings.ratioMax,
                !(Statistics.median(outcome.ratios) ?? .infinity).isLessThanOrEqualTo(most)
            {
                Standard.error("\(outcome.shadow.name): the median P99 ratio is above \(most)\n")
                code = 1
            }
        }
        if let file = settings.jsonFile {
            let json = JSONText.object([
                ("benchmark", .text("LatencyOverhead")), ("machine", machine),
                ("settings", settings.json),
                ("shadows", .list(outcomes.map { $0.json(seed: settings.seed) })),
                ("passed", .flag(code == 0)),
            ])
            do {
                try Standard.writeFile(file, json.written() + "\n")
            } catch {
                Standard.error("\(file): \(error)\n")
                code = 2
            }
        }
        return code
    }
}
