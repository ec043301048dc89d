import CLinux
import CoreLoop

/// CPU time of the calling thread, nanoseconds.
func threadCPUNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// A timer of the kernel's, exact to some microseconds where `epoll_wait` knows only milliseconds.
struct KernelTimer: ~Copyable {
    let fd: Int32

    init() throws(SystemError) {
        fd = try check(
            timerfd_create(
                __clockid_t(CLOCK_MONOTONIC), Int32(Int(TFD_NONBLOCK) | Int(TFD_CLOEXEC))),
            "timerfd_create")
    }

    deinit { close(fd) }

    /// Makes `fd` readable at `nanoseconds` of the monotonic clock; a time gone by does so at once.
    /// Watched edge-triggered it need not be read.
    func arm(at nanoseconds: UInt64) {
        var setting = itimerspec()
        setting.it_value.tv_sec = Int(nanoseconds / 1_000_000_000)
        setting.it_value.tv_nsec = Int(max(1, nanoseconds % 1_000_000_000))
        timerfd_settime(fd, Int32(TFD_TIMER_ABSTIME), &setting, nil)
    }
}
