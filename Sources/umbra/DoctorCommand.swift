import Admin
import Configuration

/// `umbra doctor`.
enum DoctorCommand {
    private static let help = """
        Usage: umbra doctor --policy-config FILE [--json]

        Looks at what a gateway of this configuration needs, here and now: the configuration itself, every
        endpoint (connection, TLS, certificate), its own certificates, folders, ports, limits, the clock.
        Each finding says how it is (ok, warning, problem) and what to do about it. Run it as the user that
        the gateway runs as. Nothing is changed, and no request is sent.
        Exit status: 0 without problems, 1 with any, 2 where it was called wrongly.
        """

    static func run(_ words: [String]) -> Int32 {
        let arguments: Arguments
        do {
            arguments = try Arguments(words, valued: ["--policy-config"], flags: ["--json"])
        } catch {
            Console.error("umbra doctor: \(error.text)")
            return 2
        }
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        guard let file = arguments.value("--policy-config") else {
            Console.error("umbra doctor: --policy-config FILE is missing\n\n\(help)")
            return 2
        }
        let report = Doctor.run(ConfigurationReader.readFile(file))
        Console.write(arguments.has("--json") ? report.json + "\n" : report.text, to: 1)
        return report.hasProblem ? 1 : 0
    }
}
