public import CLinux

/// What an event is about: a kind, a slot, and the slot's generation, packed into epoll's 64 bits.
///
/// Identity is never a file descriptor or a pointer: an event that was queued for a connection
/// since closed carries the old generation and is dropped.
public struct Token: Sendable, Equatable {
    /// The 64 bits as epoll carries them.
    public var raw: UInt64

    /// A token as epoll gave it back.
    @inlinable public init(raw: UInt64) { self.raw = raw }

    /// `kind` below 256, `slot` below 2^24; the generation's low 32 bits count.
    @inlinable
    public init(kind: UInt8, slot: Int, generation: UInt32) {
        let slotBits = UInt64(UInt32(truncatingIfNeeded: slot) & 0xFF_FFFF)
        raw = UInt64(kind) | slotBits << 8 | UInt64(generation) << 32
    }

    /// The three parts again.
    @inlinable public var kind: UInt8 { UInt8(truncatingIfNeeded: raw) }
    @inlinable public var slot: Int { Int((raw >> 8) & 0xFF_FFFF) }
    @inlinable public var generation: UInt32 { UInt32(truncatingIfNeeded: raw >> 32) }
}

/// What the kernel said of one descriptor.
public struct Readiness: OptionSet, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Bytes, a connection or an end can be read (EPOLLIN).
    public static var readable: Readiness { .init(rawValue: 0x001) }
    /// Bytes can be written (EPOLLOUT).
    public static var writable: Readiness { .init(rawValue: 0x004) }
    /// The socket has an error waiting (EPOLLERR).
    public static var error: Readiness { .init(rawValue: 0x008) }
    /// Both directions are over (EPOLLHUP).
    public static var hangUp: Readiness { .init(rawValue: 0x010) }
    /// The peer sends no more (EPOLLRDHUP).
    public static var peerClosed: Readiness { .init(rawValue: 0x2000) }
}

/// An epoll instance.
public struct Epoll: ~Copyable {
    /// Edge: told once for each change. Level: told in every turn while it lasts.
    public enum Mode { case edge, level }

    private let fd: Int32
    @usableFromInline let events: UnsafeMutablePointer<epoll_event>

    /// A new instance. Throws where descriptors have run out.
    public init() throws(SystemError) {
        fd = try check(epoll_create1(Int32(EPOLL_CLOEXEC)), "epoll_create1")
        events = .allocate(capacity: Limits.eventsPerTurnMax)
    }

    deinit {
        close(fd)
        events.deallocate()
    }

    /// Watches `fd` for input, output and the peer's end.
    ///
    /// Edge-triggered and registered once, for both directions: backpressure costs no `epoll_ctl`.
    /// With `.level` output is not watched: it is for listeners and eventfds. Throws what
    /// `epoll_ctl` failed with, EEXIST where `fd` is watched already.
    public borrowing func add(_ fd: Int32, _ token: Token, mode: Mode = .edge) throws(SystemError) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue | EPOLLRDHUP.rawValue
        if mode == .edge { event.events |= EPOLLET.rawValue | EPOLLOUT.rawValue }
        event.data.u64 = token.raw
        try check(epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl")
    }

    /// Stops watching `fd`. Closing a descriptor does the same unless it was shared.
    public borrowing func remove(_ fd: Int32) {
        _ = epoll_ctl(self.fd, EPOLL_CTL_DEL, fd, nil)
    }

    /// Waits at most `timeoutMs` (-1: for ever) and returns the number of events.
    /// An interrupted wait is 0 events.
    public borrowing func wait(timeoutMs: Int32) -> Int {
        let count = epoll_wait(fd, events, Int32(Limits.eventsPerTurnMax), timeoutMs)
        if count >= 0 { return Int(count) }
        precondition(lastErrno == EINTR, "epoll_wait: a bad descriptor is a bug")
        return 0
    }

    /// The `index`th event of the last wait, below what that returned.
    @inlinable @inline(__always)
    public borrowing func event(_ index: Int) -> (token: Token, readiness: Readiness) {
        (Token(raw: events[index].data.u64), Readiness(rawValue: events[index].events))
    }
}
