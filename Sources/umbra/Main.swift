import CLinux
import CoreLoop
import Load

/// The version that `--version`, /health and the start line show.
let umbraVersion = "0.1.0"

@main
enum Main {
    static func main() {
        // `umbra demo` starts its gateways through this.
        ChildProcess.becomeIfAsked()
        umbra_ignore_signal(SIGPIPE)
        // A log that has reached its limit of size is a failed write, not the end.
        umbra_ignore_signal(SIGXFSZ)
        let arguments = Array(CommandLine.arguments.dropFirst())
        exit(run(arguments))
    }

    private static func run(_ arguments: [String]) -> Int32 {
        let rest = Array(arguments.dropFirst())
        switch arguments.first {
        case "gateway": return GatewayCommand.run(rest)
        case "mirror": return MirrorCommand.run(rest)
        case "policy": return PolicyCommand.run(rest)
        case "events": return EventsCommand.run(rest)
        case "doctor": return DoctorCommand.run(rest)
        case "demo": return DemoCommand.run(rest)
        case "mock": return MockCommand.run(rest)
        // The roles are started by the supervisor only: see Supervisor.swift.
        case "role": return RoleCommand.run(rest)
        case "--version", "-V", "version":
            Console.out("umbra \(umbraVersion)")
            return 0
        case "--help", "-h", "help":
            Console.out(help)
            return 0
        case nil:
            Console.error(help)
            return 2
        case let word?:
            Console.error("umbra: unknown command '\(word)'. Try 'umbra --help'.")
            return 2
        }
    }

    private static let help = """
        umbra \(umbraVersion): an edge proxy that tees live HTTP traffic to a shadow service.

        Usage:
          umbra gateway run --policy-config FILE [--port N | --listen ADDR:PORT] [--log-level LEVEL]
              Serve. Runs until SIGTERM or SIGINT; then drains and exits 0.
          umbra gateway status [--policy-config FILE | --admin ADDR:PORT] [--json]
              Show the gateway's processes, restarts and what the mirror does.
          umbra gateway reload | stop [--policy-config FILE | --admin ADDR:PORT]
              Have it take its file up anew; have it finish and end.
          umbra mirror off|on|rate R [--route NAME] [--for 30m] [--policy-config FILE | --admin ADDR:PORT]
              Switch mirroring off and on, or change its rate, at once; for a while, or until further notice.
          umbra mirror status
              What holds, for each route.
          umbra policy lint --file FILE [--json]
              Check a configuration: every fault with path, line and remedy. Exit 0 valid, 2 not.
          umbra events tail | list | export | verify
              Read the event log: the newest decisions, all of them, a spreadsheet, or its chain.
          umbra doctor --policy-config FILE [--json]
              Look at what a gateway of this configuration needs: targets, certificates, ports, limits.
          umbra demo [--once] [--seconds N] [--rate N]
              Two services, the gateway between them, load, and a table of what mirroring costs.
          umbra mock openai | anthropic [--port N]
              A stand-in for a provider's API: chat, streams, tools, usage, errors by the model's name.
          umbra --help | --version

        Each command says more with --help. The configuration is described in docs/configuration.md.
        """
}
