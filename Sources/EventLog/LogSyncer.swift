import CLinux
import CoreLoop
import Synchronization

/// The thread that waits for the disk, so that the writer's loop never does. One job at a time.
final class LogSyncer: Sendable {
    /// What is to be made durable.
    struct Job: Sendable {
        var fd: Int32
        var folder: LogFolder
        /// The folder's entries too: a segment came or went.
        var syncsFolder: Bool
        /// The segment is complete: it becomes read-only, where the log is immutable, and closed.
        var isLast: Bool
        var isImmutable: Bool
    }

    /// The outcome where the segment has no name any more.
    static let removed = ENOENT

    private enum State { static let idle = 0, asked = 1, done = 2, ending = 3 }

    private let state = Atomic<Int>(State.idle)
    private let errorCode = Atomic<Int32>(0)
    private let door: Wake
    // Written by the loop before it publishes `asked`, read by the thread after it saw that.
    private nonisolated(unsafe) var job: Job?
    private nonisolated(unsafe) var thread = pthread_t()

    init() throws(SystemError) {
        door = try Wake.create()
        let context = Unmanaged.passRetained(self).toOpaque()
        let code = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<LogSyncer>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
        if code != 0 {
            Unmanaged<LogSyncer>.fromOpaque(context).release()
            throw SystemError("pthread_create", code: code)
        }
    }

    deinit { close(door.fd) }

    /// Whether a job is under way, or its outcome not fetched yet.
    var isBusy: Bool { state.load(ordering: .acquiring) != State.idle }

    /// Hands a job over. Not while another is under way.
    func start(_ job: Job) {
        precondition(!isBusy, "one job at a time")
        self.job = job
        state.store(State.asked, ordering: .releasing)
        door.signal()
    }

    /// The outcome of a job that is done: 0, or the error's number. Nil while there is none.
    func outcome() -> Int32? {
        guard state.load(ordering: .acquiring) == State.done else { return nil }
        let code = errorCode.load(ordering: .relaxed)
        state.store(State.idle, ordering: .releasing)
        return code
    }

    /// Ends the thread. A job that is under way is waited for.
    func end() {
        while state.load(ordering: .acquiring) == State.asked { usleep(200) }
        state.store(State.ending, ordering: .releasing)
        door.signal()
        pthread_join(thread, nil)
    }

    private func run() {
        while true {
            var poller = pollfd(fd: door.fd, events: Int16(POLLIN), revents: 0)
            _ = poll(&poller, 1, -1)
            door.clear()
            switch state.load(ordering: .acquiring) {
            case State.asked:
                errorCode.store(job.map(Self.perform) ?? 0, ordering: .relaxed)
                state.store(State.done, ordering: .releasing)
            case State.ending: return
            default: break
            }
        }
    }

    private static func perform(_ job: Job) -> Int32 {
        var code: Int32 = 0
        if fdatasync(job.fd) != 0 { code = lastErrno }
        // Somebody has removed it: what is written goes with the last descriptor.
        var status = stat()
        if code == 0, fstat(job.fd, &status) == 0, status.st_nlink == 0 { code = removed }
        if job.isLast {
            if job.isImmutable, fchmod(job.fd, 0o440) != 0, code == 0 { code = lastErrno }
            close(job.fd)
        }
        if job.syncsFolder {
            do { try job.folder.sync() } catch { if code == 0 { code = error.code } }
        }
        return code
    }
}
