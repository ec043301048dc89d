import CoreLoop
import Load

/// A shadow's fault, by the name that the tool prints.
struct ShadowFault: Sendable {
    let name: String
    let mode: OriginMode
    let delayMs: Double
    /// Whether the second gateway mirrors: where it does not, the pair shows what the machine and
    /// the method do to a ratio by themselves.
    var isMirrored = true

    static let all = [
        ShadowFault(name: "control", mode: .normal, delayMs: 0, isMirrored: false),
        ShadowFault(name: "fast", mode: .normal, delayMs: 0),
        ShadowFault(name: "200ms", mode: .normal, delayMs: 200),
        ShadowFault(name: "hung", mode: .hang, delayMs: 0),
        ShadowFault(name: "never-accepting", mode: .neverAccept, delayMs: 0),
        ShadowFault(name: "refusing", mode: .refuse, delayMs: 0),
        ShadowFault(name: "resetting", mode: .reset, delayMs: 0),
    ]
}

/// What the tool was asked for.
struct Settings {
    var umbra = ".build/release/umbra"
    var shadows = ShadowFault.all
    var rate = 4_000.0
    var seconds = 4.0
    var warmUpSeconds = 0.5
    var pairs = 6
    var patience = 120.0
    var connections = 64
    var method = "POST"
    var bodyBytes = 2_048
    var answerBytes = 1_024
    var upstreamMs = 5.0
    var shadowTimeoutMs = 5_000
    var inFlight = 1_024
    var arrivals = Arrivals.even
    var port = 24_100
    var gatewayCPU: Int?
    var loadCPU: Int?
    var seed: UInt64 = 1
    var jsonFile: String?
    var ratioMax: Double?

    static let help = """
        LatencyOverhead: what mirroring adds to the latency that users see

        Starts a primary of 5 ms, a shadow with a fault, and two gateways: one with mirroring off, one that
        mirrors every request. Sends each the same open-loop load in turn (off, on, on, off, …) and prints, for each
        fault, the latencies of both and the median of the pairs' P99 ratios with a 95 % bootstrap interval. In the
        pairs of "control" neither gateway mirrors: what their ratio is away from 1, the machine has done.

          swift run -c release LatencyOverhead [options]

          --umbra PATH           the gateway's binary (.build/release/umbra)
          --shadow MODE|all      control, fast, 200ms, hung, never-accepting, refusing, resetting, or several:
                                 fast,hung (all)
          --rate R               requests a second (4000); --arrivals even|exponential (even)
          --seconds S            measured time of one round (4); --warmup S before it (0.5)
          --pairs N              pairs of rounds for each shadow (6)
          --patience S           time for repeating pairs in which the host took more than 0.5 % of a CPU (120)
          --connections C        (64)
          --method GET|POST      GET without body, or POST with --body N bytes (POST, 2048)
          --answer-bytes N       bytes of each answer (1024)
          --upstream-ms MS       the primary's delay (5)
          --in-flight N          traffic_mirror.limits.in_flight (1024)
          --shadow-timeout-ms N  traffic_mirror.timeout_ms (5000)
          --gateway-cpu N        CPU of the gateways (0); --load-cpu N of load and origins (1); --no-pin
                                 Nothing is pinned where there is only one CPU.
          --port N               first of the six ports used (24100)
          --seed N               of the bootstrap and of exponential arrivals (1)
          --max-ratio R          exit 1 where a median ratio is above R
          --json FILE            writes everything as JSON

        Exit 0: measured. Exit 1: a check failed, and the figures are not to be trusted: the gateway's own count of
        requests differs from the answers that came, or another process listens on one of the ports, or the mirror's
        counters do not add up, or the host disturbed more than a quarter of a fault's pairs and patience was over.
        Exit 2: wrong arguments, or a gateway that does not start.

        """

    init(_ words: [String]) throws {
        var arguments = ArgumentList(words)
        umbra = try arguments.text("--umbra") ?? umbra
        if let names = try arguments.text("--shadow"), names != "all" {
            shadows = try names.split(separator: ",").map { name in
                guard let known = ShadowFault.all.first(where: { $0.name == name }) else {
                    throw ArgumentList.Fault("--shadow: unknown '\(name)'; see --help")
                }
                return known
            }
        }
        rate = try arguments.number("--rate", least: 1, otherwise: rate)
        seconds = try arguments.number("--seconds", least: 0.1, otherwise: seconds)
        warmUpSeconds = try arguments.number("--warmup", otherwise: warmUpSeconds)
        pairs = try arguments.integer("--pairs", least: 1, otherwise: pairs)
        patience = try arguments.number("--patience", otherwise: patience)
        connections = try arguments.integer("--connections", least: 1, otherwise: connections)
        method = try arguments.text("--method") ?? method
        bodyBytes = try arguments.integer("--body", otherwise: method == "POST" ? bodyBytes : 0)
        answerBytes = try arguments.integer("--answer-bytes", otherwise: answerBytes)
        upstreamMs = try arguments.number("--upstream-ms", otherwise: upstreamMs)
        inFlight = try arguments.integer("--in-flight", least: 1, otherwise: inFlight)
        shadowTimeoutMs = try arguments.integer(
            "--shadow-timeout-ms", least: 1, otherwise: shadowTimeoutMs)
        if let text = try arguments.text("--arrivals") {
            guard let known = Arrivals(rawValue: text) else {
                throw ArgumentList.Fault("--arrivals: even or exponential")
            }
            arrivals = known
        }
        port = try arguments.integer("--port", least: 1, otherwise: port)
        seed = UInt64(try arguments.integer("--seed", otherwise: 1))
        jsonFile = try arguments.text("--json")
        let maximum = try arguments.number("--max-ratio", otherwise: 0)
        ratioMax = maximum > 0 ? maximum : nil
        let cpus = ProcessControl.affinity()
        let gateway = try arguments.integer("--gateway-cpu", otherwise: cpus[0])
        let load = try arguments.integer(
            "--load-cpu", otherwise: cpus.count > 1 ? cpus[1] : cpus[0])
        if !arguments.flag("--no-pin"), cpus.count > 1 {
            gatewayCPU = gateway
            loadCPU = load
        }
        try arguments.finish()
    }

    /// The configuration of one gateway.
    func configuration(listen: Int, admin: Int, primary: Int, shadow: Int, mirrors: Bool) -> String
    {
        """
        version: '1'
        listen: 127.0.0.1:\(listen)
        admin: {listen: 127.0.0.1:\(admin)}
        runtime: {workers: 1}
        access_log: off
        providers:
          targets:
            - {id: app, provider: http, base_url: "http://127.0.0.1:\(primary)"}
            - {id: next, provider: http, base_url: "http://127.0.0.1:\(shadow)"}
        traffic_mirror:
          enabled: \(mirrors)
          primary: app
          shadow: next
          sample_rate: 1.0
          timeout_ms: \(shadowTimeoutMs)
          limits: {qps: 1000000, in_flight: \(inFlight)}
          safety: {methods: [GET, HEAD, OPTIONS, POST]}

        """
    }

    var json: JSONText {
        .object([
            ("rate", .number(rate)), ("arrivals", .text(arrivals.rawValue)),
            ("seconds", .number(seconds)),
            ("warmup_seconds", .number(warmUpSeconds)), ("pairs", .integer(pairs)),
            ("patience_seconds", .number(patience)),
            ("connections", .integer(connections)), ("method", .text(method)),
            ("body_bytes", .integer(bodyBytes)),
            ("answer_bytes", .integer(answerBytes)), ("upstream_ms", .number(upstreamMs)),
            ("in_flight", .integer(inFlight)), ("shadow_timeout_ms", .integer(shadowTimeoutMs)),
            ("gateway_cpu", gatewayCPU.map { .integer($0) } ?? .null),
            ("load_cpu", loadCPU.map { .integer($0) } ?? .null), ("seed", .integer(seed)),
        ])
    }
}
