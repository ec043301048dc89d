public import CoreLoop

/// How an origin behaves towards each request.
public enum OriginMode: Sendable, Equatable {
    /// Answers.
    case normal
    /// Reads everything, answers nothing.
    case hang
    /// Listens; the kernel completes connections, nobody accepts them.
    case neverAccept
    /// Resets the connection once a request's head was read.
    case reset
    /// Holds the port without listening: connects are refused.
    case refuse
    /// Answers with bytes that are no HTTP, and closes.
    case garbage
    /// Closes once a request's head was read, without an answer.
    case close

    /// The names that options use.
    public static let names: [(name: String, mode: OriginMode)] = [
        ("normal", .normal), ("hang", .hang), ("never-accept", .neverAccept), ("reset", .reset),
        ("refuse", .refuse), ("garbage", .garbage), ("close", .close),
    ]

    /// The mode of that name; nil where there is none.
    public init?(name: String) {
        guard let found = Self.names.first(where: { $0.name == name }) else { return nil }
        self = found.mode
    }
}

/// What an origin answers.
public struct OriginOptions: Sendable {
    /// What of the request an answer's body repeats.
    public enum Echo: String, Sendable, CaseIterable {
        case off
        /// The answer's body is the request's body, at most `LoadLimits.echoBytesMax`.
        case body
        /// The answer's body is the request's head as it came.
        case head
    }

    /// Where to listen; port 0 takes a free one.
    public var listen: SocketAddress
    /// How each request is treated.
    public var mode = OriginMode.normal
    /// Status of each answer.
    public var status = 200
    /// Bytes of the answer's body.
    public var bodyBytes = 1_024
    public var isChunked = false
    /// Between the request's last byte and the answer's first, milliseconds; may be a fraction.
    public var delayMs = 0.0
    /// More field lines, `Name: value`.
    public var fields: [String] = []
    public var echo = Echo.off
    public var connectionsMax = 4_096
    /// How many arrivals are kept; later ones are only counted. 0 keeps none.
    public var arrivalsMax = 0
    /// Whether several origins may listen on the port (SO_REUSEPORT).
    public var sharesPort = false

    /// An origin that answers 200 with 1 KiB at once.
    public init(listen: SocketAddress) { self.listen = listen }
}

/// What an origin counts.
public enum OriginCounter: Int, CaseIterable, Sendable {
    /// Requests whose head was read.
    case requests
    /// Requests that came whole, with their body.
    case complete
    /// Of `requests`: those that carried `X-Umbra-Shadow`.
    case shadowMarked
    case answers
    case connections
    /// Connections that ended within a request.
    case cutOff
    case bytesReceived
    case bytesSent
    case badRequests
    /// Connections closed at once because `connectionsMax` were open.
    case connectionsRefused
}

/// When a request came, and which one it was.
public struct Arrival: Sendable, Equatable, BitwiseCopyable {
    /// The monotonic clock when its head was read, nanoseconds.
    public var atNs: UInt64
    /// `X-Load-Serial`; 0 where missing.
    public var serial: UInt64
    /// `X-Load-Connection`; 0 where missing.
    public var connection: UInt64
    /// Whether `X-Umbra-Shadow` was there.
    public var isShadow: Bool
}
