import CoreLoop
import Mirror
import Testing

@testable import Proxy

/// Orders about mirroring: which of them holds, for how long, and what comes back.
@Suite struct MirrorOrdersTests {
    private static let start = Instant(nanoseconds: 5_000_000_000_000)
    private static let minute = 60_000

    private static func at(_ minutes: Int) -> Instant { start.adding(ms: minutes * minute) }

    /// Orders given one a minute, and what they come to a minute later.
    private static func orders(_ list: [MirrorOrder], isEnabled: Bool = true) throws -> MirrorOrders
    {
        var orders = MirrorOrders()
        for (place, order) in list.enumerated() {
            _ = orders.takeEnded(now: at(place))
            try orders.give(order, isEnabledConfigured: isEnabled, now: at(place))
        }
        return orders
    }

    private static let tenth = MirrorOrder.Action.rate(100_000_000)

    @Test func withoutOrdersTheConfigurationHolds() {
        let orders = MirrorOrders()
        #expect(orders.switched == nil)
        #expect(orders.override(for: "a").0 == .configured)
        #expect(orders.nextEnd == nil)
    }

    @Test(
        arguments: [
            ([MirrorOrder(.off, route: "a")], MirrorOverride.off, .configured),
            ([.init(.on, route: "a")], .on, .configured),
            ([.init(tenth, route: "a")], .rate(100_000_000), .configured),
            ([.init(tenth)], .rate(100_000_000), .rate(100_000_000)),
            // The latest counts, whichever way round.
            ([.init(tenth), .init(.off, route: "a")], .off, .rate(100_000_000)),
            ([.init(.off, route: "a"), .init(tenth)], .rate(100_000_000), .rate(100_000_000)),
            ([.init(.off, route: "a"), .init(.on, route: "a")], .on, .configured),
            ([.init(.off, route: "a"), .init(.off)], .off, .configured),
            ([.init(.off, route: "a"), .init(.on)], .configured, .configured),
            ([.init(tenth), .init(.on, forMs: minute)], .configured, .configured),
        ] as [([MirrorOrder], MirrorOverride, MirrorOverride)])
    func theLatestHolds(_ list: [MirrorOrder], _ a: MirrorOverride, _ b: MirrorOverride) throws {
        let orders = try Self.orders(list)
        #expect(orders.override(for: "a").0 == a)
        #expect(orders.override(for: "b").0 == b)
    }

    @Test func whatEndsGivesBackWhatHeldBefore() throws {
        var orders = try Self.orders([
            .init(Self.tenth, route: "a"),
            .init(.off, route: "a", forMs: 30 * Self.minute),
            .init(.on, route: "a", forMs: 5 * Self.minute),
        ])
        #expect(orders.override(for: "a") == (.on, until: Self.at(7)))
        #expect(orders.nextEnd == Self.at(7))
        #expect(orders.takeEnded(now: Self.at(6)) == [])
        #expect(orders.takeEnded(now: Self.at(7)).map(\.text) == ["on for route a"])
        #expect(orders.override(for: "a") == (.off, until: Self.at(31)))
        #expect(orders.takeEnded(now: Self.at(40)).map(\.action) == [.off])
        #expect(orders.override(for: "a") == (.rate(100_000_000), until: nil))
        #expect(orders.nextEnd == nil)
    }

    @Test func anOrderWithoutEndTakesAwayWhatItHides() throws {
        var orders = try Self.orders([
            .init(.off, route: "a", forMs: 30 * Self.minute), .init(Self.tenth, route: "a"),
        ])
        #expect(orders.nextEnd == nil)
        #expect(orders.takeEnded(now: Self.at(100)) == [])
        #expect(orders.override(for: "a").0 == .rate(100_000_000))
    }

    @Test func aLongerOrderTakesAwayAShorterOne() throws {
        var orders = try Self.orders([
            .init(.off, route: "a", forMs: 5 * Self.minute),
            .init(.on, route: "a", forMs: 60 * Self.minute),
        ])
        #expect(orders.nextEnd == Self.at(61))
        #expect(orders.takeEnded(now: Self.at(30)) == [])
        #expect(orders.takeEnded(now: Self.at(61)).count == 1)
        #expect(orders.override(for: "a").0 == .configured)
    }

    @Test(
        arguments: [
            ([MirrorOrder(.off)], true, false), ([.init(.off), .init(.on)], true, nil),
            ([.init(.on)], true, nil), ([.init(.on)], false, true), ([.init(.off)], false, false),
            ([.init(.off), .init(tenth)], true, false),
            ([.init(.off), .init(.on, route: "a")], true, false),
            ([.init(.off), .init(.on, forMs: minute)], true, true),
        ] as [([MirrorOrder], Bool, Bool?)])
    func theSwitch(_ list: [MirrorOrder], _ isConfigured: Bool, _ isOn: Bool?) throws {
        let orders = try Self.orders(list, isEnabled: isConfigured)
        #expect(orders.switched?.isOn == isOn)
    }

    @Test func theSwitchGoesBackByItself() throws {
        var orders = try Self.orders([.init(.off, forMs: Self.minute)])
        #expect(orders.switched?.until == Self.at(1))
        _ = orders.takeEnded(now: Self.at(1))
        #expect(orders.switched == nil)
        orders = try Self.orders([.init(.off), .init(.on, forMs: Self.minute)])
        _ = orders.takeEnded(now: Self.at(2))
        #expect(orders.switched?.isOn == false)
    }

    @Test func ordersAreBounded() throws {
        var orders = MirrorOrders()
        for number in 0..<ProxyLimits.mirrorOrdersMax {
            try orders.give(
                .init(.off, route: "r\(number)"), isEnabledConfigured: true, now: Self.start)
        }
        #expect(throws: MirrorOrders.TooMany()) {
            try orders.give(
                .init(Self.tenth, route: "x"), isEnabledConfigured: true, now: Self.start)
        }
        // What takes others' place is no more.
        try orders.give(.init(.on, route: "r0"), isEnabledConfigured: true, now: Self.start)
        #expect(orders.override(for: "r0").0 == .on)
        try orders.give(.init(.on), isEnabledConfigured: true, now: Self.start)
        #expect(orders.override(for: "r0").0 == .configured)
    }

    @Test func theBoardShowsThem() throws {
        var settings = GatewaySettings.plain()
        settings.shadows = [ShadowSettings(targetID: "s", target: 0)]
        settings.routes = ["a", "b"].map { RouteSettings(name: $0, target: 0) }
        settings.mirrorEnabled = false
        let shape = Board.Shape(settings: settings, workers: 1)
        let memory = try SharedMemory.plain(byteCount: Board.byteCount(shape))
        let board = Board.map(memory.base, shape).mirror
        var orders = MirrorOrders()
        orders.apply(to: board, settings)
        #expect(board.control.value(.enabled) == 0 && board.control.value(.version) == 1)
        orders = try Self.orders(
            [
                .init(.on, forMs: 5 * Self.minute),
                .init(Self.tenth, route: "b", forMs: Self.minute),
            ],
            isEnabled: false)
        orders.apply(to: board, settings)
        #expect(board.control.value(.enabled) == 1 && board.control.value(.version) == 2)
        #expect(board.control.value(.enabledUntilMs) == Self.at(5).milliseconds)
        #expect(board.overrides[0].value(.word) == 0)
        #expect(board.overrides[1].value(.word) == MirrorOverride.rate(100_000_000).word)
        #expect(board.overrides[1].value(.untilMs) == Self.at(2).milliseconds)
    }

    @Test(
        arguments: [
            (0, "0"), (1, "0.000000001"), (100_000_000, "0.1"), (999_999_999, "0.999999999"),
            (1_000_000_000, "1"), (50_000_000, "0.05"),
        ] as [(UInt32, String)])
    func ratesAsText(_ rate: UInt32, _ text: String) {
        #expect(MirrorOrder.text(rate: rate) == text)
    }
}
