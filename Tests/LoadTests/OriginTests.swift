import CLinux
import CoreLoop
import Testing

@testable import Load

@Suite(.serialized) struct OriginTests {
    /// Sends `parts` with a pause between them; reads until the origin closes or `until` came.
    private func exchange(_ origin: Origin, _ parts: [String], until: String) throws -> String {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var patience = timeval(tv_sec: 3, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        try #require(origin.address.withSockaddr { connect(fd, $0, $1) } == 0)
        for part in parts {
            let bytes = Array(part.utf8)
            try #require(send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
            usleep(3_000)
        }
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while !text.hasSuffix(until) || until.isEmpty {
            let count = recv(fd, &buffer, buffer.count, 0)
            if count <= 0 { break }
            text += String(decoding: buffer[..<count], as: UTF8.self)
        }
        return text
    }

    private func count(_ text: String, _ word: String) -> Int {
        text.split(separator: "\n").count { $0.contains(word) }
    }

    @Test func pipelinedRequestsAreAnsweredInOrderWithDelay() throws {
        for delay in [0.0, 4.0] {
            let test = try TestOrigin {
                $0.echo = .head
                $0.delayMs = delay
            }
            let requests = (1...5).map { "GET /\($0) HTTP/1.1\r\nHost: x\r\n\r\n" }.joined()
            let last = "GET /end HTTP/1.1\r\nConnection: close\r\n\r\n"
            let text = try exchange(test.origin, [requests + last], until: "")
            let order = text.split(separator: "\r\n").filter { $0.hasPrefix("GET /") }
            #expect(
                order.map { $0.dropFirst(5).prefix { $0 != " " } } == [
                    "1", "2", "3", "4", "5", "end",
                ])
            #expect(test.origin.value(.answers) == 6 && test.origin.value(.connections) == 1)
        }
    }

    @Test func anEchoedBodyAtEverySplit() throws {
        let test = try TestOrigin { $0.echo = .body }
        let request = Array(
            "POST / HTTP/1.1\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello world".utf8)
        for split in 1..<request.count {
            let parts = [request[..<split], request[split...]].map {
                String(decoding: $0, as: UTF8.self)
            }
            let text = try exchange(test.origin, parts, until: "")
            #expect(text.hasSuffix("Content-Length: 11\r\n\r\nhello world"), "split at \(split)")
        }
    }

    @Test func anEchoedChunkedBody() throws {
        let test = try TestOrigin { $0.echo = .body }
        let body = "5\r\nhello\r\n0\r\n\r\n"
        let text = try exchange(
            test.origin,
            ["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", body],
            until: "")
        #expect(text.contains("Transfer-Encoding: chunked\r\n\r\n" + body))
    }

    @Test func continueIsSentBeforeTheBody() throws {
        let test = try TestOrigin { $0.bodyBytes = 2 }
        let text = try exchange(
            test.origin,
            [
                "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
                "abc",
            ],
            until: "")
        #expect(
            text.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
                && text.hasSuffix("\r\n\r\nab"))
    }

    @Test func oldClientsAreClosedAfterTheAnswer() throws {
        let test = try TestOrigin { $0.bodyBytes = 2 }
        let text = try exchange(test.origin, ["GET / HTTP/1.0\r\n\r\n"], until: "")
        #expect(text.contains("Connection: close") && text.hasSuffix("ab"))
    }

    @Test func delayIsExactToAMillisecondOrSo() throws {
        let test = try TestOrigin { $0.delayMs = 30 }
        let before = Instant.now()
        _ = try exchange(test.origin, ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n"], until: "")
        let ms = Double(Instant.now().nanoseconds(since: before)) / 1e6
        // The lower bound is the claim; the upper one leaves room for a busy machine.
        #expect(ms >= 30 && ms < 130)
    }

    @Test func shadowMarksAndCutOffRequestsAreCounted() throws {
        let test = try TestOrigin { $0.bodyBytes = 0 }
        _ = try exchange(
            test.origin, ["GET / HTTP/1.1\r\nX-Umbra-Shadow: true\r\nConnection: close\r\n\r\n"],
            until: "")
        _ = try exchange(
            test.origin, ["POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"], until: "never")
        #expect(test.origin.value(.shadowMarked) == 1)
        for _ in 0..<100 where test.origin.value(.cutOff) == 0 { usleep(10_000) }
        #expect(test.origin.value(.cutOff) == 1 && test.origin.value(.complete) == 1)
    }

    @Test func listenersAreFoundByPortAndOwner() throws {
        let test = try TestOrigin()
        let port = try #require(test.origin.address.port)
        #expect(Listeners.fault(port: port, owners: [getpid()]) == nil)
        #expect(
            Listeners.fault(port: port, owners: [1])?.contains("listens on port \(port) as well")
                == true)
        #expect(Listeners.fault(port: port, owners: [], expected: false) != nil)
        let closed = try TestOrigin { $0.mode = .refuse }
        let closedPort = try #require(closed.origin.address.port)
        #expect(
            Listeners.fault(port: closedPort, owners: [getpid()])
                == "nobody listens on port \(closedPort)")
    }

    @Test func processTreeKnowsThisProcess() {
        let tree = ProcessTree(root: getpid())
        #expect(tree.pids.first == getpid())
        let before = tree.cpuNs()
        var sum = 0.0
        for index in 0..<3_000_000 { sum += Double(index).squareRoot() }
        #expect(sum > 0 && tree.cpuNs() > before)
        #expect(ProcessTree(root: 0x3FFF_FFF0).pids.isEmpty)
    }
}
