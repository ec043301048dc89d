public import CLinux

/// A point of the monotonic clock, nanoseconds. The same clock in every process of one machine.
public struct Instant: Sendable, Comparable, Hashable {
    /// Since the machine started, sleep left out.
    public var nanoseconds: UInt64

    /// A point of the clock, for tests and for times read from shared memory.
    @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Reads CLOCK_MONOTONIC (about 20 ns, no system call).
    @inlinable
    public static func now() -> Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }

    /// The same in whole milliseconds, rounded down.
    @inlinable public var milliseconds: UInt64 { nanoseconds / 1_000_000 }

    /// Nanoseconds since `earlier`; 0 where `earlier` is later.
    @inlinable
    public func nanoseconds(since earlier: Instant) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? nanoseconds &- earlier.nanoseconds : 0
    }

    /// The instant `ms` milliseconds later; `ms` is not negative.
    @inlinable
    public func adding(ms: Int) -> Instant {
        Instant(nanoseconds: nanoseconds &+ UInt64(ms) &* 1_000_000)
    }

    @inlinable
    public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
}

/// The wall clock, for what people read: Date fields, logs, UUIDs.
public enum WallClock {
    /// Milliseconds since 1970, UTC.
    @inlinable
    public static func milliseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) &* 1_000 &+ UInt64(time.tv_nsec) / 1_000_000
    }
}

/// CPU time of the calling process, nanoseconds.
public enum CPUClock {
    /// What the kernel counted, from `getrusage`: exact to a microsecond at best.
    public static func process() -> (userNs: UInt64, systemNs: UInt64) {
        var usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        func ns(_ t: timeval) -> UInt64 {
            UInt64(t.tv_sec) * 1_000_000_000 + UInt64(t.tv_usec) * 1_000
        }
        return (ns(usage.ru_utime), ns(usage.ru_stime))
    }
}
