public import CLinux

/// What a read brought.
public enum ReadOutcome: Equatable {
    case bytes(Int)
    case wouldBlock
    case endOfStream
    case failed(Int32)
}

/// What a write took.
public enum WriteOutcome: Equatable {
    case bytes(Int)
    case wouldBlock
    case failed(Int32)
}

/// What an accept brought.
public enum AcceptOutcome {
    case connection(fd: Int32)
    case wouldBlock
    /// The peer was gone before it was accepted: try the next.
    case aborted
    /// EMFILE, ENFILE, ENOBUFS or ENOMEM: nothing can be accepted for now.
    case exhausted
}

/// What became of a non-blocking connect.
public enum ConnectOutcome {
    case connected(fd: Int32)
    case inProgress(fd: Int32)
    case failed(Int32)
}

/// Non-blocking stream sockets. Expected things are outcomes; an errno that only a bug of ours
/// can bring (EBADF, EFAULT, ENOTSOCK, EINVAL) traps.
public enum Socket {
    @usableFromInline
    static func assertNotOurBug(_ code: Int32) {
        precondition(
            code != EBADF && code != EFAULT && code != ENOTSOCK && code != EINVAL,
            "a socket call failed as only a bug of ours makes it fail")
    }

    /// One `recv` of at most `count` bytes.
    @inlinable
    public static func receive(_ fd: Int32, _ memory: UnsafeMutableRawPointer, _ count: Int)
        -> ReadOutcome
    {
        while true {
            let n = recv(fd, memory, count, 0)
            if n > 0 { return .bytes(n) }
            if n == 0 { return .endOfStream }
            let code = lastErrno
            if code == EAGAIN { return .wouldBlock }
            if code == EINTR { continue }
            assertNotOurBug(code)
            return .failed(code)
        }
    }

    /// One `readv` into several buffers.
    @inlinable
    public static func receive(_ fd: Int32, into vectors: UnsafeMutablePointer<iovec>, _ count: Int)
        -> ReadOutcome
    {
        while true {
            let n = readv(fd, vectors, Int32(count))
            if n > 0 { return .bytes(n) }
            if n == 0 { return .endOfStream }
            let code = lastErrno
            if code == EAGAIN { return .wouldBlock }
            if code == EINTR { continue }
            assertNotOurBug(code)
            return .failed(code)
        }
    }

    /// One `send`; a closed peer is `.failed(EPIPE)`, never a signal.
    @inlinable
    public static func send(
        _ fd: Int32, _ memory: UnsafeRawPointer, _ count: Int, more: Bool = false
    ) -> WriteOutcome {
        let flags = Int32(MSG_NOSIGNAL) | (more ? Int32(MSG_MORE) : 0)
        while true {
            let n = CLinux.send(fd, memory, count, flags)
            if n >= 0 { return .bytes(n) }
            let code = lastErrno
            if code == EAGAIN { return .wouldBlock }
            if code == EINTR { continue }
            assertNotOurBug(code)
            return .failed(code)
        }
    }

    /// One gathering `sendmsg` of `count` buffers (at most IOV_MAX, 1,024).
    @inlinable
    public static func send(_ fd: Int32, vectors: UnsafeMutablePointer<iovec>, _ count: Int)
        -> WriteOutcome
    {
        var message = msghdr()
        message.msg_iov = vectors
        message.msg_iovlen = count
        while true {
            let n = sendmsg(fd, &message, Int32(MSG_NOSIGNAL))
            if n >= 0 { return .bytes(n) }
            let code = lastErrno
            if code == EAGAIN { return .wouldBlock }
            if code == EINTR { continue }
            assertNotOurBug(code)
            return .failed(code)
        }
    }

    /// True where the peer of an idle connection has closed it, reset it, or sent bytes nobody
    /// asked for.
    @inlinable
    public static func isStale(_ fd: Int32) -> Bool {
        var byte: UInt8 = 0
        let n = recv(fd, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
        return n >= 0 || lastErrno != EAGAIN
    }

    /// Accepts one connection, non-blocking and closed on exec.
    @inlinable
    public static func accept(
        _ listener: Int32, _ address: UnsafeMutablePointer<sockaddr_storage>,
        _ length: inout socklen_t
    ) -> AcceptOutcome {
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let fd = address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            accept4(listener, $0, &length, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
        }
        if fd >= 0 { return .connection(fd: fd) }
        switch lastErrno {
        case EAGAIN: return .wouldBlock
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted
        case let code:
            assertNotOurBug(code)
            return .aborted
        }
    }

    /// Starts a connection to `address`.
    public static func connect(to address: SocketAddress) -> ConnectOutcome {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = socket(address.family, type, 0)
        if fd < 0 { return .failed(lastErrno) }
        if !address.isUnix { setNoDelay(fd) }
        let result = address.withSockaddr { CLinux.connect(fd, $0, $1) }
        if result == 0 { return .connected(fd: fd) }
        let code = lastErrno
        if code == EINPROGRESS { return .inProgress(fd: fd) }
        close(fd)
        return .failed(code)
    }

    /// The error that a connect in progress ended with; 0 where it succeeded.
    @inlinable
    public static func pendingError(_ fd: Int32) -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length)
        return code
    }

    /// Small writes leave at once; Nagle's wait would add 40 ms to an answer's tail.
    @inlinable
    public static func setNoDelay(_ fd: Int32) {
        var on: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Makes `close` send a reset: for a peer that must not take a cut-off message for a whole one.
    public static func setResetOnClose(_ fd: Int32) {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    /// Sends the end of the stream; reading goes on.
    @inlinable
    public static func shutdownWrites(_ fd: Int32) {
        shutdown(fd, Int32(SHUT_WR))
    }

    /// A bound, listening, non-blocking socket, closed on exec. With `sharesPort` several may bind
    /// one TCP port and the kernel spreads connections over them (SO_REUSEPORT).
    /// A Unix socket file that nobody listens on any more is removed first.
    /// Throws what `socket`, `bind` or `listen` failed with, EADDRINUSE above all.
    public static func listen(on address: SocketAddress, sharesPort: Bool) throws(SystemError)
        -> Int32
    {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = try check(socket(address.family, type, 0), "socket")
        do throws(SystemError) {
            var on: Int32 = 1
            let size = socklen_t(MemoryLayout<Int32>.size)
            if address.isUnix {
                removeIfDead(address)
            } else {
                try check(
                    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, size), "setsockopt(SO_REUSEADDR)")
                if sharesPort {
                    try check(
                        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, size),
                        "setsockopt(SO_REUSEPORT)")
                }
                // Accepted sockets inherit it: one system call fewer for each connection.
                setNoDelay(fd)
                if address.family == AF_INET6 {
                    setsockopt(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &on, size)
                }
            }
            try check(address.withSockaddr { bind(fd, $0, $1) }, "bind")
            try check(CLinux.listen(fd, Int32(Limits.listenBacklog)), "listen")
        } catch {
            close(fd)
            throw error
        }
        return fd
    }

    /// Removes a Unix socket file that nobody listens on. What a live server listens on stays,
    /// and so does whatever is no socket: `bind` then fails with EADDRINUSE.
    private static func removeIfDead(_ address: SocketAddress) {
        guard let path = address.unixPath else { return }
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & mode_t(S_IFMT) == mode_t(S_IFSOCK) else {
            return
        }
        switch connect(to: address) {
        case .connected(let fd), .inProgress(let fd): close(fd)
        case .failed(ECONNREFUSED): unlink(path)
        case .failed: break
        }
    }

    /// The address that a socket is bound to; asked after binding port 0.
    public static func localAddress(_ fd: Int32) throws(SystemError) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
        }
        try check(result, "getsockname")
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                SocketAddress(copying: $0, length: length)
            }
        }
    }
}
