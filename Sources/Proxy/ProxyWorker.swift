import CLinux
public import CoreLoop
import HTTP
public import Mirror
import Providers
import TLS
import Upstream

/// One worker: an event loop with its listeners, its clients' connections, its pools of upstream
/// connections, its blocks, and its half of the mirror. One thread, no locks; nothing here is
/// shared but the board's cells and the link's rings.
///
/// The files beside this one follow a request: Accepting, RequestReading, Router, Forwarding,
/// UpstreamPool, RequestBody, AnswerReading, Relay, Finishing.
public final class ProxyWorker {
    /// What a token's kind byte says.
    enum Kind {
        static let listener: UInt8 = 1
        static let client: UInt8 = 2
        static let upstream: UInt8 = 3
        static let wake: UInt8 = 4
    }

    struct Listener {
        var fd: Int32
        /// The entry of `listen` that it belongs to.
        var entry: Int
        var isPaused: Bool
    }

    let settings: GatewaySettings
    let security: Security
    let index: Int
    let board: WorkerBoard
    let counters: CounterRow<WorkerCounter>
    let process: CounterRow<ProcessCell>
    let epoll: Epoll
    let clients: Slab<ClientConnection>
    let upstreams: Slab<UpstreamConnection>
    let blocks: BlockPool
    let slices: SlicePool
    let timers: TimerWheel
    let router: Router
    let forwarding: Forwarding
    let requestHead: RequestHead
    let answerHead: ResponseHead
    let trailerFields: FieldList
    let trailerLimits: HeadLimits
    /// The worker's half of the mirror; nil where no shadow is configured. Where each request calls
    /// it, as `tap?.`: `if let tap` would retain and release it.
    public let tap: MirrorTap?
    let log: AccessLog?
    /// What is kept of exchanges with LLM targets; nil where no events are logged.
    let captures: ExchangeCaptures?
    let table: UpstreamTable
    var random: FastRandom
    var idleUpstreams = 0
    let largeHeads: LargeHeads
    /// By the client's slot: its request where that is held. No room where no target is a provider.
    let heldRequests: UnsafeMutablePointer<HeldRequest?>
    private let heldCapacity: Int
    /// Bytes of answers that are kept until they are whole.
    var translatedBytes = 0
    /// Whether policies look at requests, and whether one that they cannot read is refused.
    var inspects = false
    var readsStrictly = false
    /// What policies say of each whole request to an LLM target; nil where there are none, and
    /// nothing is held for them.
    var onHeld: ((_ slot: Int, _ request: HeldRequest) -> HeldVerdict)?
    let batch: Batch
    /// The blocks of the head, or of the read, that is being passed on.
    let headParts: UnsafeMutablePointer<Slice>
    /// The block that heads for upstreams are written into, and where in it the next one may begin;
    /// `BlockPool.none` before the first head and while nobody needs one.
    var headBlock = BlockPool.none
    var headEnd = 0
    /// The block that holds a CRLF for ever: the end of every chunked body that has trailers.
    let crlf: Slice
    /// Connections that go on in the next turn, without waiting for an event.
    var again: UnsafeMutablePointer<Token>
    private var againBefore: UnsafeMutablePointer<Token>
    var againCount = 0
    var listeners: [Listener] = []
    var acceptPausedUntil: UInt64 = 0
    /// No connection is accepted any more, and each answer is its connection's last.
    var isDraining = false
    /// Idle connections are closed; before, they are from `idleUntil` on (0: never).
    var closesIdle = false
    var idleUntil: UInt64 = 0
    /// The wake's eventfd; -1 where nobody knocks.
    let wakeFD: Int32
    /// Called after a knock.
    public var onWake: (() -> Void)?
    /// Called when this worker leaves an endpoint out: target, its endpoint, milliseconds.
    public var onEjection: ((_ target: Int, _ endpoint: Int, _ ms: Int) -> Void)?
    /// Called with a line for people where a target's certificate or handshake was refused, seldom
    /// enough for a log.
    public var onTLSFault: ((String) -> Void)?
    /// Called when accepting rests for want of descriptors (true), and when it goes on.
    public var onDescriptors: ((_ areShort: Bool) -> Void)?
    let clientDescriptorMax: Int32
    var nextTLSFaultMs: UInt64 = 0
    var unsaidTLSFaults = 0
    /// The time at the turn's start.
    var now: Instant
    var wallMs: UInt64 = 0
    /// Of the answer whose head is parsed, where it is to tell who gave it.
    var annotationPlace = ProviderAnnotation.Place.nowhere
    var nextTrim: UInt64 = 0
    private let isClockMoved: Bool
    /// Whether any listener redirects to https.
    let redirects: Bool
    /// Whether clients have to bring a key.
    let asksKeys: Bool
    let bodyTimeoutMs: Int
    let blockBytes: Int

    /// - Parameters:
    ///   - security: the contexts of listeners and targets that speak TLS.
    ///   - index: this worker's number, for the board.
    ///   - memory: the blocks: `blocksPerWorker * blockBytes` bytes, and its memfd (-1 for plain
    /// memory).
    ///   - movesClock: false reads the clock; true takes the time from each `turn`'s caller.
    public init(
        settings: GatewaySettings, security: Security = Security(), index: Int, board: Board,
        memory: UnsafeMutableRawPointer, memoryFD: Int32,
        tap: MirrorTap?, log: AccessLog?, captures: ExchangeCaptures? = nil, wakeFD: Int32,
        now: Instant, seed: UInt64,
        movesClock: Bool = false
    ) throws(SystemError) {
        self.settings = settings
        self.security = security
        self.index = index
        self.board = board.workers[index]
        counters = board.workers[index].counters
        process = board.workerProcesses[index]
        self.tap = tap
        self.log = log
        self.captures = captures
        if let tap, let log, log.makesEvents {
            tap.onDrop = { log.copyDropped($0, shadow: $1, $2) }
        }
        self.now = now
        self.wakeFD = wakeFD
        isClockMoved = movesClock
        redirects = settings.listen.contains { $0.redirectPort != nil }
        asksKeys = settings.auth != nil
        bodyTimeoutMs = settings.limits.bodyTimeoutMs
        blockBytes = settings.runtime.blockBytes
        let connections = settings.runtime.connectionsPerWorker
        clientDescriptorMax = ProxyLimits.clientDescriptorMax(
            limit: ProcessControl.fileLimit(), connections: connections)
        epoll = try Epoll()
        clients = try Slab(capacity: connections)
        upstreams = try Slab(capacity: connections)
        timers = try TimerWheel(capacity: 2 * connections, now: now)
        blocks = BlockPool(
            base: memory, blockBytes: settings.runtime.blockBytes,
            count: settings.runtime.blocksPerWorker,
            fd: memoryFD)
        slices = SlicePool(
            capacity: ProxyLimits.slicesEach * (settings.runtime.blocksPerWorker + connections))
        router = Router(settings.routes)
        forwarding = Forwarding(settings, seed: seed)
        let limits = HeadLimits(
            headBytesMax: settings.limits.headBytes, fieldsMax: settings.limits.fields)
        requestHead = RequestHead(limits: limits)
        answerHead = ResponseHead(limits: limits)
        trailerFields = FieldList(capacity: settings.limits.fields)
        trailerLimits = limits
        table = UpstreamTable(
            settings, worker: index, workers: board.workers.count, board: board.upstreams)
        random = FastRandom(seed: seed)
        largeHeads = LargeHeads(bytesEach: settings.limits.headBytes)
        batch = Batch()
        heldCapacity = settings.targets.contains { $0.provider != nil } ? connections : 0
        heldRequests = .allocate(capacity: max(1, heldCapacity))
        heldRequests.initialize(repeating: nil, count: heldCapacity)
        headParts = .allocate(capacity: ProxyLimits.headPartsMax)
        // A slot may be in the list twice: for a connection that has ended since, and for the next.
        again = .allocate(capacity: 4 * connections)
        againBefore = .allocate(capacity: 4 * connections)
        let slot = blocks.take()
        blocks.pointer(slot).storeBytes(of: 0x0A0D, as: UInt16.self)
        crlf = Slice(slot: slot, offset: 0, count: 2)
        if wakeFD >= 0 {
            try epoll.add(wakeFD, Token(kind: Kind.wake, slot: 0, generation: 0), mode: .level)
        }
        wallMs = WallClock.milliseconds()
    }

    deinit {
        heldRequests.deinitialize(count: heldCapacity)
        heldRequests.deallocate()
        headParts.deallocate()
        again.deallocate()
        againBefore.deallocate()
    }

    /// Serves one more listening socket, which stays open when this worker stops serving it.
    /// `entry` is its place in `listen`, and says what is spoken there.
    public func addListener(_ fd: Int32, entry: Int = 0) throws(SystemError) {
        if listeners.contains(where: { $0.fd == fd }) { return }
        let token = Token(kind: Kind.listener, slot: listeners.count, generation: 0)
        listeners.append(Listener(fd: fd, entry: entry, isPaused: false))
        try epoll.add(fd, token, mode: .level)
    }

    /// Stops serving a socket that another worker has taken over.
    public func removeListener(_ fd: Int32) {
        guard let place = listeners.firstIndex(where: { $0.fd == fd }) else { return }
        epoll.remove(fd)
        listeners[place].fd = -1
    }

    /// The time now: read, or as the turn's caller moved it.
    @inline(__always)
    func readClock() -> Instant { isClockMoved ? now : Instant.now() }

    /// Connections that are open to clients.
    public var clientCount: Int { clients.usedCount }

    /// Blocks in use; 1 when idle (see `crlf`).
    public var blocksTaken: Int { blocks.takenCount }
    public var slicesUsed: Int { slices.usedCount }

    // MARK: The loop

    /// Waits at most `timeoutMs` for events and handles all that came, then timers, then what came
    /// back from the mirror.
    public func turn(now moved: Instant? = nil, timeoutMs: Int32) {
        let count = epoll.wait(timeoutMs: waitMs(timeoutMs))
        now = moved ?? Instant.now()
        wallMs = count > 0 || wallMs == 0 ? WallClock.milliseconds() : wallMs
        tap?.beginTurn()
        table.refresh(nowMs: now.milliseconds)
        if table.hasNewAddresses { takeNewAddresses() }
        // Upstreams first: an idle one that has ended, or that sent what nobody asked for, leaves
        // the pool before a request of this turn goes out on it and takes those bytes for its
        // answer.
        for place in 0..<count {
            let (token, readiness) = epoll.event(place)
            guard token.kind == Kind.upstream else { continue }
            if upstreams.isLive(token.slot, token.generation) {
                upstreamEvent(token.slot, readiness)
            }
        }
        for place in 0..<count {
            let (token, readiness) = epoll.event(place)
            switch token.kind {
            case Kind.client:
                if clients.isLive(token.slot, token.generation) {
                    clientEvent(token.slot, readiness)
                }
            case Kind.upstream: break
            case Kind.listener: acceptClients(token.slot)
            default: wokenUp()
            }
        }
        continueAgain()
        fireTimers()
        takeReturns()
        endTurn(events: count)
    }

    // Not inlined: the loop would begin with a runtime call (swift_beginAccess) for `onWake`.
    @inline(never)
    private func wokenUp() {
        Wake(fd: wakeFD).clear()
        onWake?()
    }

    private func waitMs(_ wanted: Int32) -> Int32 {
        if againCount > 0 { return 0 }
        var wait = wanted
        if let tap, tap.hasOutstanding {
            wait = min(wait, tap.hasKnock ? MirrorLimits.knockDelayMs : ProxyLimits.returnPollMs)
        }
        if acceptPausedUntil != 0 { wait = min(wait, Int32(ProxyLimits.acceptPauseMs)) }
        return wait
    }

    /// Lets a connection go on in the next turn: it has more to do than one turn allows.
    func goOn(client slot: Int) {
        guard !clients[slot].pointee.flags.contains(.queuedAgain) else { return }
        clients[slot].pointee.flags.insert(.queuedAgain)
        again[againCount] = Token(
            kind: Kind.client, slot: slot, generation: clients.generation(slot))
        againCount += 1
    }

    func goOn(upstream slot: Int) {
        guard !upstreams[slot].pointee.flags.contains(.queuedAgain) else { return }
        upstreams[slot].pointee.flags.insert(.queuedAgain)
        again[againCount] = Token(
            kind: Kind.upstream, slot: slot, generation: upstreams.generation(slot))
        againCount += 1
    }

    private func continueAgain() {
        let count = againCount
        guard count > 0 else { return }
        againCount = 0
        // What is queued while this runs goes into the other list, for the turn after this one.
        (again, againBefore) = (againBefore, again)
        for place in 0..<count {
            let token = againBefore[place]
            if token.kind == Kind.client, clients.isLive(token.slot, token.generation) {
                clients[token.slot].pointee.flags.remove(.queuedAgain)
                driveClient(token.slot)
            } else if token.kind == Kind.upstream, upstreams.isLive(token.slot, token.generation) {
                upstreams[token.slot].pointee.flags.remove(.queuedAgain)
                driveUpstream(token.slot)
            }
        }
    }

    private func fireTimers() {
        var budget = CoreLoop.Limits.timersPerTurnMax
        while budget > 0, let id = timers.popExpired(now: now) {
            if id < clients.capacity {
                if clients.isUsed(id) { clientTimedOut(id) }
            } else if upstreams.isUsed(id - clients.capacity) {
                upstreamTimedOut(id - clients.capacity)
            }
            budget -= 1
        }
        if acceptPausedUntil != 0, now.milliseconds >= acceptPausedUntil { resumeAccepting() }
        if idleUntil != 0, now.milliseconds >= idleUntil { closeIdle() }
    }

    private func takeReturns() {
        var budget = MirrorLimits.returnsPerTurnMax
        while budget > 0, let back = tap?.takeReturn(blocks, slices) {
            if back.log != AccessLog.none { log?.shadowDone(back) }
            budget -= 1
        }
        tap?.endTurn()
    }

    private func endTurn(events: Int) {
        releaseHeadBlock()
        counters.add(.turns)
        counters.add(.events, UInt64(events))
        process[.heartbeatMs].set(now.milliseconds)
        counters[.blocksTaken].set(UInt64(blocks.takenCount))
        counters[.blocksTakenHigh].raise(to: UInt64(blocks.takenCount))
        counters[.connectionsOpen].set(UInt64(clients.usedCount))
        counters[.upstreamOpen].set(UInt64(upstreams.usedCount))
        counters[.upstreamIdle].set(UInt64(idleUpstreams))
        if now.milliseconds >= nextTrim {
            nextTrim = now.milliseconds + UInt64(ProxyLimits.trimIntervalMs)
            blocks.trim()
        }
        if events > 0 { board.turnTime.record(readClock().nanoseconds(since: now)) }
    }

    // MARK: Timers

    func schedule(client slot: Int, ms: Int) { timers.schedule(slot, at: now.adding(ms: ms)) }
    func schedule(upstream slot: Int, ms: Int) {
        timers.schedule(clients.capacity + slot, at: now.adding(ms: ms))
    }
    /// Takes a client's deadline back, unless answer bytes wait for the client: that one stays, or
    /// nothing would ever end an exchange whose client reads no more.
    func pause(client slot: Int) {
        if !clients[slot].pointee.flags.contains(.writeTimer) { timers.pause(slot) }
    }
}

/// Slices collected for one send, with the vectors that the kernel takes.
struct Batch: ~Copyable {
    private let vectors: UnsafeMutablePointer<iovec>
    private let list: UnsafeMutablePointer<Slice>
    private let state: UnsafeMutablePointer<(count: Int, bytes: Int)>

    init() {
        vectors = .allocate(capacity: ProxyLimits.vectorsMax)
        list = .allocate(capacity: ProxyLimits.vectorsMax)
        state = .allocate(capacity: 1)
        state.initialize(to: (0, 0))
    }

    deinit {
        vectors.deallocate()
        list.deallocate()
        state.deallocate()
    }

    var count: Int { state.pointee.count }
    var byteCount: Int { state.pointee.bytes }
    var isFull: Bool { count >= ProxyLimits.vectorsMax - 2 }

    @inline(__always)
    func add(_ slice: Slice, _ blocks: borrowing BlockPool) {
        let place = state.pointee.count
        precondition(place < ProxyLimits.vectorsMax)
        list[place] = slice
        vectors[place] = iovec(
            iov_base: blocks.pointer(slice.slot) + Int(slice.offset), iov_len: Int(slice.count))
        state.pointee = (place &+ 1, state.pointee.bytes &+ Int(slice.count))
    }

    func removeAll() { state.pointee = (0, 0) }

    subscript(_ place: Int) -> Slice { list[place] }

    enum Outcome { case sent, queued, failed }

    /// Sends what was collected, behind what already waits in `queue`; what the kernel does not
    /// take is queued. Empties the batch. `canSend` false queues everything.
    func send(
        to channel: Channel, canSend: Bool, queue: inout SliceQueue, _ blocks: borrowing BlockPool,
        _ slices: borrowing SlicePool
    ) -> Outcome {
        defer { removeAll() }
        let total = byteCount
        if total == 0 { return queue.isEmpty ? .sent : .queued }
        var sent = 0
        if canSend, queue.isEmpty {
            let outcome =
                count == 1
                ? channel.send(vectors[0].iov_base!, total)
                : channel.send(vectors: vectors, count)
            switch outcome {
            case .bytes(let n): sent = n
            case .wouldBlock: break
            case .failed: return .failed
            }
            if sent == total { return .sent }
        }
        for place in 0..<count {
            var slice = list[place]
            let skipped = min(sent, Int(slice.count))
            sent -= skipped
            slice.offset += UInt32(skipped)
            slice.count -= UInt32(skipped)
            if slice.count > 0, !slices.append(slice, to: &queue, blocks) { return .failed }
        }
        return .queued
    }

    /// Sends what waits in `queue` until it is empty or the kernel takes no more.
    func flush(
        _ queue: inout SliceQueue, to channel: Channel, _ blocks: borrowing BlockPool,
        _ slices: borrowing SlicePool
    ) -> Outcome {
        while !queue.isEmpty {
            removeAll()
            slices.forEach(queue) { slice in
                add(slice, blocks)
                return !isFull
            }
            let total = byteCount
            let outcome = channel.send(vectors: vectors, count)
            removeAll()
            switch outcome {
            case .bytes(let n):
                slices.consume(n, from: &queue, blocks)
                if n < total { return .queued }
            case .wouldBlock: return .queued
            case .failed: return .failed
            }
        }
        return .sent
    }
}
