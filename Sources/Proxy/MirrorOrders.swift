public import CoreLoop
public import Mirror

/// What an operator says of mirroring while the gateway runs.
public struct MirrorOrder: Equatable, Sendable {
    /// `Sampler.steps`: a rate of 1.
    public static let rateMax = Sampler.steps
    /// The longest time that an order may be given for: a week.
    public static let forMsMax = 7 * 24 * 3_600_000

    /// Off, on at the configured rates, or at this rate in `Sampler.steps`-ths.
    public enum Action: Equatable, Sendable {
        case off, on
        case rate(UInt32)
    }

    /// What is to be done.
    public var action: Action
    /// The route's name; nil for all of them.
    public var route: String?
    /// How long it holds, milliseconds; 0 until another order.
    public var forMs = 0

    /// An order for this route, or for all of them.
    public init(_ action: Action, route: String? = nil, forMs: Int = 0) {
        self.action = action
        self.route = route
        self.forMs = forMs
    }

    /// As a person would say it: `rate 0.1 for route search`.
    public var text: String {
        let what =
            switch action {
            case .off: "off"
            case .on: "on"
            case .rate(let rate): "rate \(Self.text(rate: rate))"
            }
        return what + (route.map { " for route \($0)" } ?? "")
    }

    /// A rate in steps as a decimal fraction, exactly: `0.1`.
    public static func text(rate: UInt32) -> String {
        let steps = UInt32(Sampler.steps)
        var digits = "\(steps + rate % steps)".dropFirst()
        while digits.last == "0" { digits = digits.dropLast() }
        return "\(rate / steps)" + (digits.isEmpty ? "" : "." + digits)
    }
}

/// The orders that hold, the latest last, and what they come to. They outlive a reload: routes are
/// known by name. Does no I/O; takes the time as an argument.
///
/// An order hides those before it that are about the same routes. One with an end hides them for
/// that time; one without takes them away. An order about all routes sets their rates, or is about
/// the switch, which wins over everything.
public struct MirrorOrders: Sendable {
    /// The order would be one too many of those that come back when others end.
    public struct TooMany: Error, Equatable {}

    private enum Scope: Equatable {
        case all, routes
        case route(String)

        func covers(_ other: Scope) -> Bool {
            switch (self, other) {
            case (.all, .all), (.routes, .routes), (.routes, .route): true
            case (.route(let name), .route(let otherName)): name == otherName
            default: false
            }
        }
    }

    private struct Entry {
        var order: MirrorOrder
        var scope: Scope
        /// Nil where it has no end.
        var until: Instant?
    }

    private var entries: [Entry] = []

    public init() {}

    /// Takes an order. `isEnabledConfigured`: whether the configuration has mirroring on.
    ///
    /// `on` for all routes takes every order about routes away, and without an end all there are:
    /// mirroring is then as configured, and on.
    public mutating func give(
        _ order: MirrorOrder, isEnabledConfigured: Bool, now: Instant
    ) throws(TooMany) {
        let scope: Scope =
            switch (order.route, order.action) {
            case (let name?, _): .route(name)
            case (nil, .rate): .routes
            case (nil, _): .all
            }
        let until = order.forMs == 0 ? nil : now.adding(ms: order.forMs)
        var rest = entries.filter { entry in
            if scope == .all, order.action == .on, entry.scope != .all { return false }
            guard scope.covers(entry.scope) else { return true }
            guard let until else { return false }
            return entry.until.map { $0 > until } ?? true
        }
        let isAsConfigured =
            scope == .all && order.action == .on && until == nil && isEnabledConfigured
        if !isAsConfigured {
            guard rest.count < ProxyLimits.mirrorOrdersMax else { throw TooMany() }
            rest.append(Entry(order: order, scope: scope, until: until))
        }
        entries = rest
    }

    /// When the next order ends.
    public var nextEnd: Instant? { entries.compactMap(\.until).min() }

    /// Takes away what has ended by `now`, and returns it.
    public mutating func takeEnded(now: Instant) -> [MirrorOrder] {
        let ended = entries.filter { entry in entry.until.map { $0 <= now } ?? false }
        guard !ended.isEmpty else { return [] }
        entries.removeAll { entry in entry.until.map { $0 <= now } ?? false }
        return ended.map(\.order)
    }

    /// Whether mirroring is on, and until when that holds; nil where no order says.
    var switched: (isOn: Bool, until: Instant?)? {
        entries.last { $0.scope == .all }.map { ($0.order.action == .on, $0.until) }
    }

    /// What holds for a route.
    func override(for route: String) -> (MirrorOverride, until: Instant?) {
        guard let entry = entries.last(where: { $0.scope.covers(.route(route)) }) else {
            return (.configured, nil)
        }
        let override: MirrorOverride =
            switch entry.order.action {
            case .off: .off
            case .on: .on
            case .rate(let rate): .rate(rate)
            }
        return (override, entry.until)
    }

    /// Shows on `board`, to the workers of these settings, what holds. For the supervisor, which
    /// alone writes there.
    public func apply(to board: MirrorBoard, _ settings: GatewaySettings) {
        func milliseconds(_ until: Instant?) -> UInt64 { until.map(\.milliseconds) ?? 0 }
        let control = board.control
        let switched = switched
        control[.enabled].set(switched?.isOn ?? settings.mirrorEnabled ? 1 : 0)
        control[.enabledUntilMs].set(milliseconds(switched?.until))
        for (place, route) in settings.routes.enumerated() {
            let (override, until) = override(for: route.name)
            board.overrides[place][.word].set(override.word)
            board.overrides[place][.untilMs].set(milliseconds(until))
        }
        control[.version].publish(control.value(.version) &+ 1)
    }
}
