import CLinux
import CoreLoop
import Testing

/// A listening socket on loopback whose connections the test speaks for by hand.
final class PeerServer {
    let fd: Int32
    let address: SocketAddress

    init() throws {
        let any = try #require(SocketAddress("127.0.0.1:0"))
        fd = try Socket.listen(on: any, sharesPort: false)
        address = try Socket.localAddress(fd)
    }

    deinit { close(fd) }

    /// A connection that waits to be accepted; nil where there is none.
    func accept() -> Peer? {
        var storage = sockaddr_storage()
        var length = socklen_t()
        guard case .connection(let fd) = Socket.accept(self.fd, &storage, &length) else {
            return nil
        }
        return Peer(fd)
    }

    /// An address where every connect is refused, for as long as the socket lives.
    static func refusing() throws -> (fd: Int32, address: SocketAddress) {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let any = try #require(SocketAddress("127.0.0.1:0"))
        #expect(any.withSockaddr { bind(fd, $0, $1) } == 0)
        return (fd, try Socket.localAddress(fd))
    }
}

/// One accepted connection.
final class Peer {
    private var fd: Int32
    private(set) var received: [UInt8] = []
    /// True once the other side ended or reset the connection.
    private(set) var isEnded = false
    private(set) var isReset = false

    init(_ fd: Int32) { self.fd = fd }

    deinit { if fd >= 0 { CLinux.close(fd) } }

    var text: String { String(decoding: received, as: UTF8.self) }

    /// Reads what is there, at most `limit` bytes.
    func read(atMost limit: Int = .max) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var left = limit
        while left > 0, fd >= 0, !isEnded {
            let outcome = buffer.withUnsafeMutableBytes {
                Socket.receive(fd, $0.baseAddress!, min(left, $0.count))
            }
            switch outcome {
            case .bytes(let count):
                received += buffer[..<count]
                left -= count
            case .wouldBlock: return
            case .endOfStream: isEnded = true
            case .failed: (isEnded, isReset) = (true, true)
            }
        }
    }

    func forget() { received = [] }

    @discardableResult
    func write(_ text: String) -> Int { write(Array(text.utf8)) }

    @discardableResult
    func write(_ bytes: [UInt8]) -> Int {
        let outcome = bytes.withUnsafeBytes { Socket.send(fd, $0.baseAddress!, $0.count) }
        guard case .bytes(let count) = outcome else { return 0 }
        return count
    }

    func shutdownWrites() { Socket.shutdownWrites(fd) }

    func close() {
        CLinux.close(fd)
        fd = -1
    }

    func reset() {
        Socket.setResetOnClose(fd)
        close()
    }
}

extension Rig {
    /// Waits for the next connection.
    func accept(_ server: PeerServer) throws -> Peer {
        var peer: Peer?
        try #require(
            turn {
                peer = server.accept()
                return peer != nil
            })
        return try #require(peer)
    }

    /// Waits until the peer has got `count` whole heads (bodies not counted).
    func heads(_ count: Int, _ peer: Peer) throws {
        try #require(
            turn {
                peer.read()
                return peer.text.split(separator: "\r\n\r\n", omittingEmptySubsequences: false)
                    .count
                    > count
            })
    }
}

/// Where the head ends that `bytes` begin with.
func firstEmptyLine(_ bytes: [UInt8]) -> Int? {
    guard bytes.count >= 4 else { return nil }
    for index in 0...(bytes.count - 4)
    where bytes[index] == 13 && bytes[index + 1] == 10 && bytes[index + 2] == 13
        && bytes[index + 3] == 10
    {
        return index + 4
    }
    return nil
}
