import CoreLoop
import Mirror
import Proxy

/// `/mirror`: whether mirroring is on, what holds for each route, and for how long.
struct MirrorPage {
    /// The switch, and what it is without an order.
    let isEnabled: Bool
    let isEnabledConfigured: Bool
    /// How long it stays so; nil for until further notice.
    let switchLeftMs: UInt64?
    let isHeldByGuard: Bool
    let routes: [Route]

    /// One route that has shadows.
    struct Route {
        let name: String
        let override: MirrorOverride
        let leftMs: UInt64?
        let lanes: [LaneSettings]

        /// Whether a lane is on under the override.
        func isOn(_ lane: LaneSettings) -> Bool { lane.enabled && override != .off }

        func rate(_ lane: LaneSettings) -> Double { override.rate ?? lane.sampleRate }

        /// The override in one word, as the page has it.
        var word: String {
            switch override {
            case .configured: "none"
            case .off: "off"
            case .on: "on"
            case .rate: "rate"
            }
        }
    }

    private let shadowIDs: [String]

    init(_ board: MirrorBoard, _ settings: GatewaySettings, now: Instant) {
        func left(_ untilMs: UInt64) -> UInt64? {
            untilMs == 0 ? nil : untilMs > now.milliseconds ? untilMs - now.milliseconds : 0
        }
        isEnabled = board.control.value(.enabled) != 0
        isEnabledConfigured = settings.mirrorEnabled
        switchLeftMs = left(board.control.value(.enabledUntilMs))
        isHeldByGuard = board.control.value(.guardHolds) != 0
        shadowIDs = settings.shadows.map(\.targetID)
        routes = settings.routes.enumerated().filter { !$0.element.lanes.isEmpty }.map {
            place, route in
            let cells = board.overrides[place]
            return Route(
                name: route.name, override: MirrorOverride(word: cells.value(.word)),
                leftMs: left(cells.value(.untilMs)), lanes: route.lanes)
        }
    }

    /// The page.
    var json: JSONText {
        .object([
            ("enabled", .flag(isEnabled)),
            ("enabled_configured", .flag(isEnabledConfigured)),
            ("enabled_seconds_left", .optional(Self.seconds(switchLeftMs))),
            ("held_by_guard", .flag(isHeldByGuard)),
            ("routes", .list(routes.map { json($0) })),
        ])
    }

    private func json(_ route: Route) -> JSONText {
        let override: JSONText =
            route.override == .configured
            ? .null
            : .object([
                ("action", .text(route.word)),
                ("rate", route.override.rate.map { .number($0) } ?? .null),
                ("seconds_left", .optional(Self.seconds(route.leftMs))),
            ])
        let shadows = route.lanes.map { lane -> JSONText in
            .object([
                ("shadow", .text(shadowIDs[lane.shadow])),
                ("enabled", .flag(route.isOn(lane))), ("rate", .number(route.rate(lane))),
                ("rate_configured", .number(lane.sampleRate)),
            ])
        }
        return .object([
            ("route", .text(route.name)), ("override", override), ("shadows", .list(shadows)),
        ])
    }

    // Rounded up: an order that has a moment left has not ended.
    private static func seconds(_ ms: UInt64?) -> UInt64? { ms.map { ($0 + 999) / 1_000 } }

    /// The page for a terminal, with a newline at its end.
    var text: String {
        guard !shadowIDs.isEmpty else { return "nothing is mirrored: no shadow is configured\n" }
        return headline + "\n" + table
    }

    /// Whether mirroring is on, in one line.
    var headline: String {
        var result = "mirroring is \(isEnabled ? "on" : "off")"
        if let switchLeftMs { result += " for another \(StatusReport.span(switchLeftMs))" }
        if isEnabled != isEnabledConfigured {
            result += " (configured: \(isEnabledConfigured ? "on" : "off"))"
        }
        if isEnabled, isHeldByGuard { result += ", held by the latency guard" }
        return result + "\n"
    }

    private var table: String {
        var table = ColumnText(
            ["ROUTE", "SHADOW", "RATE", "ORDER", "LEFT", "CONFIGURED"],
            isNumber: [false, false, true, false, true, true])
        for route in routes {
            for lane in route.lanes {
                table.add([
                    route.name, shadowIDs[lane.shadow],
                    route.isOn(lane) ? Self.share(route.rate(lane)) : "off",
                    route.override == .configured ? "-" : route.word,
                    route.leftMs.map { StatusReport.span($0) } ?? "-",
                    lane.enabled ? Self.share(lane.sampleRate) : "off",
                ])
            }
        }
        return table.text
    }

    private static func share(_ rate: Double) -> String {
        MirrorOrder.text(rate: UInt32((rate * Double(Sampler.steps)).rounded()))
    }

    /// Whether anything is other than configured.
    var hasOrders: Bool {
        isEnabled != isEnabledConfigured || switchLeftMs != nil
            || routes.contains { $0.override != .configured }
    }
}
