import CLinux
public import CoreLoop
public import EventLog
import HTTP
public import TLS
public import Upstream

/// What a shadow process has of one worker: their link, and the worker's blocks to read.
public struct ShadowLink {
    /// The rings and tickets that the two share.
    public let link: MirrorLink
    /// The worker's block pool, mapped read-only.
    public let blocks: UnsafeRawPointer
    /// Bytes of one block, and how many there are: slices beyond them are refused.
    public let blockBytes: Int
    public let blockCount: Int

    /// What to read from one worker, whose memory stays mapped as long as this is used.
    public init(link: MirrorLink, blocks: UnsafeRawPointer, blockBytes: Int, blockCount: Int) {
        self.link = link
        self.blocks = blocks
        self.blockBytes = blockBytes
        self.blockCount = blockCount
    }
}

/// The loop of a shadow process: takes copies off the workers' rings, sends them to the shadows
/// within their bounds, drains the answers, and says what became of each.
///
/// Every copy that was taken comes back exactly once. Memory is bounded and mapped in `init`;
/// nothing is allocated for a copy. Its parts: copies (off the rings and back), connections,
/// sending, answers. Not for use by two threads.
public final class ShadowWorker {
    enum TokenKind: UInt8 { case wake, connection }

    let epoch: UInt64
    let epoll: Epoll
    let wakeFD: Int32
    let pool: ShadowPool
    let timers: TimerWheel
    let board: MirrorBoard
    /// Where new addresses of names are found; nil where nobody looks any up.
    let upstreams: UpstreamBoard?
    var addressesSeen: UInt64 = 0
    /// Where captures of copies go, each before its copy's return; nil where no events are logged.
    var captures: RecordProducer?
    let links: UnsafeMutablePointer<ShadowLinkState>
    let linkCount: Int
    let shadows: UnsafeMutablePointer<ShadowState>
    let caps: UnsafeMutablePointer<QPSCap>
    let shadowCount: Int
    let answerHead: ResponseHead
    let scratch: ShadowScratch
    /// By connection, what those hold that ask a model.
    let exchanges: InferenceMemory
    /// Bytes of bodies that this turn has read.
    var bytesReadThisTurn = 0
    var random: FastRandom

    /// The time of this turn.
    var now: Instant
    /// False where the caller moves the time: then all of a turn happens at its `now`.
    private var isRealTime = false
    private var lastCopy: Instant
    /// Whether the last copies came within `ShadowLimits.awakeMs` of each other.
    private var comesOften = false
    private var pace: TurnPace
    /// Whether the last turn left copies in the rings.
    var hasMoreCopies = false
    var firstLink = 0
    var inFlight = 0
    /// After `cancelAll` nothing is taken any more.
    var isCancelled = false

    /// - Parameters:
    ///   - process: the index of this shadow process.
    ///   - epoch: its epoch on the board: only links that are ready for it are used.
    ///   - targets: `GatewaySettings.targets`, which `shadows` point into.
    ///   - caps: one for each shadow, in memory shared with all other shadow processes.
    ///   - security: by target, the context of those that speak TLS.
    ///   - upstreams: where the addresses of names are looked for while it runs.
    ///   - captures: the ring that captures of copies with a pair go into (`CaptureRecord`).
    ///   - memoryBytes: what this process may take.
    ///   - wakeFD: an eventfd that a worker writes where a copy ring's consumer sleeps. Stays the
    /// caller's.
    ///   - seed: of the random part of `shadow_id`s.
    public init(
        process: Int, epoch: UInt64, links: [ShadowLink], shadows: [ShadowSettings],
        targets: [TargetSettings], caps: [QPSCap], security: [ClientContext?] = [],
        board: MirrorBoard, upstreams: UpstreamBoard? = nil, captures: RecordRing? = nil,
        memoryBytes: Int = 256 << 20,
        wakeFD: Int32, now: Instant, seed: UInt64
    ) throws(SystemError) {
        precondition(caps.count == shadows.count)
        let processes = board.shape.shadowProcesses
        let connections = shadows.reduce(0) {
            $0 + ShadowState.inFlightMax($1, shadowProcesses: processes)
        }
        self.epoch = epoch
        self.wakeFD = wakeFD
        self.board = board
        self.upstreams = upstreams
        if let captures { self.captures = RecordProducer(captures) }
        self.now = now
        lastCopy = now
        pace = TurnPace(now: now)
        random = FastRandom(seed: seed)
        epoll = try Epoll()
        pool = try ShadowPool(connections: max(1, connections))
        timers = try TimerWheel(capacity: max(1, connections), now: now)
        scratch = try ShadowScratch(connections: max(1, connections))
        exchanges = InferenceMemory(connections: max(1, connections), memoryBytes: memoryBytes)
        answerHead = ResponseHead(
            limits: HeadLimits(
                headBytesMax: ShadowLimits.answerHeadBytesMax,
                fieldsMax: ShadowLimits.answerFieldsMax))
        linkCount = links.count
        self.links = .allocate(capacity: max(1, links.count))
        for (index, link) in links.enumerated() {
            (self.links + index).initialize(to: ShadowLinkState(link))
        }
        shadowCount = shadows.count
        self.caps = .allocate(capacity: max(1, caps.count))
        self.caps.initialize(from: caps, count: caps.count)
        self.shadows = .allocate(capacity: max(1, shadows.count))
        for (index, settings) in shadows.enumerated() {
            (self.shadows + index).initialize(
                to: ShadowState(
                    settings: settings, target: targets[settings.target],
                    security: settings.target < security.count ? security[settings.target] : nil,
                    shadowProcesses: processes,
                    gauges: board.gauges(process: process, shadow: index),
                    latency: board.latency(process: process, shadow: index)))
        }
        try epoll.add(
            wakeFD, Token(kind: TokenKind.wake.rawValue, slot: 0, generation: 0), mode: .level)
    }

    deinit {
        for slot in 0..<pool.connections.walkEnd where pool.connections.isUsed(slot) {
            pool.connections[slot].pointee.tls.close(saysGoodbye: false)
            CLinux.close(pool.connections[slot].pointee.fd)
        }
        for index in 0..<shadowCount { shadows[index].addresses.deallocate() }
        shadows.deinitialize(count: shadowCount)
        shadows.deallocate()
        caps.deallocate()
        links.deinitialize(count: linkCount)
        links.deallocate()
    }

    /// One turn at a time that the caller moves: events, copies, timers. Waits at most `timeoutMs`
    /// for an event.
    public func turn(now: Instant, timeoutMs: Int32) {
        isRealTime = false
        self.now = now
        turn(timeoutMs: timeoutMs)
    }

    /// Turns until `stop` says true, which is asked at least every `ShadowLimits.sleepMsMax`.
    public func run(until stop: () -> Bool) {
        isRealTime = true
        while !stop() {
            now = .now()
            turn(timeoutMs: ShadowLimits.sleepMsMax)
        }
    }

    /// The time right now: what a send or an answer is dated with.
    func clock() -> Instant { isRealTime ? .now() : now }

    /// Remembers that a turn had `copies`: where they come often, the process stays awake for a
    /// while. One that is short of time has turns far apart, each with several.
    func noteTraffic(copies: Int) {
        comesOften = now < lastCopy.adding(ms: ShadowLimits.awakeMs * copies)
        lastCopy = now
    }

    private func turn(timeoutMs: Int32) {
        let count = wait(timeoutMs)
        if isRealTime { now = .now() }
        pace.note(events: count, now: now)
        takeNewAddresses()
        for index in 0..<count {
            let (token, readiness) = epoll.event(index)
            if token.kind == TokenKind.wake.rawValue {
                var counter: UInt64 = 0
                _ = CLinux.read(wakeFD, &counter, 8)
            } else if pool.connections.isLive(token.slot, token.generation) {
                handle(readiness, token.slot)
            }
        }
        readUnread()
        if !isCancelled { takeCopies() }
        fireTimers()
    }

    /// Waits for events. Sleep is announced only where copies are seldom: a worker under load pays
    /// for no wake-up.
    private func wait(_ timeoutMs: Int32) -> Int {
        var limit =
            timeoutMs < 0 ? ShadowLimits.sleepMsMax : min(timeoutMs, ShadowLimits.sleepMsMax)
        if hasMoreCopies || scratch.unreadCount > 0 || hasCopies() { limit = 0 }
        if inFlight > 0 { limit = min(limit, ShadowLimits.busySleepMsMax) }
        let isAwake = comesOften && now < lastCopy.adding(ms: ShadowLimits.awakeMs)
        if isRealTime, isAwake || inFlight > 0, pace.restNs > 0, !hasMoreCopies,
            scratch.unreadCount == 0
        {
            // Copies that lie in the rings wait too: they are what the rest is to gather.
            Self.rest(ns: pace.restNs)
            limit = 0
        } else if isAwake {
            limit = min(limit, ShadowLimits.pollMs)
        } else if limit > 0 {
            for index in 0..<linkCount where links[index].isAttached {
                // What came before the announcement wakes nobody.
                if !links[index].copies.prepareToSleep() || hasLeavings(index) { limit = 0 }
            }
            let count = epoll.wait(timeoutMs: limit)
            for index in 0..<linkCount where links[index].isAttached {
                links[index].copies.wokeUp()
            }
            return count
        }
        return epoll.wait(timeoutMs: limit)
    }

    private static func rest(ns: UInt64) {
        var time = timespec(tv_sec: 0, tv_nsec: Int(ns))
        nanosleep(&time, nil)
    }

    /// Whether copies came while the last turn was at work: the poll's wait would delay them.
    private func hasCopies() -> Bool {
        for index in 0..<linkCount where links[index].isAttached {
            if links[index].copies.peek() != nil { return true }
        }
        return false
    }

    private func fireTimers() {
        for _ in 0..<CoreLoop.Limits.timersPerTurnMax {
            guard let slot = timers.popExpired(now: now) else { return }
            expire(slot)
        }
    }
}

/// How long a busy shadow process rests before it looks for events, so that one turn serves
/// several answers and copies: a wait and a switch of processes for each of them were more
/// than half of a copy's cost at 16,800/s.
///
/// Only beyond `ShadowLimits.restEventsPerSecondMin`; below it every answer is met at once, and its
/// latency is exact. Above it a latency is late by at most the rest. Takes time as an argument.
struct TurnPace {
    private var windowStart: Instant
    private var events = 0
    /// The rest before the next look, nanoseconds; 0 for none.
    private(set) var restNs: UInt64 = 0

    init(now: Instant) { windowStart = now }

    /// Counts a turn's events, and sets the rest anew once a window is over.
    mutating func note(events count: Int, now: Instant) {
        events += count
        let spentNs = now.nanoseconds(since: windowStart)
        guard spentNs >= ShadowLimits.restWindowNs else { return }
        let perSecond = UInt64(events) * 1_000_000_000 / spentNs
        restNs =
            perSecond < ShadowLimits.restEventsPerSecondMin
            ? 0 : min(ShadowLimits.restNsMax, ShadowLimits.restEvents * 1_000_000_000 / perSecond)
        windowStart = now
        events = 0
    }
}

/// A link as this process uses it.
struct ShadowLinkState: ~Copyable {
    let link: MirrorLink
    let copies: RingConsumer<CopyCell>
    let returns: RingProducer<CopyReturn>
    let blocks: UnsafeRawPointer
    let blockBytes: Int
    let blockCount: Int
    var isAttached = false
    /// The `leavings` that were followed up.
    var leavingsSeen: UInt64 = 0

    init(_ source: ShadowLink) {
        link = source.link
        copies = RingConsumer(source.link.copies)
        returns = RingProducer(source.link.returns)
        blocks = source.blocks
        blockBytes = source.blockBytes
        blockCount = source.blockCount
    }

    /// Whether the slice lies in the worker's blocks.
    func holds(_ slice: Slice) -> Bool {
        Int(slice.slot) < blockCount && Int(slice.offset) + Int(slice.count) <= blockBytes
    }

    func pointer(_ slice: Slice) -> UnsafeRawPointer {
        blocks + Int(slice.slot) * blockBytes + Int(slice.offset)
    }
}
