import CLinux
public import CoreLoop
import Synchronization

/// Looks names up as the system does, on a thread of its own: `getaddrinfo` blocks, and knows
/// sources that nothing else knows (mDNS, LDAP, the machine's own name).
///
/// One name at a time. The caller has each name here at most once, which bounds both queues.
public final class SystemLookup: Sendable {
    private struct Queues {
        var wanted: [(tag: Int, host: String)] = []
        var answers: [(tag: Int, answer: NameAnswer)] = []
    }

    private let queues = Mutex(Queues())
    /// Knocks at the thread's door, and at the owner's loop, which watches it.
    private let work: Wake
    public let done: Wake

    /// Starts the thread, which lives as long as the process.
    public init() throws(SystemError) {
        work = try .create()
        done = try .create()
        let context = Unmanaged.passRetained(self).toOpaque()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        // The system's resolver puts an answer of 64 KiB on it.
        pthread_attr_setstacksize(&attributes, UpstreamLimits.resolverStackBytes)
        defer { pthread_attr_destroy(&attributes) }
        var thread = pthread_t()
        let code = pthread_create(
            &thread, &attributes,
            { context in
                Unmanaged<SystemLookup>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
        guard code == 0 else { throw SystemError("pthread_create", code: code) }
        pthread_detach(thread)
    }

    /// Has a name looked up; `tag` comes back with the answer.
    public func start(tag: Int, host: String) {
        queues.withLock { $0.wanted.append((tag, host)) }
        work.signal()
    }

    /// The look-ups that have ended since the last call.
    public func takeFinished() -> [(tag: Int, answer: NameAnswer)] {
        done.clear()
        return queues.withLock { queues in
            defer { queues.answers = [] }
            return queues.answers
        }
    }

    private func run() {
        while true {
            let next = queues.withLock { $0.wanted.isEmpty ? nil : $0.wanted.removeFirst() }
            guard let (tag, host) = next else {
                var poller = pollfd(fd: work.fd, events: Int16(POLLIN), revents: 0)
                _ = poll(&poller, 1, -1)
                work.clear()
                continue
            }
            var answer: NameAnswer
            switch NameLookup.run(host, port: 0) {
            case .found(let addresses, let isTruncated):
                answer = NameAnswer(addresses)
                answer.isTruncated = isTruncated
            case .failed(let failure): answer = NameAnswer(failure)
            }
            queues.withLock { $0.answers.append((tag, answer)) }
            done.signal()
        }
    }
}
