import CoreLoop
import EventLog
import HTTP
import Providers
import Testing
import Verdict

@testable import Proxy

@Suite struct ExchangeCapturesTests {
    /// Captures of one worker whose pool is small.
    private final class Rig {
        let captures: ExchangeCaptures
        let blocks: BlockPool
        private let memory: SharedMemory
        private let ringMemory: SharedMemory
        private let ring: RecordRing
        static let blockBytes = 64

        init(blocksMax: Int = 32, bodyBytesMax: Int = 1_024, ringBytes: Int = 1 << 14) throws {
            memory = try .plain(byteCount: 64 * Self.blockBytes)
            blocks = BlockPool(base: memory.base, blockBytes: Self.blockBytes, count: 64)
            ringMemory = try .plain(byteCount: RecordRing.byteCount(of: ringBytes))
            var plan = MemoryPlan(base: ringMemory.base)
            ring = try #require(RecordRing(plan: &plan, byteCount: ringBytes))
            captures = try ExchangeCaptures(
                ring, bodyBytesMax: bodyBytesMax, blocksMax: blocksMax)
        }

        var dropped: UInt64 { ring.droppedCount }

        func begin(_ pair: UInt64 = 7) -> UInt32 {
            captures.begin(pair: pair, asked: .openAI, answered: .anthropic, startedNs: 1_000_000)
        }

        func keep(_ id: UInt32, request: String) -> Bool {
            withBytes(request) { captures.keep(request: $0, id, blocks) }
        }

        func keep(_ id: UInt32, answer: String, atMs ms: UInt64 = 5) -> Bool {
            withBytes(answer) {
                captures.keep(answer: $0, id, blocks) { Instant(nanoseconds: ms * 1_000_000) }
            }
        }

        private func withBytes<R>(_ text: String, _ body: (UnsafeRawBufferPointer) -> R) -> R {
            Array(text.utf8).withUnsafeBytes { body($0) }
        }

        /// The captures that were handed over: their heads and texts.
        func records() throws -> [(head: CaptureHead, parts: [String])] {
            var consumer = RecordConsumer(ring)
            var found: [(CaptureHead, [String])] = []
            while case .record(let bytes) = consumer.peek() {
                let record = try #require(CaptureRecord(bytes))
                let parts = CaptureRecord.Part.allCases.map {
                    String(decoding: record[$0], as: UTF8.self)
                }
                found.append((record.head, parts))
                consumer.consume(bytes.count)
            }
            return found
        }
    }

    @Test func bodiesAreKeptWhateverTheirPieces() throws {
        for size in [1, 7, 55, 56, 57, 64, 500] {
            let rig = try Rig()
            let id = rig.begin()
            let text = String(repeating: "0123456789", count: 50)
            var start = text.startIndex
            while start < text.endIndex {
                let end =
                    text.index(start, offsetBy: size, limitedBy: text.endIndex) ?? text.endIndex
                let isKept = (
                    rig.keep(id, request: String(text[start..<end])),
                    rig.keep(id, answer: String(text[start..<end]).replacing("0", with: "x"))
                )
                #expect(isKept == (true, true))
                start = end
            }
            rig.captures.end(id, isRead: true, isWhole: true, rig.blocks)
            let found = try rig.records()
            #expect(found.count == 1)
            #expect(found[0].parts[3] == text)
            #expect(found[0].parts[4] == text.replacing("0", with: "x"))
            #expect(found[0].head.flags == .isWhole && found[0].head.pair == 7)
            #expect(found[0].head.requestDialect == .openAI)
            #expect(found[0].head.answerDialect == .anthropic)
            #expect(found[0].head.firstByteUs == 4_000)
            #expect(rig.blocks.takenCount == 0 && rig.dropped == 0)
        }
    }

    @Test func moreThanIsKeptIsCut() throws {
        let rig = try Rig(bodyBytesMax: 100)
        let id = rig.begin()
        for _ in 0..<3 {
            #expect(rig.keep(id, request: String(repeating: "r", count: 50)))
            #expect(rig.keep(id, answer: String(repeating: "a", count: 40)))
        }
        rig.captures.end(id, isRead: true, isWhole: false, rig.blocks)
        let record = try rig.records()[0]
        #expect(record.parts[3].count == 100 && record.parts[4].count == 100)
        #expect(record.head.flags == [.requestCut, .answerCut])
    }

    /// A client that goes before its request is whole leaves none that could be read.
    @Test func aRequestThatBrokeOffIsCut() throws {
        let rig = try Rig()
        for (isRead, isNoted) in [(false, false), (false, true), (true, false)] {
            let id = rig.begin()
            #expect(rig.keep(id, request: "{}"))
            if isNoted { rig.captures.noteWholeRequest(id) }
            rig.captures.end(id, isRead: isRead, isWhole: false, rig.blocks)
        }
        let cut = try rig.records().map { $0.head.flags.contains(.requestCut) }
        #expect(cut == [true, false, false])
    }

    /// Where blocks are short the capture goes, and nothing else does.
    @Test func withoutBlocksItIsGivenUp() throws {
        let rig = try Rig(blocksMax: 4)
        let (one, other) = (rig.begin(1), rig.begin(2))
        #expect(rig.keep(one, request: String(repeating: "r", count: 100)))
        #expect(rig.keep(other, request: String(repeating: "r", count: 100)))
        let isKept = rig.keep(one, answer: "a")
        #expect(!isKept && rig.dropped == 1 && rig.blocks.takenCount == 2)
        rig.captures.end(other, isRead: true, isWhole: true, rig.blocks)
        #expect(try rig.records().map(\.head.pair) == [2])
        #expect(rig.blocks.takenCount == 0)
    }

    @Test func aFullRingIsCounted() throws {
        let rig = try Rig(ringBytes: 1_024)
        for pair in 1...10 {
            let id = rig.begin(UInt64(pair))
            #expect(rig.keep(id, request: String(repeating: "r", count: 100)))
            rig.captures.end(id, isRead: true, isWhole: true, rig.blocks)
        }
        let count = try rig.records().count
        #expect(count > 2 && count < 8 && rig.dropped == UInt64(10 - count))
        #expect(rig.blocks.takenCount == 0)
    }

    @Test func theAnswersHeadIsNoted() throws {
        let rig = try Rig()
        let head = ResponseHead(limits: HeadLimits())
        let text =
            "HTTP/1.1 429 Slow\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
            + "Content-Encoding: gzip\r\nRetry-After: 3\r\nSet-Cookie: secret\r\n"
            + "x-ratelimit-limit-tokens: 9\r\nx-ratelimit-reset: "
            + String(repeating: "y", count: 4_000) + "\r\nContent-Length: 0\r\n\r\n"
        let id = rig.begin()
        Array(text.utf8).withUnsafeBytes { bytes in
            guard case .complete = head.parse(bytes, toHead: false) else {
                Issue.record("not parsed")
                return
            }
            rig.captures.note(head, bytes.baseAddress!, id)
        }
        rig.captures.end(id, isRead: true, isWhole: true, rig.blocks)
        let record = try rig.records()[0]
        #expect(record.head.status == 429)
        #expect(record.head.flags == [.isWhole, .isStreamed, .isEncoded])
        #expect(record.parts[2] == "Retry-After: 3\r\nx-ratelimit-limit-tokens: 9\r\n")
    }
}
