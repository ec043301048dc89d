import CoreLoop
import Testing

@testable import Upstream

/// Endpoints that fail, and requests that are sent again.
@Suite struct EjectionTests {
    private static func states(_ count: Int) -> UnsafeMutableBufferPointer<EndpointState> {
        let states = UnsafeMutableBufferPointer<EndpointState>.allocate(capacity: count)
        for place in 0..<count {
            states.initializeElement(
                at: place, to: EndpointState(weight: 1, connectionsMax: 0, identity: UInt64(place)))
        }
        return states
    }

    @Test func failuresInARowEject() {
        let states = Self.states(4)
        defer { states.deallocate() }
        let ejection = Ejection(EjectionSettings())
        for _ in 0..<4 { #expect(ejection.failed(states, 0, nowMs: 100) == .nothing) }
        ejection.succeeded(states.baseAddress!)
        for _ in 0..<4 { #expect(ejection.failed(states, 0, nowMs: 100) == .nothing) }
        #expect(ejection.failed(states, 0, nowMs: 100) == .ejected(ms: 10_000))
        #expect(!states[0].isUsable)
        #expect(ejection.expire(states, nowMs: 10_099) == 10_100)
        #expect(ejection.expire(states, nowMs: 10_100) == nil)
        #expect(states[0].isUsable)
        for _ in 0..<4 { _ = ejection.failed(states, 0, nowMs: 20_000) }
        #expect(ejection.failed(states, 0, nowMs: 20_000) == .ejected(ms: 20_000))
    }

    @Test(
        "Never all, whatever the share says",
        arguments: [(2, 1.0, 1), (2, 0.1, 1), (4, 0.5, 2), (4, 1.0, 3), (10, 0.3, 3), (1, 1.0, 0)])
    func someAreSpared(count: Int, share: Double, most: Int) {
        let states = Self.states(count)
        defer { states.deallocate() }
        var settings = EjectionSettings()
        settings.failures = 1
        settings.shareMax = share
        let ejection = Ejection(settings)
        for place in 0..<count { _ = ejection.failed(states, place, nowMs: 1) }
        #expect(states.filter { !$0.isUsable }.count == most)
    }

    @Test func retriesAreAShareOfTheRequests() {
        var budget = RetryBudget(share: 0.2)
        for _ in 0..<1_000 { budget.noteRequest(nowMs: 5_000) }
        var taken = 0
        while budget.take(nowMs: 5_500) { taken += 1 }
        #expect(taken == 200 + UpstreamLimits.budgetFloor)
        // A window later both are forgotten, and only the floor is left.
        let later = UInt64(5_000 + 1_000 * UpstreamLimits.budgetWindowSeconds)
        taken = 0
        while budget.take(nowMs: later) { taken += 1 }
        #expect(taken == UpstreamLimits.budgetFloor)
    }

    @Test func budgetSlides() {
        var budget = RetryBudget(share: 0.1)
        var random = FastRandom(seed: 3)
        var requests: [UInt64] = []
        var retries: [UInt64] = []
        var now: UInt64 = 1_000
        for _ in 0..<50_000 {
            now += random.next() % 20
            budget.noteRequest(nowMs: now)
            requests.append(now)
            if budget.take(nowMs: now) { retries.append(now) }
        }
        let window = UInt64(UpstreamLimits.budgetWindowSeconds)
        for end in stride(from: window * 2, to: now / 1_000, by: 7) {
            let seconds = (end - window + 1)...end
            let offered = requests.count { seconds.contains($0 / 1_000) }
            let made = retries.count { seconds.contains($0 / 1_000) }
            #expect(Double(made) <= Double(offered) * 0.1 + Double(UpstreamLimits.budgetFloor))
        }
        #expect(Double(retries.count) > Double(requests.count) * 0.09)
    }
}
