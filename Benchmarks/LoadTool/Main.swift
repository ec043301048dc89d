import CLinux
import Glibc
import Load

/// `load`: an origin to be proxied to, and a generator of requests.
@main
enum Main {
    static let help = """
        load: an HTTP/1.1 origin and a load generator for measuring proxies

        load origin --listen ADDR:PORT [options]     serve until SIGTERM or SIGINT, then print counts as JSON
        load run --url http://ADDR:PORT/PATH [options]   send requests, then print a table
        load origin --help, load run --help          all options

        """

    static func main() {
        var arguments = Array(CommandLine.arguments.dropFirst())
        let command = arguments.isEmpty ? "--help" : arguments.removeFirst()
        do {
            switch command {
            case "origin": try OriginCommand.run(arguments)
            case "run": try RunCommand.run(arguments)
            case "--help", "-h", "help": Standard.out(help)
            default: throw ArgumentList.Fault("unknown command '\(command)'; see load --help")
            }
        } catch {
            Standard.error("load: \(error)\n")
            exit(2)
        }
    }
}
