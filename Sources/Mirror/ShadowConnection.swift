import CoreLoop
import HTTP
import TLS

/// One connection to a shadow, and the copy that it carries.
struct ShadowConnection: BitwiseCopyable {
    enum Phase: UInt8, BitwiseCopyable {
        /// Open, without a copy.
        case idle
        /// The copy waits for the connection; nothing of it was sent.
        case connecting
        /// A part of the copy was sent. Answers may come already.
        case sending
        /// All of it was sent.
        case awaiting
    }

    static let none: Int32 = -1

    var fd: Int32
    /// Off where the shadow is plain.
    var tls = TLSSession()
    /// Connected, and the TLS handshake is under way; the phase is still `connecting`.
    var isSecuring = false
    var shadow: Int
    var phase = Phase.connecting
    /// Whether it carried a copy before this one: its peer may have closed it meanwhile.
    var isReused = false
    /// Which of the target's addresses it goes to, and how many were tried for this copy.
    var address = 0
    var addressesTried = 0
    /// The list of addresses that it was opened under.
    var addressList: UInt32 = 0
    /// When it went idle last.
    var idleSinceNs: UInt64 = 0
    var copy: ShadowCopy
    var answer = ShadowAnswer()
    // Neighbours in the shadow's list of idle connections.
    var nextIdle = none
    var previousIdle = none
    /// In the list of those that had more to read than one turn gives them.
    var isUnread = false

    /// Where its bytes come and go.
    var channel: Channel { Channel(fd: fd, tls: tls) }
}

/// A copy that was taken off a ring: where its bytes lie and how far it got.
struct ShadowCopy: BitwiseCopyable {
    var link: Int
    var ticket: UInt32
    var headBytes: Int
    var bodyBytes: Int
    var trailerBytes: Int
    var sliceCount: Int
    var hasBody: Bool
    var primaryPrefixBytes: Int
    var pass: Breaker.Pass
    /// When it was taken off the ring.
    var takenNs: UInt64
    var id: ShadowID
    // Of the message as it is sent: what stands before and behind the body, and what has gone out.
    var prefixBytes = 0
    var suffixBytes = 0
    var sentBytes = 0
    var firstByteNs: UInt64 = 0
    var isHead = false
    /// What is changed of it, and the length of the body that stands in the place of its own.
    var rewrite = CopyRewrite.none
    var editedBytes = 0
    /// What ties it to its request's event; 0 for none.
    var pair: UInt64 = 0

    var taken: Instant { Instant(nanoseconds: takenNs) }
    var firstByte: Instant { Instant(nanoseconds: firstByteNs) }

    /// Whether the judge is told of it.
    var isCaptured: Bool { pair != 0 && rewrite.inference != nil }

    /// Bytes of the body as it is sent.
    var contentBytes: Int { rewrite.isEdited ? editedBytes : bodyBytes }

    var messageBytes: Int { prefixBytes + contentBytes + suffixBytes }

    var framing: CopyFraming {
        // Trailers may speak of the body that it had.
        if rewrite.isEdited { return .length(editedBytes) }
        if trailerBytes > 0 { return .chunked }
        return hasBody || bodyBytes > 0 ? .length(bodyBytes) : .none
    }
}

/// How far an answer was read.
struct ShadowAnswer: BitwiseCopyable {
    enum Stage: UInt8, BitwiseCopyable {
        case head, length, chunked, untilClose
    }

    var stage = Stage.head
    var status = 0
    var keepAlive = false
    /// It is no form in which a model answers: a page for people, say.
    var isForeign = false
    var interims = 0
    /// All bytes so far, heads included.
    var bytes = 0
    /// Of a content with a length: what is still to come.
    var remaining: UInt64 = 0
    /// The buffer with the part of a head that has come; -1 where there is none.
    var residue = ShadowConnection.none
    var residueBytes = 0
}
