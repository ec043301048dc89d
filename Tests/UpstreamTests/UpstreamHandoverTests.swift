import CoreLoop
import Testing

@testable import Upstream

/// A reload begins with what the generation before it has found.
@Suite struct UpstreamHandoverTests {
    private static func target(_ id: String, _ hosts: String...) -> TargetSettings {
        var target = TargetSettings(id: id, authority: "", host: "", port: 1)
        target.endpoints = hosts.map {
            EndpointSettings(authority: "\($0):80", host: $0, port: 80)
        }
        target.health = HealthSettings(path: "/up")
        return target
    }

    @Test func verdictsAndAddressesAreHandedOn() throws {
        let old = try HealthRig([Self.target("a", "one", "two"), Self.target("b", "one")])
        let cells = old.board.verdict(1)
        cells[.state].set(UInt64(HealthState.unhealthy.rawValue))
        cells[.sinceMs].set(77)
        cells[.lastStatus].set(503)
        cells[.passed].set(9)
        old.board.addresses(0).write([SocketAddress("10.0.0.1:80")!])
        let handover = UpstreamHandover(old.targets, old.board)

        // Another order, another port, one more, and one target that is checked in another way.
        var targets = [
            Self.target("c", "two"), Self.target("b", "one"), Self.target("a", "two", "one"),
        ]
        targets[1].endpoints[0].port = 81
        handover.fill(&targets)
        #expect(targets[0].endpoints[0].addresses.isEmpty)
        #expect(targets[1].endpoints[0].addresses == [SocketAddress("10.0.0.1:81")!])
        #expect(targets[2].endpoints[1].addresses == [SocketAddress("10.0.0.1:80")!])
        #expect(targets[1].endpoints[0].isNamed)
        let new = try HealthRig(targets)
        handover.publish(to: new.board, targets)
        let states = (0..<4).map { new.board.health($0) }
        #expect(states == [.unknown, .unknown, .unhealthy, .unknown])
        #expect(new.board.verdict(2).value(.sinceMs) == 77)
        #expect(new.board.verdict(2).value(.lastStatus) == 503)
        // Sums begin anew.
        #expect(new.board.verdict(2).value(.passed) == 0)
        #expect(new.board.healthVersion.value == 1)

        targets[2].health?.path = "/other"
        let other = try HealthRig(targets)
        handover.publish(to: other.board, targets)
        #expect(other.board.health(2) == .unknown)
    }

    @Test func whatWasLookedUpAnewStays() throws {
        let old = try HealthRig([Self.target("a", "one")])
        old.board.addresses(0).write([SocketAddress("10.0.0.1:80")!])
        let handover = UpstreamHandover(old.targets, old.board)
        var targets = [Self.target("a", "one")]
        targets[0].endpoints[0].addresses = [SocketAddress("10.0.0.2:80")!]
        handover.fill(&targets)
        #expect(targets[0].addresses == [SocketAddress("10.0.0.2:80")!])
    }
}
