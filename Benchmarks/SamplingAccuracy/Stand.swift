import CoreLoop
import Glibc
import Load

/// A primary, a shadow, and a gateway between, for one test.
final class Stand {
    /// The four routes that the ratio test uses, and their paths.
    static let routes = ["a", "b", "c", "d"]
    /// How long counters may take to come to rest.
    static let settleMs = 8_000

    struct Shape {
        var workers = 2
        var shadows = 1
        var sampleRate = 1.0
        var sampleBy = "request"
        var qps = "1000000"
        var withRoutes = false
        var arrivalsMax = 0
    }

    let primary: Origin
    let shadow: Origin
    private let settings: Settings
    private let directory: String
    private let shape: Shape
    private var starts = 0
    private(set) var gateway: Gateway

    init(_ settings: Settings, _ directory: String, _ shape: Shape) throws {
        self.settings = settings
        self.directory = directory
        self.shape = shape
        for port in settings.port..<settings.port + 4 {
            if Listeners.fault(port: UInt16(port), owners: [], expected: false) != nil {
                throw ArgumentList.Fault("port \(port) is taken already; choose others with --port")
            }
        }
        primary = try Self.origin(settings.port, shape)
        shadow = try Self.origin(settings.port + 1, shape)
        gateway = try Self.gateway(settings, directory, shape)
    }

    deinit {
        gateway.terminate()
        primary.stop()
        shadow.stop()
    }

    /// Ends the gateway and starts another one on the same ports.
    func restartGateway(workers: Int) throws {
        gateway.terminate()
        var changed = shape
        changed.workers = workers
        gateway = try Self.gateway(settings, directory, changed)
    }

    private static func origin(_ port: Int, _ shape: Shape) throws -> Origin {
        var options = OriginOptions(listen: SocketAddress("127.0.0.1:\(port)")!)
        options.bodyBytes = 64
        options.arrivalsMax = shape.arrivalsMax
        let origin = try Origin(options)
        origin.start()
        return origin
    }

    private static func gateway(_ settings: Settings, _ directory: String, _ shape: Shape) throws
        -> Gateway
    {
        let port = settings.port
        var text = """
            version: '1'
            listen: 127.0.0.1:\(port + 2)
            admin: {listen: 127.0.0.1:\(port + 3)}
            runtime: {workers: \(shape.workers), shadows: \(shape.shadows)}
            access_log: off
            providers:
              targets:
                - {id: app, provider: http, base_url: "http://127.0.0.1:\(port)"}
                - {id: next, provider: http, base_url: "http://127.0.0.1:\(port + 1)"}

            """
        if shape.withRoutes {
            text += "routes:\n"
            for route in routes {
                text += "  - {name: \(route), match: {path_prefix: /\(route)/}, target: app, "
                text += "mirror: {sample_rate: \(shape.sampleRate)}}\n"
            }
        }
        text += """
            traffic_mirror:
              enabled: true
              primary: app
              shadow: next
              sample_rate: \(shape.sampleRate)
              sample_by: \(shape.sampleBy)
              limits: {qps: \(shape.qps), in_flight: 4096}
              safety: {methods: [GET, HEAD, OPTIONS, POST]}

            """
        return try Gateway(
            umbra: settings.umbra, name: "gateway-\(Instant.now().nanoseconds)",
            configuration: text,
            listen: SocketAddress("127.0.0.1:\(port + 2)")!,
            admin: SocketAddress("127.0.0.1:\(port + 3)")!,
            cpus: [], directory: directory)
    }

    /// Sends a load through the gateway, with serial and connection numbers in each request.
    func load(
        _ name: String, _ change: (inout LoadOptions) -> Void, during: (() -> Void)? = nil
    ) throws -> LoadResult {
        var options = LoadOptions(target: gateway.listen)
        options.connections = settings.connections
        options.seconds = 600
        options.graceSeconds = 5
        options.numbered = [
            NumberedField(name: "X-Load-Serial", source: .serial),
            NumberedField(name: "X-Load-Connection", source: .connection),
        ]
        change(&options)
        let result = try LoadGenerator(options).run { state in
            Standard.progress(
                "\(name)  \(fixed(state.elapsedSeconds, 1)) s  \(state.answered) answered  \(fixed(state.answersPerSecond, 0))/s"
            )
            during?()
        }
        Standard.endProgress()
        return result
    }

    /// The metrics once all copies have ended: `sent` is the sum of its results, and all that was
    /// sampled was sent or dropped. Those of the last look where that does not happen in time.
    func settledMetrics(requests: UInt64) throws -> Metrics {
        let deadline = Instant.now().adding(ms: Self.settleMs)
        while true {
            let metrics = try gateway.metrics()
            let sent = metrics.sum("umbra_mirror_sent_total")
            let isSettled =
                metrics.sum("umbra_requests_total") >= Double(requests)
                && metrics.sum("umbra_mirror_sampled_total") == sent
                    + metrics.sum("umbra_mirror_dropped_total")
                && sent == metrics.sum("umbra_mirror_results_total")
            if isSettled || Instant.now() > deadline { return metrics }
            usleep(100_000)
        }
    }
}
