public import CLinux
public import CoreLoop

/// A connection's way in and out: a socket, and the TLS on it where there is any. The one place
/// where the two ways part; the outcomes are the same.
public struct Channel: BitwiseCopyable {
    /// The socket.
    public let fd: Int32
    /// Off for a plain one.
    public let tls: TLSSession

    /// Both as the connection's slab holds them.
    @inlinable @inline(__always)
    public init(fd: Int32, tls: TLSSession) {
        self.fd = fd
        self.tls = tls
    }

    /// One read of at most `count` bytes.
    @inlinable @inline(__always)
    public func receive(_ memory: UnsafeMutableRawPointer, _ count: Int) -> ReadOutcome {
        if _slowPath(tls.isOn) { return tls.receive(memory, count) }
        return Socket.receive(fd, memory, count)
    }

    /// One read into several buffers.
    @inlinable @inline(__always)
    public func receive(into vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> ReadOutcome {
        if _slowPath(tls.isOn) { return tls.receive(into: vectors, count) }
        return Socket.receive(fd, into: vectors, count)
    }

    /// Whether a read that brought fewer bytes than asked for has left nothing behind: the next
    /// event says when there is more. TLS may have met the stream's end in the same read, or kept
    /// something back, and no event tells of that.
    @inlinable @inline(__always)
    public func isDrained(isShort: Bool) -> Bool {
        if _slowPath(tls.isOn) { return isShort && !tls.hasMore }
        return isShort
    }

    /// One write of `count` bytes.
    @inlinable @inline(__always)
    public func send(_ memory: UnsafeRawPointer, _ count: Int) -> WriteOutcome {
        if _slowPath(tls.isOn) { return tls.send(memory, count) }
        return Socket.send(fd, memory, count)
    }

    /// One gathering write.
    @inlinable @inline(__always)
    public func send(vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> WriteOutcome {
        if _slowPath(tls.isOn) { return tls.send(vectors: vectors, count) }
        return Socket.send(fd, vectors: vectors, count)
    }

    /// Whether the peer of an idle connection has closed it, or sent what nobody asked for. Only
    /// for a connection that is closed where it is.
    @inlinable @inline(__always)
    public var isStale: Bool {
        if _slowPath(tls.isOn) { return tls.isStale }
        return Socket.isStale(fd)
    }

    /// Sends the end of the stream; reading goes on.
    @inlinable @inline(__always)
    public func shutdownWrites() {
        if _slowPath(tls.isOn) { tls.shutdownWrites() }
        Socket.shutdownWrites(fd)
    }
}
