import CoreLoop
import HTTP
import Upstream

/// All that one worker knows of its targets and their endpoints. Endpoints are numbered over all
/// targets, as on the board; those of one target lie side by side.
struct UpstreamTable: ~Copyable {
    /// What a target's requests need to know.
    struct Target {
        let first: Int
        let count: Int
        let balancer: Balancer
        let ejection: Ejection
        let retryAttempts: Int
        let retryOn: EndpointFailure
        let cells: CounterRow<TargetCounter>
        var budget: RetryBudget
        /// One endpoint, of which nothing has to be asked before it is used.
        let isPlain: Bool
        /// Where requests go by a field's value: its name, in lower case.
        let hashField: PreparedBytes?
    }

    /// The idle connections to one endpoint: the one used last is first.
    struct Pool {
        var first: Int32 = -1
    }

    /// What was taken over so far.
    private struct Seen {
        var healthVersion: UInt64 = 0
        var addressVersion: UInt64 = 0
        /// When the next ejection is over, monotonic milliseconds.
        var nextExpiryMs = UInt64.max
    }

    let targets: UnsafeMutablePointer<Target>
    let states: UnsafeMutablePointer<EndpointState>
    let pools: UnsafeMutablePointer<Pool>
    let lists: UnsafeMutablePointer<AddressList>
    let cells: UnsafeMutablePointer<CounterRow<EndpointCounter>>
    let board: UpstreamBoard
    private let targetCount: Int
    let endpointCount: Int
    // Behind a pointer, so that the worker holds its table as a `let`: a class's `var` is checked
    // for exclusive access at each use.
    private let seen: UnsafeMutablePointer<Seen>

    init(_ settings: GatewaySettings, worker: Int, workers: Int, board: UpstreamBoard) {
        self.board = board
        targetCount = settings.targets.count
        endpointCount = board.endpointCount
        seen = .allocate(capacity: 1)
        seen.initialize(to: Seen())
        targets = .allocate(capacity: targetCount)
        states = .allocate(capacity: endpointCount)
        pools = .allocate(capacity: endpointCount)
        pools.initialize(repeating: Pool(), count: endpointCount)
        lists = .allocate(capacity: endpointCount)
        cells = .allocate(capacity: endpointCount)
        for (index, target) in settings.targets.enumerated() {
            let first = board.firstEndpoints[index]
            for (place, endpoint) in target.endpoints.enumerated() {
                (states + first + place).initialize(
                    to: EndpointState(
                        weight: endpoint.weight,
                        connectionsMax: Self.share(
                            endpoint.connectionsMax, worker: worker, workers: workers),
                        identity: KeyHash.of(endpoint.label)))
                (lists + first + place).initialize(to: AddressList(endpoint.addresses))
                let row = board.endpoint(worker: worker, first + place)
                (cells + first + place).initialize(to: row)
                // A worker before this one may have died with some.
                for gauge in [EndpointCounter.open, .idle, .ejectedUntilMs] { row[gauge].set(0) }
            }
            var field: PreparedBytes?
            if case .hash(let name) = target.balance { field = PreparedBytes(name) }
            (targets + index).initialize(
                to: Target(
                    first: first, count: target.endpoints.count,
                    balancer: Balancer(
                        target.balance, panicThreshold: target.panicThreshold,
                        slowStartMs: target.slowStartMs),
                    ejection: Ejection(target.ejection), retryAttempts: target.retryAttempts,
                    retryOn: target.retries.on, cells: board.target(worker: worker, index),
                    budget: RetryBudget(share: target.retries.budget),
                    isPlain: target.isPlain, hashField: field))
        }
    }

    deinit {
        seen.deallocate()
        targets.deinitialize(count: targetCount)
        targets.deallocate()
        states.deallocate()
        pools.deallocate()
        for endpoint in 0..<endpointCount { lists[endpoint].deallocate() }
        lists.deallocate()
        cells.deinitialize(count: endpointCount)
        cells.deallocate()
    }

    /// A worker's part of a limit that all share.
    private static func share(_ limit: Int, worker: Int, workers: Int) -> Int {
        limit == 0 ? 0 : max(1, limit / workers + (worker < limit % workers ? 1 : 0))
    }

    /// The states of one target's endpoints.
    func states(of target: Int) -> UnsafeMutableBufferPointer<EndpointState> {
        UnsafeMutableBufferPointer(
            start: states + targets[target].first, count: targets[target].count)
    }

    // MARK: News

    /// Whether the health process has changed addresses since the last `takeAddresses`.
    var hasNewAddresses: Bool { board.addressVersion.value != seen.pointee.addressVersion }

    /// Takes the verdicts of the health process, and back whoever's ejection is over. A load and
    /// two comparisons where there is nothing new.
    func refresh(nowMs: UInt64) {
        let version = board.healthVersion.acquired
        if version != seen.pointee.healthVersion {
            seen.pointee.healthVersion = version
            for endpoint in 0..<endpointCount {
                states[endpoint].setHealthy(board.health(endpoint) != .unhealthy, nowMs: nowMs)
            }
        }
        if nowMs >= seen.pointee.nextExpiryMs { expireEjections(nowMs) }
    }

    private func expireEjections(_ nowMs: UInt64) {
        seen.pointee.nextExpiryMs = .max
        for target in 0..<targetCount where targets[target].count > 1 {
            let next = targets[target].ejection.expire(states(of: target), nowMs: nowMs)
            if let next { seen.pointee.nextExpiryMs = min(seen.pointee.nextExpiryMs, next) }
        }
        for endpoint in 0..<endpointCount where states[endpoint].ejectedUntilMs == 0 {
            cells[endpoint][.ejectedUntilMs].set(0)
        }
    }

    /// Remembers when an ejection ends.
    func noteEjection(_ endpoint: Int) {
        let until = states[endpoint].ejectedUntilMs
        cells[endpoint].add(.ejections)
        cells[endpoint][.ejectedUntilMs].set(until)
        seen.pointee.nextExpiryMs = min(seen.pointee.nextExpiryMs, until)
    }

    /// Takes the lists that have changed. `moved` is told of each changed one, with the former.
    func takeAddresses(_ moved: (_ endpoint: Int, _ former: [SocketAddress]) -> Void) {
        seen.pointee.addressVersion = board.addressVersion.acquired
        for endpoint in 0..<endpointCount {
            guard let new = board.addresses(endpoint).read(), !new.isEmpty else { continue }
            let former = lists[endpoint].all
            guard !new.elementsEqual(former) else { continue }
            lists[endpoint].replace(with: new)
            moved(endpoint, former)
        }
    }
}

/// The addresses of one endpoint, in the order in which they are tried: those that failed last.
struct AddressList {
    private let addresses: UnsafeMutablePointer<SocketAddress>
    private let order: UnsafeMutablePointer<UInt8>
    private(set) var count = 0
    /// Both families are there: worth a race.
    private(set) var hasBothFamilies = false

    init(_ list: [SocketAddress]) {
        addresses = .allocate(capacity: UpstreamLimits.addressesMax)
        order = .allocate(capacity: UpstreamLimits.addressesMax)
        replace(with: list)
    }

    func deallocate() {
        addresses.deallocate()
        order.deallocate()
    }

    subscript(_ index: Int) -> SocketAddress { addresses[index] }

    var all: [SocketAddress] { (0..<count).map { addresses[$0] } }

    /// The address to be tried first; only of a list that is not empty.
    var first: Int { Int(order[0]) }

    /// The first of another family than `index`.
    func rival(of index: Int) -> Int? {
        for place in 0..<count {
            let other = Int(order[place])
            if addresses[other].family != addresses[index].family { return other }
        }
        return nil
    }

    /// Has an address tried last from now on.
    func demote(_ index: Int) {
        guard let place = (0..<count).first(where: { Int(order[$0]) == index }) else { return }
        for next in place..<count - 1 { order[next] = order[next + 1] }
        order[count - 1] = UInt8(index)
    }

    mutating func replace(with list: [SocketAddress]) {
        count = min(list.count, UpstreamLimits.addressesMax)
        for place in 0..<count {
            (addresses + place).initialize(to: list[place])
            order[place] = UInt8(place)
        }
        hasBothFamilies = list.contains { $0.family != list[0].family }
    }
}

extension TargetSettings {
    /// Whether the next request always goes to the one endpoint, whatever becomes of it.
    var isPlain: Bool {
        endpoints.count == 1 && endpoints[0].connectionsMax == 0
            && (health == nil || panicThreshold > 0)
    }
}
