import CoreLoop
import Proxy
import Upstream

/// What the board says of one endpoint, for people.
struct EndpointReading {
    let target: String
    let label: String
    /// What the checks say; nil where there are none.
    let health: HealthState?
    /// Since when, monotonic milliseconds; nil before the first check.
    let sinceMs: UInt64?
    /// The last check, and its status; nil where it got no answer.
    let lastResult: CheckResult?
    let lastStatus: UInt64?
    let passed: UInt64
    let failed: UInt64
    /// Where it is now.
    let addresses: [SocketAddress]
    let requests: UInt64
    let open: UInt64
    let idle: UInt64
    /// Workers that leave it out for its failures.
    let ejectedBy: Int

    /// All endpoints, target by target.
    static func all(
        _ settings: GatewaySettings, _ board: UpstreamBoard, workers: Int, now: Instant
    ) -> [[EndpointReading]] {
        settings.targets.enumerated().map { index, target in
            target.endpoints.indices.map { place in
                EndpointReading(
                    target, place, board, board.firstEndpoints[index] + place, workers: workers,
                    now: now)
            }
        }
    }

    private init(
        _ settings: TargetSettings, _ place: Int, _ board: UpstreamBoard, _ endpoint: Int,
        workers: Int, now: Instant
    ) {
        target = settings.id
        label = settings.endpoints[place].label
        let verdict = board.verdict(endpoint)
        let hasChecks = settings.health != nil
        health = hasChecks ? board.health(endpoint) : nil
        let wasChecked = hasChecks && verdict.value(.sinceMs) > 0
        sinceMs = wasChecked ? verdict.value(.sinceMs) : nil
        lastResult =
            wasChecked ? CheckResult(rawValue: Int(clamping: verdict.value(.lastResult))) : nil
        let status = verdict.value(.lastStatus)
        lastStatus = wasChecked && status > 0 ? status : nil
        passed = verdict.value(.passed)
        failed = CheckResult.allCases.dropFirst().reduce(0) {
            $0 &+ verdict.value(HealthCell($1))
        }
        addresses = board.addresses(endpoint).read() ?? settings.endpoints[place].addresses
        let cells = (0..<workers).map { board.endpoint(worker: $0, endpoint) }
        func sum(_ counter: EndpointCounter) -> UInt64 {
            cells.reduce(0) { $0 &+ $1.value(counter) }
        }
        requests = sum(.requests)
        open = sum(.open)
        idle = sum(.idle)
        ejectedBy = cells.count { $0.value(.ejectedUntilMs) > now.milliseconds }
    }

    private func age(_ now: Instant) -> UInt64? {
        sinceMs.map { now.milliseconds > $0 ? now.milliseconds - $0 : 0 }
    }

    /// As a member of `/status`.
    func json(_ now: Instant) -> JSONText { .object(members(now)) }

    /// The same, to be added to.
    func members(_ now: Instant) -> [(String, JSONText)] {
        [
            ("endpoint", .text(label)),
            ("health", .optional(health?.label)),
            ("since_seconds", .optional(age(now).map { $0 / 1_000 })),
            ("last_check", .optional(lastResult?.label)),
            ("last_status", .optional(lastStatus)),
            ("checks_passed", .integer(passed)),
            ("checks_failed", .integer(failed)),
            ("ejected_by", .integer(UInt64(ejectedBy))),
            ("requests", .integer(requests)),
            ("connections_open", .integer(open)),
            ("connections_idle", .integer(idle)),
            ("addresses", .list(addresses.map { .text($0.text) })),
        ]
    }

    /// The table of `/status?format=text`.
    static func table(_ targets: [[EndpointReading]], _ now: Instant) -> String {
        var table = ColumnText(
            [
                "TARGET", "ENDPOINT", "HEALTH", "SINCE", "LAST CHECK", "EJECTED BY", "REQUESTS",
                "OPEN", "IDLE", "ADDRESSES",
            ], isNumber: [false, false, false, true, false, true, true, true, true, false])
        for reading in targets.joined() {
            var last = reading.lastResult?.label ?? "-"
            if let status = reading.lastStatus { last += " \(status)" }
            var addresses = reading.addresses.prefix(addressesMax).map(\.text)
            if reading.addresses.count > addressesMax {
                addresses.append("and \(reading.addresses.count - addressesMax) more")
            }
            table.add([
                reading.target, reading.label, reading.health?.label ?? "-",
                reading.age(now).map { StatusReport.span($0) } ?? "-", last,
                "\(reading.ejectedBy)", "\(reading.requests)", "\(reading.open)",
                "\(reading.idle)", addresses.isEmpty ? "-" : addresses.joined(separator: ", "),
            ])
        }
        return table.text
    }

    /// Addresses in one cell of the table.
    private static let addressesMax = 3
}
