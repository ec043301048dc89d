import Providers

/// What a shadow process keeps about a copy that asks a model, beside its connection.
struct InferenceExchange {
    /// The body that is sent in the place of the client's; empty where that one is, from the
    /// worker's blocks.
    var body: [UInt8] = []
    /// The model as sent; empty where the request names none.
    var model = ""
    /// The request asks for a stream.
    var isStreamed = false
    /// What the translation could not carry over.
    var losses: [TranslationLoss] = []

    /// Bytes of the process's memory that it counts for.
    var heldBytes: Int { body.count }
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

    /// Calls `send` with the body in the place of the client's, where the connection has one.
    func withBody<R>(_ slot: Int, _ send: (UnsafeRawBufferPointer) -> R) -> R {
        exchanges[slot]!.body.withUnsafeBytes(send)
    }

    /// Gives a body back that was sent whole.
    func removeBody(_ slot: Int) {
        guard let count = exchanges[slot]?.body.count, count > 0 else { return }
        held.pointee -= count
        exchanges[slot]!.body = []
    }

    /// Forgets what the connection has, if anything.
    func remove(_ slot: Int) {
        guard let exchange = exchanges[slot] else { return }
        held.pointee -= exchange.heldBytes
        exchanges[slot] = nil
    }
}
