public import CoreLoop

/// What a load generator does.
public struct LoadOptions: Sendable {
    /// Where to connect.
    public var target: SocketAddress
    /// The Host field's value; the target's address where nil.
    public var host: String?
    /// Closes each connection behind its answer: every request makes one of its own.
    public var reconnects = false
    /// Sent in turn, by the serial number.
    public var requests: [LoadRequest] = [LoadRequest()]
    /// Fields that carry a number of their own in each request.
    public var numbered: [NumberedField] = []
    /// Requests a second at their intended times (open loop); nil sends as fast as the answers
    /// come (closed loop: saturation).
    public var rate: Double?
    public var arrivals = Arrivals.even
    public var seed: UInt64 = 1
    public var connections = 64
    /// Time whose requests are counted, after the warm-up.
    public var seconds = 5.0
    /// Requests of this time are sent and answered but not in the measured figures.
    public var warmUpSeconds = 0.0
    /// How long to wait for answers after the last intended time.
    public var graceSeconds = 2.0
    /// A request without an answer for so long is an error, its connection closed; 0: no limit.
    public var timeoutSeconds = 0.0
    /// Ends after so many requests, if the time is not over before; 0 is no limit.
    public var requestsMax: UInt64 = 0
    /// Requests that may wait for a free connection; more are given up and count as unanswered.
    public var backlogMax = LoadLimits.backlogDefault
    /// The body length that each answer must have; nil takes any.
    public var bodyBytesExpected: Int?
    /// How often `run` calls for progress.
    public var progressMs = 250

    /// A closed loop of GET / for five seconds; change what should be otherwise.
    public init(target: SocketAddress) { self.target = target }
}

/// What a generator counts. `offered = answered + Σ failed + unanswered`, always, once it ended.
public enum LoadCounter: Int, CaseIterable, Sendable {
    /// Requests whose intended time came.
    case offered
    /// Requests whose first byte was handed to the kernel.
    case sent
    /// Complete answers of any status.
    case answered
    case status1xx, status2xx, status3xx, status4xx, status5xx
    /// No connection could be made for the request.
    case failedConnect
    /// The connection ended before the answer did.
    case failedReset
    case failedTimeout
    /// Not HTTP/1.1, or a head beyond the bound.
    case failedBadAnswer
    /// No answer by the end of the grace time, those never sent for lack of a connection included.
    case unanswered
    /// Of `unanswered`: given up because `backlogMax` requests waited already.
    case backlogDropped
    /// Answers whose body has not the expected length. They count as answered too.
    case wrongLength
    /// Bytes came that belong to no answer. Must be 0.
    case strayBytes
    /// Answers that ended in the measured time itself, the grace time left out.
    case answeredInTime
    /// Bytes of answers' content.
    case bodyBytes
    /// Connections made, those before the start included.
    case connectionsMade
    /// Of these, TLS handshakes that took up a session from before.
    case resumed
}

/// A row of `LoadCounter` at one moment.
public struct LoadCounts: Sendable, Equatable {
    private var values = [UInt64](repeating: 0, count: LoadCounter.allCases.count)

    public init() {}

    init(_ row: CounterRow<LoadCounter>) {
        for name in LoadCounter.allCases { values[name.rawValue] = row.value(name) }
    }

    /// The value of one counter.
    public subscript(_ name: LoadCounter) -> UInt64 {
        get { values[name.rawValue] }
        set { values[name.rawValue] = newValue }
    }

    /// Requests that failed, all kinds.
    public var failed: UInt64 {
        self[.failedConnect] + self[.failedReset] + self[.failedTimeout] + self[.failedBadAnswer]
    }

    /// Adds the counts of another run.
    public mutating func add(_ other: LoadCounts) {
        for index in values.indices { values[index] &+= other.values[index] }
    }
}

/// What came of a run.
public struct LoadResult: Sendable {
    /// Requests of the measured time.
    public var measured = LoadCounts()
    /// All requests, warm-up included: what the target's own counter must equal.
    public var total = LoadCounts()
    /// Latency of the measured answers, from the intended time, nanoseconds.
    public var latency = HistogramSnapshot()
    /// How late measured requests were sent after their intended time, nanoseconds. Above some
    /// 100 µs at the median the generator or its connections were the bottleneck.
    public var lateness = HistogramSnapshot()
    /// Length of the measured time.
    public var seconds = 0.0
    /// CPU time of the thread that ran, per request of `total`, nanoseconds.
    public var cpuNsPerRequest = 0.0

    public init() {}

    /// Answers a second within the measured time.
    public var answersPerSecond: Double {
        seconds > 0 ? Double(measured[.answeredInTime]) / seconds : 0
    }

    /// Adds the figures of another round.
    public mutating func add(_ other: LoadResult) {
        let requests = Double(total[.sent])
        let otherRequests = Double(other.total[.sent])
        if requests + otherRequests > 0 {
            cpuNsPerRequest =
                (cpuNsPerRequest * requests + other.cpuNsPerRequest * otherRequests)
                / (requests + otherRequests)
        }
        measured.add(other.measured)
        total.add(other.total)
        latency.add(other.latency)
        lateness.add(other.lateness)
        seconds += other.seconds
    }
}

/// Where a run stands, for a progress line.
public struct LoadProgress: Sendable {
    /// Since the first intended time, warm-up included.
    public var elapsedSeconds: Double
    public var offered: UInt64
    public var answered: UInt64
    public var failed: UInt64
    public var inFlight: Int
    /// Answers a second since the last call.
    public var answersPerSecond: Double
}
