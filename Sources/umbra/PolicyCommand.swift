import Configuration

/// `umbra policy lint`.
enum PolicyCommand {
    private static let help = """
        Usage: umbra policy lint --file FILE [--json]

        Checks a configuration file without running anything. Prints every fault with its place, what was
        meant, and a remedy; with --json one object: {valid, file, pack, chain, policy_count, warnings} or
        {valid, file, errors, warnings}. Exit status: 0 valid, 2 not valid.
        """

    static func run(_ words: [String]) -> Int32 {
        if words.first == "--help" {
            Console.out(help)
            return 0
        }
        guard words.first == "lint" else {
            Console.error("umbra policy: the command is 'lint'.\n\n\(help)")
            return 2
        }
        let arguments: Arguments
        do {
            arguments = try Arguments(
                Array(words.dropFirst()), valued: ["--file"], flags: ["--json"])
        } catch {
            Console.error("umbra policy lint: \(error.text)")
            return 2
        }
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        guard let file = arguments.value("--file") else {
            Console.error("umbra policy lint: --file FILE is missing\n\n\(help)")
            return 2
        }
        let result = ConfigurationReader.readFile(file)
        Console.write(
            arguments.has("--json") ? LintReport.json(result) + "\n" : LintReport.text(result),
            to: 1)
        return result.settings == nil ? 2 : 0
    }
}
