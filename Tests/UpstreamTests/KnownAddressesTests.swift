import CoreLoop
import Testing

@testable import Upstream

/// A reload begins with the addresses that the generation before it has found.
@Suite struct KnownAddressesTests {
    private static func target(_ id: String, _ hosts: String...) -> TargetSettings {
        var target = TargetSettings(id: id, authority: "", host: "", port: 1)
        target.endpoints = hosts.map {
            EndpointSettings(authority: "\($0):80", host: $0, port: 80)
        }
        return target
    }

    @Test func addressesAreHandedOnByName() throws {
        var targets = [Self.target("a", "one", "two"), Self.target("b", "one")]
        targets[0].endpoints[1].addresses = [SocketAddress("10.0.0.2:80")!]
        let old = try HealthRig(targets)
        old.board.addresses(0).write([SocketAddress("10.0.0.1:80")!])
        let known = KnownAddresses(old.targets, old.board)
        // Another order, another port, another target, and a new name.
        targets = [Self.target("c", "two", "three"), Self.target("b", "one")]
        targets[1].endpoints[0].port = 81
        known.fill(&targets)
        // Never on the board: what it was started with.
        #expect(targets[0].endpoints[0].addresses == [SocketAddress("10.0.0.2:80")!])
        #expect(targets[0].endpoints[1].addresses.isEmpty)
        #expect(targets[1].endpoints[0].addresses == [SocketAddress("10.0.0.1:81")!])
        #expect(targets[1].endpoints[0].isNamed)
    }

    @Test func whatHasAnAddressKeepsIt() throws {
        let old = try HealthRig([Self.target("a", "one")])
        old.board.addresses(0).write([SocketAddress("10.0.0.1:80")!])
        let known = KnownAddresses(old.targets, old.board)
        var targets = [Self.target("a", "one")]
        targets[0].endpoints[0].addresses = [SocketAddress("10.0.0.2:80")!]
        known.fill(&targets)
        #expect(targets[0].addresses == [SocketAddress("10.0.0.2:80")!])
    }
}
