import CoreLoop
import EventLog
import Providers
import Testing

@testable import Verdict

@Suite struct CaptureRecordTests {
    private static func head() -> CaptureHead {
        var head = CaptureHead(.shadow, pair: 3 << 48 | 77, dialect: .anthropic)
        head.requestDialect = .openAI
        head.shadow = 5
        head.flags = [.isStreamed, .isWhole]
        head.status = 429
        head.firstByteUs = 1_234_567
        return head
    }

    private static func written(_ room: Int = 1_024) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: room) { memory, count in
            var writer = CaptureWriter(UnsafeMutableRawBufferPointer(memory), head())
            writer.append("gpt-4o", to: .model)
            writer.append("seed: dropped\n", to: .losses)
            writer.append("retry-after: 3\r\n", to: .fields)
            writer.append("{\"model\":", to: .request)
            writer.append("\"gpt-4o\"}", to: .request)
            writer.append("data: [DONE]\n\n", to: .answer)
            count = writer.count
        }
    }

    private static func text(_ record: CaptureRecord, _ part: CaptureRecord.Part) -> String {
        String(decoding: record[part], as: UTF8.self)
    }

    @Test func whatIsWrittenIsRead() throws {
        try Self.written().withUnsafeBytes { bytes in
            let record = try #require(CaptureRecord(bytes))
            #expect(record.head == Self.head())
            #expect(Self.text(record, .model) == "gpt-4o")
            #expect(Self.text(record, .losses) == "seed: dropped\n")
            #expect(Self.text(record, .fields) == "retry-after: 3\r\n")
            #expect(Self.text(record, .request) == "{\"model\":\"gpt-4o\"}")
            #expect(Self.text(record, .answer) == "data: [DONE]\n\n")
            let parts = CaptureRecord.Part.allCases.map { record[$0].count }
            #expect(
                CaptureRecord.byteCount(
                    model: parts[0], losses: parts[1], fields: parts[2], request: parts[3],
                    answer: parts[4]) == bytes.count)
        }
    }

    @Test func everyTruncationIsNone() {
        let bytes = Self.written()
        for count in 0..<bytes.count {
            bytes[..<count].withUnsafeBytes { #expect(CaptureRecord($0) == nil, "\(count)") }
        }
        (bytes + [0]).withUnsafeBytes { #expect(CaptureRecord($0) == nil) }
    }

    /// Whatever a producer gone wild writes: none, or parts within the bytes.
    @Test func nonsenseIsNoneOrWithinItsBytes() {
        var random = FastRandom(seed: 11)
        var refused = 0
        for _ in 0..<20_000 {
            var bytes = Self.written()
            for _ in 0...random.next() % 3 {
                bytes[Int(random.next() % 64)] = UInt8(truncatingIfNeeded: random.next())
            }
            bytes.withUnsafeBytes { raw in
                guard let record = CaptureRecord(raw) else {
                    refused += 1
                    return
                }
                let total = CaptureRecord.Part.allCases.reduce(0) { $0 + record[$1].count }
                #expect(total + CaptureRecord.headBytes == raw.count)
            }
        }
        #expect(refused > 5_000)
    }

    @Test(arguments: [
        (CaptureHead.Place.kind, 0), (CaptureHead.Place.kind, 3),
        (CaptureHead.Place.answerDialect, 0),
        (CaptureHead.Place.requestDialect, 3), (CaptureHead.Place.magic, 0),
    ])
    func wordsThatCannotBeAreRefused(place: Int, value: Int) {
        var bytes = Self.written()
        bytes[place] = UInt8(value)
        bytes.withUnsafeBytes { #expect(CaptureRecord($0) == nil) }
    }

    @Test func aBodyThatDoesNotFitIsCutAndMarked() throws {
        let room = Self.written().count - 8
        try Self.written(room).withUnsafeBytes { bytes in
            let record = try #require(CaptureRecord(bytes))
            #expect(bytes.count == room)
            #expect(record.head.flags == [.isStreamed, .isWhole, .answerCut])
            #expect(Self.text(record, .answer) == "data: ")
        }
        let long = [UInt8](repeating: 0x61, count: VerdictLimits.captureBodyBytesMax + 1)
        let bytes = [UInt8](unsafeUninitializedCapacity: long.count + 256) { memory, count in
            var writer = CaptureWriter(UnsafeMutableRawBufferPointer(memory), Self.head())
            long[..<300].withUnsafeBytes { writer.append($0, to: .model) }
            long.withUnsafeBytes { writer.append($0, to: .request) }
            count = writer.count
        }
        try bytes.withUnsafeBytes {
            let record = try #require(CaptureRecord($0))
            #expect(record[.model].isEmpty)
            #expect(record[.request].count == VerdictLimits.captureBodyBytesMax)
            #expect(record.head.flags.contains(.requestCut))
        }
    }

    @Test func theLongestOneFitsIntoARing() throws {
        let memory = try SharedMemory.plain(
            byteCount: RecordRing.byteCount(of: VerdictLimits.captureRingBytes))
        var plan = MemoryPlan(base: memory.base)
        let ring = try #require(RecordRing(plan: &plan, byteCount: VerdictLimits.captureRingBytes))
        var producer = RecordProducer(ring)
        let body = [UInt8](repeating: 0x62, count: VerdictLimits.captureBodyBytesMax)
        for _ in 0..<2 {
            let isIn = producer.push(byteCount: CaptureRecord.headBytes + 2 * body.count) {
                memory in
                var writer = CaptureWriter(memory, Self.head())
                body.withUnsafeBytes {
                    writer.append($0, to: .request)
                    writer.append($0, to: .answer)
                }
            }
            #expect(isIn)
        }
        var consumer = RecordConsumer(ring)
        guard case .record(let bytes) = consumer.peek() else {
            Issue.record("nothing there")
            return
        }
        let record = try #require(CaptureRecord(bytes))
        #expect(record[.answer].elementsEqual(body))
    }

    @Test(arguments: [
        ("Retry-After", true), ("x-ratelimit-remaining-tokens", true), ("RateLimit-Reset", true),
        ("anthropic-ratelimit-requests-limit", true), ("X-Index-Hash", true),
        ("retry-after-ms", false),
        ("set-cookie", false), ("", false),
    ])
    func fieldsThatAreKept(name: String, isKept: Bool) {
        Array(name.utf8).withUnsafeBytes { #expect(CaptureFields.isKept($0) == isKept) }
    }
}
