import CLinux
public import CoreLoop
import Glibc
import Synchronization

/// An HTTP/1.1 server on one thread: the primary, or a shadow with a fault.
///
/// Answers are made once; a request costs one `recv`, one `send` and the reading of its head.
/// Pipelined requests are answered in order.
public final class Origin: @unchecked Sendable {
    struct Connection: BitwiseCopyable {
        enum Phase: UInt8 { case reading, delayed, writing, draining }

        var fd: Int32 = -1
        var phase = Phase.reading
        var headIsRead = false
        var isHead = false
        var closesAfter = false
        /// The kernel may hold more than was read: an edge came while an answer was on its way.
        var mayRead = false
        var body = BodyReader.none
        /// Bytes kept at the start of the connection's part of the stash.
        var stashed = 0
        /// Of an echoed answer: its head and body, in the connection's part of the echo memory.
        var echoBytes = 0
        var echoesChunks = false
        var answerBytes = 0
        var sentBytes = 0
    }

    struct Delayed: BitwiseCopyable {
        var dueNs: UInt64
        var slot: UInt32
        var generation: UInt32
    }

    let options: OriginOptions
    /// Unix sockets cannot throw bytes away unread, and an echo needs them.
    let canDiscard: Bool
    /// Where it listens, the port found where 0 was asked for.
    public let address: SocketAddress
    var listener: Int32
    let epoll: Epoll
    let timer: KernelTimer
    let wake: Wake
    let slab: Slab<Connection>
    let stash: SharedMemory
    let echoMemory: SharedMemory
    let buffer: UnsafeMutablePointer<UInt8>
    let answerKept: Answer
    let answerClosing: Answer
    let counterMemory: SharedMemory
    let counters: CounterRow<OriginCounter>
    let arrivalMemory: SharedMemory
    /// Arrivals recorded; published after each is written, so that other threads may read.
    let arrivalCount: Cell
    /// All delays are equal, so the first in is the first due.
    let delayed: UnsafeMutablePointer<Delayed>
    let delayedCapacity: Int
    var delayedHead = 0
    var delayedCount = 0
    var armedAt: UInt64 = 0
    let stopAsked: Atomic<Bool>
    private var thread: pthread_t?
    private var cpu: Int?

    static let listenerToken = Token(kind: 1, slot: 0, generation: 0)
    static let timerToken = Token(kind: 2, slot: 0, generation: 0)
    static let wakeToken = Token(kind: 3, slot: 0, generation: 0)
    static let connectionKind: UInt8 = 4
    /// The echo memory of one connection: an answer head, then what is echoed.
    static let echoSlotBytes = LoadLimits.echoBytesMax + 1_024

    /// Binds and listens; serves once `run` or `start` is called.
    public init(_ options: OriginOptions) throws(SystemError) {
        self.options = options
        canDiscard = !options.listen.isUnix && options.echo != .body
        let count = max(1, min(options.connectionsMax, LoadLimits.connectionsMax))
        ProcessControl.raiseFileLimit(to: count + 256)
        if options.mode == .refuse {
            listener = try Self.bindOnly(options.listen)
        } else {
            listener = try Socket.listen(on: options.listen, sharesPort: options.sharesPort)
        }
        address = try Socket.localAddress(listener)
        epoll = try Epoll()
        timer = try KernelTimer()
        wake = try Wake.create()
        slab = try Slab(capacity: count)
        stash = try .plain(byteCount: count * LoadLimits.headBytesMax)
        echoMemory = try .plain(byteCount: options.echo == .off ? 1 : count * Self.echoSlotBytes)
        buffer = .allocate(capacity: LoadLimits.receiveBytes)
        answerKept = .make(options, closes: false)
        answerClosing = .make(options, closes: true)
        var plan = MemoryPlan()
        _ = CounterRow<OriginCounter>(plan: &plan)
        _ = plan.take(Atomic<UInt64>.self, count: 1)
        counterMemory = try .plain(byteCount: plan.byteCount)
        plan = MemoryPlan(base: counterMemory.base)
        counters = CounterRow(plan: &plan)!
        arrivalCount = Cell(plan.take(Atomic<UInt64>.self, count: 1)!)
        arrivalMemory = try .plain(
            byteCount: max(1, options.arrivalsMax) * MemoryLayout<Arrival>.stride)
        delayedCapacity = count * 2
        delayed = .allocate(capacity: delayedCapacity)
        stopAsked = Atomic(false)
        if options.mode != .refuse, options.mode != .neverAccept {
            try epoll.add(listener, Self.listenerToken, mode: .level)
        }
        try epoll.add(timer.fd, Self.timerToken)
        try epoll.add(wake.fd, Self.wakeToken)
    }

    deinit {
        for slot in 0..<slab.walkEnd where slab.isUsed(slot) { close(slab[slot].pointee.fd) }
        if listener >= 0 { close(listener) }
        close(wake.fd)
        answerKept.deallocate()
        answerClosing.deallocate()
        delayed.deallocate()
        buffer.deallocate()
    }

    /// A bound port on which nobody listens: the kernel refuses connects, and nobody else takes it.
    private static func bindOnly(_ address: SocketAddress) throws(SystemError) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = try check(socket(address.family, type, 0), "socket")
        var on: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        do throws(SystemError) {
            try check(address.withSockaddr { bind(fd, $0, $1) }, "bind")
        } catch {
            close(fd)
            throw error
        }
        return fd
    }

    // MARK: From outside

    /// Serves on a thread of its own, on `cpu` where given. Call `stop` before letting go.
    public func start(cpu: Int? = nil) {
        precondition(thread == nil, "an origin is started once")
        self.cpu = cpu
        var created = pthread_t()
        let code = pthread_create(
            &created, nil,
            { argument in
                let origin = Unmanaged<Origin>.fromOpaque(argument!).takeRetainedValue()
                if let cpu = origin.cpu { ProcessControl.setAffinity([cpu]) }
                origin.run()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        precondition(code == 0, "pthread_create failed")
        thread = created
    }

    /// Ends the thread and waits for it; the counts stay readable.
    public func stop() {
        askToStop()
        if let thread { _ = pthread_join(thread, nil) }
        thread = nil
    }

    /// Makes `run` return soon. May be called from a signal handler.
    public func askToStop() {
        stopAsked.store(true, ordering: .relaxed)
        wake.signal()
    }

    /// A counter's value now.
    public func value(_ name: OriginCounter) -> UInt64 { counters.value(name) }

    /// The arrivals kept so far, in order.
    public func arrivals() -> [Arrival] {
        let count = Int(arrivalCount.acquired)
        let base = arrivalMemory.base.assumingMemoryBound(to: Arrival.self)
        return Array(UnsafeBufferPointer(start: base, count: count))
    }

    /// The arrivals kept so far.
    public var arrivalsKept: Int { Int(arrivalCount.acquired) }

    // MARK: The loop

    /// Serves on this thread until asked to stop.
    public func run() {
        while !stopAsked.load(ordering: .relaxed) {
            let events = epoll.wait(timeoutMs: -1)
            for index in 0..<events {
                let event = epoll.event(index)
                switch event.token.kind {
                case Self.listenerToken.kind: acceptAll()
                case Self.timerToken.kind: answerDue()
                case Self.connectionKind:
                    let slot = event.token.slot
                    guard slab.isLive(slot, event.token.generation) else { continue }
                    ready(slot, event.readiness)
                default: wake.clear()
                }
            }
            if delayedCount > 0 { armTimer() }
        }
    }

    private func acceptAll() {
        var storage = sockaddr_storage()
        var length = socklen_t(0)
        for _ in 0..<Limits.acceptsPerTurnMax {
            guard case .connection(let fd) = Socket.accept(listener, &storage, &length) else {
                return
            }
            guard let slot = slab.insert(Connection(fd: fd)) else {
                counters.add(.connectionsRefused)
                close(fd)
                continue
            }
            counters.add(.connections)
            let token = Token(
                kind: Self.connectionKind, slot: slot, generation: slab.generation(slot))
            do throws(SystemError) { try epoll.add(fd, token) } catch { drop(slot) }
        }
    }

    private func ready(_ slot: Int, _ readiness: Readiness) {
        let connection = slab[slot]
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .error, .hangUp]) {
            connection.pointee.mayRead = true
        }
        let generation = slab.generation(slot)
        if connection.pointee.phase == .writing, readiness.contains(.writable) { write(slot) }
        if slab.isLive(slot, generation) { proceed(slot) }
    }

    func drop(_ slot: Int) {
        close(slab[slot].pointee.fd)
        slab.remove(slot)
    }

    // MARK: Delays

    /// Puts the answer off by `delayMs`.
    func delay(_ slot: Int) {
        // A closed connection's entry stays until it is due: hence twice the room, and beyond
        // it the answer goes out at once rather than never.
        guard delayedCount < delayedCapacity else {
            slab[slot].pointee.phase = .writing
            write(slot)
            return
        }
        slab[slot].pointee.phase = .delayed
        var place = delayedHead + delayedCount
        if place >= delayedCapacity { place -= delayedCapacity }
        delayed[place] = Delayed(
            dueNs: Instant.now().nanoseconds &+ UInt64(options.delayMs * 1e6), slot: UInt32(slot),
            generation: slab.generation(slot))
        delayedCount += 1
    }

    private func answerDue() {
        let now = Instant.now().nanoseconds
        while delayedCount > 0, delayed[delayedHead].dueNs <= now {
            let entry = delayed[delayedHead]
            delayedHead = delayedHead + 1 == delayedCapacity ? 0 : delayedHead + 1
            delayedCount -= 1
            guard slab.isLive(Int(entry.slot), entry.generation) else { continue }
            slab[Int(entry.slot)].pointee.phase = .writing
            write(Int(entry.slot))
            if slab.isLive(Int(entry.slot), entry.generation) { proceed(Int(entry.slot)) }
        }
    }

    private func armTimer() {
        let due = delayed[delayedHead].dueNs
        guard due != armedAt else { return }
        armedAt = due
        timer.arm(at: due)
    }
}
