import CoreLoop

/// Looks the names of endpoints up time after time and puts what it finds on the board.
///
/// With `resolver.nameservers` those are asked and nobody else. Otherwise it goes the system's way:
/// /etc/hosts, then the servers of resolv.conf, and for a name that these do not know
/// `getaddrinfo`, which knows further sources.
struct NameWatch {
    private struct Name {
        let host: String
        /// The endpoints that have it, with their ports.
        let endpoints: [(index: Int, port: UInt16)]
        let cells: CounterRow<ResolverCell>
        var memory: AddressMemory
        var failures = 0
        /// The board had no whole list: the next answer is written whatever it is.
        var mustWrite: Bool
    }

    private let board: UpstreamBoard
    private let settings: ResolverSettings
    private let client: DNSClient
    private let system: SystemLookup?
    private var files = SystemFiles()
    private var names: [Name] = []
    private var random: FastRandom

    /// Names, each looked up by itself.
    var count: Int { names.count }
    /// What the system's thread knocks with; nil where there is no such thread.
    var wake: Wake? { system?.done }

    init(
        _ targets: [TargetSettings], _ settings: ResolverSettings, board: UpstreamBoard,
        kind: UInt8, seed: UInt64
    ) throws(SystemError) {
        self.board = board
        self.settings = settings
        client = DNSClient(kind: kind)
        random = FastRandom(seed: seed)
        for name in WatchedName.all(targets) {
            let first = name.endpoints[0]
            let endpoint = targets[first.target].endpoints[first.place]
            let places = name.endpoints.map {
                (
                    index: board.firstEndpoints[$0.target] + $0.place,
                    port: targets[$0.target].endpoints[$0.place].port
                )
            }
            let lists = places.map { board.addresses($0.index).read() }
            names.append(
                Name(
                    host: name.host, endpoints: places, cells: board.resolver(places[0].index),
                    memory: AddressMemory(lists[0] ?? endpoint.addresses),
                    mustWrite: lists.contains { $0 == nil }))
        }
        system = settings.nameservers.isEmpty && !names.isEmpty ? try SystemLookup() : nil
    }

    /// When the client's `expire` is wanted next.
    var nextDeadline: Instant? { client.nextDeadline }

    /// What the endpoints that have names begin with: what the board has, or the start found.
    var known: [(index: Int, addresses: [SocketAddress])] {
        names.flatMap { name in
            let ordered = name.memory.ordered { $0.hasRoute }
            return name.endpoints.map { endpoint in
                (endpoint.index, ordered.map { $0.with(port: endpoint.port) })
            }
        }
    }

    // MARK: Looking up

    /// Begins a look-up of one name, which has none under way.
    mutating func start(_ name: Int, _ epoll: borrowing Epoll, now: Instant) -> Found? {
        let host = names[name].host
        guard let system else {
            let file = ResolverFile(nameservers: settings.nameservers)
            client.start(tag: name, host: host, file: file, epoll, now: now)
            return nil
        }
        files.refresh()
        let known = files.sources.hasFiles ? files.hosts.addresses(of: host) : []
        if !known.isEmpty { return take(NameAnswer(known), name) }
        if files.sources.hasDNS {
            client.start(tag: name, host: host, file: files.resolver, epoll, now: now)
        } else {
            system.start(tag: name, host: host)
        }
        return nil
    }

    func handle(
        _ token: Token, _ readiness: Readiness, _ epoll: borrowing Epoll, now: Instant
    ) {
        client.handle(token, readiness, epoll, now: now)
    }

    func expire(_ epoll: borrowing Epoll, now: Instant) { client.expire(epoll, now: now) }

    /// A name whose look-up has ended.
    struct Found {
        var name: Int
        /// Until the next one.
        var nextMs: Int
        /// What its endpoints have now; empty where nothing has changed.
        var changed: [(index: Int, addresses: [SocketAddress])] = []
    }

    /// The look-ups that have ended since the last call, all taken note of.
    mutating func takeFinished() -> [Found] {
        var all: [Found] = []
        for (name, answer) in client.takeFinished() {
            if let system, answer.failure == .noName {
                names[name].cells.add(.strays, UInt64(answer.strays))
                system.start(tag: name, host: names[name].host)
            } else {
                all.append(take(answer, name))
            }
        }
        for (name, answer) in system?.takeFinished() ?? [] { all.append(take(answer, name)) }
        return all
    }

    private mutating func take(_ answer: NameAnswer, _ name: Int) -> Found {
        let cells = names[name].cells
        cells.add(.strays, UInt64(answer.strays))
        if answer.isTruncated { cells.add(.truncated) }
        if let failure = answer.failure {
            cells.add(ResolverCell(failure))
            names[name].failures += 1
            return Found(name: name, nextMs: LookupPace.retryMs(failures: names[name].failures))
        }
        cells.add(.answered)
        names[name].failures = 0
        let nextMs = LookupPace.nextMs(ttlMs: answer.ttlMs, intervalMs: settings.intervalMs)
        // A little late, never early: names of one zone do not stay in step.
        let late = Int(random.next() % UInt64(max(1, nextMs / UpstreamLimits.checkJitterPart)))
        var found = Found(name: name, nextMs: nextMs + late)
        let isNew = names[name].memory.take(answer)
        guard isNew || names[name].mustWrite else { return found }
        if isNew { cells.add(.changes) }
        names[name].mustWrite = false
        let ordered = names[name].memory.ordered { $0.hasRoute }
        for (index, port) in names[name].endpoints {
            let addresses = ordered.map { $0.with(port: port) }
            board.addresses(index).write(addresses)
            found.changed.append((index, addresses))
        }
        board.addressVersion.publish(board.addressVersion.value &+ 1)
        return found
    }
}

/// A name that endpoints have, in the order in which the targets have them first.
public struct WatchedName: Sendable {
    /// As the URLs write it, in lower case.
    public let host: String
    /// Who has it: never empty. What look-ups find is counted in the first one's cells.
    public private(set) var endpoints: [(target: Int, place: Int)]

    /// All of them, each once.
    public static func all(_ targets: [TargetSettings]) -> [WatchedName] {
        var names: [WatchedName] = []
        var known: [String: Int] = [:]
        for (index, target) in targets.enumerated() {
            for (place, endpoint) in target.endpoints.enumerated() where endpoint.isNamed {
                if let at = known[endpoint.host] {
                    names[at].endpoints.append((index, place))
                } else {
                    known[endpoint.host] = names.count
                    names.append(WatchedName(host: endpoint.host, endpoints: [(index, place)]))
                }
            }
        }
        return names
    }
}
