public import CLinux
import COpenSSL
public import CoreLoop

/// What a step of a handshake came to.
public enum HandshakeOutcome {
    case done
    /// The peer is to say more, or to read more, first.
    case wouldBlock
    /// The client speaks HTTP without TLS.
    case plainHTTP
    case failed(HandshakeFault)
}

/// Why a handshake failed, for a log line.
public struct HandshakeFault: BitwiseCopyable, Sendable {
    let code: UInt
    let verifyResult: Int

    /// Whether it is the peer's certificate that was refused.
    public var isCertificate: Bool { verifyResult != Int(X509_V_OK) }

    /// One sentence's end: `certificate verify failed (self-signed certificate)`.
    public var text: String {
        if isCertificate {
            let why = String(cString: X509_verify_cert_error_string(verifyResult))
            return "certificate verify failed (\(why))"
        }
        guard code != 0, let reason = ERR_reason_error_string(code) else {
            return "the connection ended in the handshake"
        }
        return String(cString: reason)
    }
}

/// One connection's TLS: a handle without an owner, kept in the connection's slab. Whoever made it
/// calls `close` exactly once. Its outcomes are those of `Socket`.
public struct TLSSession: BitwiseCopyable {
    @usableFromInline let pointer: OpaquePointer?

    /// No TLS.
    @inlinable public init() { self.init(nil) }
    @usableFromInline init(_ pointer: OpaquePointer?) { self.pointer = pointer }

    /// A session over a connected socket, which stays the caller's. Nil where memory has run out.
    init?(_ context: OpaquePointer?, fd: Int32, isServer: Bool) {
        guard let ssl = SSL_new(context) else {
            ERR_clear_error()
            return nil
        }
        guard let bio = BIO_new(SocketBIO.method) else {
            SSL_free(ssl)
            ERR_clear_error()
            return nil
        }
        SocketState(fd: fd, expectsHello: isServer).store(bio)
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
        if isServer { SSL_set_accept_state(ssl) } else { SSL_set_connect_state(ssl) }
        pointer = ssl
    }

    /// Whether there is TLS at all.
    @inlinable public var isOn: Bool { pointer != nil }

    private var bio: OpaquePointer? { SSL_get_rbio(pointer) }

    private func mark(_ change: (inout SocketState) -> Void) {
        var state = SocketState(bio)
        change(&state)
        state.store(bio)
    }

    // MARK: Handshake

    /// Goes on with the handshake; after an event that says that it may.
    public func handshake() -> HandshakeOutcome {
        mark { $0.isDrained = false }
        let result = SSL_do_handshake(pointer)
        if result == 1 {
            mark { $0.isSecured = true }
            ERR_clear_error()
            return .done
        }
        switch SSL_get_error(pointer, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            ERR_clear_error()
            return .wouldBlock
        default:
            let code = ERR_peek_error()
            ERR_clear_error()
            if SocketState(bio).isPlain { return .plainHTTP }
            let isCertificate =
                umbra_library(code) == ERR_LIB_SSL
                && umbra_reason(code) == SSL_R_CERTIFICATE_VERIFY_FAILED
            return .failed(
                HandshakeFault(
                    code: code,
                    verifyResult: isCertificate ? SSL_get_verify_result(pointer) : 0))
        }
    }

    /// Whether the session before was taken up: no certificate was shown again.
    public var isResumed: Bool { SSL_session_reused(pointer) == 1 }

    /// Days until the certificate that the peer showed ends; nil where it showed none.
    public var peerDaysLeft: Int? {
        guard let certificate = SSL_get1_peer_certificate(pointer) else { return nil }
        defer { X509_free(certificate) }
        return CertificateDates.daysLeft(certificate)
    }

    /// Whether it speaks TLS 1.3.
    public var isVersion13: Bool { SSL_version(pointer) == TLS1_3_VERSION }

    /// Bytes of the peer may be here already, behind the handshake.
    public var hasInput: Bool {
        SSL_has_pending(pointer) == 1 || !SocketState(bio).isDrained
    }

    /// Whether bytes of the peer were read from the socket and not yet handed out.
    public var hasPending: Bool { isOn && SSL_has_pending(pointer) == 1 }

    // MARK: Reading

    /// Fills `memory` as far as there are bytes. Fewer than `count` means that there are no more
    /// for now, as for a plain socket's `recv`; see `Channel.isDrained`. An end without the peer's
    /// close_notify is `.failed`: what came before it may be cut off (RFC 8446 §6.1).
    public func receive(_ memory: UnsafeMutableRawPointer, _ count: Int) -> ReadOutcome {
        var records = 0
        beginReading()
        return fill(memory, count, &records)
    }

    /// As `receive`, into several buffers.
    public func receive(into vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> ReadOutcome {
        var records = 0
        beginReading()
        var total = 0
        for place in 0..<count {
            let room = vectors[place].iov_len
            switch fill(vectors[place].iov_base!, room, &records) {
            case .bytes(let received):
                total += received
                if received < room { return .bytes(total) }
            case let other:
                guard total > 0 else { return other }
                if other != .wouldBlock { mark { $0.hasEnded = true } }
                return .bytes(total)
            }
        }
        return .bytes(total)
    }

    private func beginReading() {
        mark {
            $0.isDrained = false
            $0.hasMore = false
        }
    }

    private func fill(
        _ memory: UnsafeMutableRawPointer, _ count: Int, _ records: inout Int
    ) -> ReadOutcome {
        var total = 0
        while total < count {
            let result = SSL_read(pointer, memory + total, Int32(min(count - total, 1 << 30)))
            if result > 0 {
                total += Int(result)
                // A record at a time; the next may be here, in the session or in the socket.
                if SocketState(bio).isDrained, SSL_has_pending(pointer) == 0 { break }
                records += 1
                guard records < TLSLimits.recordsPerReadMax else {
                    mark { $0.hasMore = true }
                    break
                }
                continue
            }
            let outcome = readFailure(result)
            if total == 0 { return outcome }
            if outcome != .wouldBlock { mark { $0.hasEnded = true } }
            break
        }
        return .bytes(total)
    }

    private func readFailure(_ result: Int32) -> ReadOutcome {
        switch SSL_get_error(pointer, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .wouldBlock
        case SSL_ERROR_ZERO_RETURN: return .endOfStream
        default:
            ERR_clear_error()
            return .failed(ECONNRESET)
        }
    }

    /// Whether there is more behind the bytes that the last read brought, an end or what its bound
    /// kept back, that no event tells of.
    @usableFromInline var hasMore: Bool {
        let state = SocketState(bio)
        return state.hasEnded || state.hasMore
    }

    /// As `Socket.isStale`, for a connection that is closed where the answer is true: what the peer
    /// sent unasked is taken. A session ticket that comes late is no reason.
    public var isStale: Bool {
        var byte: UInt8 = 0
        return receive(&byte, 1) != .wouldBlock
    }

    // MARK: Writing

    /// Sends `count` bytes, record by record, until all are taken or the kernel takes no more.
    ///
    /// A record that was made and did not fit is kept by OpenSSL and not counted as taken: the
    /// bytes that were not taken have to come first again, which a queue does by itself.
    public func send(_ memory: UnsafeRawPointer, _ count: Int) -> WriteOutcome {
        var sent = 0
        while sent < count {
            let pending = SocketState(bio).pendingBytes
            let wanted =
                pending > 0 ? pending : min(count - sent, TLSLimits.recordBytesMax)
            precondition(wanted <= count - sent, "bytes of an unsent record are missing")
            switch write(memory + sent, wanted, pending) {
            case .bytes(let taken): sent += taken
            case let other: return sent > 0 && other == .wouldBlock ? .bytes(sent) : other
            }
        }
        return .bytes(sent)
    }

    /// As `send`, from several buffers. What fits into one record is put into one, so that a head
    /// and a short body cost one `send`.
    public func send(vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> WriteOutcome {
        var place = 0
        var offset = 0
        var sent = 0
        while place < count {
            let pending = SocketState(bio).pendingBytes
            let first = vectors[place].iov_base! + offset
            let firstCount = vectors[place].iov_len - offset
            let outcome: WriteOutcome
            let whole = pending > 0 ? pending : gathered(vectors, place, offset, count)
            if whole <= firstCount {
                outcome = write(first, whole, pending)
            } else {
                let scratch = gather(vectors, place, offset, count, whole)
                outcome = write(scratch, whole, pending)
            }
            guard case .bytes(let taken) = outcome else {
                return sent > 0 && outcome == .wouldBlock ? .bytes(sent) : outcome
            }
            sent += taken
            var left = taken
            while left > 0 {
                let here = vectors[place].iov_len - offset
                if left < here {
                    offset += left
                    left = 0
                } else {
                    left -= here
                    place += 1
                    offset = 0
                }
            }
        }
        return .bytes(sent)
    }

    /// Bytes of the next record: whole buffers as long as they fit into one, else what fits of the
    /// first.
    private func gathered(
        _ vectors: UnsafeMutablePointer<iovec>, _ place: Int, _ offset: Int, _ count: Int
    ) -> Int {
        var bytes = vectors[place].iov_len - offset
        if bytes >= TLSLimits.recordBytesMax { return TLSLimits.recordBytesMax }
        var next = place + 1
        while next < count, bytes + vectors[next].iov_len <= TLSLimits.gatheredBytesMax {
            bytes += vectors[next].iov_len
            next += 1
        }
        return bytes
    }

    private func gather(
        _ vectors: UnsafeMutablePointer<iovec>, _ place: Int, _ offset: Int, _ count: Int,
        _ wanted: Int
    ) -> UnsafeRawPointer {
        let scratch = ContextFacts.of(self.pointer).pointee.scratch
        var filled = 0
        var next = place
        var skip = offset
        while filled < wanted {
            precondition(next < count, "bytes of an unsent record are missing")
            let length = min(vectors[next].iov_len - skip, wanted - filled)
            (scratch + filled).copyMemory(from: vectors[next].iov_base! + skip, byteCount: length)
            filled += length
            next += 1
            skip = 0
        }
        return UnsafeRawPointer(scratch)
    }

    /// Makes and sends one record.
    private func write(_ memory: UnsafeRawPointer, _ count: Int, _ pending: Int) -> WriteOutcome {
        let result = SSL_write(pointer, memory, Int32(count))
        if result > 0 {
            if pending > 0 { mark { $0.pendingBytes = 0 } }
            return .bytes(Int(result))
        }
        switch SSL_get_error(pointer, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            if pending != count { mark { $0.pendingBytes = count } }
            return .wouldBlock
        default:
            ERR_clear_error()
            return .failed(EPIPE)
        }
    }

    // MARK: The end

    /// Tells the peer that nothing more comes (close_notify). Not for an answer that was cut off:
    /// its end would look like the whole one's.
    public func shutdownWrites() {
        _ = SSL_shutdown(pointer)
        ERR_clear_error()
    }

    /// Gives the session's memory back. With `saysGoodbye` the peer is told that this is the end.
    public func close(saysGoodbye: Bool) {
        guard let pointer else { return }
        if saysGoodbye { shutdownWrites() }
        // Without both marks OpenSSL would take the session for one that must not be resumed.
        SSL_set_shutdown(pointer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(pointer)
    }
}
