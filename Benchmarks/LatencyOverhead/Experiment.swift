import CoreLoop
import Glibc
import Load

/// A check that failed: the figures beside it are not to be trusted.
struct CheckFault: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// One round: one gateway under load for some seconds.
struct Round {
    var load = LoadResult()
    /// CPU of all processes of the gateway in this round, nanoseconds.
    var cpuNs = 0.0
    var mirror = MirrorCounts()

    var p99: Double { load.latency.value(at: 0.99) ?? .nan }
}

/// What came of one shadow's fault.
struct Outcome {
    let shadow: ShadowFault
    var off = LoadResult()
    var on = LoadResult()
    var cpuOffNs = 0.0
    var cpuOnNs = 0.0
    var mirror = MirrorCounts()
    /// P99 off and on of each pair, nanoseconds.
    var pairs: [(off: Double, on: Double, offFirst: Bool)] = []
    /// Of all pairs, the repeated ones included, as `mirror` is: requests offered, answers, and
    /// answers with mirroring on.
    var offeredInAll = 0
    var answeredInAll = 0
    var answeredOnInAll = 0
    /// Pairs that were measured again because of the host, and those that could not be.
    var repeated = 0
    var disturbed = 0
    var processes: [String] = []
    var faults: [String] = []

    mutating func count(_ load: LoadResult, isOn: Bool) {
        offeredInAll += Int(load.total[.offered])
        answeredInAll += Int(load.total[.answered])
        if isOn { answeredOnInAll += Int(load.total[.answered]) }
    }

    var ratios: [Double] { pairs.map { $0.on / $0.off } }

    func cpuPerRequest(_ ns: Double, _ load: LoadResult) -> Double {
        ns / 1_000 / Double(max(1, load.total[.answered]))
    }

    var cpuOffUs: Double { cpuPerRequest(cpuOffNs, off) }
    var cpuOnUs: Double { cpuPerRequest(cpuOnNs, on) }
    /// Copies sent, of the requests that were answered with mirroring on.
    var mirroredShare: Double { mirror.sent / Double(max(1, answeredOnInAll)) }
    var answeredShare: Double {
        Double(answeredInAll) / Double(max(1, offeredInAll))
    }
}

/// Two gateways before one primary and one shadow, measured in turn.
struct Experiment {
    let settings: Settings
    let directory: String

    /// How long counters may take to show the last request, and shadow copies to end beyond
    /// their timeout.
    static let settleMs = 2_000
    /// Time after a round in which the shadow's work of that round still counts as its CPU.
    static let tailMs = 400
    /// What the host may take of either CPU during a pair, as a share: one request in a hundred is
    /// what a P99 is made of.
    static let stolenShareMax = 0.005
    /// Where it took more in more than this share of the pairs, and patience was over, the figures
    /// are not to be trusted.
    static let disturbedShareMax = 0.25

    /// - Parameter patience: seconds that repeating pairs may still take.
    func run(
        _ shadow: ShadowFault, patience: inout Double, progress: @escaping (String) -> Void
    ) throws -> Outcome {
        let base = settings.port
        for port in base..<base + 6 {
            if Listeners.fault(port: UInt16(port), owners: [], expected: false) != nil {
                throw CheckFault("port \(port) is taken already; choose others with --port")
            }
        }
        let primary = try origin(port: base, mode: .normal, delayMs: settings.upstreamMs)
        defer { primary.stop() }
        let target = try origin(port: base + 1, mode: shadow.mode, delayMs: shadow.delayMs)
        defer { target.stop() }
        let off = try gateway("off-\(shadow.name)", mirrors: false, listen: base + 2)
        defer { off.terminate() }
        let on = try gateway(
            "on-\(shadow.name)", mirrors: shadow.isMirrored, listen: base + 4)
        defer { on.terminate() }

        var outcome = Outcome(shadow: shadow)
        let cpus = [settings.gatewayCPU, settings.loadCPU].compactMap { $0 }
        let start = MirrorCounts(try on.metrics())
        while outcome.pairs.count < settings.pairs {
            var rounds: [Bool: Round] = [:]
            let index = outcome.pairs.count
            let offFirst = index % 2 == 0
            let started = Instant.now()
            let stolenBefore = StolenTime()
            for mirrors in offFirst ? [false, true] : [true, false] {
                let name =
                    "\(shadow.name) pair \(index + 1)/\(settings.pairs) \(mirrors ? "on " : "off")"
                rounds[mirrors] = try round(mirrors ? on : off, name, progress, &outcome.faults)
                if let fault = listenerFault(shadow, off, on) { outcome.faults.append(fault) }
            }
            guard let offRound = rounds[false], let onRound = rounds[true] else {
                preconditionFailure("a pair has two rounds")
            }
            outcome.count(offRound.load, isOn: false)
            outcome.count(onRound.load, isOn: true)
            if StolenTime().share(since: stolenBefore, of: cpus) > Self.stolenShareMax {
                if patience > 0 {
                    patience -= Double(Instant.now().nanoseconds(since: started)) / 1e9
                    outcome.repeated += 1
                    continue
                }
                outcome.disturbed += 1
            }
            outcome.off.add(offRound.load)
            outcome.on.add(onRound.load)
            outcome.cpuOffNs += offRound.cpuNs
            outcome.cpuOnNs += onRound.cpuNs
            outcome.pairs.append((offRound.p99, onRound.p99, offFirst))
        }
        if Double(outcome.disturbed) > Self.disturbedShareMax * Double(settings.pairs) {
            outcome.faults.append(
                "the host disturbed \(outcome.disturbed) of \(settings.pairs) pairs; "
                    + "try again when it is quiet, or with more --patience")
        }
        outcome.processes = on.tree.names()
        progress("\(shadow.name): waiting for the last copies")
        outcome.mirror = try settled(on, start, &outcome.faults)
        return outcome
    }

    private func origin(port: Int, mode: OriginMode, delayMs: Double) throws -> Origin {
        var options = OriginOptions(listen: SocketAddress("127.0.0.1:\(port)")!)
        options.mode = mode
        options.delayMs = delayMs
        options.bodyBytes = settings.answerBytes
        let origin = try Origin(options)
        origin.start(cpu: settings.loadCPU)
        return origin
    }

    private func gateway(_ name: String, mirrors: Bool, listen: Int) throws -> Gateway {
        let configuration = settings.configuration(
            listen: listen, admin: listen + 1, primary: settings.port, shadow: settings.port + 1,
            mirrors: mirrors)
        return try Gateway(
            umbra: settings.umbra, name: name, configuration: configuration,
            listen: SocketAddress("127.0.0.1:\(listen)")!,
            admin: SocketAddress("127.0.0.1:\(listen + 1)")!,
            cpus: settings.gatewayCPU.map { [$0] } ?? [], directory: directory)
    }

    private func round(
        _ gateway: Gateway, _ name: String, _ progress: @escaping (String) -> Void,
        _ faults: inout [String]
    ) throws -> Round {
        var options = LoadOptions(target: gateway.listen)
        var request = LoadRequest(method: settings.method, path: "/bench")
        request.bodyBytes = settings.bodyBytes
        options.requests = [request]
        options.rate = settings.rate
        options.arrivals = settings.arrivals
        options.seed = settings.seed
        options.connections = settings.connections
        options.seconds = settings.seconds
        options.warmUpSeconds = settings.warmUpSeconds
        options.bodyBytesExpected = settings.answerBytes
        let generator = try LoadGenerator(options)
        let before = MirrorCounts(try gateway.metrics())
        let treeBefore = gateway.tree
        let cpuBefore = treeBefore.cpuNs()
        var result = Round()
        result.load = generator.run { state in
            progress(
                "\(name)  \(fixed(state.elapsedSeconds, 1)) s  \(fixed(state.answersPerSecond, 0)) answers/s  in flight \(state.inFlight)"
            )
        }
        usleep(UInt32(Self.tailMs * 1_000))
        let treeAfter = gateway.tree
        result.cpuNs = Double(treeAfter.cpuNs()) - Double(cpuBefore)
        if treeAfter.pids != treeBefore.pids {
            faults.append(
                "\(name): a process of the gateway died: \(treeBefore.pids) became \(treeAfter.pids)"
            )
        }
        result.mirror = try counted(gateway, before, result.load, name, &faults)
        return result
    }

    /// Compares the gateway's count of requests with the generator's, once it has caught up.
    private func counted(
        _ gateway: Gateway, _ before: MirrorCounts, _ load: LoadResult, _ name: String,
        _ faults: inout [String]
    ) throws -> MirrorCounts {
        let answered = Double(load.total[.answered])
        // A request that was given up may have reached the gateway or not.
        let most = answered + Double(load.total[.unanswered] + load.total.failed)
        let deadline = Instant.now().adding(ms: Self.settleMs)
        while true {
            let metrics = try gateway.metrics()
            guard metrics.has("umbra_requests_total") else {
                throw CheckFault("/metrics has no umbra_requests_total")
            }
            let delta = MirrorCounts(metrics).since(before)
            if delta.requests >= answered, delta.requests <= most {
                if load.total[.wrongLength] + load.total[.strayBytes] > 0 {
                    faults.append(
                        "\(name): \(load.total[.wrongLength]) answers of a wrong length, \(load.total[.strayBytes]) stray"
                    )
                }
                if load.total[.status2xx] != load.total[.answered] {
                    faults.append(
                        "\(name): \(load.total[.answered] - load.total[.status2xx]) answers were not 2xx"
                    )
                }
                return delta
            }
            if Instant.now() > deadline {
                faults.append(
                    "\(name): the gateway counted \(Int(delta.requests)) requests, the generator \(Int(answered)) answers of \(load.total[.offered])"
                )
                return delta
            }
            usleep(50_000)
        }
    }

    /// Waits until the counters of `gateway` add up: the last copies end with their timeout.
    private func settled(
        _ gateway: Gateway, _ start: MirrorCounts, _ faults: inout [String]
    ) throws -> MirrorCounts {
        let deadline = Instant.now().adding(ms: settings.shadowTimeoutMs + Self.settleMs)
        while true {
            let counts = MirrorCounts(try gateway.metrics())
            guard let fault = counts.fault else { return counts.since(start) }
            if Instant.now() > deadline {
                faults.append("the mirror's counters do not add up: \(fault)")
                return counts.since(start)
            }
            usleep(100_000)
        }
    }

    private func listenerFault(_ shadow: ShadowFault, _ off: Gateway, _ on: Gateway) -> String? {
        let own = [getpid()]
        return off.listenerFault() ?? on.listenerFault()
            ?? Listeners.fault(port: UInt16(settings.port), owners: own)
            ?? Listeners.fault(
                port: UInt16(settings.port + 1), owners: own, expected: shadow.mode != .refuse)
    }
}
