import Load

/// What the tool was asked for.
struct Settings {
    enum Part: String, CaseIterable { case ratio, bias, position, sticky, cap }

    var umbra = ".build/release/umbra"
    var parts = Part.allCases
    var requests = 100_000
    /// A prime: with 64 and four routes in turn each connection would carry one route only.
    var connections = 61
    var rate = 4_000.0
    var capSeconds = 8.0
    var port = 24_110
    var jsonFile: String?

    static let help = """
        SamplingAccuracy: does the mirror take exactly the share it was told to, without bias, under its cap?

          swift run -c release SamplingAccuracy [options]

          --umbra PATH       the gateway's binary (.build/release/umbra)
          --part P[,P]       ratio, bias, position, sticky, cap (all)
          --requests N       requests for each rate and each bias test (100000)
          --connections C    (61; a prime, so that each connection carries every route and size)
          --rate R           requests a second of bias and sticky, twice that of position (4000): low enough that no
                             copy is dropped
          --cap-seconds S    time of each cap test (8)
          --port N           first of the four ports used (24110)
          --json FILE        writes everything as JSON

        ratio     2 workers, 4 routes, at 0.1, 1, 10, 33.3 and 50 %: |sampled − rate · eligible| ≤ 1 for each worker and
                  route, eligible = sampled + not_sampled, and as many requests at the shadow as `sent` says
        bias      10 % of bodies of 0, 1, 16 and 64 KiB over all connections: chi-squared of the serial numbers that the
                  shadow got, by connection, by size class and by tenth of the run; no serial number twice
        position  one connection: exactly one pick in each stratum of 10, its place uniform, independent of the one
                  before, and another one after a restart
        sticky    sample_by a header: all or none of a user's requests on both workers, the same users after a restart
        cap       1000/s offered to 2 workers at qps 50 (1 and 2 shadow processes), 0.5 and 0: the most arrivals at the
                  shadow in any sliding second

        Exit 0: all bounds held. 1: a bound was violated. 2: wrong arguments, or a gateway that does not start.

        """

    init(_ words: [String]) throws {
        var arguments = ArgumentList(words)
        umbra = try arguments.text("--umbra") ?? umbra
        if let names = try arguments.text("--part"), names != "all" {
            parts = try names.split(separator: ",").map { name in
                guard let known = Part(rawValue: String(name)) else {
                    throw ArgumentList.Fault("--part: unknown '\(name)'; see --help")
                }
                return known
            }
        }
        requests = try arguments.integer("--requests", least: 1_000, otherwise: requests)
        connections = try arguments.integer("--connections", least: 2, otherwise: connections)
        rate = try arguments.number("--rate", least: 2, otherwise: rate)
        capSeconds = try arguments.number("--cap-seconds", least: 3, otherwise: capSeconds)
        port = try arguments.integer("--port", least: 1, otherwise: port)
        jsonFile = try arguments.text("--json")
        try arguments.finish()
    }

    var json: JSONText {
        .object([
            ("requests", .integer(requests)), ("connections", .integer(connections)),
            ("rate", .number(rate)),
            ("cap_seconds", .number(capSeconds)),
            ("parts", .list(parts.map { .text($0.rawValue) })),
        ])
    }
}
