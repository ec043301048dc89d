import Admin
import CLinux
import Configuration
import CoreLoop
import Mirror
import Proxy
import Upstream

/// `umbra gateway run | status`.
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
              --policy-config FILE   ask the admin listener that this file names
              --admin ADDR:PORT      ask this one; 127.0.0.1:41003 without either
            Exit status: 0 where the gateway answers, 1 where it does not.
        """

    static func run(_ words: [String]) -> Int32 {
        do {
            switch words.first {
            case "run": return try serve(Array(words.dropFirst()))
            case "status": return try status(Array(words.dropFirst()))
            case "--help", "-h":
                Console.out(help)
                return 0
            default:
                Console.error("umbra gateway: the commands are 'run' and 'status'.\n\n\(help)")
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
        case .unusable(let reason):
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
        do throws(SystemError) {
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

    private static func status(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: ["--policy-config", "--admin"], flags: ["--json"])
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        var address = AdminSettings().listen
        var token = getenv("UMBRA_ADMIN_TOKEN").map { String(cString: $0) }
        if let text = arguments.value("--admin") {
            guard let given = SocketAddress(text) else {
                throw Arguments.Fault(text: "--admin \(text): not ADDR:PORT")
            }
            address = given
        } else if let file = arguments.value("--policy-config") {
            let result = ConfigurationReader.readFile(file, keyFiles: false)
            guard let settings = result.settings else {
                for finding in result.errors { Console.error(finding.text(file: file)) }
                return 2
            }
            address = settings.admin.listen
            if let name = settings.admin.tokenVariable {
                token = getenv(name).map { String(cString: $0) }
            }
        }
        guard let address else {
            throw Arguments.Fault(
                text: "the configuration switches the admin listener off: there is nobody to ask")
        }
        do {
            let text = try StatusClient.status(
                address, token: token, asJSON: arguments.has("--json"))
            Console.write(text.hasSuffix("\n") ? text : text + "\n", to: STDOUT_FILENO)
            return 0
        } catch {
            Console.error("umbra gateway status: \(error)")
            return 1
        }
    }
}
