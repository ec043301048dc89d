import CoreLoop
import TLS

/// One of a generator's connections.
struct LoadConnection: BitwiseCopyable {
    enum Phase: UInt8 {
        case closed, connecting, securing, open
    }

    var fd: Int32 = -1
    /// Off where the target is plain.
    var tls = TLSSession()
    /// Moves on with each new socket, so that a stale event is recognised.
    var generation: UInt32 = 0
    var phase = Phase.closed
    /// A request is assigned: on its way, or waiting for the connect.
    var hasRequest = false
    var isMeasured = false
    /// The answer's head was read.
    var headIsRead = false
    var closesAfter = false
    /// Which of `LoadOptions.requests`.
    var request: UInt32 = 0
    var status: UInt32 = 0
    var serial: UInt64 = 0
    /// Intended and actual send time, nanoseconds.
    var intended: UInt64 = 0
    var started: UInt64 = 0
    /// Bytes of the request that the kernel took.
    var sentBytes = 0
    /// Bytes kept from the last read, at the start of the connection's part of the stash.
    var stashed = 0
    var body = BodyReader.none

    var channel: Channel { Channel(fd: fd, tls: tls) }
}
