import Admin
import CLinux
import CoreLoop
import Mirror
import Proxy

/// What admin processes ask of the supervisor, on behalf of people.
extension Supervisor {
    /// Takes the orders that have come, from every generation that still answers.
    func takeOrders(now: Instant) {
        guard now >= ordersRestUntil else { return }
        for generation in generations {
            let desk = generation.desk
            desk.bell.clear()
            // Bounded: whoever asks again and again waits for the next look.
            for _ in 0..<AdminLimits.controlSlots {
                guard let (order, ticket) = desk.nextOrder() else { break }
                ordersRestUntil = now.adding(ms: AdminLimits.controlRestMs)
                switch order {
                case .reload where isReloading:
                    // Its admin process goes with the generation that the reload replaces.
                    desk.answer(
                        ticket, .failure(409, "reload_under_way", "A reload is under way."))
                case .reload:
                    beginReload { outcome in desk.answer(ticket, outcome.answer) }
                case .drain:
                    beginStop()
                    desk.answer(ticket, .done(202, "draining"))
                case .mirror(let action, let route, let forMs):
                    desk.answer(
                        ticket, mirror(action, route: route, forMs: forMs, of: generation, now))
                }
            }
        }
    }

    /// The bells to wait for, and for how long at most. A mailbox that was looked at just now is
    /// left alone for a moment.
    func addBells(to list: inout [pollfd], waitMs: Int32, now: Instant) -> Int32 {
        var wait = waitMs
        func shorten(to end: Instant) {
            let left = end.nanoseconds(since: now) / 1_000_000 + 1
            wait = Int32(min(UInt64(wait), left))
        }
        if let end = mirrorOrders.nextEnd { shorten(to: end) }
        guard now >= ordersRestUntil else {
            shorten(to: ordersRestUntil)
            return wait
        }
        for generation in generations {
            list.append(
                pollfd(fd: generation.desk.bell.fd, events: Int16(POLLIN), revents: 0))
        }
        return wait
    }

    private func mirror(
        _ action: MirrorOrder.Action, route: Int?, forMs: Int, of generation: Generation,
        _ now: Instant
    ) -> ControlAnswer {
        let settings = generation.launch.settings
        guard !settings.shadows.isEmpty else {
            return .failure(
                409, "not_mirrored", "Nothing is mirrored: the configuration names no shadow.")
        }
        var order = MirrorOrder(action, forMs: forMs)
        if let route {
            guard settings.routes.indices.contains(route) else {
                return .failure(400, "unknown_route", "There is no such route.")
            }
            order.route = settings.routes[route].name
            guard !settings.routes[route].lanes.isEmpty else {
                return .failure(
                    409, "not_mirrored",
                    "The configuration mirrors route '\(settings.routes[route].name)' to no shadow."
                )
            }
        }
        do throws(MirrorOrders.TooMany) {
            try mirrorOrders.give(
                order, isEnabledConfigured: settings.mirrorEnabled, now: now)
        } catch {
            return .failure(
                409, "too_many_orders",
                "Too many orders wait for others to end; 'on' for all routes takes them away.")
        }
        Console.log(.warn, "Mirroring: \(order.text)\(Self.span(forMs)), as ordered")
        applyMirrorOrders()
        return .done(200, "applied")
    }

    /// Lets orders end whose time is over.
    func endMirrorOrders(now: Instant) {
        let ended = mirrorOrders.takeEnded(now: now)
        guard !ended.isEmpty else { return }
        for order in ended {
            Console.log(
                .info, "Mirroring: the order '\(order.text)'\(Self.span(order.forMs)) has ended")
        }
        applyMirrorOrders()
    }

    private func applyMirrorOrders() {
        for generation in generations {
            mirrorOrders.apply(to: generation.board.mirror, generation.launch.settings)
        }
    }

    private static func span(_ ms: Int) -> String { ms == 0 ? "" : " for \(SpanText.text(ms: ms))" }
}
