import CLinux
import Testing

/// The tee and the proxy under seeds: thousands of small worlds, each with its own settings, peers,
/// faults and deaths.
///
/// A fault that a seed finds gets a scene of its own (ProxyTests, MirrorTests): what a seed means
/// changes with the plan.
///
/// `UMBRA_SEED=n` runs one world, `UMBRA_SEEDS=n` that many, `UMBRA_FIRST_SEED=n` from there on.
@Suite(.serialized) struct SimulationTests {
    /// Worlds that an ordinary run visits.
    static let seedsByDefault = 250

    private static func number(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }

    @Test func everyWorldEndsWell() throws {
        CurrentSeed.watchForTraps()
        if let seed = Self.number("UMBRA_SEED") {
            try Self.visit(seed)
            return
        }
        let first = Self.number("UMBRA_FIRST_SEED") ?? 1
        let count = Self.number("UMBRA_SEEDS") ?? UInt64(Self.seedsByDefault)
        // What another test forks meanwhile has all descriptors of this process until its exec: the
        // ends of connections may come late. A fault of ours comes again.
        for seed in first..<first + count where try Self.failure(of: seed) != nil {
            try Self.visit(seed)
        }
    }

    private static func visit(_ seed: UInt64) throws {
        if let failure = try failure(of: seed) {
            Issue.record("seed \(seed): \(failure)\nrepeat: \(CurrentSeed.command(seed))")
        }
    }

    private static func failure(of seed: UInt64) throws -> String? {
        CurrentSeed.value = seed
        let world = try World(seed: seed)
        world.run()
        if getenv("UMBRA_SHOW") != nil { print("seed \(seed)", world.summary) }
        return world.failure
    }
}

/// The seed that is running, for the case that a world ends the process.
enum CurrentSeed {
    nonisolated(unsafe) static var value: UInt64 = 0

    static func command(_ seed: UInt64) -> String {
        "UMBRA_SEED=\(seed) swift test --filter SimulationTests"
    }

    /// A trap says which seed it was before it ends the process.
    static func watchForTraps() {
        // The runtime shows where a trap was: its own handler is asked for.
        if getenv("SWIFT_BACKTRACE") != nil { return }
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT] {
            signal(number) { number in
                let text =
                    "\nseed \(CurrentSeed.value) trapped; repeat: "
                    + CurrentSeed.command(CurrentSeed.value) + "\n"
                _ = text.utf8.withContiguousStorageIfAvailable {
                    write(2, $0.baseAddress, $0.count)
                }
                signal(number, nil)
                raise(number)
            }
        }
    }
}
