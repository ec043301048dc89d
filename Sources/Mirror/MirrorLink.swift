public import CoreLoop
import Providers
public import Synchronization
public import Upstream

/// What a copy's own primary is, the target of its route: its head and its model's name are for
/// that one.
public enum CopyPrimary: UInt8, Sendable, BitwiseCopyable {
    /// No LLM provider: models have the names that the client's API gives them.
    case plain
    case openAI, anthropic
    /// A deployment of Azure OpenAI, whose paths nobody else has.
    case azure

    /// What a target of these settings is; `plain` without any.
    public init(_ provider: ProviderSettings?) {
        self =
            switch (provider?.dialect, provider?.azure) {
            case (nil, _): .plain
            case (.openAI, nil): .openAI
            case (.openAI, _): .azure
            case (.anthropic, _): .anthropic
            }
    }

    /// Nil where the client's own decides.
    var dialect: Dialect? {
        switch self {
        case .plain: nil
        case .openAI, .azure: .openAI
        case .anthropic: .anthropic
        }
    }
}

/// The first ring entry of a copy: what it is, and its first slices. One cache line.
///
/// The slices in order are the head that the primary got, then the body's payload (never chunk
/// framing), then, where `trailerBytes` > 0, the trailer section's field lines.
public struct CopyEntry: BitwiseCopyable, Sendable {
    /// Index of the worker's record for this copy; comes back in `CopyReturn`.
    public var ticket: UInt32
    /// Index in `GatewaySettings.shadows`.
    public var shadow: UInt16
    /// Slices of the whole copy, then the bytes of its three parts.
    public var sliceCount: UInt16
    public var headBytes: UInt32
    public var bodyBytes: UInt32
    public var trailerBytes: UInt32
    /// 1 where the request had a body at all (`Content-Length: 0` included): framing is sent along.
    public var hasBody: UInt8 = 0
    /// What the head was written for: a `CopyPrimary`.
    public var primary: UInt8 = 0
    /// Bytes at the target's start that are the primary's own path prefix: the shadow has another.
    public var primaryPrefixBytes: UInt16 = 0
    /// When the worker's turn that pushed it began.
    public var pushedNs: UInt64
    /// The first slices; further ones lie in the `CopyCell`s behind this entry.
    public var slices: (Slice, Slice)
    /// What ties the copy to its request's events; 0 where nobody writes any of it.
    public var pair: UInt64 = 0

    /// An entry without bytes or slices; whoever pushes it fills them in.
    public init(ticket: UInt32, shadow: UInt16, pushed: Instant) {
        self.ticket = ticket
        self.shadow = shadow
        pushedNs = pushed.nanoseconds
        sliceCount = 0
        headBytes = 0
        bodyBytes = 0
        trailerBytes = 0
        slices = (Slice(slot: 0, offset: 0, count: 0), Slice(slot: 0, offset: 0, count: 0))
    }
}

/// What lies in one place of the copy ring: a copy's first entry, or five more slices of the copy
/// before it.
public struct CopyCell: BitwiseCopyable, Sendable {
    @usableFromInline var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    /// A first entry.
    @inlinable
    public init(_ entry: CopyEntry) {
        words = (0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &words) { $0.storeBytes(of: entry, as: CopyEntry.self) }
    }

    /// A continuation with room for `MirrorLimits.slicesPerEntry` slices.
    @inlinable public init() { words = (0, 0, 0, 0, 0, 0, 0, 0) }

    /// The cell read as a first entry; means nothing where it is a continuation.
    @inlinable
    public var entry: CopyEntry { withUnsafeBytes(of: words) { $0.load(as: CopyEntry.self) } }

    /// Slice `index` of a continuation, below `MirrorLimits.slicesPerEntry`.
    @inlinable
    public subscript(slice index: Int) -> Slice {
        get {
            withUnsafeBytes(of: words) {
                $0.loadUnaligned(fromByteOffset: index * MemoryLayout<Slice>.stride, as: Slice.self)
            }
        }
        set {
            withUnsafeMutableBytes(of: &words) {
                $0.storeBytes(
                    of: newValue, toByteOffset: index * MemoryLayout<Slice>.stride, as: Slice.self)
            }
        }
    }

    /// Ring places that a copy of `sliceCount` slices takes.
    @inlinable
    public static func count(forSlices sliceCount: Int) -> Int {
        let further = max(0, sliceCount - MirrorLimits.slicesInFirstEntry)
        return 1 + (further + MirrorLimits.slicesPerEntry - 1) / MirrorLimits.slicesPerEntry
    }
}

/// What comes back for each copy, exactly once.
public struct CopyReturn: BitwiseCopyable, Sendable {
    /// The `ticket` of the copy's `CopyEntry`.
    public var ticket: UInt32
    /// `DropReason` where `wasSent` is 0, else `CopyResult`.
    public var code: UInt8
    /// 1 where its first byte may have reached the shadow, else 0.
    public var wasSent: UInt8
    /// The answer's status; 0 where there was none.
    public var status: UInt16
    /// From the first byte sent to the end of the answer, microseconds.
    public var latencyUs: UInt32
    private var padding: UInt32 = 0
    /// The copy's `shadow_id`, a UUIDv7; zero where the copy was never sent.
    public var shadowID: (UInt64, UInt64)

    /// The return of a copy of which no byte was sent.
    public static func dropped(_ ticket: UInt32, _ reason: DropReason) -> CopyReturn {
        CopyReturn(
            ticket: ticket, code: UInt8(reason.rawValue), wasSent: 0, status: 0, latencyUs: 0,
            shadowID: (0, 0))
    }

    /// The return of a copy that was sent; `status` is 0 where no answer came, `latencyUs` counts
    /// microseconds from its first byte.
    public static func sent(
        _ ticket: UInt32, _ result: CopyResult, status: Int, latencyUs: UInt32,
        shadowID: (UInt64, UInt64)
    ) -> CopyReturn {
        CopyReturn(
            ticket: ticket, code: UInt8(result.rawValue), wasSent: 1,
            status: UInt16(truncatingIfNeeded: status),
            latencyUs: latencyUs, shadowID: shadowID)
    }

    private init(
        ticket: UInt32, code: UInt8, wasSent: UInt8, status: UInt16, latencyUs: UInt32,
        shadowID: (UInt64, UInt64)
    ) {
        self.ticket = ticket
        self.code = code
        self.wasSent = wasSent
        self.status = status
        self.latencyUs = latencyUs
        self.shadowID = shadowID
    }
}

/// How far a copy has come, so that whoever survives a crash can count it right.
public enum TicketState {
    /// Nobody's: the next copy may take it.
    public static let free: UInt8 = 0
    /// In the ring or at the shadow process, not a byte sent.
    public static let queued: UInt8 = 1
    /// Its first byte may have been sent.
    public static let sent: UInt8 = 2
}

/// The memory between one worker and one shadow process: copies one way, returns the other.
///
/// Life cycle: the supervisor raises the shadow's epoch on the board when the shadow process has
/// died (it is dead: waited for). The worker then takes back every outstanding copy, empties both
/// rings and sets `readyEpoch`. The new shadow process takes nothing off a link whose `readyEpoch`
/// is not its own epoch, and says by `attachedEpoch` that it listens.
public struct MirrorLink: Sendable {
    /// The two rings, `depth` places each: copies one way, what became of them the other.
    public let copies: RingMemory<CopyCell>
    public let returns: RingMemory<CopyReturn>
    /// One state a ticket; written by the worker (free, queued) and the shadow process (sent).
    public nonisolated(unsafe) let ticketStates: UnsafeMutablePointer<Atomic<UInt8>>
    /// Which shadow each queued ticket is for: the supervisor counts by it after a worker's death.
    public nonisolated(unsafe) let ticketShadows: UnsafeMutablePointer<UInt8>
    /// 1 for a ticket whose client has left before its answer was whole; written by the worker, who
    /// then moves `leavings` on.
    public nonisolated(unsafe) let ticketsLeft: UnsafeMutablePointer<Atomic<UInt8>>
    /// Written by the worker: moves on with each client that left.
    public let leavings: Cell
    /// Written by the worker: the shadow epoch that both rings are clean for.
    public let readyEpoch: Cell
    /// Written by the shadow process: the epoch in which it takes copies; 0 before.
    public let attachedEpoch: Cell
    /// Places of each ring, and tickets.
    public let depth: Int

    /// Takes a link's room of `plan`; nil while the plan only counts. As many tickets as ring
    /// places.
    public init?(plan: inout MemoryPlan, depth: Int) {
        let copies = RingMemory<CopyCell>(plan: &plan, depth: depth)
        let returns = RingMemory<CopyReturn>(plan: &plan, depth: depth)
        let states = plan.take(Atomic<UInt8>.self, count: depth)
        let shadows = plan.take(UInt8.self, count: depth)
        let left = plan.take(Atomic<UInt8>.self, count: depth)
        let leavings = plan.take(Atomic<UInt64>.self, count: 8)
        let ready = plan.take(Atomic<UInt64>.self, count: 8)
        let attached = plan.take(Atomic<UInt64>.self, count: 8)
        guard let copies, let returns, let states, let shadows, let left, let leavings, let ready,
            let attached
        else { return nil }
        self.copies = copies
        self.returns = returns
        self.depth = depth
        ticketStates = states
        ticketShadows = shadows
        ticketsLeft = left
        self.leavings = Cell(leavings)
        readyEpoch = Cell(ready)
        attachedEpoch = Cell(attached)
    }

    /// Bytes of one link's memory.
    public static func byteCount(depth: Int) -> Int {
        var plan = MemoryPlan()
        _ = MirrorLink(plan: &plan, depth: depth)
        plan.alignToPage()
        return plan.byteCount
    }

    /// Empties both rings and frees every ticket. Only while no shadow process is attached.
    public func reset() {
        copies.reset()
        returns.reset()
        for ticket in 0..<depth { ticketStates[ticket].store(TicketState.free, ordering: .relaxed) }
    }
}
