import CLinux
import CoreLoop

/// One client of the admin listener: its socket, the bytes of its next request, and the answer that
/// is on its way. Does no parsing.
final class AdminConnection {
    enum Phase {
        /// Waits for the rest of a request.
        case reading
        /// Waits for the supervisor to answer an order; requests behind it wait too.
        case parked
        /// Waits for the kernel to take the rest of an answer; requests behind it wait too.
        case writing
        /// The last answer is out; what the client still sends is thrown away.
        case lingering
    }

    let fd: Int32
    /// Tells this connection from others that had its slot.
    let serial: UInt32
    var phase = Phase.reading
    var deadline: Instant
    /// Since when it has had no whole request.
    var waitingSince: Instant
    /// It goes on in the next turn, without an event.
    var goesOn = false
    /// It has had an answer.
    private(set) var hasAsked = false
    /// Nothing is answered behind the answer that is on its way.
    var isLast = false
    /// Bytes of `input` that were parsed and are no whole head.
    var seen = 0
    /// The client was told that its content is waited for.
    var saidContinue = false
    /// The client sends no more.
    private(set) var hasEnded = false

    private let input: UnsafeMutableRawPointer
    private(set) var inputCount = 0
    private var output: [UInt8] = []
    private var sentCount = 0
    private var discardedCount = 0

    /// Takes the non-blocking socket `fd` over.
    init(fd: Int32, serial: UInt32, now: Instant) {
        self.fd = fd
        self.serial = serial
        waitingSince = now
        deadline = now.adding(ms: AdminLimits.headTimeoutMs)
        input = .allocate(byteCount: AdminLimits.inputBytesMax, alignment: 16)
    }

    deinit {
        close(fd)
        input.deallocate()
    }

    /// The bytes that have come and are not yet answered.
    var received: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: input, count: inputCount)
    }

    /// Answer bytes that the kernel has not taken.
    var pendingBytes: Int { output.count - sentCount }

    /// Nothing is asked, and nothing is on its way. One that has just come is about to ask.
    var isIdle: Bool {
        switch phase {
        case .reading: inputCount == 0 && !goesOn && hasAsked
        case .writing, .parked: false
        case .lingering: true
        }
    }

    /// Reads until there is nothing more, or no room. False where the connection is broken.
    func fill() -> Bool {
        while inputCount < AdminLimits.inputBytesMax, !hasEnded {
            let room = AdminLimits.inputBytesMax - inputCount
            switch Socket.receive(fd, input + inputCount, room) {
            case .bytes(let count): inputCount += count
            case .wouldBlock: return true
            case .endOfStream: hasEnded = true
            case .failed: return false
            }
        }
        return true
    }

    /// Drops the first `count` bytes of the input: a request that is answered.
    func consume(_ count: Int) {
        precondition(count <= inputCount)
        inputCount -= count
        memmove(input, input + count, inputCount)
        seen = 0
        saidContinue = false
    }

    /// Asks for the content of the request that has begun, once. Where the kernel does not take the
    /// few bytes, the client sends its content after a while all the same.
    func sayContinue() {
        guard !saidContinue else { return }
        saidContinue = true
        var text: StaticString { "HTTP/1.1 100 Continue\r\n\r\n" }
        _ = Socket.send(fd, text.utf8Start, text.utf8CodeUnitCount)
    }

    /// Begins an answer; the one before it is out.
    func send(_ answer: [UInt8]) {
        precondition(pendingBytes == 0, "an answer overtakes the one before it")
        output = answer
        hasAsked = true
        sentCount = 0
        phase = .writing
    }

    enum FlushOutcome { case done, waits, failed }

    /// Sends what the kernel takes of the answer.
    func flush() -> FlushOutcome {
        while sentCount < output.count {
            let outcome = output.withUnsafeBytes {
                Socket.send(fd, $0.baseAddress! + sentCount, $0.count - sentCount)
            }
            switch outcome {
            case .bytes(let count): sentCount += count
            case .wouldBlock: return .waits
            case .failed: return .failed
            }
        }
        // Large answers are rare: their memory goes back at once.
        output = []
        sentCount = 0
        return .done
    }

    /// Throws away what the client still sends. True once the connection can be closed.
    func discard() -> Bool {
        inputCount = 0
        while discardedCount < AdminLimits.lingerBytesMax, !hasEnded {
            switch Socket.receive(fd, input, AdminLimits.headBytesMax) {
            case .bytes(let count): discardedCount += count
            case .wouldBlock: return false
            case .endOfStream, .failed: return true
            }
        }
        return true
    }
}
