import CLinux
import CoreLoop
import Glibc
import Testing

/// A listener on a free loopback port and one connection through it.
struct SocketPair: ~Copyable {
    let listener: Int32
    let client: Int32
    let server: Int32
    let address: SocketAddress

    init(_ text: String = "127.0.0.1:0") throws {
        let listener = try Socket.listen(on: #require(SocketAddress(text)), sharesPort: false)
        let address = try Socket.localAddress(listener)
        let client = try Self.connect(address)
        self.listener = listener
        self.address = address
        self.client = client
        server = Self.accept(listener)
        waitFor(client, POLLOUT)
    }

    deinit {
        for fd in [listener, client, server] { close(fd) }
    }

    static func connect(_ address: SocketAddress) throws -> Int32 {
        switch Socket.connect(to: address) {
        case .connected(let fd), .inProgress(let fd): return fd
        case .failed(let code): throw SystemError("connect", code: code)
        }
    }

    static func accept(_ listener: Int32) -> Int32 {
        var address = sockaddr_storage()
        var length: socklen_t = 0
        waitFor(listener, POLLIN)
        guard case .connection(let fd) = Socket.accept(listener, &address, &length) else {
            Issue.record("no connection came")
            return -1
        }
        return fd
    }
}

/// Waits until `fd` is ready, at most five seconds.
func waitFor(_ fd: Int32, _ events: Int32) {
    var waiting = pollfd(fd: fd, events: Int16(events), revents: 0)
    while poll(&waiting, 1, 5_000) < 0 && errno == EINTR {}
}

@Suite struct SocketTests {
    @Test(arguments: ["127.0.0.1:0", "[::1]:0"])
    func bytesGoBothWays(address: String) throws {
        let pair = try SocketPair(address)
        let (client, server, port) = (pair.client, pair.server, pair.address.port)
        #expect(port != 0)
        #expect(Socket.pendingError(client) == 0)
        var buffer = [UInt8](repeating: 0, count: 64)
        #expect(Socket.receive(server, &buffer, 64) == .wouldBlock)
        #expect(Socket.send(client, "hello", 5) == .bytes(5))
        waitFor(server, POLLIN)
        #expect(Socket.receive(server, &buffer, 64) == .bytes(5))
        #expect(buffer.prefix(5).elementsEqual("hello".utf8))
        #expect(Socket.send(server, "to", 2, more: true) == .bytes(2))
        #expect(Socket.send(server, "gether", 6) == .bytes(6))
        waitFor(client, POLLIN)
        #expect(Socket.receive(client, &buffer, 64) == .bytes(8))
        #expect(buffer.prefix(8).elementsEqual("together".utf8))
    }

    @Test func vectorsAreGatheredAndScattered() throws {
        let pair = try SocketPair()
        let (client, server) = (pair.client, pair.server)
        var sent = Array("abcdefgh".utf8)
        var received = [UInt8](repeating: 0, count: 8)
        let outcomes = sent.withUnsafeMutableBytes { out in
            received.withUnsafeMutableBytes { into in
                var vectors = [
                    iovec(iov_base: out.baseAddress, iov_len: 3),
                    iovec(iov_base: out.baseAddress! + 3, iov_len: 0),
                    iovec(iov_base: out.baseAddress! + 3, iov_len: 5),
                ]
                let write = Socket.send(client, vectors: &vectors, 3)
                waitFor(server, POLLIN)
                vectors = [
                    iovec(iov_base: into.baseAddress! + 4, iov_len: 4),
                    iovec(iov_base: into.baseAddress!, iov_len: 4),
                ]
                return (write, Socket.receive(server, into: &vectors, 2))
            }
        }
        #expect(outcomes == (.bytes(8), .bytes(8)))
        #expect(received.elementsEqual("efghabcd".utf8))
        var vector = iovec(iov_base: nil, iov_len: 0)
        #expect(Socket.receive(server, into: &vector, 1) != .bytes(1))
    }

    @Test func socketsDoNotBlockAndCloseOnExec() throws {
        let pair = try SocketPair()
        for fd in [pair.listener, pair.client, pair.server] {
            #expect(umbra_fcntl(fd, F_GETFL, 0) & O_NONBLOCK != 0)
            #expect(umbra_fcntl(fd, F_GETFD, 0) == FD_CLOEXEC)
            var (on, length) = (Int32(0), socklen_t(4))
            getsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, &length)
            #expect(on != 0)
        }
    }

    @Test func aFullSendBufferWouldBlock() throws {
        let pair = try SocketPair()
        let client = pair.client
        let block = [UInt8](repeating: 7, count: 1 << 16)
        var sent = 0
        var last = WriteOutcome.bytes(0)
        while case .bytes(let n) = last, sent < 1 << 28 {
            sent += n
            last = Socket.send(client, block, block.count)
        }
        #expect(last == .wouldBlock)
    }

    @Test func aPeerThatClosedIsEndOfStreamThenBrokenPipe() throws {
        let pair = try SocketPair()
        let (client, server) = (pair.client, pair.server)
        Socket.shutdownWrites(client)
        var byte: UInt8 = 0
        waitFor(server, POLLIN)
        #expect(Socket.receive(server, &byte, 1) == .endOfStream)
        #expect(Socket.receive(server, &byte, 1) == .endOfStream)
        #expect(Socket.send(client, "x", 1) == .failed(EPIPE))
        // The other direction is still open.
        #expect(Socket.send(server, "y", 1) == .bytes(1))
        waitFor(client, POLLIN)
        #expect(Socket.receive(client, &byte, 1) == .bytes(1))
    }

    @Test func aResetIsAFailure() throws {
        let pair = try SocketPair()
        let fd = try SocketPair.connect(pair.address)
        let server = SocketPair.accept(pair.listener)
        defer { close(fd) }
        Socket.setResetOnClose(server)
        close(server)
        waitFor(fd, POLLIN)
        #expect(Socket.isStale(fd))
        var byte: UInt8 = 0
        #expect(
            [ReadOutcome.failed(ECONNRESET), .endOfStream].contains(Socket.receive(fd, &byte, 1)))
        #expect(Socket.send(fd, "x", 1) == .failed(EPIPE))
    }

    @Test func anIdleConnectionIsStaleOnceItsPeerActed() throws {
        let closed = try SocketPair()
        #expect(!Socket.isStale(closed.client))
        Socket.shutdownWrites(closed.server)
        waitFor(closed.client, POLLIN)
        #expect(Socket.isStale(closed.client))

        let talking = try SocketPair()
        #expect(Socket.send(talking.server, "x", 1) == .bytes(1))
        waitFor(talking.client, POLLIN)
        #expect(Socket.isStale(talking.client))
        // Only peeked: the byte is still there.
        var byte: UInt8 = 0
        #expect(Socket.receive(talking.client, &byte, 1) == .bytes(1))
        #expect(!Socket.isStale(talking.client))
    }

    @Test func nobodyListening() throws {
        let listener = try Socket.listen(
            on: #require(SocketAddress("127.0.0.1:0")), sharesPort: false)
        let address = try Socket.localAddress(listener)
        close(listener)
        switch Socket.connect(to: address) {
        case .connected: Issue.record("connected to nobody")
        case .failed(let code): #expect(code == ECONNREFUSED)
        case .inProgress(let fd):
            waitFor(fd, POLLOUT)
            #expect(Socket.pendingError(fd) == ECONNREFUSED)
            close(fd)
        }
    }

    @Test func acceptTellsThePeersAddress() throws {
        let pair = try SocketPair()
        let client = try SocketPair.connect(pair.address)
        waitFor(pair.listener, POLLIN)
        var storage = sockaddr_storage()
        var length: socklen_t = 0
        guard case .connection(let fd) = Socket.accept(pair.listener, &storage, &length) else {
            Issue.record("no connection")
            return
        }
        let peer = withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                SocketAddress(copying: $0, length: length)
            }
        }
        #expect(try peer == Socket.localAddress(client))
        guard case .wouldBlock = Socket.accept(pair.listener, &storage, &length) else {
            Issue.record("a second connection")
            return
        }
        close(client)
        close(fd)
    }

    @Test func aPortIsSharedOnlyWhereAsked() throws {
        let any = try #require(SocketAddress("127.0.0.1:0"))
        let alone = try Socket.listen(on: any, sharesPort: false)
        defer { close(alone) }
        let taken = try Socket.localAddress(alone)
        for sharesPort in [false, true] {
            #expect(throws: SystemError("bind", code: EADDRINUSE)) {
                _ = try Socket.listen(on: taken, sharesPort: sharesPort)
            }
        }
        let first = try Socket.listen(on: any, sharesPort: true)
        defer { close(first) }
        let shared = try Socket.localAddress(first)
        let second = try Socket.listen(on: shared, sharesPort: true)
        defer { close(second) }
        #expect(try Socket.localAddress(second) == shared)
        #expect(throws: SystemError("bind", code: EADDRINUSE)) {
            _ = try Socket.listen(on: shared, sharesPort: false)
        }
    }

    @Test func descriptorsThatFailedAreClosed() throws {
        let taken = try Socket.listen(
            on: #require(SocketAddress("127.0.0.1:0")), sharesPort: false)
        defer { close(taken) }
        let address = try Socket.localAddress(taken)
        for _ in 0..<2_000 {
            #expect(throws: SystemError.self) {
                _ = try Socket.listen(on: address, sharesPort: false)
            }
        }
    }

    @Test func aBadDescriptorTraps() async {
        await #expect(processExitsWith: .failure) {
            var byte: UInt8 = 0
            _ = Socket.receive(-1, &byte, 1)
        }
    }
}

@Suite struct UnixSocketTests {
    private func path() -> String {
        var template = Array("/tmp/umbra-test-XXXXXX".utf8CString)
        _ = mkdtemp(&template)
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            + "/socket"
    }

    private func remove(_ path: String) {
        unlink(path)
        rmdir(String(path.dropLast("/socket".count)))
    }

    @Test func bytesGoThroughAPath() throws {
        let path = path()
        defer { remove(path) }
        let pair = try SocketPair("unix:" + path)
        #expect(pair.address.unixPath == path)
        #expect(Socket.send(pair.client, "hello", 5) == .bytes(5))
        var buffer = [UInt8](repeating: 0, count: 64)
        #expect(Socket.receive(pair.server, &buffer, 64) == .bytes(5))
    }

    @Test func aSocketLeftByTheDeadIsReplaced() throws {
        let path = path()
        defer { remove(path) }
        let address = try #require(SocketAddress("unix:" + path))
        close(try Socket.listen(on: address, sharesPort: false))
        let second = try Socket.listen(on: address, sharesPort: false)
        defer { close(second) }
        guard case .connected(let client) = Socket.connect(to: address) else {
            Issue.record("nobody listens")
            return
        }
        close(client)
    }

    @Test func aLiveServersPathIsNotStolen() throws {
        let path = path()
        defer { remove(path) }
        let address = try #require(SocketAddress("unix:" + path))
        let first = try Socket.listen(on: address, sharesPort: false)
        defer { close(first) }
        #expect(throws: SystemError("bind", code: EADDRINUSE)) {
            _ = try Socket.listen(on: address, sharesPort: false)
        }
        guard case .connected(let client) = Socket.connect(to: address) else {
            Issue.record("the first no longer listens")
            return
        }
        close(client)
        let server = SocketPair.accept(first)
        close(server)
    }

    @Test func aFileThatIsNoSocketStays() throws {
        let path = path()
        defer { remove(path) }
        close(umbra_open(path, O_CREAT | O_WRONLY, 0o600))
        let address = try #require(SocketAddress("unix:" + path))
        #expect(throws: SystemError("bind", code: EADDRINUSE)) {
            _ = try Socket.listen(on: address, sharesPort: false)
        }
        #expect(access(path, F_OK) == 0)
    }
}
