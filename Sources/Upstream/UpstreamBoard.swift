public import CoreLoop
import Synchronization

/// Counted by each worker for each endpoint.
public enum EndpointCounter: Int, CaseIterable, Sendable {
    /// Times that a request was sent to it, or waits for its connection.
    case requests
    /// Connections now, and of these the idle ones.
    case open, idle
    case connects, connectFailures, resets, timeouts
    /// Answers 500, 502, 503 and 504.
    case errorAnswers
    case ejections
    /// Until when this worker leaves it out, monotonic milliseconds; 0 while it does not.
    case ejectedUntilMs
}

/// Counted by each worker for each target.
public enum TargetCounter: Int, CaseIterable, Sendable {
    /// Requests sent again, by what the try before ended with.
    case retriesConnect, retriesReset, retriesTimeout, retriesStatus
    /// Requests that were sent again, by what became of them.
    case recovered, failed
    /// Retries that were not made: the budget was spent, or no other endpoint was to be had.
    case overBudget, noEndpoint
    /// Requests that found every endpoint at its connection limit.
    case saturated
    /// Choices made without regard to the verdicts.
    case panics
}

/// Written by the health process about each endpoint that is checked.
public enum HealthCell: Int, CaseIterable, Sendable {
    /// A `HealthState`, and since when, monotonic milliseconds.
    case state, sinceMs
    /// The last check's `CheckResult`, and its status; 0 where it got no answer.
    case lastResult, lastStatus
    /// Times that the verdict has changed, the first one left out.
    case changes
    /// Checks by their `CheckResult`, in its order.
    case passed, badStatus, connect, timeout, tls, malformed, noAddress

    /// The cell that counts `result`.
    public init(_ result: CheckResult) {
        self = HealthCell(rawValue: Self.passed.rawValue + result.rawValue)!
    }
}

/// What checks have found.
public enum HealthState: Int, CaseIterable, Sendable {
    /// No check has ended; the endpoint is used.
    case unknown
    case healthy, unhealthy

    /// Its name in pages.
    public var label: String {
        switch self {
        case .unknown: "unknown"
        case .healthy: "healthy"
        case .unhealthy: "unhealthy"
        }
    }
}

/// Written by the health process about each name, in the cells of the first endpoint that has it.
public enum ResolverCell: Int, CaseIterable, Sendable {
    /// Look-ups that gave addresses.
    case answered
    /// Look-ups that gave none, by reason: the name does not exist or has no address; nobody
    /// answered; the answer is malformed; it holds only addresses that no server can have.
    case noName, noAnswer, malformed, unusable
    /// Times that the list changed, and answers that were longer than what is kept.
    case changes, truncated
    /// Answers that belonged to no question of ours.
    case strays

    /// The cell that counts look-ups that failed so.
    public init(_ failure: NameLookup.Failure) {
        switch failure {
        case .noName: self = .noName
        case .noAnswer: self = .noAnswer
        case .malformed: self = .malformed
        case .unusable: self = .unusable
        }
    }
}

/// The addresses of one endpoint, written by one process and read by all others: a sequence lock.
/// The writer never waits; a reader that meets a write keeps what it had.
public struct AddressCells: Sendable {
    // Sequence, count, then three words for each address: family and port, and 16 bytes.
    private nonisolated(unsafe) let words: UnsafeMutablePointer<Atomic<UInt64>>
    private static let wordsEach = 3
    private static let wordCount = 2 + wordsEach * UpstreamLimits.addressesMax

    /// Takes the room of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan) {
        guard let words = plan.take(Atomic<UInt64>.self, count: Self.wordCount) else { return nil }
        self.words = words
    }

    /// Replaces the list; at most `UpstreamLimits.addressesMax` are kept, Unix addresses are not.
    /// For the one writer. A predecessor that died in the middle of a write does no harm.
    public func write(_ addresses: [SocketAddress]) {
        let kept = addresses.filter { !$0.isUnix }.prefix(UpstreamLimits.addressesMax)
        let sequence = words[0].load(ordering: .relaxed) | 1
        words[0].store(sequence, ordering: .relaxed)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        words[1].store(UInt64(kept.count), ordering: .relaxed)
        for (place, address) in kept.enumerated() {
            let (head, high, low) = address.words
            let first = 2 + place * Self.wordsEach
            words[first].store(head, ordering: .relaxed)
            words[first + 1].store(high, ordering: .relaxed)
            words[first + 2].store(low, ordering: .relaxed)
        }
        words[0].store(sequence &+ 1, ordering: .releasing)
    }

    /// The list; nil where none was ever written, or one is being written.
    public func read() -> [SocketAddress]? {
        let before = words[0].load(ordering: .acquiring)
        guard before != 0, before & 1 == 0 else { return nil }
        var addresses: [SocketAddress] = []
        let count = Int(clamping: words[1].load(ordering: .relaxed))
        for place in 0..<min(count, UpstreamLimits.addressesMax) {
            let first = 2 + place * Self.wordsEach
            let address = SocketAddress(
                words: (
                    words[first].load(ordering: .relaxed),
                    words[first + 1].load(ordering: .relaxed),
                    words[first + 2].load(ordering: .relaxed)
                ))
            if let address { addresses.append(address) }
        }
        atomicMemoryFence(ordering: .acquiring)
        guard words[0].load(ordering: .relaxed) == before else { return nil }
        return addresses
    }
}

/// The upstreams' part of the board: each cell has one writer.
public struct UpstreamBoard: Sendable {
    /// How many of each there are.
    public struct Shape: Sendable, Equatable {
        /// Worker processes.
        public var workers: Int
        /// Endpoints of each target.
        public var endpoints: [Int]

        /// A shape with these counts.
        public init(workers: Int, endpoints: [Int]) {
            self.workers = workers
            self.endpoints = endpoints
        }
    }

    /// Where the endpoints of each target begin among all of them, and how many there are.
    public let firstEndpoints: [Int]
    public let endpointCount: Int
    /// Raised when a verdict of the checks has changed, and when a list of addresses has.
    public let healthVersion: Cell
    public let addressVersion: Cell
    private let endpoints: [CounterRow<EndpointCounter>]
    private let targets: [CounterRow<TargetCounter>]
    private let verdicts: [CounterRow<HealthCell>]
    private let resolvers: [CounterRow<ResolverCell>]
    private let lists: [AddressCells]
    private let shape: Shape

    /// Takes the room of `plan`; nil while the plan only counts.
    public init?(plan: inout MemoryPlan, shape: Shape) {
        self.shape = shape
        var firsts: [Int] = []
        var total = 0
        for count in shape.endpoints {
            firsts.append(total)
            total += count
        }
        firstEndpoints = firsts
        endpointCount = total
        let versions = [1, 1].map { plan.take(Atomic<UInt64>.self, count: $0) }
        let endpoints = (0..<shape.workers * total).map { _ in
            CounterRow<EndpointCounter>(plan: &plan)
        }
        let targets = (0..<shape.workers * firsts.count).map { _ in
            CounterRow<TargetCounter>(plan: &plan)
        }
        let verdicts = (0..<total).map { _ in CounterRow<HealthCell>(plan: &plan) }
        let resolvers = (0..<total).map { _ in CounterRow<ResolverCell>(plan: &plan) }
        let lists = (0..<total).map { _ in AddressCells(plan: &plan) }
        guard let health = versions[0], let address = versions[1] else { return nil }
        healthVersion = Cell(health)
        addressVersion = Cell(address)
        self.endpoints = endpoints.map { $0! }
        self.targets = targets.map { $0! }
        self.verdicts = verdicts.map { $0! }
        self.resolvers = resolvers.map { $0! }
        self.lists = lists.map { $0! }
    }

    /// What `worker` counts of one endpoint, by its number among all. Traps beyond the shape.
    public func endpoint(worker: Int, _ endpoint: Int) -> CounterRow<EndpointCounter> {
        endpoints[worker * endpointCount + endpoint]
    }

    /// What `worker` counts of one target. Traps beyond the shape.
    public func target(worker: Int, _ target: Int) -> CounterRow<TargetCounter> {
        targets[worker * shape.endpoints.count + target]
    }

    /// What the checks say of one endpoint, what its name's look-ups gave, and its addresses.
    public func verdict(_ endpoint: Int) -> CounterRow<HealthCell> { verdicts[endpoint] }
    public func resolver(_ endpoint: Int) -> CounterRow<ResolverCell> { resolvers[endpoint] }
    public func addresses(_ endpoint: Int) -> AddressCells { lists[endpoint] }

    /// The verdict on one endpoint.
    public func health(_ endpoint: Int) -> HealthState {
        HealthState(rawValue: Int(clamping: verdicts[endpoint].value(.state))) ?? .unknown
    }

    /// Sets a dead worker's gauges to what is left of its connections: nothing.
    public func settle(deadWorker worker: Int) {
        for place in 0..<endpointCount {
            let cells = endpoint(worker: worker, place)
            for gauge in [EndpointCounter.open, .idle, .ejectedUntilMs] { cells[gauge].set(0) }
        }
    }
}
