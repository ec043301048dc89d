import COpenSSL
import CLinux
import CoreLoop

/// What a session's BIO knows, in the bits of its one data pointer: nothing is allocated for it.
///
/// Bits 0–31 the socket, 32–39 flags, 40–55 bytes of the record that waits for the kernel, 56–63
/// steps of the state machine since the handshake.
struct SocketState {
    private(set) var raw: UInt

    private static let present: UInt = 1 << 32
    private static let drained: UInt = 1 << 33
    private static let ended: UInt = 1 << 34
    private static let greeted: UInt = 1 << 35
    private static let plain: UInt = 1 << 36
    private static let secured: UInt = 1 << 37
    private static let more: UInt = 1 << 38
    private static let stepsShift: UInt = 56
    private static let pendingShift: UInt = 40
    private static let pendingMask: UInt = 0xFFFF << pendingShift

    init(fd: Int32, expectsHello: Bool) {
        raw = UInt(UInt32(bitPattern: fd)) | Self.present | (expectsHello ? 0 : Self.greeted)
    }

    @inline(__always)
    init(_ bio: OpaquePointer?) { raw = UInt(bitPattern: BIO_get_data(bio)) }

    @inline(__always)
    func store(_ bio: OpaquePointer?) {
        BIO_set_data(bio, UnsafeMutableRawPointer(bitPattern: raw))
    }

    @inline(__always)
    private func has(_ bit: UInt) -> Bool { raw & bit != 0 }
    @inline(__always)
    private mutating func set(_ bit: UInt, _ on: Bool) { raw = on ? raw | bit : raw & ~bit }

    var fd: Int32 { Int32(bitPattern: UInt32(truncatingIfNeeded: raw)) }
    /// A read came short: the socket is empty until the next event says otherwise.
    var isDrained: Bool {
        get { has(Self.drained) }
        set { set(Self.drained, newValue) }
    }
    /// The stream's end, clean or not, lies behind the bytes that were handed out.
    var hasEnded: Bool {
        get { has(Self.ended) }
        set { set(Self.ended, newValue) }
    }
    /// The first byte of the peer was seen, or is none of a client's.
    var isGreeted: Bool {
        get { has(Self.greeted) }
        set { set(Self.greeted, newValue) }
    }
    /// It was that of a method's name.
    var isPlain: Bool {
        get { has(Self.plain) }
        set { set(Self.plain, newValue) }
    }
    /// The handshake is done: every message but content counts as a step from now on.
    var isSecured: Bool {
        get { has(Self.secured) }
        set { set(Self.secured, newValue) }
    }
    /// A read was ended by its bound: there may be more, and no event tells of it.
    var hasMore: Bool {
        get { has(Self.more) }
        set { set(Self.more, newValue) }
    }
    /// What the peer had OpenSSL do besides passing content on: key updates, attempts to
    /// renegotiate, tickets.
    var steps: Int { Int(raw >> Self.stepsShift) }
    mutating func countStep() {
        if steps < TLSLimits.stepsMax { raw += 1 << Self.stepsShift }
    }
    /// Bytes of the record that was made and not sent whole: the next write has to bring the same.
    var pendingBytes: Int {
        get { Int((raw & Self.pendingMask) >> Self.pendingShift) }
        set { raw = raw & ~Self.pendingMask | UInt(newValue) << Self.pendingShift }
    }
}

/// OpenSSL's way to a non-blocking socket. Its own socket BIO would pay a `recv` for EAGAIN behind
/// every short read, and raise SIGPIPE.
enum SocketBIO {
    nonisolated(unsafe) static let method: OpaquePointer = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "umbra socket")
        else { preconditionFailure("no memory for a BIO's method") }
        BIO_meth_set_read(method, receive)
        BIO_meth_set_write(method, send)
        BIO_meth_set_ctrl(method, control)
        return method
    }()

    private static let receive:
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int32) -> Int32 = {
            bio, memory, count in
            var state = SocketState(bio)
            guard !state.isDrained, let memory else {
                umbra_bio_retry_read(bio)
                return -1
            }
            // OpenSSL goes on reading until there is content: a peer that sends none would never
            // let go of it.
            guard state.steps < TLSLimits.stepsMax else {
                umbra_bio_clear_retry(bio)
                return -1
            }
            switch Socket.receive(state.fd, memory, Int(count)) {
            case .bytes(let received):
                umbra_bio_clear_retry(bio)
                if received < Int(count) { state.isDrained = true }
                if !state.isGreeted {
                    state.isGreeted = true
                    // A record begins with its type, 22; a request with a letter. Told apart here,
                    // before OpenSSL answers with an alert that no HTTP client understands.
                    let first = UInt8(bitPattern: memory[0])
                    if first >= UInt8(ascii: "A"), first <= UInt8(ascii: "Z") {
                        state.isPlain = true
                        state.store(bio)
                        return -1
                    }
                }
                state.store(bio)
                return Int32(received)
            case .wouldBlock:
                state.isDrained = true
                state.store(bio)
                umbra_bio_retry_read(bio)
                return -1
            case .endOfStream:
                umbra_bio_clear_retry(bio)
                return 0
            case .failed:
                umbra_bio_clear_retry(bio)
                return -1
            }
        }

    private static let send:
        @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int32) -> Int32 = {
            bio, memory, count in
            guard let memory else { return 0 }
            switch Socket.send(SocketState(bio).fd, memory, Int(count)) {
            case .bytes(let sent):
                umbra_bio_clear_retry(bio)
                return Int32(sent)
            case .wouldBlock:
                umbra_bio_retry_write(bio)
                return -1
            case .failed:
                umbra_bio_clear_retry(bio)
                return -1
            }
        }

    private static let control:
        @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = {
            _, command, _, _ in
            // Nothing is held back here; everything else has no meaning for a socket.
            command == BIO_CTRL_FLUSH ? 1 : 0
        }
}
