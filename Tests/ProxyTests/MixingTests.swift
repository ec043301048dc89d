import CoreLoop
import HTTP
import Testing

@testable import Proxy

/// No byte of one exchange reaches another: what the simulation found, each by its own scene.
@Suite struct MixingTests {
    private static func get() -> String {
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    }

    /// Bytes behind an answer that was read up to its last byte stay in the socket, unannounced.
    @Test(arguments: [20_000, 100_000, 1 << 20])
    func bytesBehindALongAnswerAreNoAnswer(_ bodyBytes: Int) throws {
        let rig = try GatewayRig()
        let client = try rig.client()
        client.write(Self.get())
        let upstream = try rig.accept()
        rig.expect("GET / ", on: upstream)
        let answer =
            Array("HTTP/1.1 200 OK\r\nContent-Length: \(bodyBytes)\r\n\r\n".utf8)
            + [UInt8](repeating: 0x61, count: bodyBytes)
            + Array("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL".utf8)
        var sent = 0
        let isWhole = rig.turn {
            if sent < answer.count { sent += upstream.write(answer[sent...]) }
            client.read()
            return sent == answer.count && client.received.count > bodyBytes
        }
        #expect(isWhole)
        client.forget()
        client.write(Self.get())
        let next = try rig.accept()
        rig.expect("GET / ", on: next)
        next.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
        rig.expect("good", on: client)
        #expect(!client.text.contains("EVIL"))
    }

    /// A surplus that comes while the connection is idle, in the same turn as the next request.
    @Test func aLateSurplusIsSeenBeforeTheNextRequest() throws {
        let rig = try GatewayRig()
        let client = try rig.client()
        client.write(Self.get())
        let upstream = try rig.accept()
        rig.expect("GET / ", on: upstream)
        upstream.write("HTTP/1.1 204 No\r\n\r\n")
        rig.expect("204", on: client)
        client.forget()
        // The client's event is the older one.
        client.write(Self.get())
        upstream.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
        let next = try rig.accept()
        rig.expect("GET / ", on: next)
        next.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
        rig.expect("good", on: client)
        #expect(!client.text.contains("EVIL"))
    }

    /// Trailers that an HTTP/1.0 client cannot get are nobody else's.
    @Test func trailersStayWithTheirAnswer() throws {
        let rig = try GatewayRig()
        let old = try rig.client()
        old.write("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        let upstream = try rig.accept()
        rig.expect("GET / ", on: upstream)
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
        upstream.write(chunked + "X-Private: 1\r\n\r\n")
        rig.expectEnd(of: old)
        #expect(old.text.hasSuffix("\r\n\r\nab"))
        let client = try rig.client()
        client.write(Self.get())
        upstream.forget()
        rig.expect("GET / ", on: upstream)
        upstream.write(chunked + "\r\n")
        rig.expect("0\r\n\r\n", on: client)
        #expect(!client.text.contains("X-Private"))
    }

    /// Trailers may be longer than the heads that a configuration takes.
    @Test func trailersFitWhereHeadsAreSmall() throws {
        let rig = try GatewayRig { $0.limits.headBytes = 1_024 }
        let client = try rig.client()
        let trailers = (0..<100).map { "X-T\($0): \(String(repeating: "v", count: 60))\r\n" }
            .joined()
        #expect(trailers.utf8.count < HTTP.Limits.trailerBytesMax && trailers.utf8.count > 4_096)
        client.write(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        client.write(trailers + "\r\n")
        let upstream = try rig.accept()
        // As large as they are, they pass whole or are refused whole: the limit says which.
        let came = rig.turn {
            upstream.read()
            client.read()
            return upstream.text.hasSuffix(trailers + "\r\n") || client.text.contains(" 431 ")
        }
        #expect(came, "\(client.text) \(upstream.text.count)")
    }
}
