public import CoreLoop

/// What a log is kept by.
public struct EventLogSettings: Sendable, Equatable {
    /// The folder; made where it is missing, its parent is not.
    public var directory = "umbra-events"
    /// A segment that holds so many bytes is closed; one record may exceed it.
    public var segmentBytes = 64 << 20
    /// What was written is durable after so many milliseconds, and the time that the disk takes.
    public var syncMs = 1_000
    /// Days that a segment is kept behind the end of its own.
    public var retentionDays = 365
    /// Closed segments become read-only, and keep the days that they were begun with however the
    /// setting is changed to fewer.
    public var isImmutable = true

    /// `log_all_access` of an audit-logger: every request has an event, also one that no LLM target
    /// gets.
    public var logsAllAccess = false

    /// The defaults.
    public init() {}
}

/// `compare_metrics`: what a mirrored request's event compares.
public struct CompareMetrics: OptionSet, Sendable {
    /// One bit for each of those below.
    public let rawValue: UInt8
    /// How long both sides took.
    public static let latency = CompareMetrics(rawValue: 1 << 0)
    /// The tokens of both answers.
    public static let tokenCount = CompareMetrics(rawValue: 1 << 1)
    /// How near the answers' texts are to each other.
    public static let contentSimilarity = CompareMetrics(rawValue: 1 << 2)
    /// What holds where the configuration says nothing.
    public static let all: CompareMetrics = [.latency, .tokenCount, .contentSimilarity]

    /// A set of these bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Each metric by the name that the configuration has for it.
    public static let names: [(name: String, metric: CompareMetrics)] = [
        ("latency", .latency), ("token_count", .tokenCount),
        ("content_similarity", .contentSimilarity),
    ]
}

/// Why a folder could not be opened for writing.
public enum LogFault: Error, CustomStringConvertible {
    /// Another writer has the folder.
    case locked(String)
    /// A system call failed on a file of the folder.
    case system(SystemError, String)

    public var description: String {
        switch self {
        case .locked(let path): "\(path): another process writes this event log"
        case .system(let error, let path): "\(path): \(error)"
        }
    }
}

/// What a writer counts; the writer's process is the only one that adds.
public enum LogCounter: Int, CaseIterable, Sendable {
    /// Records that were taken, and their lines' bytes that were written.
    case appended, bytesWritten
    /// Records that were dropped as too much waited for the disk, here or in a ring; and those that
    /// are none:
    /// no object on one line, or longer than `Limits.recordBytesMax`.
    case dropped, refused
    /// Captures of LLM exchanges that were lost: a ring was full, or nobody asked for them.
    case capturesDropped
    /// Writes and syncs that failed, each tried again.
    case writeFailures, syncFailures
    /// Syncs that succeeded.
    case syncs
    /// Segments begun, and those that retention removed.
    case segmentsBegun, segmentsRemoved
    /// Bytes of an unfinished record that were cut at the start.
    case bytesCut
    /// Gauges: lines that wait for the disk, the last record taken, the last one that is durable.
    case pendingBytes, lastSequence, durableSequence
}
