public import CoreLoop
public import HTTP
import Providers
import Synchronization

/// The worker's half of the mirror: chooses requests, lends their blocks, takes them back.
///
/// Everything here is O(slices) for a request, calls nothing that waits, and is called after the
/// primary's bytes were handed to the kernel. One for each worker; not shared between threads.
public final class MirrorTap {
    /// No capture.
    public static let none = UInt32.max

    /// One route's share for one shadow, ready for the request path.
    struct Lane {
        var sampler: Sampler
        var rate: Double
        var rateConfigured: Double
        var shadow: Int
        var bodyBytesMax: Int
        /// Bit n: the method whose raw value is n is mirrored.
        var methods: UInt32
        var takesInference: Bool
        var isEnabled: Bool
        var isEnabledConfigured: Bool
        /// Offset and count of the sticky field's lower-case name in `names`; count 0 where
        /// sampling is by request.
        var keyOffset: Int
        var keyCount: Int
        var counters: CounterRow<LaneCounter>
    }

    struct Capture {
        var slices = SliceQueue()
        var route: UInt16 = 0
        /// Bit n: the route's lane n wants this request.
        var lanes: UInt8 = 0
        var hasBody: UInt8 = 0
        var primary = CopyPrimary.plain
        var primaryPrefixBytes: UInt16 = 0
        var headBytes: UInt32 = 0
        var bodyBytes: UInt32 = 0
        var trailerBytes: UInt32 = 0
        /// Tickets that hold the slices; 0 while the request is still coming in.
        var tickets: UInt32 = 0
        var log: UInt32 = 0
        var pair: UInt64 = 0
    }

    struct Ticket {
        var capture: UInt32
        var shadow: UInt8
    }

    private let link: MirrorLink
    private let process: Int
    private let board: MirrorBoard
    private let producer: RingProducer<CopyCell>
    private let consumer: RingConsumer<CopyReturn>
    private let wake: Wake
    private let random: SecureRandom
    private let captures: Slab<Capture>
    private let tickets: Slab<Ticket>
    private let loansMax: Int
    private let gauges: CounterRow<TapGauge>
    private let tallies: UnsafeMutablePointer<ShadowTally>
    private let lanes: UnsafeMutablePointer<Lane>
    private let names: UnsafeMutablePointer<UInt8>
    /// First lane of each route, and one more for the end.
    private let firstLane: UnsafeMutablePointer<Int>
    /// Called with the log record of a copy that is given up before it was handed over, its shadow
    /// and why.
    public var onDrop: ((_ log: UInt32, _ shadow: Int, _ reason: DropReason) -> Void)?
    /// Whether `copiesOut` and `clientLeft` are of use to any shadow.
    public let cancelsWithClient: Bool
    private let shadowCount: Int
    private let laneCount: Int
    private let routeCount: Int
    private var epoch: UInt64 = 0
    /// The board's overrides as the lanes follow them.
    private var overridesVersion: UInt64 = 0
    private var reclaimCursor = -1
    /// Returns that are still taken off a dead shadow process's ring.
    private var lastReturnsLeft = 0
    private var loans = 0
    private var pushedThisTurn = false
    /// Whether the shadow process was asleep when a turn pushed copies: it is woken at the end of
    /// the next turn, which is to begin within `MirrorLimits.knockDelayMs`.
    public private(set) var hasKnock = false

    /// - Parameters:
    ///   - routes: the lanes of each route, as configured.
    ///   - link: the memory shared with the shadow process number `process`.
    ///   - wake: knocks on that process's door.
    ///   - cancelsWithClient: whether any shadow is to be told of clients that leave.
    ///   - random: where in its stratum a pick lies.
    public init(
        worker: Int, process: Int, routes: [[LaneSettings]], link: MirrorLink, board: MirrorBoard,
        wake: Wake, blocksOnLoanMax: Int, cancelsWithClient: Bool = false,
        random: consuming SecureRandom = SecureRandom()
    ) throws(SystemError) {
        self.random = random
        self.cancelsWithClient = cancelsWithClient
        self.link = link
        self.process = process
        self.board = board
        self.wake = wake
        loansMax = blocksOnLoanMax
        producer = RingProducer(link.copies)
        consumer = RingConsumer(link.returns)
        captures = try Slab(capacity: link.depth)
        tickets = try Slab(capacity: link.depth)
        gauges = board.tap(worker: worker)
        shadowCount = board.shape.shadows
        tallies = .allocate(capacity: max(1, shadowCount))
        for shadow in 0..<shadowCount {
            (tallies + shadow).initialize(to: board.tally(worker: worker, shadow: shadow))
        }
        routeCount = routes.count
        laneCount = routes.reduce(0) { $0 + $1.count }
        firstLane = .allocate(capacity: routeCount + 1)
        lanes = .allocate(capacity: max(1, laneCount))
        let keys = routes.joined().map { lane -> [UInt8] in
            if case .header(let name) = lane.sampleBy { return Array(name.lowercased().utf8) }
            return []
        }
        names = .allocate(capacity: max(1, keys.reduce(0) { $0 + $1.count }))
        var index = 0
        var nameEnd = 0
        for (route, settings) in routes.enumerated() {
            firstLane[route] = index
            for lane in settings {
                for (place, byte) in keys[index].enumerated() { names[nameEnd + place] = byte }
                (lanes + index).initialize(
                    to: Lane(
                        sampler: Sampler(rate: lane.sampleRate), rate: lane.sampleRate,
                        rateConfigured: lane.sampleRate, shadow: lane.shadow,
                        bodyBytesMax: lane.bodyBytesMax, methods: Self.mask(of: lane.methods),
                        takesInference: lane.takesInference, isEnabled: lane.enabled,
                        isEnabledConfigured: lane.enabled,
                        keyOffset: nameEnd, keyCount: keys[index].count,
                        counters: board.lane(worker: worker, route: route, shadow: lane.shadow)))
                nameEnd += keys[index].count
                index += 1
            }
        }
        firstLane[routeCount] = index
        epoch = board.shadowEpochs[process].acquired
        link.readyEpoch.publish(epoch)
        followOverrides()
    }

    deinit {
        tallies.deallocate()
        lanes.deallocate()
        names.deallocate()
        firstLane.deallocate()
    }

    private static func mask(of methods: [String]) -> UInt32 {
        let known: [String: Method] = [
            "GET": .get, "HEAD": .head, "POST": .post, "PUT": .put, "DELETE": .delete,
            "OPTIONS": .options, "TRACE": .trace, "PATCH": .patch,
        ]
        return methods.reduce(0) { mask, name in
            guard let method = known[name] else { return mask }
            return mask | 1 << UInt32(method.rawValue)
        }
    }

    /// What the lanes of a route say of one request.
    public struct Choice {
        /// Bit n: the route's lane n wants it.
        public var lanes: UInt8 = 0
        /// Some lane could have wanted it: it belongs to the experiment that the live meter runs.
        public var isEligible = false
    }

    /// Decides whether a request is mirrored, and counts it. `bytes` is the memory that `head` was
    /// parsed from.
    public func choose(route: Int, head: RequestHead, bytes: UnsafeRawPointer) -> Choice {
        var choice = Choice()
        let first = firstLane[route]
        let end = firstLane[route + 1]
        guard first < end, board.control[.enabled].value != 0,
            board.control[.guardHolds].value == 0
        else { return choice }
        // A copy of a copy would double the load with each gateway in the chain; a tunnel has no
        // end to copy.
        if head.fields.contains(.umbraShadow) || head.wantsUpgrade { return choice }
        for index in first..<end {
            let lane = lanes + index
            guard lane.pointee.isEnabled,
                lane.pointee.methods & 1 << UInt32(head.method.rawValue) != 0
                    || lane.pointee.takesInference && Self.asksModel(head, bytes)
            else { continue }
            choice.isEligible = true
            lane.pointee.counters.add(.eligible)
            if isPicked(lane, head, bytes) {
                lane.pointee.counters.add(.sampled)
                choice.lanes |= 1 << UInt8(index - first)
            } else {
                lane.pointee.counters.add(.notSampled)
            }
        }
        return choice
    }

    private static func asksModel(_ head: RequestHead, _ bytes: UnsafeRawPointer) -> Bool {
        head.method == .post && Inference(head, bytes) != nil
    }

    private func isPicked(
        _ lane: UnsafeMutablePointer<Lane>, _ head: RequestHead, _ bytes: UnsafeRawPointer
    ) -> Bool {
        if lane.pointee.keyCount > 0 {
            let name = UnsafeRawBufferPointer(
                start: names + lane.pointee.keyOffset, count: lane.pointee.keyCount)
            if let value = Self.value(of: name, head, bytes) {
                return Sampler.isPicked(key: value, rate: lane.pointee.rate)
            }
        }
        return lane.pointee.sampler.decide(random)
    }

    /// The value of the first field whose lower-case name is `name`.
    private static func value(
        of name: UnsafeRawBufferPointer, _ head: RequestHead, _ bytes: UnsafeRawPointer
    ) -> UnsafeRawBufferPointer? {
        for index in 0..<head.fields.count {
            let field = head.fields[index]
            guard Int(field.name.count) == name.count else { continue }
            let start = bytes + field.name.start
            var place = 0
            while place < name.count {
                let byte = start.load(fromByteOffset: place, as: UInt8.self)
                let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
                if lower != name[place] { break }
                place += 1
            }
            if place == name.count {
                return UnsafeRawBufferPointer(
                    start: bytes + field.value.start, count: Int(field.value.count))
            }
        }
        return nil
    }

    private func lane(_ route: UInt16, _ bit: Int) -> UnsafeMutablePointer<Lane> {
        lanes + firstLane[Int(route)] + bit
    }

    /// Counts a drop for every lane in `lanes`.
    // Not inlined: a loop that it stands in would begin with a runtime call (swift_beginAccess) for
    // `onDrop`, drop or none.
    @inline(never)
    private func drop(_ lanes: UInt8, route: UInt16, _ reason: DropReason, log: UInt32) {
        var left = lanes
        while left != 0 {
            let shadow = lane(route, left.trailingZeroBitCount).pointee.shadow
            tallies[shadow].dropped(reason).add()
            onDrop?(log, shadow, reason)
            left &= left - 1
        }
    }

    /// Starts to keep a request that `lanes` want. `MirrorTap.none` where it cannot be kept:
    /// counted. `bodyBytes` is the announced length, 0 where it is unknown; `pair` goes with the
    /// copies.
    public func open(
        _ lanes: UInt8, route: Int, bodyBytes: UInt64, hasBody: Bool, primaryPrefixBytes: Int = 0,
        primary: CopyPrimary = .plain, log: UInt32, pair: UInt64 = 0
    ) -> UInt32 {
        var wanted = lanes
        let route = UInt16(truncatingIfNeeded: route)
        if link.attachedEpoch.value != epoch || reclaimCursor >= 0 {
            drop(wanted, route: route, .shadowDown, log: log)
            return Self.none
        }
        if bodyBytes > 0 {
            wanted = dropTooLarge(wanted, route: route, bodyBytes: bodyBytes, log: log)
        }
        if wanted == 0 { return Self.none }
        // Asked before anything is taken: with a starved shadow process most requests end here.
        guard loans < loansMax else {
            drop(wanted, route: route, .loanLimit, log: log)
            return Self.none
        }
        var capture = Capture()
        capture.route = route
        capture.lanes = wanted
        capture.hasBody = hasBody ? 1 : 0
        capture.primary = primary
        capture.primaryPrefixBytes = UInt16(truncatingIfNeeded: primaryPrefixBytes)
        capture.log = log
        capture.pair = pair
        guard let slot = captures.insert(capture) else {
            drop(wanted, route: route, .captureLimit, log: log)
            return Self.none
        }
        return UInt32(slot)
    }

    private func dropTooLarge(
        _ lanes: UInt8, route: UInt16, bodyBytes: UInt64, log: UInt32
    ) -> UInt8 {
        var kept: UInt8 = 0
        var left = lanes
        while left != 0 {
            let bit = left.trailingZeroBitCount
            left &= left - 1
            if bodyBytes > UInt64(lane(route, bit).pointee.bodyBytesMax) {
                drop(1 << UInt8(bit), route: route, .bodyTooLarge, log: log)
            } else {
                kept |= 1 << UInt8(bit)
            }
        }
        return kept
    }

    /// Which part of the request a slice belongs to.
    public enum Part { case head, body, trailer }

    /// Keeps one more slice of a request. False where the request is given up: counted, and the
    /// capture is gone.
    public func append(
        _ slice: Slice, _ part: Part, to id: UInt32, _ blocks: borrowing BlockPool,
        _ slices: borrowing SlicePool
    ) -> Bool {
        let capture = captures[Int(id)]
        switch part {
        case .head: capture.pointee.headBytes += slice.count
        case .trailer: capture.pointee.trailerBytes += slice.count
        case .body:
            capture.pointee.bodyBytes += slice.count
            let kept = dropTooLarge(
                capture.pointee.lanes, route: capture.pointee.route,
                bodyBytes: UInt64(capture.pointee.bodyBytes), log: capture.pointee.log)
            capture.pointee.lanes = kept
            if kept == 0 {
                discard(id, blocks, slices)
                return false
            }
        }
        if loans >= loansMax {
            abandon(id, .loanLimit, blocks, slices)
            return false
        }
        guard capture.pointee.slices.sliceCount < MirrorLimits.slicesPerCopyMax,
            slices.append(slice, to: &capture.pointee.slices, blocks)
        else {
            abandon(id, .captureLimit, blocks, slices)
            return false
        }
        loans += 1
        return true
    }

    /// Gives a request up that is not yet handed over, for `reason`.
    public func abandon(
        _ id: UInt32, _ reason: DropReason, _ blocks: borrowing BlockPool,
        _ slices: borrowing SlicePool
    ) {
        let capture = captures[Int(id)]
        drop(
            capture.pointee.lanes, route: capture.pointee.route, reason, log: capture.pointee.log)
        discard(id, blocks, slices)
    }

    private func discard(_ id: UInt32, _ blocks: borrowing BlockPool, _ slices: borrowing SlicePool)
    {
        let capture = captures[Int(id)]
        loans -= capture.pointee.slices.sliceCount
        slices.clear(&capture.pointee.slices, blocks)
        captures.remove(Int(id))
    }

    /// Hands a whole request over, one copy for each lane. Returns how many copies went into the
    /// ring.
    public func finish(
        _ id: UInt32, now: Instant, _ blocks: borrowing BlockPool, _ slices: borrowing SlicePool
    ) -> Int {
        let capture = captures[Int(id)]
        var pushed: UInt32 = 0
        var left = capture.pointee.lanes
        while left != 0 {
            let bit = left.trailingZeroBitCount
            left &= left - 1
            let lane = lane(capture.pointee.route, bit)
            let shadow = lane.pointee.shadow
            let isOn = lane.pointee.isEnabled && board.control[.enabled].value != 0
            if let reason = isOn ? push(id, shadow: shadow, now: now, slices) : .switchedOff {
                drop(
                    1 << UInt8(bit), route: capture.pointee.route, reason,
                    log: capture.pointee.log)
            } else {
                tallies[shadow].outstanding.add()
                pushed += 1
            }
        }
        capture.pointee.tickets = pushed
        if pushed == 0 {
            discard(id, blocks, slices)
        } else {
            pushedThisTurn = true
        }
        return Int(pushed)
    }

    private func push(
        _ id: UInt32, shadow: Int, now: Instant, _ slices: borrowing SlicePool
    ) -> DropReason? {
        let capture = captures[Int(id)].pointee
        if link.attachedEpoch.value != epoch { return .shadowDown }
        let cells = CopyCell.count(forSlices: capture.slices.sliceCount)
        guard producer.hasRoom(for: cells) else { return .queueFull }
        guard
            let ticket = tickets.insert(
                Ticket(capture: id, shadow: UInt8(truncatingIfNeeded: shadow)))
        else { return .captureLimit }
        var entry = CopyEntry(ticket: UInt32(ticket), shadow: UInt16(shadow), pushed: now)
        entry.sliceCount = UInt16(capture.slices.sliceCount)
        entry.headBytes = capture.headBytes
        entry.bodyBytes = capture.bodyBytes
        entry.trailerBytes = capture.trailerBytes
        entry.hasBody = capture.hasBody
        entry.primary = capture.primary.rawValue
        entry.primaryPrefixBytes = capture.primaryPrefixBytes
        entry.pair = capture.pair
        var index = 0
        var cell = CopyCell()
        slices.forEach(capture.slices) { slice in
            switch index {
            case 0: entry.slices.0 = slice
            case 1: entry.slices.1 = slice
            default:
                let place = (index - MirrorLimits.slicesInFirstEntry) % MirrorLimits.slicesPerEntry
                cell[slice: place] = slice
                producer.write(
                    cell,
                    ahead: 1 + (index - MirrorLimits.slicesInFirstEntry)
                        / MirrorLimits.slicesPerEntry)
                if place == MirrorLimits.slicesPerEntry - 1 { cell = CopyCell() }
            }
            index += 1
            return true
        }
        producer.write(CopyCell(entry), ahead: 0)
        link.ticketShadows[ticket] = UInt8(truncatingIfNeeded: shadow)
        link.ticketStates[ticket].store(TicketState.queued, ordering: .relaxed)
        link.ticketsLeft[ticket].store(0, ordering: .relaxed)
        producer.publish(cells)
        return nil
    }

    /// The copies of one request, for as long as any of them is out.
    public struct CopiesOut: BitwiseCopyable, Sendable {
        fileprivate var capture = MirrorTap.none
        fileprivate var generation: UInt32 = 0

        /// Those of no request.
        public static let none = CopiesOut()
    }

    /// What `finish` has just handed over; it returned more than 0.
    public func copiesOut(_ id: UInt32) -> CopiesOut {
        CopiesOut(capture: id, generation: captures.generation(Int(id)))
    }

    /// The client has left before its answer was whole: shadows with `cancel_with_client` give the
    /// copies of its request up. O(tickets).
    public func clientLeft(_ copies: CopiesOut) {
        guard captures.isLive(Int(copies.capture), copies.generation) else { return }
        for ticket in 0..<tickets.walkEnd
        where tickets.isUsed(ticket) && tickets[ticket].pointee.capture == copies.capture {
            link.ticketsLeft[ticket].store(1, ordering: .relaxed)
        }
        link.leavings.publish(link.leavings.value &+ 1)
        pushedThisTurn = true
    }

    /// Whether copies are out whose return is still to come: look again soon.
    public var hasOutstanding: Bool { tickets.usedCount > 0 }

    /// Ends a turn: wakes a shadow process that slept when the turn before pushed, and shows the
    /// gauges.
    ///
    /// A turn later, because the worker goes first: woken at once, the shadow process sends the
    /// copy just when the primary's answer comes, and where both share a core, each answer to a
    /// user costs two switches of processes.
    public func endTurn() {
        if hasKnock {
            hasKnock = false
            if producer.consumerNeedsWaking() {
                gauges.add(.wakes)
                wake.signal()
            }
        }
        if pushedThisTurn {
            pushedThisTurn = false
            gauges[.ringDepthHigh].raise(to: UInt64(link.copies.count))
            gauges[.blocksOnLoanHigh].raise(to: UInt64(loans))
            hasKnock = producer.consumerSleeps()
        }
        gauges[.blocksOnLoan].set(UInt64(loans))
        gauges[.ticketsUsed].set(UInt64(tickets.usedCount))
    }

    /// Begins a turn: follows what operators say, and notices that the shadow process has died;
    /// `takeReturn` then takes everything back.
    public func beginTurn() {
        if board.control[.version].value != overridesVersion { followOverrides() }
        guard board.shadowEpochs[process].acquired != epoch, reclaimCursor < 0 else { return }
        reclaimCursor = 0
        lastReturnsLeft = link.depth
    }

    private func followOverrides() {
        // Read before what it announces: a change that comes meanwhile is met in the next turn.
        overridesVersion = board.control[.version].acquired
        for route in 0..<routeCount {
            let override = MirrorOverride(word: board.overrides[route].value(.word))
            for index in firstLane[route]..<firstLane[route + 1] {
                lanes[index].follow(override)
            }
        }
    }

    /// What became of one copy.
    public struct Return {
        /// Index in `GatewaySettings.shadows`.
        public var shadow: Int
        /// The log record that waits for it.
        public var log: UInt32
        public var outcome: CopyReturn
    }

    /// The next copy that came back, counted, its blocks released; nil where there is none for now.
    public func takeReturn(_ blocks: borrowing BlockPool, _ slices: borrowing SlicePool) -> Return?
    {
        if let back = nextReturn(blocks, slices) { return back }
        guard reclaimCursor >= 0 else { return nil }
        // The shadow process is dead: whatever has not come back is taken back.
        while reclaimCursor < tickets.walkEnd {
            let ticket = reclaimCursor
            reclaimCursor += 1
            guard tickets.isUsed(ticket) else { continue }
            let wasSent = link.ticketStates[ticket].load(ordering: .acquiring) == TicketState.sent
            let outcome =
                wasSent
                ? CopyReturn.sent(
                    UInt32(ticket), .cancelled, status: 0, latencyUs: 0, shadowID: (0, 0))
                : CopyReturn.dropped(UInt32(ticket), .shadowRestarted)
            return settle(outcome, blocks, slices)
        }
        reclaimCursor = -1
        epoch = board.shadowEpochs[process].acquired
        link.reset()
        producer.resume()
        consumer.resume()
        link.readyEpoch.publish(epoch)
        return nil
    }

    /// The next return of a copy that is out. What else lies in the ring is passed over, at most a
    /// ringful of it: a shadow process gone wild may neither hold back the good returns of others
    /// nor, by a ring that never empties, the reclaiming after its death.
    private func nextReturn(
        _ blocks: borrowing BlockPool, _ slices: borrowing SlicePool
    ) -> Return? {
        for _ in 0..<link.depth {
            if reclaimCursor >= 0 {
                guard lastReturnsLeft > 0 else { return nil }
                lastReturnsLeft -= 1
            }
            guard let outcome = consumer.pop() else { return nil }
            if let back = settle(outcome, blocks, slices) { return back }
        }
        return nil
    }

    private func settle(
        _ outcome: CopyReturn, _ blocks: borrowing BlockPool, _ slices: borrowing SlicePool
    ) -> Return? {
        let ticket = Int(outcome.ticket)
        // The shadow process is not trusted with our memory: a ticket that is not out is ignored.
        guard ticket < tickets.capacity, tickets.isUsed(ticket) else { return nil }
        let record = tickets[ticket].pointee
        let tally = tallies[Int(record.shadow)]
        // Freed before it is counted: should this process die in between, the supervisor's settling
        // finds it uncounted, never twice counted.
        link.ticketStates[ticket].store(TicketState.free, ordering: .relaxed)
        if outcome.wasSent != 0 {
            tally.sent.add()
            tally.results(CopyResult(rawValue: Int(outcome.code)) ?? .error).add()
        } else {
            tally.dropped(DropReason(rawValue: Int(outcome.code)) ?? .invalidCopy).add()
        }
        tally.outstanding.subtract()
        tickets.remove(ticket)
        let capture = captures[Int(record.capture)]
        let log = capture.pointee.log
        capture.pointee.tickets -= 1
        if capture.pointee.tickets == 0 { discard(record.capture, blocks, slices) }
        return Return(shadow: Int(record.shadow), log: log, outcome: outcome)
    }
}
