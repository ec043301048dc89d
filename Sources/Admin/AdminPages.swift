import CoreLoop
import HTTP
import Proxy
import Upstream

/// What the admin listener answers to one request. No I/O but the reading of the board and /proc.
struct AdminPages {
    let settings: GatewaySettings
    let board: Board
    private let view: BoardView?
    let token: BearerToken?
    let startedAt: Instant
    let version: String
    private let prometheus: Prometheus

    enum Page: String, CaseIterable {
        case healthz, readyz, health, metrics, status, config, targets, mirror, reload, drain

        /// Probes carry no secrets, and their answers hold none.
        var isOpen: Bool { self == .healthz || self == .readyz }

        /// The methods that it takes, as Allow lists them.
        var methods: String {
            switch self {
            case .reload: "POST"
            case .mirror, .drain: "GET, HEAD, POST"
            default: "GET, HEAD"
            }
        }

        func takes(_ method: Method) -> Bool {
            switch method {
            case .get, .head: self != .reload
            case .post: self == .reload || self == .mirror || self == .drain
            default: false
            }
        }
    }

    /// What is to be done with a request.
    enum Step {
        case answer(AdminAnswer)
        /// So many bytes of content are to be read first.
        case content(Int, Action)
    }

    /// A POST whose content is still to be read.
    struct Action {
        let page: Page
        /// `?format=text`.
        let isText: Bool
    }

    /// What the content of a POST comes to.
    enum Outcome {
        case answer(AdminAnswer)
        case order(ControlOrder)
    }

    private let checks: RequestChecks

    init(
        settings: GatewaySettings, board: Board, view: BoardView? = nil, token: String?,
        startedAt: Instant, version: String
    ) {
        let board = view?.board ?? board
        self.settings = settings
        self.view = view
        self.board = board
        self.token = token.map { BearerToken($0) }
        checks = RequestChecks(
            hosts: settings.admin.hosts,
            isGuarded: token != nil || settings.admin.listen?.isUnix == true)
        self.startedAt = startedAt
        self.version = version
        prometheus = Prometheus(
            settings: settings, board: board, version: version, startedAt: startedAt)
    }

    /// What to do with a request whose whole head was parsed from `bytes`.
    func receive(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer, now: Instant) -> Step {
        let target = head.path.bytes(in: bytes)
        let pathEnd = target.firstIndex(of: 0x3F) ?? target.endIndex
        let path = head.pathNeedsSlash ? "/" : String(decoding: target[..<pathEnd], as: UTF8.self)
        let page = path.hasPrefix("/") ? Page(rawValue: String(path.dropFirst())) : nil
        if page?.isOpen != true {
            if let fault = checks.fault(head, bytes) { return .answer(fault) }
            guard isAuthorized(head, bytes) else {
                return .answer(
                    .failure(
                        401, "unauthorized", "This listener asks for a bearer token.",
                        fields: "WWW-Authenticate: Bearer realm=\"umbra\"\r\n"))
            }
        }
        guard let page else {
            let known = Page.allCases.map { "/" + $0.rawValue }.joined(separator: ", ")
            return .answer(
                .failure(404, "not_found", "There is no such page; there are \(known)."))
        }
        guard page.takes(head.method) else {
            return .answer(
                .failure(
                    405, "method_not_allowed", "Only \(page.methods).",
                    fields: "Allow: \(page.methods)\r\n"))
        }
        let query = String(decoding: target[pathEnd...].dropFirst(), as: UTF8.self)
        guard head.method == .post else { return .answer(answer(page, query: query, now)) }
        if let fault = RequestChecks.contentFault(head, bytes) { return .answer(fault) }
        var count = 0
        if case .length(let length) = head.framing { count = Int(length) }
        return .content(count, Action(page: page, isText: Self.isText(query)))
    }

    private static func isText(_ query: String) -> Bool {
        query.split(separator: "&").contains("format=text")
    }

    /// What a POST asks the supervisor for.
    func act(_ action: Action, _ body: [UInt8]) -> Outcome {
        let bodies = OrderBodies(routes: settings.routes.map(\.name))
        do throws(OrderBodies.Fault) {
            switch action.page {
            case .mirror: return .order(try bodies.mirror(body))
            case .reload:
                try bodies.expectNothing(body)
                return .order(.reload)
            default:
                try bodies.expectNothing(body)
                return .order(.drain)
            }
        } catch {
            return .answer(.failure(400, "bad_request", error.message))
        }
    }

    /// The supervisor's answer to an order, as the client gets it: an order that was carried out
    /// shows its page.
    func answer(_ action: Action, _ answer: ControlAnswer, now: Instant) -> AdminAnswer {
        guard (200..<300).contains(answer.status), action.page != .reload else {
            return AdminAnswer(status: answer.status, body: answer.body)
        }
        var page = self.answer(action.page, query: action.isText ? "format=text" : "", now)
        page.status = answer.status
        return page
    }

    private func isAuthorized(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let token else { return true }
        guard let place = head.fields.first(.authorization),
            head.fields.repeated & FieldName.authorization.bit == 0
        else { return false }
        return token.fits(head.fields[place].value.bytes(in: bytes))
    }

    private func answer(_ page: Page, query: String, _ now: Instant) -> AdminAnswer {
        if page != .healthz { view?.refresh() }
        switch page {
        case .healthz: return .text(200, "ok\n")
        case .readyz: return readiness(now)
        case .health: return .json(200, health(now))
        case .metrics:
            return AdminAnswer(
                status: 200, contentType: MetricText.contentType, body: prometheus.render(now: now))
        case .status:
            let report = StatusReport(
                settings: settings, board: board, version: version, startedAt: startedAt, now: now)
            return Self.isText(query) ? .text(200, report.text) : .json(200, report.json)
        case .config:
            return .json(
                200, ConfigPage(settings: settings, workers: board.workers.count).json)
        case .targets:
            return .json(200, TargetsPage(settings: settings, board: board, now: now).json)
        case .mirror:
            let page = MirrorPage(board.mirror, settings, now: now)
            return Self.isText(query) ? .text(200, page.text) : .json(200, page.json)
        case .drain, .reload:
            return .json(200, DrainPage(settings: settings, board: board).json)
        }
    }

    /// 200 where every worker can be counted on, else 503 and which cannot, and why.
    private func readiness(_ now: Instant) -> AdminAnswer {
        let workers = ProcessReading.all(board).filter { $0.role == .worker }
        let unready: [JSONText] = workers.compactMap { worker in
            guard let reason = worker.unreadiness(now) else { return nil }
            return .object([
                ("role", .text(worker.role.label)),
                ("index", .integer(UInt64(worker.index))),
                ("state", .text(worker.state.label)),
                ("heartbeat_age_ms", .optional(worker.heartbeatAgeMs(now))),
                ("reason", .text(reason)),
            ])
        }
        let isReady = unready.isEmpty && !workers.isEmpty
        return .json(
            isReady ? 200 : 503,
            .object([
                ("ready", .flag(isReady)),
                ("workers", .integer(UInt64(workers.count))),
                ("unready", .list(unready)),
            ]))
    }

    private func health(_ now: Instant) -> JSONText {
        let isReady = board.workerProcesses.enumerated().allSatisfy {
            ProcessReading(.worker, $0.offset, $0.element).unreadiness(now) == nil
        }
        let providers: [(String, JSONText)] = settings.targets.map { target in
            let scheme = target.tls == nil ? "http://" : "https://"
            let url = scheme + target.authority + target.pathPrefix
            return (
                target.id, .object([("provider", .text("http")), ("base_url", .text(url))])
            )
        }
        let requests = board.workers.reduce(0) { $0 &+ $1.counters.value(.requests) }
        return .object([
            ("status", .text(isReady ? "ok" : "degraded")),
            ("uptime_seconds", .integer(now.nanoseconds(since: startedAt) / 1_000_000_000)),
            ("version", .text(version)),
            ("providers", .object(providers)),
            ("policies_loaded", .integer(0)),
            ("requests_processed", .integer(requests)),
        ])
    }
}
