import CoreLoop
import Providers
import Testing
import Upstream

@testable import Proxy

@Suite struct HoldingTests {
    static let path = "/v1/chat/completions"

    /// A gateway in front of an LLM target, whose policies say `verdict` of every request.
    private static func rig(
        blocks: Int = 1_024,
        _ verdict: @escaping (HeldRequest, ProxyWorker) -> HeldVerdict = {
            _, _ in .pass
        }
    ) throws -> GatewayRig {
        let rig = try GatewayRig {
            $0.targets[0].provider = ProviderSettings(.openAI)
            $0.runtime.blocksPerWorker = blocks
            $0.runtime.blockBytes = 4_096
        }
        let worker = rig.worker
        worker.onHeld = { [unowned worker] _, request in verdict(request, worker) }
        return rig
    }

    private static func head(_ fields: String, path: String = path) -> String {
        "POST \(path) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n"
    }

    private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    @Test(arguments: [
        ("Content-Length: 9", "{\"a\": 12}"),
        ("Transfer-Encoding: chunked", "4;x=y\r\n{\"a\"\r\n5\r\n: 12}\r\n0\r\nTrailer: t\r\n\r\n"),
    ])
    func nothingIsSentBeforeTheLastByte(_ framing: String, _ body: String) throws {
        let rig = try Self.rig { request, worker in
            #expect(String(decoding: request.bytes(worker.blocks), as: UTF8.self) == "{\"a\": 12}")
            #expect(request.dialect == .openAI)
            return .pass
        }
        let client = try rig.client()
        for byte in (Self.head(framing) + body).utf8.dropLast() {
            client.write([byte])
            rig.turn(turns: 1)
        }
        #expect(rig.counted(.upstreamConnects) == 0)
        client.write([body.utf8.last!])
        let primary = try rig.accept()
        rig.expect("\r\n\r\n{\"a\": 12}", on: primary)
        #expect(primary.text.contains("\r\nContent-Length: 9\r\n"))
        #expect(!primary.text.contains("chunked") && !primary.text.contains("Trailer"))
        primary.write(Self.ok)
        rig.expect("{}", on: client)
        #expect(rig.worker.blocksTaken == 1 && rig.worker.slicesUsed == 0)
    }

    @Test func policiesReplaceAndAnswer() throws {
        let rig = try Self.rig { request, worker in
            let long = request.bytes(worker.blocks).count > 20
            return long
                ? .answer(status: 409, body: Array("{\"error\": {}}".utf8))
                : .replaced([UInt8](repeating: 0x61, count: 10_000))
        }
        let client = try rig.client()
        // Both in one piece: what lies behind a held request is the next one's.
        client.write(Self.head("Content-Length: 2") + "{}" + Self.head("Content-Length: 22"))
        let primary = try rig.accept()
        rig.expect(String(repeating: "a", count: 10_000), on: primary)
        #expect(primary.text.contains("\r\nContent-Length: 10000\r\n"))
        primary.write(Self.ok)
        rig.expect("{}", on: client)
        client.forget()
        client.write("{\"a\": \"0123456789012\"}")
        rig.expect("{\"error\": {}}", on: client)
        #expect(client.text.hasPrefix("HTTP/1.1 409 Conflict\r\n"))
        #expect(client.text.contains("\r\nx-should-retry: false\r\n"))
        client.forget()
        primary.forget()
        client.write(Self.head("Content-Length: 2") + "{}")
        rig.expect("\r\n\r\n" + String(repeating: "a", count: 10_000), on: primary)
        primary.write(Self.ok)
        rig.expect("{}", on: client)
        #expect(rig.worker.blocksTaken == 1 && rig.worker.slicesUsed == 0)
    }

    @Test func whatIsNoPromptIsNotHeld() throws {
        let rig = try Self.rig { _, _ in .answer(status: 400, body: []) }
        let client = try rig.client()
        client.write(Self.head("Content-Length: 9", path: "/v1/files"))
        let primary = try rig.accept()
        rig.expect("/v1/files", on: primary)
    }

    @Test func theClientIsToldToGoOn() throws {
        let rig = try Self.rig()
        let client = try rig.client()
        client.write(Self.head("Content-Length: 2\r\nExpect: 100-continue"))
        rig.expect("HTTP/1.1 100 Continue\r\n\r\n", on: client)
        client.write("{}")
        let primary = try rig.accept()
        rig.expect("\r\n\r\n{}", on: primary)
        #expect(!primary.text.contains("Expect"))
    }

    @Test func bodiesThatAreTooLarge() throws {
        let rig = try Self.rig()
        let announced = try rig.client()
        announced.write(Self.head("Content-Length: \(ProxyLimits.heldBodyBytesMax + 1)"))
        rig.expect("body_too_large", on: announced)
        #expect(announced.text.hasPrefix("HTTP/1.1 413 "))
        let counted = try rig.client()
        counted.write(Self.head("Transfer-Encoding: chunked"))
        let chunk = Array("10000\r\n".utf8) + [UInt8](repeating: 0x61, count: 65_536) + [13, 10]
        var rest = chunk[...]
        // More than these blocks can hold: it is told before.
        #expect(
            rig.turn {
                rest = rest.dropFirst(counted.write(rest))
                if rest.isEmpty { rest = chunk[...] }
                counted.read()
                return counted.text.contains("\"overloaded\"")
            })
        #expect(counted.text.hasPrefix("HTTP/1.1 503 "))
        rig.turn()
        #expect(rig.worker.heldRequests[0] == nil && rig.worker.heldRequests[1] == nil)
        #expect(rig.counted(.upstreamConnects) == 0)
    }

    /// However much a few slow clients hold, a small request goes through.
    @Test func largeRequestsLeaveRoomToSmallOnes() throws {
        let rig = try Self.rig()
        var slow: [Line] = []
        let piece = [UInt8](repeating: 0x61, count: 65_536)
        for _ in 0..<6 {
            let client = try rig.client()
            client.write(Self.head("Content-Length: 4000000"))
            var sent = 0
            _ = rig.turn {
                if sent < 3_000_000 { sent += client.write(piece) }
                client.read()
                return sent >= 3_000_000 || !client.text.isEmpty
            }
            slow.append(client)
        }
        let refused = slow.filter { $0.text.hasPrefix("HTTP/1.1 503 ") }.count
        #expect(refused >= 4)
        let small = try rig.client()
        small.write(Self.head("Content-Length: 2") + "{}")
        let primary = try rig.accept()
        rig.expect("\r\n\r\n{}", on: primary)
    }

    @Test func whoLeavesOrWaitsLeavesNothing() throws {
        let rig = try Self.rig()
        do {
            let client = try rig.client()
            client.write(Self.head("Content-Length: 5000") + String(repeating: "a", count: 4_999))
            #expect(rig.turn { rig.worker.blocksTaken > 1 })
        }
        #expect(rig.turn { rig.worker.clientCount == 0 })
        let slow = try rig.client()
        slow.write(Self.head("Content-Length: 5000") + String(repeating: "a", count: 4_999))
        #expect(rig.turn { rig.worker.blocksTaken > 1 })
        rig.turn(afterMs: 31_000)
        rig.expect("request_timeout", on: slow)
        #expect(slow.text.hasPrefix("HTTP/1.1 408 "))
        #expect(rig.worker.blocksTaken == 1)
    }
}
