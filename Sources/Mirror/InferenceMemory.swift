import Providers
import Verdict

/// What a shadow process keeps about a copy that asks a model, beside its connection.
struct InferenceExchange {
    /// The body that is sent in the place of the client's; empty where that one is, from the
    /// worker's blocks.
    var body: [UInt8] = []
    /// The model as sent; empty where the request names none, or was not read, or where its name is
    /// longer than captures tell.
    private(set) var model: [UInt8] = []
    /// What the translation could not carry over, a line each: as much as captures tell.
    private(set) var losses: [UInt8] = []

    // Of the answer, for the capture.
    var flags: CaptureHead.Flags = []
    /// Field lines of its head that are kept.
    var fields: [UInt8] = []
    /// Its payload, and how much there is room for.
    fileprivate(set) var answer: [UInt8] = []
    fileprivate var room = 0
    var firstByteUs: UInt32 = 0

    /// A copy that goes as it is.
    init() {}

    /// A copy that goes as `edited`, of which texts are kept only where somebody is to be told:
    /// names in a request are as long as the client likes.
    init(_ edited: InferenceEdit.Edited, isCaptured: Bool) {
        body = edited.body ?? []
        guard isCaptured else { return }
        if edited.model.utf8.count <= VerdictLimits.captureModelBytesMax {
            model = Array(edited.model.utf8)
        }
        for loss in edited.losses {
            let room = VerdictLimits.captureLossBytesMax - losses.count
            guard loss.field.utf8.count < room else { continue }
            // A client that names a member so cannot forge a line.
            let line = loss.text.utf8.map { $0 < 0x20 ? 0x20 : $0 } + [0x0A]
            if line.count <= room { losses += line }
        }
    }

    /// Bytes of the process's memory that it counts for, but for some hundred.
    fileprivate var heldBytes: Int { body.count + room }
}

/// The exchanges of a shadow process by connection, and the bound of what they hold together: this
/// is what a hung shadow under a load of large requests would fill.
struct InferenceMemory: ~Copyable {
    private let exchanges: UnsafeMutablePointer<InferenceExchange?>
    private let capacity: Int
    private let held: UnsafeMutablePointer<Int>
    private let heldBytesMax: Int
    /// Longest body that is read.
    let bodyBytesMax: Int

    /// For `connections`, within a process that may take `memoryBytes`.
    init(connections: Int, memoryBytes: Int) {
        capacity = connections
        heldBytesMax = min(
            ShadowLimits.heldBytesMax, memoryBytes / ShadowLimits.heldShareOfMemory)
        bodyBytesMax = min(
            ShadowLimits.bodyBytesMax, memoryBytes / ShadowLimits.bodyShareOfMemory)
        exchanges = .allocate(capacity: capacity)
        exchanges.initialize(repeating: nil, count: capacity)
        held = .allocate(capacity: 1)
        held.initialize(to: 0)
    }

    deinit {
        exchanges.deinitialize(count: capacity)
        exchanges.deallocate()
        held.deallocate()
    }

    /// Bytes that are held.
    var heldBytes: Int { held.pointee }

    /// Whether `bytes` more may be held.
    func hasRoom(for bytes: Int) -> Bool { held.pointee + bytes <= heldBytesMax }

    /// Traps where the connection has none.
    subscript(_ slot: Int) -> InferenceExchange { exchanges[slot]! }

    func insert(_ exchange: InferenceExchange, at slot: Int) {
        precondition(exchanges[slot] == nil, "a connection carries two copies")
        held.pointee += exchange.heldBytes
        exchanges[slot] = exchange
    }

    /// Calls `send` with the body in the place of the client's.
    func withBody<R>(_ slot: Int, _ send: (UnsafeRawBufferPointer) -> R) -> R {
        exchanges[slot]!.body.withUnsafeBytes(send)
    }

    /// Gives a body back that was sent whole, but for a short one that a capture will hold.
    func bodyWasSent(_ slot: Int, isCaptured: Bool) {
        let count = exchanges[slot]!.body.count
        if isCaptured, count <= ShadowLimits.bodyKeptBytesMax { return }
        held.pointee -= count
        exchanges[slot]!.body = []
    }

    /// What the head of the answer says.
    func note(_ slot: Int, fields: [UInt8] = [], flags: CaptureHead.Flags) {
        if !fields.isEmpty { exchanges[slot]!.fields = fields }
        exchanges[slot]!.flags.formUnion(flags)
    }

    /// Keeps the next bytes of an answer's payload: `max` of it altogether, and only while there is
    /// room. `firstByteUs` counts where these are the first.
    func keep(
        _ bytes: UnsafeRawBufferPointer, _ slot: Int, max: Int, firstByteUs: () -> UInt32
    ) {
        if exchanges[slot]!.firstByteUs == 0 { exchanges[slot]!.firstByteUs = firstByteUs() }
        guard !exchanges[slot]!.flags.contains(.answerCut) else { return }
        let there = exchanges[slot]!.answer.count
        let count = min(bytes.count, max - there)
        if count < bytes.count { exchanges[slot]!.flags.insert(.answerCut) }
        let room = exchanges[slot]!.room
        if there + count > room {
            let larger = min(
                max, Swift.max(there + count, 2 * room, ShadowLimits.captureRoomBytes))
            guard hasRoom(for: larger - room) else {
                exchanges[slot]!.flags.insert(.answerCut)
                return
            }
            held.pointee += larger - room
            exchanges[slot]!.room = larger
            exchanges[slot]!.answer.reserveCapacity(larger)
        }
        exchanges[slot]!.answer.append(contentsOf: bytes.prefix(count))
    }

    /// Forgets what the connection has, if anything.
    func remove(_ slot: Int) {
        guard let exchange = exchanges[slot] else { return }
        held.pointee -= exchange.heldBytes
        exchanges[slot] = nil
    }
}
