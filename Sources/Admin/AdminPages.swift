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

    private enum Page: String, CaseIterable {
        case healthz, readyz, health, metrics, status

        /// Probes carry no secrets, and their answers hold none.
        var isOpen: Bool { self == .healthz || self == .readyz }
    }

    init(
        settings: GatewaySettings, board: Board, view: BoardView? = nil, token: String?,
        startedAt: Instant, version: String
    ) {
        let board = view?.board ?? board
        self.settings = settings
        self.view = view
        self.board = board
        self.token = token.map { BearerToken($0) }
        self.startedAt = startedAt
        self.version = version
        prometheus = Prometheus(
            settings: settings, board: board, version: version, startedAt: startedAt)
    }

    /// The answer to a whole head that was parsed from `bytes`.
    func answer(_ head: RequestHead, _ bytes: UnsafeRawBufferPointer, now: Instant) -> AdminAnswer {
        let target = head.path.bytes(in: bytes)
        let pathEnd = target.firstIndex(of: 0x3F) ?? target.endIndex
        let path = head.pathNeedsSlash ? "/" : String(decoding: target[..<pathEnd], as: UTF8.self)
        let page = path.hasPrefix("/") ? Page(rawValue: String(path.dropFirst())) : nil
        guard page?.isOpen == true || isAuthorized(head, bytes) else {
            return .failure(
                401, "unauthorized", "This listener asks for a bearer token.",
                fields: "WWW-Authenticate: Bearer realm=\"umbra\"\r\n")
        }
        guard let page else {
            let known = Page.allCases.map { "/" + $0.rawValue }.joined(separator: ", ")
            return .failure(404, "not_found", "There is no such page; there are \(known).")
        }
        guard head.method == .get || head.method == .head else {
            return .failure(
                405, "method_not_allowed", "Only GET and HEAD.", fields: "Allow: GET, HEAD\r\n")
        }
        let query = target[pathEnd...].dropFirst()
        return answer(page, query: String(decoding: query, as: UTF8.self), now)
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
            let isText = query.split(separator: "&").contains("format=text")
            return isText ? .text(200, report.text) : .json(200, report.json)
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
            let url = "http://" + target.authority + target.pathPrefix
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
