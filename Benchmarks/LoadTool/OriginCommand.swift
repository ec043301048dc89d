import CLinux
import CoreLoop
import Glibc
import Load
import Synchronization

/// `load origin`.
enum OriginCommand {
    static let help = """
        load origin --listen ADDR:PORT [options]
        Serves HTTP/1.1 on one thread. SIGTERM or SIGINT ends it and prints its counts as JSON on standard output.

          --listen A:P       127.0.0.1:9001, [::1]:9001 or unix:/path
          --mode MODE        normal (default), hang (reads, never answers), never-accept, reset (RST after the head),
                             refuse (the port is bound, nobody listens), garbage, close (after the head, no answer),
                             or a status with fields: 'status=503;retry-after=2'
          --bytes N          bytes of the answer's body (1024)
          --delay MS         between the request's end and the answer, may be a fraction (0)
          --chunked          answer chunked instead of with Content-Length
          --status N         answer's status (200)
          --header 'N: V'    one more field of the answer; may be repeated
          --echo body|head   answer with the request's own body (up to 1 MiB), or its head as it came
          --arrivals FILE    at the end write each request as a JSON line: at_ns, serial, connection, shadow
                             (serial and connection are the numbers that `load run --number` puts in)
          --arrivals-max N   how many are kept (1000000)
          --connections N    at most so many at one time (4096)
          --cpu N            run on this CPU only
          --share-port       allow several origins on the port (SO_REUSEPORT)

        """

    static func run(_ words: [String]) throws {
        var arguments = ArgumentList(words)
        if arguments.flag("--help") || arguments.flag("-h") {
            Standard.out(help)
            return
        }
        guard let listen = try arguments.text("--listen") else {
            throw ArgumentList.Fault("--listen is missing")
        }
        guard let address = SocketAddress(listen) else {
            throw ArgumentList.Fault("--listen: no address: '\(listen)'")
        }
        var options = OriginOptions(listen: address)
        options.bodyBytes = try arguments.integer("--bytes", otherwise: options.bodyBytes)
        options.delayMs = try arguments.number("--delay", otherwise: 0)
        options.isChunked = arguments.flag("--chunked")
        options.status = try arguments.integer("--status", least: 200, otherwise: 200)
        options.fields = try arguments.texts("--header")
        options.connectionsMax = try arguments.integer(
            "--connections", least: 1, otherwise: options.connectionsMax)
        options.sharesPort = arguments.flag("--share-port")
        if let mode = try arguments.text("--mode") { try options.apply(mode: mode) }
        if let echo = try arguments.text("--echo") {
            guard let known = OriginOptions.Echo(rawValue: echo) else {
                throw ArgumentList.Fault("--echo: body or head")
            }
            options.echo = known
        }
        let arrivalsFile = try arguments.text("--arrivals")
        let arrivalsMax = try arguments.integer(
            "--arrivals-max", otherwise: LoadLimits.arrivalsDefault)
        if arrivalsFile != nil { options.arrivalsMax = arrivalsMax }
        let cpu = try arguments.integer("--cpu", otherwise: -1)
        try arguments.finish()

        // Blocked before the origin's thread exists, so that sigwait alone gets them.
        let signals = StopSignals.block()
        let origin = try Origin(options)
        origin.start(cpu: cpu >= 0 ? cpu : nil)
        Standard.error("load origin: \(origin.address.text)\n")
        signals.wait()
        origin.stop()
        if let arrivalsFile { try Standard.writeFile(arrivalsFile, lines(origin.arrivals())) }
        Standard.out(origin.json.written() + "\n")
    }

    private static func lines(_ arrivals: [Arrival]) -> String {
        var text = ""
        for arrival in arrivals {
            text += "{\"at_ns\": \(arrival.atNs), \"serial\": \(arrival.serial), "
            text += "\"connection\": \(arrival.connection), \"shadow\": \(arrival.isShadow)}\n"
        }
        return text
    }
}
