import CoreLoop
import HTTP
import Mirror
import TLS

/// What a client's connection is busy with.
enum ClientState: UInt8 {
    /// The TLS handshake is under way.
    case securing
    /// Idle, or a head is coming in.
    case head
    /// A request is being read or answered.
    case exchange
    /// Bytes pass both ways (after 101).
    case tunnel
    /// The last answer is on its way out; then the connection closes.
    case finishing
    /// The answer is out; what still comes in is thrown away until the peer closes.
    case lingering
}

/// Yes-or-no facts of a client's connection.
struct ClientFlags: OptionSet, BitwiseCopyable {
    var rawValue: UInt32
    /// The socket may have bytes for us (edge-triggered: true until a read says otherwise).
    static let readReady = ClientFlags(rawValue: 1 << 0)
    /// The peer has sent its last byte, and there is nothing more behind what we have read.
    static let ended = ClientFlags(rawValue: 1 << 1)
    static let peerClosed = ClientFlags(rawValue: 1 << 2)
    /// The whole request has been taken from the socket.
    static let requestRead = ClientFlags(rawValue: 1 << 3)
    static let answerBegun = ClientFlags(rawValue: 1 << 4)
    /// No further request on this connection.
    static let closeAfter = ClientFlags(rawValue: 1 << 5)
    static let http10 = ClientFlags(rawValue: 1 << 6)
    static let wantsUpgrade = ClientFlags(rawValue: 1 << 7)
    /// In the list of those that go on in the next turn.
    static let queuedAgain = ClientFlags(rawValue: 1 << 8)
    static let eligible = ClientFlags(rawValue: 1 << 9)
    static let mirrored = ClientFlags(rawValue: 1 << 10)
    static let headTimer = ClientFlags(rawValue: 1 << 11)
    /// The answer goes out without its chunk framing: the client speaks HTTP/1.0.
    static let unchunked = ClientFlags(rawValue: 1 << 12)
    static let requestChunked = ClientFlags(rawValue: 1 << 13)
    static let idempotent = ClientFlags(rawValue: 1 << 14)
    static let writeTimer = ClientFlags(rawValue: 1 << 15)
    /// The answer is given up: its end must not look like a whole one's.
    static let cut = ClientFlags(rawValue: 1 << 16)
    /// We have sent our last byte of a tunnel.
    static let wroteEnd = ClientFlags(rawValue: 1 << 17)
    /// The upstream's answer ends with its connection; the client gets it chunked and keeps its
    /// own.
    static let rechunked = ClientFlags(rawValue: 1 << 18)
    /// The request was sent more than once.
    static let retried = ClientFlags(rawValue: 1 << 19)
    /// The handshake ended while the worker drains: one request is still waited for.
    static let late = ClientFlags(rawValue: 1 << 20)
    /// A chat whose answer is to tell who gave it.
    static let annotated = ClientFlags(rawValue: 1 << 21)
    /// The request waits here until it is whole: see `HeldRequest`.
    static let held = ClientFlags(rawValue: 1 << 22)
    /// The client of an LLM target speaks Anthropic's language: it gets faults in it.
    static let speaksMessages = ClientFlags(rawValue: 1 << 23)
    /// The target speaks another language.
    static let translated = ClientFlags(rawValue: 1 << 24)
    /// Asks a model of an LLM target: a page for people is no answer to it.
    static let asksModel = ClientFlags(rawValue: 1 << 25)
}

/// One client's connection and the exchange on it. Requests of one connection are served one
/// after the other, so that pipelined answers are in order.
struct ClientConnection {
    var fd: Int32
    /// Off where the listener is plain.
    var tls = TLSSession()
    var state = ClientState.head
    /// The entry of `listen` that it came in by.
    var entry: UInt8 = 0
    var method = Method.other
    var flags: ClientFlags = []
    /// The block that holds what was read and not yet taken, and where in it.
    var inSlot = BlockPool.none
    var inStart: UInt32 = 0
    var inEnd: UInt32 = 0
    /// Bytes of the head so far that a parse has found incomplete.
    var seen: UInt32 = 0
    /// A larger buffer for a head that outgrew its block; -1 for none.
    var largeHead: Int32 = -1
    /// What waits until the client reads on.
    var out = SliceQueue()
    var upstream: Int32 = -1
    var route: UInt16 = 0
    var status: UInt16 = 0
    var capture = UInt32.max
    /// What was mirrored of the request, where shadows are told of clients that leave.
    var copiesOut = MirrorTap.CopiesOut.none
    var log = UInt32.max
    /// What is kept of the exchange for its events; `ExchangeCaptures.none` for nothing.
    var kept = UInt32.max
    /// Body bytes of the request still to come; with chunked framing `chunks` knows.
    var bodyLeft: UInt64 = 0
    var chunks = ChunkedReader()
    /// Buffer that trailers are gathered in; -1 for none.
    var trailers: Int32 = -1
    var trailerBytes: UInt32 = 0
    var bodyRead: UInt64 = 0
    /// Bytes since the deadline last moved.
    var progress: UInt32 = 0
    var lingerBytes: UInt32 = 0
    var startedNs: UInt64 = 0
    var answerBytes: UInt64 = 0
    /// Endpoints of the target that this request has tried, one bit each; what it is balanced by,
    /// 0 for nothing; times that it was sent again.
    var tried: UInt64 = 0
    var hashKey: UInt64 = 0
    var retries: UInt8 = 0
    /// Who is at the other end.
    var peer = Peer()

    init(fd: Int32) { self.fd = fd }

    /// Where its bytes come and go.
    @inline(__always) var channel: Channel { Channel(fd: fd, tls: tls) }

    /// The entry of `listen` where TLS is spoken; -1 for a plain connection.
    @inline(__always) var secureEntry: Int { tls.isOn ? Int(entry) : -1 }
}

/// An IP address as text, without a String.
struct AddressText: BitwiseCopyable {
    static let bytesMax = 46
    var count: UInt8 = 0
    var bytes: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0)
}

/// What a connection to an upstream is busy with.
enum UpstreamState: UInt8 { case connecting, active, idle, tunnel }

/// Yes-or-no facts of a connection to an upstream.
struct UpstreamFlags: OptionSet, BitwiseCopyable {
    var rawValue: UInt16
    static let readReady = UpstreamFlags(rawValue: 1 << 0)
    static let peerClosed = UpstreamFlags(rawValue: 1 << 1)
    /// It served another request before this one: it may turn out dead.
    static let reused = UpstreamFlags(rawValue: 1 << 2)
    /// The answer's head says that the connection persists.
    static let keepAlive = UpstreamFlags(rawValue: 1 << 3)
    static let answerBegun = UpstreamFlags(rawValue: 1 << 4)
    /// A byte of an answer, interim or final, has come.
    static let answered = UpstreamFlags(rawValue: 1 << 5)
    static let answerEnded = UpstreamFlags(rawValue: 1 << 6)
    static let queuedAgain = UpstreamFlags(rawValue: 1 << 7)
    /// The upstream takes no more of the request: it failed, but its answer may still come.
    static let writeFailed = UpstreamFlags(rawValue: 1 << 8)
    static let wroteEnd = UpstreamFlags(rawValue: 1 << 9)
    /// Its address is no longer named: it serves the request that it has, and no other.
    static let retiring = UpstreamFlags(rawValue: 1 << 10)
    /// Connecting, and the other family is tried beside it where that takes long.
    static let mayRace = UpstreamFlags(rawValue: 1 << 11)
    /// Connected, and the TLS handshake is under way; the state is still `connecting`.
    static let securing = UpstreamFlags(rawValue: 1 << 12)
}

/// One connection to an upstream.
struct UpstreamConnection {
    var fd: Int32
    /// Off where the target is plain.
    var tls = TLSSession()
    var state = UpstreamState.connecting
    var flags: UpstreamFlags = []
    var target: UInt16 = 0
    /// Which of the endpoint's addresses it goes to, and how many failed before it.
    var addressIndex: UInt8 = 0
    var attempts: UInt8 = 0
    var interimAnswers: UInt8 = 0
    var client: Int32 = -1
    /// The endpoint that it goes to, by its number over all targets.
    var endpoint: UInt32 = 0
    /// The connection that races with this one, each to another family; -1 for none.
    var rival: Int32 = -1
    var inSlot = BlockPool.none
    var inStart: UInt32 = 0
    var inEnd: UInt32 = 0
    var seen: UInt32 = 0
    /// A larger buffer for a head that outgrew its block; -1 for none.
    var largeHead: Int32 = -1
    /// What waits until the upstream reads on.
    var out = SliceQueue()
    /// The whole request, kept while it may have to be sent again.
    var replay = SliceQueue()
    var framing = AnswerFraming.none
    var bodyLeft: UInt64 = 0
    var chunks = ChunkedReader()
    var trailers: Int32 = -1
    var trailerBytes: UInt32 = 0
    var poolPrevious: Int32 = -1
    var poolNext: Int32 = -1

    init(fd: Int32) { self.fd = fd }

    /// Where its bytes come and go.
    @inline(__always) var channel: Channel { Channel(fd: fd, tls: tls) }
}

/// How the end of an answer is found.
enum AnswerFraming: UInt8 {
    case none, length, untilClose, chunked
    /// The gateway makes the client's answer itself: see `TranslatedAnswer`.
    case translated

    /// Whether bytes may go from socket to socket without a look at them.
    @inline(__always) var isPlain: Bool { rawValue < Self.chunked.rawValue }
}
