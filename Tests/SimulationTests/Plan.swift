import CoreLoop
import Mirror
import Proxy
import Upstream

/// What a client sends and what the primary does with it: chosen before it happens, so that the
/// outcome can be judged from it alone.
struct RequestPlan {
    enum Framing { case none, length, chunked }

    var id: Int
    var method: String
    var framing = Framing.none
    var bodyBytes = 0
    var trailers = ""
    var isHTTP10 = false
    var keepAlive = true
    var route: Int
    var padding = 0
    var answer = AnswerPlan()

    static let canary = "CANARY"
    static let idempotent: Set<String> = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]

    var isIdempotent: Bool { Self.idempotent.contains(method) }
    var path: String { "/\(["a", "b", "c"][route])/\(id)" }

    func head() -> String {
        var text = "\(method) \(path)?q=1&token=\(Self.canary)1&z=2"
        text += " HTTP/1.\(isHTTP10 ? 0 : 1)\r\n"
        text += "Host: sim.test\r\nX-Id: \(id)\r\nX-User: user-\(id % 13)\r\n"
        text += "Authorization: Bearer \(Self.canary)2\r\nCookie: a=\(Self.canary)3\r\n"
        text += "X-Api-Key: \(Self.canary)4\r\nTE: trailers\r\n"
        if padding > 0 { text += "X-Padding: " + String(repeating: "p", count: padding) + "\r\n" }
        if isHTTP10 {
            if keepAlive { text += "Connection: keep-alive\r\n" }
        } else if !keepAlive {
            text += "Connection: close, X-Hop\r\nX-Hop: 1\r\n"
        }
        switch framing {
        case .none: break
        case .length: text += "Content-Length: \(bodyBytes)\r\n"
        case .chunked: text += "Transfer-Encoding: chunked\r\n"
        }
        return text + "\r\n"
    }
}

/// How the primary answers one request.
struct AnswerPlan {
    enum Framing { case none, length, chunked, untilClose }

    enum Fault {
        case none
        case closeBefore, resetBefore, garbage, twoFramings
        case closeWithin, resetWithin, badChunk
        /// These end by a timeout only.
        case hangBefore, hangWithin, stopsReading
    }

    var status = 200
    var framing = Framing.length
    var bodyBytes = 0
    var trailers = ""
    var keepAlive = true
    var interims = 0
    var isEarly = false
    /// How often the primary is asked before it answers.
    var delay = 0
    var fault = Fault.none
    /// Bytes behind the answer that nobody asked for: at once, or while the connection is idle.
    var surplus = Surplus.none

    enum Surplus { case none, atOnce, later }

    var needsTimeout: Bool {
        fault == .hangBefore || fault == .hangWithin || fault == .stopsReading
    }
}

/// Everything that a seed decides before the first step.
struct WorldPlan {
    /// Blocks, records or connections may run out: the gateway may answer 503.
    var isTight = false
    /// Time jumps, and timeouts are short: any exchange may be cut.
    var isHasty = false
    var hasShadowDeaths = false
    var usesUnixSockets = false
    var hasLog = false
    var clientCount = 1
    var steps = 0
    var settings = GatewaySettings()
    var rng: Dice

    init(seed: UInt64) {
        rng = Dice(seed: seed)
        isTight = rng.chance(25)
        isHasty = rng.chance(25)
        hasShadowDeaths = rng.chance(30)
        usesUnixSockets = rng.chance(50)
        hasLog = rng.chance(25)
        clientCount = rng.within(1...8)
        steps = rng.within(200...1_500)
        drawRuntime()
        drawShadows()
    }

    private mutating func drawRuntime() {
        var runtime = RuntimeSettings()
        runtime.blockBytes = rng.one(of: [4_096, 4_096, 16_384])
        runtime.blocksPerWorker = isTight ? rng.within(8...48) : 4_096
        runtime.connectionsPerWorker = isTight && rng.chance(30) ? rng.within(1...4) : 64
        runtime.ringDepth = rng.one(of: [2, 8, 8, 64, 1_024])
        runtime.blocksOnLoanMax = rng.one(of: [1, 8, 64, 512])
        settings.runtime = runtime
        var limits = LimitSettings()
        if isHasty {
            limits.headTimeoutMs = rng.within(50...2_000)
            limits.bodyTimeoutMs = rng.within(50...2_000)
            limits.idleTimeoutMs = rng.within(50...4_000)
            limits.answerTimeoutMs = rng.within(50...4_000)
        } else {
            limits.headTimeoutMs = 600_000
            limits.bodyTimeoutMs = 600_000
            limits.idleTimeoutMs = 600_000
            limits.answerTimeoutMs = 900_000
        }
        limits.connectTimeoutMs = 10_000
        settings.limits = limits
    }

    private mutating func drawShadows() {
        let shadows = rng.one(of: [0, 1, 1, 1, 2, 3])
        for index in 0..<shadows {
            var shadow = ShadowSettings(targetID: "shadow-\(index)", target: index + 1)
            shadow.qps = rng.one(of: [0, 0.5, 3, 20.5, 1_000, 1_000_000, 1_000_000])
            shadow.inFlightMax = rng.one(of: [1, 2, 8, 64])
            shadow.timeoutMs = rng.one(of: [20, 500, 5_000, 5_000])
            shadow.answerBytesMax = rng.one(of: [1_000, 1 << 20])
            shadow.breakerFailures = rng.one(of: [1, 5, 1_000])
            settings.shadows.append(shadow)
        }
        let routes = rng.within(1...3)
        for index in 0..<routes {
            var route = RouteSettings(name: "route-\(index)", target: 0)
            if index < routes - 1 { route.path = .prefix("/\(["a", "b", "c"][index])/") }
            for shadow in 0..<shadows where rng.chance(85) {
                var lane = LaneSettings(shadow: shadow)
                lane.sampleRate = rng.one(of: [0, 0.1, 0.333, 0.5, 0.9, 1, 1, 1])
                if rng.chance(15) { lane.sampleBy = .header("X-User") }
                lane.bodyBytesMax = rng.one(of: [0, 100, 65_536, 1 << 20])
                if rng.chance(60) {
                    lane.methods += ["POST", "PUT", "PATCH", "DELETE"]
                }
                route.lanes.append(lane)
            }
            settings.routes.append(route)
        }
    }

    /// One client's connections: the requests of each, and after how many bytes the client goes
    /// away.
    mutating func clientPlan(firstID: Int) -> ClientPlan {
        var plan = ClientPlan()
        plan.readShare = rng.one(of: [5, 40, 90, 90])
        plan.readMax = rng.one(of: [100, 4_096, 65_536, 65_536])
        plan.writeMax = rng.one(of: [7, 500, 20_000, 200_000])
        plan.pipelines = rng.chance(30)
        plan.smallBuffers = rng.chance(40)
        var id = firstID
        for _ in 0..<rng.within(1...3) {
            var connection = ClientPlan.Connection()
            for _ in 0..<rng.within(1...6) {
                connection.requests.append(request(id))
                id += 1
            }
            if rng.chance(12) {
                connection.leavesAfterBytes = rng.below(rng.one(of: [50, 1_000, 100_000]))
                connection.leavesWithReset = rng.chance(50)
            }
            plan.connections.append(connection)
        }
        if !isHasty { plan.makePatient() }
        return plan
    }

    private mutating func request(_ id: Int) -> RequestPlan {
        let method = rng.one(of: [
            "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "POST", "PUT", "PATCH",
        ])
        var plan = RequestPlan(id: id, method: method, route: rng.below(3))
        plan.isHTTP10 = rng.chance(12)
        plan.keepAlive = !rng.chance(12)
        if rng.chance(6) {
            plan.padding =
                rng.one(of: [settings.runtime.blockBytes - 300, 6_000, 20_000])
                + rng.below(100)
        }
        let wantsBody = method == "POST" || method == "PUT" || method == "PATCH" || rng.chance(10)
        if wantsBody {
            plan.framing = plan.isHTTP10 || rng.chance(50) ? .length : .chunked
            plan.bodyBytes = rng.length(blockBytes: settings.runtime.blockBytes, max: 3 << 20)
            if plan.framing == .chunked, rng.chance(30) {
                plan.trailers = "X-Check: \(id)\r\nX-Secret-Token: \(RequestPlan.canary)5\r\n"
            }
        }
        plan.answer = answer(id, method)
        return plan
    }

    private mutating func answer(_ id: Int, _ method: String) -> AnswerPlan {
        var plan = AnswerPlan()
        plan.status = rng.one(of: [200, 200, 200, 200, 201, 204, 304, 404, 500, 503])
        plan.framing = rng.one(of: [.length, .length, .length, .chunked, .chunked, .untilClose])
        plan.bodyBytes = rng.length(blockBytes: settings.runtime.blockBytes, max: 3 << 20)
        if plan.framing == .chunked, rng.chance(30) { plan.trailers = "X-Sum: \(id)\r\n" }
        plan.keepAlive = !rng.chance(12)
        if rng.chance(15) { plan.interims = rng.within(1...3) }
        plan.isEarly = rng.chance(8)
        if rng.chance(20) { plan.delay = rng.within(1...20) }
        // Behind an answer that the close ends, there is no surplus: it is all content.
        if plan.framing != .untilClose, rng.chance(10) {
            plan.surplus = rng.one(of: [.atOnce, .later])
        }
        if rng.chance(12) {
            plan.fault = rng.one(of: [
                .closeBefore, .resetBefore, .garbage, .twoFramings, .closeWithin, .resetWithin,
                .badChunk, .hangBefore, .hangWithin, .stopsReading,
            ])
        }
        if method == "HEAD" || plan.status == 204 || plan.status == 304 { plan.framing = .none }
        return plan
    }
}

/// How one client behaves.
struct ClientPlan {
    struct Connection {
        var requests: [RequestPlan] = []
        var leavesAfterBytes: Int?
        var leavesWithReset = false
    }

    var connections: [Connection] = []
    /// In how many of 100 turns it reads, and how much at once.
    var readShare = 90
    var readMax = 65_536
    var writeMax = 65_536
    var pipelines = false
    var smallBuffers = false

    /// Where no timeout shall fire, nobody dawdles over megabytes.
    mutating func makePatient() {
        readShare = max(readShare, 40)
    }
}
