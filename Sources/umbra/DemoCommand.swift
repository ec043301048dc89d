import CLinux
import CoreLoop
import Load

/// `umbra demo`: what Umbra does and what it costs, on this machine, in some seconds.
enum DemoCommand {
    private static let help = """
        Usage: umbra demo [--once] [--seconds N] [--rate N] [--events FOLDER]

        First the tutorial: stand-ins for OpenAI and Anthropic, a gateway that answers five chats by the one
        and copies them, translated, to the other; each pair is shown as it comes in, then the sums.

        Then the cost: two services on loopback (the primary answers after 5 ms, the shadow after 20 ms), a
        gateway between them with mirroring on and one with mirroring off, and the same load through both in
        turn: off, on, on, off, … Then it prints a table: requests, copies, each drop by its reason, P50 and
        P99 with mirroring off and on, their ratio, and the shadow's own latency.

          --once         end after the table; without it the gateways go on serving until Ctrl-C
          --events FOLDER
                         keep the chats' events there, for umbra events; else they go with the demo
          --seconds N    seconds of load of each round, 1 to 60 (2)
          --rate N       requests in a second, 10 to 20000 (1000)
        """

    /// Pairs of rounds, one off and one on.
    private static let pairs = 3
    private static let primaryMs = 5.0
    private static let shadowMs = 20.0

    static func run(_ words: [String]) -> Int32 {
        let arguments: Arguments
        let seconds: Int
        let rate: Int
        do {
            arguments = try Arguments(
                words, valued: ["--seconds", "--rate", "--events"], flags: ["--once"])
            seconds = try arguments.number("--seconds", in: 1...60) ?? 2
            rate = try arguments.number("--rate", in: 10...20_000) ?? 1_000
        } catch {
            Console.error("umbra demo: \(error.text)")
            return 2
        }
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        Cleanup.runOnSignal()
        defer { Cleanup.run() }
        do {
            let directory = try temporary("umbra-demo")
            let tutorial = try DemoTutorial(
                directory: directory,
                events: try arguments.value("--events") ?? temporary("umbra-demo-events"))
            try tutorial.run()
            let stage = try Stage(rate: rate, directory)
            let figures = try measure(stage, seconds: seconds, rate: rate)
            Console.out(try report(stage, figures))
            if !arguments.has("--once") { serve(stage, tutorial) }
            return 0
        } catch {
            Standard.endProgress()
            Console.error("umbra demo: \(error)")
            return 1
        }
    }

    /// Both services and both gateways.
    private struct Stage {
        let primary: Origin
        let shadow: Origin
        let off: Gateway
        let on: Gateway
        let qps: Int

        init(rate: Int, _ directory: String) throws {
            primary = try DemoCommand.origin(delayMs: DemoCommand.primaryMs)
            shadow = try DemoCommand.origin(delayMs: DemoCommand.shadowMs)
            // Below the load, so that the cap can be seen at work.
            qps = max(1, rate * 4 / 5)
            off = try DemoCommand.gateway("off", primary, nil, qps: qps, directory)
            on = try DemoCommand.gateway("on", primary, shadow, qps: qps, directory)
        }
    }

    private static func origin(delayMs: Double) throws(SystemError) -> Origin {
        var options = OriginOptions(listen: SocketAddress("127.0.0.1:0")!)
        options.delayMs = delayMs
        let origin = try Origin(options)
        origin.start()
        return origin
    }

    /// A directory that is removed at the end.
    private static func temporary(_ prefix: String) throws(SystemError) -> String {
        let directory = try Directory.makeTemporary(prefix)
        Cleanup.add { Directory.remove(directory) }
        return directory
    }

    /// A loopback address that nobody listens on just now.
    static func freeAddress() throws(SystemError) -> SocketAddress {
        let fd = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        defer { close(fd) }
        return try Socket.localAddress(fd)
    }

    private static func gateway(
        _ name: String, _ primary: Origin, _ shadow: Origin?, qps: Int, _ directory: String
    ) throws -> Gateway {
        let listen = try freeAddress()
        let admin = try freeAddress()
        var text = """
            version: '1'
            listen: \(listen.text)
            admin: {listen: \(admin.text)}
            providers:
              targets:
                - {id: primary, provider: http, base_url: "http://\(primary.address.text)"}

            """
        if let shadow {
            text += """
                    - {id: shadow, provider: http, base_url: "http://\(shadow.address.text)"}
                traffic_mirror:
                  {primary: primary, shadow: shadow, sample_rate: 1.0, limits: {qps: \(qps)}}

                """
        }
        return try Gateway(
            umbra: "/proc/self/exe", name: name, configuration: text, listen: listen, admin: admin,
            cpus: [],
            directory: directory)
    }

    // MARK: Load

    private struct Figures {
        var off = LoadResult()
        var on = LoadResult()
        var ratios: [Double] = []
    }

    private static func measure(_ stage: Stage, seconds: Int, rate: Int) throws -> Figures {
        var figures = Figures()
        for pair in 0..<pairs {
            var p99: [Bool: Double] = [:]
            for mirrors in pair % 2 == 0 ? [false, true] : [true, false] {
                var options = LoadOptions(target: (mirrors ? stage.on : stage.off).listen)
                options.rate = Double(rate)
                options.seconds = Double(seconds)
                options.warmUpSeconds = 0.3
                let generator = try LoadGenerator(options)
                let round = pair * 2 + p99.count + 1
                let name = "round \(round)/\(pairs * 2), mirroring \(mirrors ? "on " : "off")"
                let result = generator.run { state in
                    Standard.progress(
                        "\(name)  \(fixed(state.elapsedSeconds, 1)) s  "
                            + "\(fixed(state.answersPerSecond, 0)) answers/s  "
                            + "in flight \(state.inFlight)"
                    )
                }
                p99[mirrors] = result.latency.value(at: 0.99)
                if mirrors { figures.on.add(result) } else { figures.off.add(result) }
            }
            if let off = p99[false], let on = p99[true] { figures.ratios.append(on / off) }
        }
        Standard.endProgress()
        return figures
    }

    // MARK: Report

    /// How long the last copies may take to come back before the table is printed, milliseconds.
    private static let settleMs: UInt32 = 3_000

    private static func settled(_ gateway: Gateway) throws -> Metrics {
        let deadline = Instant.now().adding(ms: Int(settleMs))
        while true {
            let metrics = try gateway.metrics()
            if metrics.sum("umbra_mirror_outstanding") == 0 || Instant.now() > deadline {
                return metrics
            }
            usleep(20_000)
        }
    }

    private static func report(_ stage: Stage, _ figures: Figures) throws -> String {
        let metrics = try settled(stage.on)
        func count(_ name: String, _ labels: [String: String] = [:]) -> String {
            fixed(metrics.sum(name, labels), 0)
        }
        var table = TextTable(["", "mirroring off", "mirroring on"])
        let answered = [figures.off, figures.on].map { "\($0.total[.answered])" }
        table.add(["requests answered"] + answered)
        table.add(
            ["  of those offered"] + [figures.off, figures.on].map { "\($0.total[.offered])" })
        for quantile in [(0.5, "P50"), (0.99, "P99")] {
            table.add(
                ["\(quantile.1) of users, ms"]
                    + [figures.off, figures.on].map {
                        milliseconds($0.latency.value(at: quantile.0))
                    })
        }
        let ratio = Statistics.median(figures.ratios).map { fixed($0, 3) } ?? "–"
        table.add(["P99 on / off, median of \(pairs) pairs", "", ratio])
        table.add(["eligible for the shadow", "", count("umbra_mirror_eligible_total")])
        table.add(["  sampled", "", count("umbra_mirror_sampled_total")])
        table.add(["  mirrored (sent)", "", count("umbra_mirror_sent_total")])
        for sample in metrics.select("umbra_mirror_dropped_total") where sample.value > 0 {
            table.add(["  dropped: \(sample.labels["reason"] ?? "?")", "", fixed(sample.value, 0)])
        }
        for sample in metrics.select("umbra_mirror_results_total") where sample.value > 0 {
            table.add(["  result: \(sample.labels["result"] ?? "?")", "", fixed(sample.value, 0)])
        }
        let sum = metrics.sum("umbra_shadow_duration_seconds_sum")
        let answers = metrics.sum("umbra_shadow_duration_seconds_count")
        if answers > 0 {
            table.add(["shadow's own latency, mean ms", "", fixed(sum / answers * 1_000, 2)])
        }
        return table.text
            + "\nThe shadow answers after \(fixed(shadowMs, 0)) ms "
            + "and takes \(stage.qps) requests a second: "
            + "what the cap holds back is counted, users feel neither.\n"
    }

    private static func serve(_ stage: Stage, _ tutorial: DemoTutorial) {
        Console.out(
            """
            The gateways go on serving until Ctrl-C. The tutorial's:
              curl -s http://\(tutorial.gateway.listen.text)/v1/chat/completions \\
                -H 'Content-Type: application/json' \\
                -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'
              umbra events tail --dir \(tutorial.events) --last 1 --format json | jq .traffic_mirror
            The one under load:
              curl -i http://\(stage.on.listen.text)/
              curl -s http://\(stage.on.admin.text)/metrics | grep umbra_mirror
              umbra gateway status --admin \(stage.on.admin.text)
            """)
        // The signal's own thread ends the process.
        while stage.on.isRunning { usleep(200_000) }
        // It ends the gateway first: what that looks like from here is no news then.
        usleep(settleMs * 1_000)
        Console.error("umbra demo: the gateway ended: \(stage.on.end ?? "")\n\(stage.on.logTail())")
    }
}
