import Admin
import CLinux
import Configuration
import CoreLoop
import Mirror
import Proxy
import Upstream

/// `umbra gateway run | status | reload | stop`.
enum GatewayCommand {
    private static let help = """
        Usage:
          umbra gateway run --policy-config FILE [--port N | --listen ADDR:PORT] [--log-level LEVEL]
              --policy-config FILE   the configuration (docs/configuration.md)
              --port N               listen on 127.0.0.1:N instead of the file's `listen`
              --listen ADDR:PORT     listen there instead of the file's `listen`
              --log-level LEVEL      error, warn, info or debug, instead of the file's `log.level`
            SIGHUP: read the file again; one with errors changes nothing and says why.
            SIGTERM, SIGINT: stop accepting, finish what is under way (runtime.drain_timeout), exit 0.
            A second one ends at once. Log lines go to standard error.

          umbra gateway status [--policy-config FILE | --admin ADDR:PORT] [--json]
            Show what a running gateway does. Exit status: 0 where it answers, 1 where it does not.

          umbra gateway reload [--policy-config FILE | --admin ADDR:PORT]
            Have a running gateway take its file up anew, and wait until it has. Exit status: 0 the new
            configuration serves, 1 it could not be started, 2 the file is not valid; with 1 and 2 nothing
            has changed.

          umbra gateway stop [--policy-config FILE | --admin ADDR:PORT]
            As SIGTERM, and wait until it is gone. Exit status: 0 it is gone, 1 it is not.

          Which gateway:
        \(AdminAddress.help)
        """

    static func run(_ words: [String]) -> Int32 {
        do {
            switch words.first {
            case "run": return try serve(Array(words.dropFirst()))
            case "status": return try status(Array(words.dropFirst()))
            case "reload": return try order(Array(words.dropFirst()), OrderCommand.reload)
            case "stop": return try order(Array(words.dropFirst()), OrderCommand.stop)
            case "--help", "-h":
                Console.out(help)
                return 0
            default:
                Console.error(
                    "umbra gateway: the commands are run, status, reload and stop.\n\n\(help)")
                return 2
            }
        } catch {
            Console.error("umbra gateway: \(error.text)")
            return 2
        }
    }

    private static func serve(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: ["--policy-config", "--port", "--listen", "--log-level"], flags: [])
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        guard let file = arguments.value("--policy-config") else {
            throw Arguments.Fault(
                text: "--policy-config FILE is missing; 'umbra gateway --help' says more")
        }
        var listen: [SocketAddress]?
        if let text = arguments.value("--listen") {
            guard arguments.value("--port") == nil else {
                throw Arguments.Fault(text: "--port and --listen exclude each other")
            }
            do { listen = [try ListenAddress.read(text)] } catch {
                throw Arguments.Fault(text: "--listen \(text): \(error.message)")
            }
        } else if let port = try arguments.number("--port", in: 0...65_535) {
            listen = [SocketAddress(host: "127.0.0.1", port: UInt16(port))!]
        }
        let source = ConfigurationSource(
            file: file, listen: listen, logLevel: try logLevel(arguments))
        switch source.load() {
        case .refused(let findings):
            for finding in findings { Console.error(finding.text(file: file)) }
            Console.log(.error, "\(file) cannot be served: nothing was started")
            return 2
        case .unusable(let reason, let log):
            GatewayLog.configure(log)
            Console.log(.error, "\(reason): nothing was started")
            return 1
        case .read(let launch, let findings):
            GatewayLog.configure(launch.settings.log)
            for finding in findings {
                Console.log(.warn, finding.text(file: file), isLimited: false)
            }
            return supervise(launch, source)
        }
    }

    private static func supervise(_ launch: Launch, _ source: ConfigurationSource) -> Int32 {
        defer { GatewayLog.end() }
        do throws(StartFault) {
            return try Supervisor(launch, source: source).run()
        } catch {
            Console.log(.error, "cannot start: \(error)")
            return 1
        }
    }

    private static func logLevel(_ arguments: Arguments) throws(Arguments.Fault) -> LogLevel? {
        guard let name = arguments.value("--log-level") else { return nil }
        guard let level = LogLevel(name: name) else {
            let names = LogLevel.allCases.map(\.name).joined(separator: ", ")
            throw Arguments.Fault(text: "--log-level \(name): the levels are \(names)")
        }
        return level
    }

    /// Nil where the words ask for help, which was given.
    private static func arguments(
        _ words: [String], flags: Set<String> = []
    ) throws(Arguments.Fault) -> Arguments? {
        let arguments = try Arguments(words, valued: AdminAddress.options, flags: flags)
        guard arguments.has("--help") else { return arguments }
        Console.out(help)
        return nil
    }

    private static func status(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        guard let arguments = try arguments(words, flags: ["--json"]) else { return 0 }
        guard let gateway = try AdminAddress.read(arguments) else { return 2 }
        do {
            let text = try StatusClient.status(
                gateway.address, token: gateway.token, asJSON: arguments.has("--json"))
            Console.write(text.hasSuffix("\n") ? text : text + "\n", to: STDOUT_FILENO)
            return 0
        } catch {
            Console.error("umbra gateway status: \(gateway.explained(error.description))")
            return 1
        }
    }

    private static func order(
        _ words: [String], _ give: (AdminAddress) -> Int32
    ) throws(Arguments.Fault) -> Int32 {
        guard let arguments = try arguments(words) else { return 0 }
        guard let gateway = try AdminAddress.read(arguments) else { return 2 }
        return give(gateway)
    }
}
