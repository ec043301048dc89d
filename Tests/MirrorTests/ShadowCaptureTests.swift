import CoreLoop
import EventLog
import Providers
import Testing
import Upstream
import Verdict

@testable import Mirror

/// What the judge is told of copies that ask a model.
@Suite struct ShadowCaptureTests {
    /// A rig whose shadow tells, and the reader of what it tells.
    private final class CaptureRig {
        let server: PeerServer
        let rig: Rig
        let ring: RecordRing
        private let memory: SharedMemory
        private var consumer: RecordConsumer

        init(
            _ dialect: Dialect?, models: [String: String] = ["a": "z"], ringBytes: Int = 1 << 20,
            memoryBytes: Int = 256 << 20, _ change: (inout ShadowSettings) -> Void = { _ in }
        ) throws {
            server = try PeerServer()
            memory = try .plain(byteCount: RecordRing.byteCount(of: ringBytes))
            var plan = MemoryPlan(base: memory.base)
            ring = try #require(RecordRing(plan: &plan, byteCount: ringBytes))
            consumer = RecordConsumer(ring)
            rig = try Rig(
                [[server.address]], provider: dialect.map { ProviderSettings($0) }, captures: ring,
                memoryBytes: memoryBytes
            ) {
                $0.modelMapping = models
                change(&$0)
            }
        }

        /// A copy whose answer is `pieces`, each sent by itself. What came back.
        func exchange(
            _ body: String, to line: String = "POST /v1/chat/completions", pair: UInt64 = 7,
            answer pieces: [String], closes: Bool = false
        ) throws -> CopyReturn {
            let before = rig.returned[0].count
            rig.push(
                "\(line) HTTP/1.1\r\nHost: h\r\n\r\n", body: Array(body.utf8), pair: pair,
                sliceBytes: max(10, body.utf8.count / 200))
            let peer = try rig.accept(server)
            try rig.heads(1, peer)
            for piece in pieces {
                peer.write(piece)
                rig.turn(afterMs: 10)
            }
            if closes { peer.close() }
            try #require(rig.turn { rig.returned[0].count > before })
            return rig.returned[0][before]
        }

        /// The next record as texts; nil where there is none.
        func next() throws -> (head: CaptureHead, parts: [String])? {
            guard case .record(let bytes) = consumer.peek() else { return nil }
            defer { consumer.consume(bytes.count) }
            let record = try #require(CaptureRecord(bytes))
            return (
                record.head,
                CaptureRecord.Part.allCases.map { String(decoding: record[$0], as: UTF8.self) }
            )
        }
    }

    static let asked = #"{"model":"a","seed":1,"messages":[{"role":"user","content":"Hi"}]}"#

    @Test func aTranslatedCopy() throws {
        let rig = try CaptureRig(.anthropic)
        let back = try rig.exchange(
            Self.asked,
            answer: [
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
                "Retry-After: 3\r\nX-Other: o\r\nAnthropic-RateLimit-Requests-Limit:  50\r\n"
                    + "Transfer-Encoding: chunked\r\n\r\n",
                "4;x=y\r\n{\"a\"", "\r\n3\r\n:1}\r\n", "0\r\nX-T: t\r\n\r\n",
            ])
        #expect(back.result == .ok)
        let (head, parts) = try #require(try rig.next())
        let sent = try ChatToMessages.translate(
            try JSONDocument(Self.asked), TranslationSettings(model: "z"))
        var wanted = CaptureHead(.shadow, pair: 7, dialect: .anthropic)
        wanted.status = 200
        wanted.flags = [.isWhole]
        // The third piece is the first with content, each 10 ms behind the one before.
        wanted.firstByteUs = 30_000
        #expect(head == wanted)
        #expect(
            parts == [
                "z", "max_tokens: defaulted\nseed: dropped\n",
                "Retry-After: 3\r\nAnthropic-RateLimit-Requests-Limit:  50\r\n",
                String(decoding: sent.body, as: UTF8.self), #"{"a":1}"#,
            ])
        #expect(try rig.next() == nil)
        #expect(rig.rig.worker.exchanges.heldBytes == 0)
    }

    @Test func aStreamInItsOwnDialect() throws {
        let rig = try CaptureRig(.openAI, models: [:])
        let body = #"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#
        let events = ["data: {}\n\n", "data: [DO", "NE]\n\n"]
        let back = try rig.exchange(
            body,
            answer: ["HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"] + events,
            closes: true)
        #expect(back.result == .ok)
        let (head, parts) = try #require(try rig.next())
        #expect(head.requestDialect == .openAI && head.answerDialect == .openAI)
        #expect(head.flags == [.isWhole, .isStreamed])
        // As it lies in the worker's blocks, in slices of ten bytes.
        #expect(parts == ["a", "", "", body, events.joined()])
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        var line = "POST /v1/chat/completions"
        let answer: [String]
        var closes = false
        let flags: CaptureHead.Flags
        let status: UInt16
        let content: String

        var testDescription: String { name }
    }

    private static let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

    @Test(arguments: [
        Row(
            name: "cut by its peer", answer: [json + "Content-Length: 9\r\n\r\nhalf"], closes: true,
            flags: [], status: 200, content: "half"),
        Row(
            name: "no answer", answer: [], closes: true, flags: [], status: 0, content: ""),
        Row(
            name: "compressed",
            answer: [json + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nzz"],
            flags: [.isWhole, .isEncoded], status: 200, content: "zz"),
        Row(
            name: "an error", answer: ["HTTP/1.1 429 No\r\nContent-Length: 2\r\n\r\n{}"],
            flags: [.isWhole], status: 429, content: "{}"),
        Row(
            name: "a page",
            answer: ["HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>"],
            flags: [.isWhole], status: 200, content: "<p>"),
        Row(
            name: "too long by its own word", answer: [json + "Content-Length: 5000\r\n\r\nx"],
            flags: [.isTooLong, .answerCut], status: 200, content: ""),
        Row(
            name: "too long in the end",
            answer: [json + "\r\n" + String(repeating: "y", count: 5_000)],
            flags: [.isTooLong, .answerCut], status: 200,
            content: String(repeating: "y", count: 900)),
        Row(
            name: "longer than is kept",
            answer: [json + "Content-Length: 950\r\n\r\n" + String(repeating: "y", count: 950)],
            flags: [.isWhole, .answerCut], status: 200,
            content: String(repeating: "y", count: 900)),
    ])
    func everyEnd(_ row: Row) throws {
        let rig = try CaptureRig(.openAI) {
            $0.answerBytesMax = 2_000
            $0.captureBytes = 900
        }
        _ = try rig.exchange(Self.asked, to: row.line, answer: row.answer, closes: row.closes)
        let (head, parts) = try #require(try rig.next())
        #expect(head.flags == row.flags && head.status == row.status)
        #expect(parts[4] == row.content)
        #expect((head.firstByteUs > 0) == !row.content.isEmpty)
        #expect(rig.rig.worker.exchanges.heldBytes == 0)
    }

    @Test func aTimeoutAndALongRequest() throws {
        let rig = try CaptureRig(.openAI) { $0.captureBytes = 20 }
        rig.rig.push(
            "POST /v1/embeddings HTTP/1.1\r\nHost: h\r\n\r\n", body: Array(Self.asked.utf8), pair: 9
        )
        let peer = try rig.rig.accept(rig.server)
        try rig.rig.heads(1, peer)
        rig.rig.turn(afterMs: ShadowSettings.timeoutMsDefault + 100)
        #expect(rig.rig.returned[0].last?.result == .timeout)
        let (head, parts) = try #require(try rig.next())
        #expect(head.pair == 9 && head.status == 0 && head.flags == [.requestCut])
        #expect(parts == ["z", "", "", #"{"model":"z","seed":"#, ""])
    }

    /// A plain service behind an LLM primary: nothing is changed, and what it says is told.
    @Test func aPlainService() throws {
        let rig = try CaptureRig(nil)
        let body = "{not json"
        _ = try rig.exchange(
            body, to: "POST /v1/messages", answer: [Self.json + "Content-Length: 2\r\n\r\n{}"])
        let (head, parts) = try #require(try rig.next())
        #expect(head.requestDialect == .anthropic && head.flags == [.isWhole])
        #expect(parts == ["", "", "", body, "{}"])
    }

    @Test func whatIsNotTold() throws {
        let answer = [Self.json + "Content-Length: 2\r\n\r\n{}"]
        let rig = try CaptureRig(.openAI)
        _ = try rig.exchange(Self.asked, pair: 0, answer: answer)
        #expect(try rig.next() == nil, "no pair")
        let other = try CaptureRig(.openAI)
        _ = try other.exchange(Self.asked, to: "POST /v1/moderations", answer: answer)
        #expect(try other.next() == nil, "no inference")
        let unmapped = try CaptureRig(.anthropic, models: [:])
        unmapped.rig.push(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n", body: Array(Self.asked.utf8),
            pair: 7)
        #expect(try unmapped.rig.next().drop == .unmappedModel)
        #expect(try unmapped.next() == nil, "not sent")
    }

    /// Names are as long as the client likes, and may look like a line.
    @Test func namesOfAClientsOwn() throws {
        let long = String(repeating: "m", count: 300_000)
        let rig = try CaptureRig(.openAI)
        _ = try rig.exchange(
            #"{"model":"\#(long)"}"#, answer: [Self.json + "Content-Length: 2\r\n\r\n{}"])
        #expect(try rig.next()?.parts[0] == "")
        #expect(rig.rig.worker.exchanges.heldBytes == 0)
        let other = try CaptureRig(.anthropic)
        let names = #""x\ny: clamped\nz":1,"\#(long)":1,"n":2,"messages""#
        _ = try other.exchange(
            Self.asked.split(separator: #""messages""#).joined(separator: names),
            answer: [Self.json + "Content-Length: 2\r\n\r\n{}"])
        let losses = try #require(try other.next()).parts[1]
        #expect(
            losses
                == "max_tokens: defaulted\nseed: dropped\n(other): dropped\nn: dropped\n")
    }

    @Test func aFullRingCostsCapturesOnly() throws {
        let rig = try CaptureRig(.openAI, ringBytes: 4_096)
        let long = String(repeating: "y", count: 3_000)
        let back = try rig.exchange(
            Self.asked, answer: [Self.json + "Content-Length: 3000\r\n\r\n" + long])
        #expect(back.result == .ok && rig.ring.droppedCount == 1)
        #expect(try rig.next() == nil)
    }

    /// A body in another form is given back once it was sent, where it is long; a short one waits
    /// for its capture.
    @Test func whatACaptureHolds() throws {
        for (count, isKept) in [(1_000, true), (ShadowLimits.bodyKeptBytesMax, false)] {
            let rig = try CaptureRig(.anthropic)
            let text = String(repeating: "y", count: count)
            let body = #"{"model":"a","messages":[{"role":"user","content":"\#(text)"}]}"#
            let back = try rig.exchange(
                body, answer: [Self.json + "Content-Length: 2\r\n\r\n{}"])
            #expect(back.result == .ok)
            let (head, parts) = try #require(try rig.next())
            #expect(head.flags.contains(.requestCut) == !isKept)
            #expect(parts[3].contains(text) == isKept && parts[0] == "z" && parts[4] == "{}")
            #expect(rig.rig.worker.exchanges.heldBytes == 0)
        }
    }

    /// Answers at one time hold no more than the process may.
    @Test func whatAnswersHoldIsBounded() throws {
        let rig = try CaptureRig(.openAI, ringBytes: 16 << 20, memoryBytes: 32 << 20)
        let part = [UInt8](repeating: 0x79, count: 1 << 20)
        var peers: [Peer] = []
        for pair in 1...9 {
            rig.rig.push(
                "POST /v1/embeddings HTTP/1.1\r\nHost: h\r\n\r\n", body: Array("{}".utf8),
                pair: UInt64(pair))
            let peer = try rig.rig.accept(rig.server)
            try rig.rig.heads(1, peer)
            peer.write(Self.json + "Content-Length: \(part.count)\r\n\r\n")
            var sent = 0
            let isSent = rig.rig.turn {
                sent += peer.write(Array(part[sent..<(part.count - 1)]))
                return sent == part.count - 1
            }
            #expect(isSent)
            peers.append(peer)
        }
        rig.rig.turn(turns: 50)
        let held = rig.rig.worker.exchanges.heldBytes
        #expect(held <= 8 << 20 && held > 7 << 20)
        for peer in peers { peer.write("z") }
        let count = rig.rig.returned[0].count
        #expect(rig.rig.turn { rig.rig.returned[0].count == count + 9 })
        var cut = 0
        var whole = 0
        while let (head, parts) = try rig.next() {
            #expect(head.flags.contains(.isWhole))
            if head.flags.contains(.answerCut) { cut += 1 } else { whole += 1 }
            #expect(head.flags.contains(.answerCut) || parts[4].utf8.count == part.count)
        }
        #expect(cut >= 1 && whole >= 4 && cut + whole == 9)
        #expect(rig.rig.worker.exchanges.heldBytes == 0)
    }
}
