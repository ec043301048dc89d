import Glibc
import Synchronization

/// What must happen before a tool ends, however it ends: children terminated, files removed.
public enum Cleanup {
    private static let steps = Mutex<[@Sendable () -> Void]>([])

    /// Adds a step; steps run last in, first out.
    public static func add(_ step: @escaping @Sendable () -> Void) {
        steps.withLock { $0.append(step) }
    }

    /// Runs all steps once. Each must stand being run when its work is already done.
    public static func run() {
        let all = steps.withLock { steps in
            defer { steps = [] }
            return steps
        }
        for step in all.reversed() { step() }
    }

    /// Has SIGINT and SIGTERM run the steps and end the process with 130. Call before any thread
    /// is started.
    public static func runOnSignal() {
        StopSignals.call {
            Standard.endProgress()
            run()
            _exit(130)
        }
    }
}
