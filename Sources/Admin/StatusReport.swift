import CoreLoop
import Mirror
import Proxy
import Upstream

/// What `umbra gateway status` shows: the processes, the targets, the mirror, the live meter.
struct StatusReport {
    let settings: GatewaySettings
    let version: String
    let now: Instant
    let uptimeMs: UInt64
    let generation: UInt64
    let draining: UInt64
    let processes: [ProcessReading]
    let targets: [[EndpointReading]]
    let isMirrorEnabled: Bool
    let mirror: MirrorReading
    let orders: MirrorPage
    let gauges: [ShadowGauges]
    let meter: LiveMeter

    /// Reads the board.
    init(
        settings: GatewaySettings, board: Board, version: String, startedAt: Instant, now: Instant
    ) {
        self.settings = settings
        self.version = version
        self.now = now
        uptimeMs = now.nanoseconds(since: startedAt) / 1_000_000
        generation = board.reloads.value(.generation)
        draining = board.reloads.value(.draining)
        processes = ProcessReading.all(board)
        targets = EndpointReading.all(
            settings, board.upstreams, workers: board.workers.count, now: now)
        isMirrorEnabled = board.mirror.control.value(.enabled) != 0
        mirror = MirrorReading(board, settings)
        orders = MirrorPage(board.mirror, settings, now: now)
        gauges = settings.shadows.indices.map { ShadowGauges(board.mirror, shadow: $0) }
        meter = LiveMeter(board)
    }

    // MARK: JSON

    /// `/status`.
    var json: JSONText {
        .object([
            ("version", .text(version)),
            ("uptime_seconds", .integer(uptimeMs / 1_000)),
            ("generation", .integer(generation)),
            ("draining", .integer(draining)),
            ("listen", .list(settings.listen.map { .text($0.address.text) })),
            ("processes", .list(processes.map { processJSON($0) })),
            (
                "targets",
                .list(
                    zip(settings.targets, targets).map { target, endpoints in
                        .object([
                            ("id", .text(target.id)),
                            ("endpoints", .list(endpoints.map { $0.json(now) })),
                        ])
                    })
            ),
            (
                "mirror",
                .object([
                    ("enabled", .flag(isMirrorEnabled)),
                    ("orders", orders.hasOrders ? orders.json : .null),
                    ("shadows", .list(settings.shadows.indices.map { shadowJSON($0) })),
                ])
            ),
            (
                "meter",
                .object([
                    ("p99_mirrored_us", .optional(meter.mirroredP99Ns.map { $0 / 1_000 })),
                    ("p99_unmirrored_us", .optional(meter.unmirroredP99Ns.map { $0 / 1_000 })),
                    ("ratio", .optional(meter.p99Ratio)),
                ])
            ),
        ])
    }

    private func processJSON(_ process: ProcessReading) -> JSONText {
        var members: [(String, JSONText)] = [
            ("role", .text(process.role.label)),
            ("index", .integer(UInt64(process.index))),
            ("pid", process.isAlive ? .integer(process.pid) : .null),
            ("state", .text(process.state.label)),
            ("restarts", .integer(process.restarts)),
            ("uptime_seconds", .optional(process.uptimeMs(now).map { $0 / 1_000 })),
            ("last_exit", .optional(process.lastExit)),
        ]
        if process.role == .worker {
            members.append(("served_by", .optional(process.servedBy.map { UInt64($0) })))
        }
        return .object(members)
    }

    private func shadowJSON(_ shadow: Int) -> JSONText {
        let part = mirror.shadows[shadow]
        let dropped = DropReason.allCases.map {
            ($0.label, JSONText.integer(part.dropped[$0.rawValue]))
        }
        let results = CopyResult.allCases.map {
            ($0.label, JSONText.integer(part.results[$0.rawValue]))
        }
        return .object([
            ("id", .text(settings.shadows[shadow].targetID)),
            ("sampled", .integer(part.sampled)),
            ("sent", .integer(part.sent)),
            ("dropped", .object(dropped)),
            ("results", .object(results)),
            ("outstanding", .integer(part.outstanding)),
            ("in_flight", .integer(gauges[shadow].sum(.inFlight))),
            ("breaker", .text(gauges[shadow].breakerLabel)),
        ])
    }

    // MARK: Text

    /// `/status?format=text`: tables for a terminal, with a newline at the end.
    var text: String {
        let listen = settings.listen.map(\.address.text).joined(separator: ", ")
        var result = "umbra \(version), up \(Self.span(uptimeMs))"
        if !listen.isEmpty { result += ", listening on \(listen)" }
        if generation > 1 { result += ", configuration \(generation)" }
        if draining > 0 { result += ", \(draining) before it still finishing requests" }
        result += "\n\n"
        var table = ColumnText(
            ["ROLE", "INDEX", "PID", "STATE", "RESTARTS", "UPTIME", "LAST EXIT"],
            isNumber: [false, true, true, false, true, true, false])
        for process in processes {
            var state = process.state.label
            if let other = process.servedBy, other != process.index {
                state += ", served by \(other)"
            }
            table.add([
                process.role.label, "\(process.index)", process.isAlive ? "\(process.pid)" : "-",
                state, "\(process.restarts)", process.uptimeMs(now).map { Self.span($0) } ?? "-",
                process.lastExit ?? "-",
            ])
        }
        result += table.text + "\n" + EndpointReading.table(targets, now)
        guard !settings.shadows.isEmpty else { return result }
        // Where nobody has ordered anything the table of routes only repeats the file.
        result += "\n" + (orders.hasOrders ? orders.text : orders.headline) + "\n" + shadowTable
        if let ratio = meter.p99Ratio, let with = meter.mirroredP99Ns,
            let without = meter.unmirroredP99Ns
        {
            result += "\nP99 mirrored \(Self.fixed(with / 1e6)) ms, unmirrored "
            result += "\(Self.fixed(without / 1e6)) ms, ratio \(Self.fixed(ratio))\n"
        }
        return result
    }

    private var shadowTable: String {
        var table = ColumnText(
            ["SHADOW", "SAMPLED", "SENT", "OK", "DROPPED", "IN FLIGHT", "BREAKER", "DROPS"],
            isNumber: [false, true, true, true, true, true, false, false])
        for (shadow, part) in mirror.shadows.enumerated() {
            let reasons = DropReason.allCases.filter { part.dropped[$0.rawValue] > 0 }
                .map { "\($0.label) \(part.dropped[$0.rawValue])" }
            table.add([
                settings.shadows[shadow].targetID, "\(part.sampled)", "\(part.sent)",
                "\(part.results[CopyResult.ok.rawValue])", "\(part.dropped.reduce(0, &+))",
                "\(gauges[shadow].sum(.inFlight))", gauges[shadow].breakerLabel,
                reasons.isEmpty ? "-" : reasons.joined(separator: ", "),
            ])
        }
        return table.text
    }

    /// Milliseconds as `3 s`, `2 m 05 s`, `1 h 02 m`, `4 d 03 h`.
    static func span(_ ms: UInt64) -> String {
        let seconds = ms / 1_000
        func two(_ number: UInt64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        switch seconds {
        case ..<60: return "\(seconds) s"
        case ..<3_600: return "\(seconds / 60) m \(two(seconds % 60)) s"
        case ..<86_400: return "\(seconds / 3_600) h \(two(seconds / 60 % 60)) m"
        default: return "\(seconds / 86_400) d \(two(seconds / 3_600 % 24)) h"
        }
    }

    /// Three decimals.
    private static func fixed(_ value: Double) -> String {
        let thousandths = UInt64((value * 1_000).rounded())
        let rest = "\(thousandths % 1_000)"
        return "\(thousandths / 1_000)." + String(repeating: "0", count: 3 - rest.utf8.count) + rest
    }
}

/// Text in columns: words to the left, numbers to the right.
struct ColumnText {
    private var rows: [[String]]
    private let isNumber: [Bool]

    init(_ header: [String], isNumber: [Bool]) {
        precondition(header.count == isNumber.count)
        rows = [header]
        self.isNumber = isNumber
    }

    /// One more row, with as many cells as the header.
    mutating func add(_ row: [String]) {
        precondition(row.count == isNumber.count)
        rows.append(row)
    }

    /// The lines, each with its newline and without blanks at its end.
    var text: String {
        let widths = isNumber.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        var result = ""
        for row in rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                let fill = String(repeating: " ", count: widths[column] - cell.count)
                if column > 0 { line += "  " }
                line += isNumber[column] ? fill + cell : cell + fill
            }
            while line.last == " " { line.removeLast() }
            result += line + "\n"
        }
        return result
    }
}
