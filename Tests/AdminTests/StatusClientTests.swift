import CLinux
import CoreLoop
import Foundation
import Synchronization
import Testing

@testable import Admin

@Suite struct StatusClientTests {
    /// For whoever does answer, on a machine that has much else to do.
    private static let longMs = 20_000

    /// Answers one connection with `bytes`, byte for byte, from a thread of its own.
    private func scripted(_ bytes: String, closes: Bool = true) throws -> (SocketAddress, Thread) {
        let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        let address = try Socket.localAddress(listener)
        let thread = Thread {
            var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            poll(&entry, 1, 5_000)
            let fd = accept(listener, nil, nil)
            var room = [UInt8](repeating: 0, count: 4_096)
            _ = recv(fd, &room, room.count, 0)
            let text = Array(bytes.utf8)
            _ = text.withUnsafeBytes { send(fd, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
            if !closes { usleep(400_000) }
            close(fd)
            close(listener)
        }
        thread.start()
        return (address, thread)
    }

    @Test func asksAServerThatRuns() throws {
        let bench = try Bench()
        bench.runAll()
        let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        defer { close(listener) }
        let address = try Socket.localAddress(listener)
        let isOver = Atomic(false)
        nonisolated(unsafe) let server = try AdminServer(
            settings: bench.settings, board: bench.board, listener: listener, token: "t0ken",
            startedAt: Instant.now(), version: "9.9")
        withExtendedLifetime(bench) {
            let done = DispatchSemaphore(value: 0)
            withUnsafePointer(to: isOver) { flag in
                nonisolated(unsafe) let flag = flag
                Thread {
                    server.run { flag.pointee.load(ordering: .acquiring) }
                    done.signal()
                }.start()
                let json = Result {
                    try StatusClient.status(
                        address, token: "t0ken", asJSON: true, timeoutMs: Self.longMs)
                }
                #expect((try? json.get())?.hasPrefix("{\"version\":\"9.9\"") == true, "\(json)")
                let text = Result {
                    try StatusClient.status(
                        address, token: "t0ken", asJSON: false, timeoutMs: Self.longMs)
                }
                #expect((try? text.get())?.contains("supervisor") == true, "\(text)")
                expectFault("does not take this token") {
                    try StatusClient.status(
                        address, token: "x", asJSON: true, timeoutMs: Self.longMs)
                }
                expectFault("asks for a token") {
                    try StatusClient.status(
                        address, token: nil, asJSON: true, timeoutMs: Self.longMs)
                }
                let probe = Result {
                    try StatusClient.get(address, "/healthz", token: nil, timeoutMs: Self.longMs)
                }
                #expect((try? probe.get())?.body == "ok\n")
                flag.pointee.store(true, ordering: .releasing)
                done.wait()
            }
        }
    }

    private func expectFault(_ part: String, _ body: () throws -> String) {
        do {
            let text = try body()
            Issue.record("no fault but \(text)")
        } catch { #expect("\(error)".contains(part), "\(error)") }
    }

    @Test func nobodyThere() throws {
        let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        let address = try Socket.localAddress(listener)
        close(listener)
        expectFault("no gateway answers at \(address.text): Connection refused") {
            try StatusClient.status(address, token: nil, asJSON: true, timeoutMs: Self.longMs)
        }
        let path = SocketAddress("unix:/tmp/umbra-admin-none.sock")!
        expectFault("No such file") {
            try StatusClient.status(path, token: nil, asJSON: true, timeoutMs: Self.longMs)
        }
    }

    @Test func whoNeverAnswersIsGivenUp() throws {
        let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        defer { close(listener) }
        let address = try Socket.localAddress(listener)
        let start = Instant.now()
        expectFault("in time") {
            try StatusClient.status(address, token: nil, asJSON: true, timeoutMs: 200)
        }
        let tookMs = Instant.now().nanoseconds(since: start) / 1_000_000
        #expect(tookMs >= 190 && tookMs < 5_000)
    }

    @Test(arguments: [
        ("SSH-2.0-OpenSSH_9.2\r\n", "no admin listener"),
        ("", "no admin listener"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "cut off"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlonger", "cut off"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no admin listener"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "no admin listener"),
        ("HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\na", "answered 503"),
    ])
    func whatIsNoAdminListenerIsSaid(bytes: String, part: String) throws {
        let (address, _) = try scripted(bytes)
        expectFault(part) {
            try StatusClient.status(address, token: nil, asJSON: true, timeoutMs: Self.longMs)
        }
    }

    @Test func anAnswerWithoutEndIsGivenUp() throws {
        let (address, _) = try scripted("HTTP/1.1 200 OK\r\n", closes: false)
        expectFault("in time") {
            try StatusClient.status(address, token: nil, asJSON: true, timeoutMs: 150)
        }
    }

    @Test(arguments: ["a b", "a\r\nX: y", "é", "\u{0}"])
    func aTokenThatNoFieldCanCarryIsNotSent(token: String) throws {
        let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
        defer { close(listener) }
        let address = try Socket.localAddress(listener)
        expectFault("cannot stand in a field") {
            try StatusClient.status(address, token: token, asJSON: true, timeoutMs: Self.longMs)
        }
    }
}
