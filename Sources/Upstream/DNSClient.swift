import CLinux
public import CoreLoop

/// Asks the DNS for both families of names, several at a time, without ever waiting: whoever owns
/// the loop hands in events and time.
///
/// An answer counts only from the server that was asked, to the port that was drawn for this one
/// question, with its random id and its question (RFC 5452). Each try draws anew.
public final class DNSClient {
    private typealias Family = Int
    private static let types = [DNSAnswer.typeAAAA, DNSAnswer.typeA]

    private struct Lookup {
        let tag: Int
        let file: ResolverFile
        let candidates: [String]
        var candidate = 0
        var answers: [FamilyAnswer?] = [nil, nil]
        var isTruncated = false
        var strays = 0
    }

    /// One question under way: a socket of its own.
    private struct Query {
        var fd: Int32 = -1
        var generation: UInt32 = 0
        var question: DNSQuestion?
        /// Tries made, and when this one is over.
        var tries = 0
        var deadline = Instant(nanoseconds: 0)
        var strays = 0
        var isStream = false
        /// Of a stream: what is sent, how much of it is, and what has come.
        var output: [UInt8] = []
        var sent = 0
        var input: [UInt8] = []
        /// The best failure so far, and what there was of an answer that was cut.
        var failure: NameLookup.Failure?
        var partial: DNSAnswer?
    }

    private let kind: UInt8
    private var lookups: [Lookup?] = Array(repeating: nil, count: UpstreamLimits.lookupsAtOnceMax)
    /// Two for each lookup, one a family.
    private var queries: [Query] = Array(
        repeating: Query(), count: 2 * UpstreamLimits.lookupsAtOnceMax)
    private var waiting: [(tag: Int, host: String, file: ResolverFile)] = []
    private var finished: [(tag: Int, answer: NameAnswer)] = []
    private let random = SecureRandom()
    private var buffer = [UInt8](repeating: 0, count: UpstreamLimits.dnsDatagramBytesMax)

    /// A client whose sockets are told by tokens of this kind.
    public init(kind: UInt8) { self.kind = kind }

    deinit { for query in queries where query.fd >= 0 { close(query.fd) } }

    /// Whether nothing is under way.
    public var isIdle: Bool { waiting.isEmpty && lookups.allSatisfy { $0 == nil } }

    /// When `expire` is wanted next.
    public var nextDeadline: Instant? {
        queries.lazy.filter { $0.fd >= 0 }.map(\.deadline).min()
    }

    /// Begins a look-up, or has it wait for its turn. `tag` comes back with the answer, and has no
    /// other look-up under way.
    public func start(
        tag: Int, host: String, file: ResolverFile, _ epoll: borrowing Epoll, now: Instant
    ) {
        waiting.append((tag, host, file))
        startWaiting(epoll, now)
    }

    /// The look-ups that have ended since the last call.
    public func takeFinished() -> [(tag: Int, answer: NameAnswer)] {
        defer { finished = [] }
        return finished
    }

    // Not from where look-ups end: with servers that refuse at once it would call itself for each
    // name that waits.
    private func startWaiting(_ epoll: borrowing Epoll, _ now: Instant) {
        while !waiting.isEmpty, let slot = lookups.firstIndex(where: { $0 == nil }) {
            let (tag, host, file) = waiting.removeFirst()
            lookups[slot] = Lookup(tag: tag, file: file, candidates: file.candidates(host))
            ask(slot, epoll, now)
        }
    }

    /// Both questions for the lookup's candidate.
    private func ask(_ slot: Int, _ epoll: borrowing Epoll, _ now: Instant) {
        lookups[slot]!.answers = [nil, nil]
        for family in 0..<2 {
            let place = 2 * slot + family
            queries[place] = Query(generation: queries[place].generation)
            nextTry(place, epoll, now)
        }
    }

    // MARK: Tries

    /// Sends the question to the next server; ends the query where every server had its tries.
    private func nextTry(_ place: Int, _ epoll: borrowing Epoll, _ now: Instant) {
        let lookup = lookups[place / 2]!
        closeSocket(place)
        let servers = lookup.file.nameservers
        while queries[place].tries < servers.count * lookup.file.attempts {
            let server = servers[queries[place].tries % servers.count]
            queries[place].tries += 1
            guard
                let question = DNSQuestion(
                    lookup.candidates[lookup.candidate], type: Self.types[place % 2],
                    id: UInt16(truncatingIfNeeded: random.next()))
            else { return end(place, .noName, epoll, now) }
            queries[place].question = question
            queries[place].deadline = now.adding(ms: lookup.file.timeoutMs)
            if openDatagram(place, server, epoll) { return }
        }
        if let partial = queries[place].partial {
            return end(place, found(partial, place), epoll, now)
        }
        end(place, .failed(queries[place].failure ?? .noAnswer), epoll, now)
    }

    private func openDatagram(
        _ place: Int, _ server: SocketAddress, _ epoll: borrowing Epoll
    ) -> Bool {
        let type = Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = socket(server.family, type, 0)
        guard fd >= 0 else { return false }
        // Connected: the kernel draws a port and passes on only what comes from the server.
        let message = queries[place].question!.bytes
        let isSent =
            server.withSockaddr { connect(fd, $0, $1) } == 0
            && message.withUnsafeBytes { Socket.send(fd, $0.baseAddress!, $0.count) }
                == .bytes(message.count)
        queries[place].isStream = false
        queries[place].strays = 0
        return isSent ? watch(place, fd, .level, epoll) : refuse(fd)
    }

    private func refuse(_ fd: Int32) -> Bool {
        close(fd)
        return false
    }

    private func watch(
        _ place: Int, _ fd: Int32, _ mode: Epoll.Mode, _ epoll: borrowing Epoll
    ) -> Bool {
        queries[place].generation &+= 1
        let token = Token(kind: kind, slot: place, generation: queries[place].generation)
        do throws(SystemError) { try epoll.add(fd, token, mode: mode) } catch { return refuse(fd) }
        queries[place].fd = fd
        return true
    }

    private func closeSocket(_ place: Int) {
        guard queries[place].fd >= 0 else { return }
        close(queries[place].fd)
        queries[place].fd = -1
    }

    /// Asks the same server over TCP (RFC 7766 §5): the answer did not fit.
    private func openStream(_ place: Int, _ epoll: borrowing Epoll, _ now: Instant) {
        let file = lookups[place / 2]!.file
        let server = file.nameservers[(queries[place].tries - 1) % file.nameservers.count]
        closeSocket(place)
        let message = queries[place].question!.bytes
        queries[place].isStream = true
        queries[place].output = [UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message
        queries[place].sent = 0
        queries[place].input = []
        queries[place].deadline = now.adding(ms: file.timeoutMs)
        switch Socket.connect(to: server) {
        case .connected(let fd), .inProgress(let fd):
            if !watch(place, fd, .edge, epoll) { nextTry(place, epoll, now) }
        case .failed: nextTry(place, epoll, now)
        }
    }

    // MARK: Events

    /// One event of a socket of ours.
    public func handle(
        _ token: Token, _ readiness: Readiness, _ epoll: borrowing Epoll, now: Instant
    ) {
        let place = token.slot
        guard place < queries.count, queries[place].fd >= 0,
            queries[place].generation == token.generation
        else { return }
        if queries[place].isStream {
            streamEvent(place, readiness, epoll, now)
        } else {
            datagramEvent(place, epoll, now)
        }
        startWaiting(epoll, now)
    }

    /// Gives up the tries whose time is over.
    public func expire(_ epoll: borrowing Epoll, now: Instant) {
        for place in queries.indices
        where queries[place].fd >= 0 && queries[place].deadline <= now {
            nextTry(place, epoll, now)
        }
        startWaiting(epoll, now)
    }

    private func datagramEvent(_ place: Int, _ epoll: borrowing Epoll, _ now: Instant) {
        let generation = queries[place].generation
        while queries[place].fd >= 0, queries[place].generation == generation {
            let outcome = buffer.withUnsafeMutableBytes {
                Socket.receive(queries[place].fd, $0.baseAddress!, $0.count)
            }
            switch outcome {
            case .bytes(let count): take(Array(buffer[..<count]), place, epoll, now)
            // An empty datagram.
            case .endOfStream: take([], place, epoll, now)
            case .wouldBlock: return
            case .failed: nextTry(place, epoll, now)
            }
        }
    }

    private func streamEvent(
        _ place: Int, _ readiness: Readiness, _ epoll: borrowing Epoll, _ now: Instant
    ) {
        let fd = queries[place].fd
        guard Socket.pendingError(fd) == 0 else { return nextTry(place, epoll, now) }
        if readiness.contains(.writable), queries[place].sent < queries[place].output.count {
            let sent = queries[place].sent
            let outcome = queries[place].output.withUnsafeBytes {
                Socket.send(fd, $0.baseAddress! + sent, $0.count - sent)
            }
            switch outcome {
            case .bytes(let count): queries[place].sent += count
            case .wouldBlock: break
            case .failed: return nextTry(place, epoll, now)
            }
        }
        while true {
            let outcome = buffer.withUnsafeMutableBytes {
                Socket.receive(fd, $0.baseAddress!, $0.count)
            }
            switch outcome {
            case .bytes(let count): queries[place].input += buffer[..<count]
            case .wouldBlock: return
            case .endOfStream, .failed: return nextTry(place, epoll, now)
            }
            let input = queries[place].input
            guard input.count >= 2 else { continue }
            let length = Int(input[0]) << 8 | Int(input[1])
            guard input.count >= 2 + length else { continue }
            return take(Array(input[2..<2 + length]), place, epoll, now)
        }
    }

    /// Takes one message.
    private func take(
        _ message: [UInt8], _ place: Int, _ epoll: borrowing Epoll, _ now: Instant
    ) {
        switch DNSAnswer.read(message, to: queries[place].question!) {
        case .found(let answer): end(place, found(answer, place), epoll, now)
        case .noName: end(place, .noName, epoll, now)
        case .unusable: end(place, .failed(.unusable), epoll, now)
        case .refused:
            queries[place].failure = queries[place].failure ?? .noAnswer
            nextTry(place, epoll, now)
        case .malformed:
            queries[place].failure = .malformed
            nextTry(place, epoll, now)
        case .stray:
            lookups[place / 2]!.strays += 1
            queries[place].strays += 1
            if queries[place].isStream || queries[place].strays > UpstreamLimits.dnsStraysMax {
                nextTry(place, epoll, now)
            }
        case .cut(let partial):
            queries[place].partial = partial ?? queries[place].partial
            if queries[place].isStream {
                nextTry(place, epoll, now)
            } else {
                openStream(place, epoll, now)
            }
        }
    }

    private func found(_ answer: DNSAnswer, _ place: Int) -> FamilyAnswer {
        if answer.isTruncated { lookups[place / 2]!.isTruncated = true }
        return .found(answer.addresses, ttlMs: answer.ttlMs)
    }

    // MARK: Ends

    private func end(
        _ place: Int, _ answer: FamilyAnswer, _ epoll: borrowing Epoll, _ now: Instant
    ) {
        closeSocket(place)
        let slot = place / 2
        lookups[slot]!.answers[place % 2] = answer
        let lookup = lookups[slot]!
        guard let v6 = lookup.answers[0], let v4 = lookup.answers[1] else { return }
        if v6 == .noName, v4 == .noName, lookup.candidate + 1 < lookup.candidates.count {
            lookups[slot]!.candidate += 1
            return ask(slot, epoll, now)
        }
        var whole = NameAnswer(v6: v6, v4: v4)
        whole.isTruncated = lookup.isTruncated
        whole.strays = lookup.strays
        finished.append((lookup.tag, whole))
        lookups[slot] = nil
    }
}
