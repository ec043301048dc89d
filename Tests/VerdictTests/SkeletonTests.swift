import CoreLoop
import EventLog
import Providers
import Testing

@testable import Verdict

@Suite struct SkeletonTests {
    static func filled() -> Skeleton {
        var bones = Skeleton(pair: 1 << 48 | 9, timestampMs: 1_795_000_000_123)
        bones.requestID = "id-1"
        bones.route = "default"
        bones.provider = "openai"
        bones.configVersion = "c0ffee"
        bones.method = "POST"
        bones.target = "/v1/chat/completions?b=2&a=1"
        bones.verdict = .redact
        bones.reasonCode = "pii"
        bones.policy = "pii-detector"
        bones.policies = ["pii-detector", "content-filter"]
        bones.latencyUs = 834_000
        bones.httpStatus = 200
        bones.requestBytes = 120
        bones.answerBytes = 2_345
        bones.logsResponse = true
        bones.tags.modelRevision = "r1"
        bones.metrics = [.latency, .contentSimilarity]
        var sent = Skeleton.Copy(shadow: 3, provider: "anthropic")
        sent.shadowID = "0192-x"
        sent.status = .error5xx
        sent.httpStatus = 503
        sent.latencyUs = 99
        sent.logsResponse = true
        sent.tags.indexHash = "i2"
        var dropped = Skeleton.Copy(shadow: 4, provider: "vllm")
        dropped.dropReason = "qps_cap"
        bones.copies = [sent, dropped]
        return bones
    }

    @Test func whatIsWrittenIsRead() throws {
        for bones in [Self.filled(), Skeleton(pair: 1, timestampMs: 0)] {
            try bones.bytes.withUnsafeBytes {
                #expect(Skeleton.isOne($0))
                let read = try #require(Skeleton($0))
                #expect(read == bones)
            }
        }
    }

    @Test func everyTruncationIsNone() {
        let bytes = Self.filled().bytes
        for count in 0..<bytes.count {
            bytes[..<count].withUnsafeBytes { #expect(Skeleton($0) == nil, "\(count)") }
        }
        (bytes + [0]).withUnsafeBytes { #expect(Skeleton($0) == nil) }
    }

    @Test func nonsenseDoesNotTrap() {
        var random = FastRandom(seed: 5)
        var good = 0
        for _ in 0..<20_000 {
            var bytes = Self.filled().bytes
            for _ in 0...random.next() % 4 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            bytes.withUnsafeBytes { if Skeleton($0) != nil { good += 1 } }
        }
        #expect(good > 100)
    }

    @Test func longTextsAreCut() throws {
        var bones = Self.filled()
        bones.target = String(repeating: "é", count: 5_000)
        try bones.bytes.withUnsafeBytes {
            let read = try #require(Skeleton($0))
            #expect(read.target.utf8.count == VerdictLimits.skeletonTextBytesMax)
            #expect(read.copies == bones.copies)
        }
        #expect(bones.bytes.count < VerdictLimits.skeletonBytesMax)
    }

    @Test func anEventIsNoSkeleton() {
        Array("{\"id\":1}".utf8).withUnsafeBytes { #expect(!Skeleton.isOne($0)) }
    }
}
