import CLinux
import CoreLoop
import Glibc
import Synchronization

/// SIGINT and SIGTERM as calls on a thread of their own, where locks and memory may be used.
public struct StopSignals {
    private var set = sigset_t()

    /// Blocks both signals on this thread and all that it starts from now on.
    public static func block() -> StopSignals {
        var signals = StopSignals()
        sigemptyset(&signals.set)
        sigaddset(&signals.set, SIGINT)
        sigaddset(&signals.set, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &signals.set, nil)
        return signals
    }

    /// Waits for one of them. Returns its number.
    @discardableResult
    public func wait() -> Int32 {
        var set = set
        var signal: Int32 = 0
        while sigwait(&set, &signal) != 0 {}
        return signal
    }

    private final class Call: @unchecked Sendable {
        let signals: StopSignals
        let body: @Sendable () -> Void
        init(_ signals: StopSignals, _ body: @escaping @Sendable () -> Void) {
            self.signals = signals
            self.body = body
        }
    }

    /// Calls `body` at each of the signals, from a thread of its own; call this before any other
    /// thread is started. A second signal ends the process, whatever the first one is doing.
    public static func call(_ body: @escaping @Sendable () -> Void) {
        let call = Call(block(), body)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                let call = Unmanaged<Call>.fromOpaque(argument!).takeRetainedValue()
                call.signals.wait()
                call.body()
                call.signals.wait()
                _exit(130)
            }, Unmanaged.passRetained(call).toOpaque())
        precondition(code == 0, "pthread_create failed")
        pthread_detach(thread)
    }
}
