import CoreLoop
import Testing

@testable import Load

@Suite struct ReaderTests {
    static let head = """
        POST /a HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 12\r\nConnection: Keep-Alive, close\r\n\
        X-Load-Serial: 000000000042\r\nX-Load-Connection: 7\r\nx-umbra-shadow: true\r\n\
        Expect: 100-continue\r\n\r\n
        """

    @Test func headIsCompleteOnlyAtItsEnd() {
        let bytes = Array(Self.head.utf8)
        for count in 0...bytes.count {
            var scan = HeadScan()
            let outcome = bytes.withUnsafeBufferPointer { scan.scan($0.baseAddress!, count) }
            #expect(outcome == (count == bytes.count ? .complete : .incomplete), "at \(count)")
        }
    }

    @Test func headFields() {
        var scan = HeadScan()
        let bytes = Array((Self.head + "more").utf8)
        #expect(
            bytes.withUnsafeBufferPointer { scan.scan($0.baseAddress!, bytes.count) } == .complete)
        #expect(scan.headBytes == bytes.count - 4 && scan.startLineBytes == 16)
        #expect(scan.contentLength == 12 && scan.closes && scan.keepsAlive && scan.expectsContinue)
        #expect(scan.serial == 42 && scan.connection == 7 && scan.isShadow && !scan.isChunked)
    }

    @Test(arguments: [
        "GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "\n\r\n",
    ])
    func badHeads(text: String) {
        var scan = HeadScan()
        let bytes = Array(text.utf8)
        #expect(bytes.withUnsafeBufferPointer { scan.scan($0.baseAddress!, bytes.count) } == .bad)
    }

    /// Feeds `text` in two parts, the rest of the first put before the second as a connection does.
    private func feed(_ reader: BodyReader, _ text: String, split: Int) -> (BodyReader, left: Int) {
        var reader = reader
        let bytes = Array(text.utf8)
        var pending = Array(bytes[..<split])
        let taken = pending.withUnsafeBufferPointer {
            split == 0 ? 0 : reader.consume($0.baseAddress!, $0.count)
        }
        pending = Array(pending[taken...]) + bytes[split...]
        let second = pending.withUnsafeBufferPointer {
            $0.isEmpty ? 0 : reader.consume($0.baseAddress!, $0.count)
        }
        return (reader, pending.count - second)
    }

    static let chunked = "5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n"

    @Test func chunkedAtEverySplit() {
        for split in 0...Self.chunked.utf8.count {
            let (reader, left) = feed(.chunked, Self.chunked + "GET", split: split)
            #expect(
                reader.phase == .done && reader.bodyBytes == 15 && left == 3, "split at \(split)")
        }
    }

    @Test func chunkedIsNotDoneBeforeItsEnd() {
        for count in 0..<Self.chunked.utf8.count {
            // By bytes: CR LF is one character to Swift.
            let text = String(decoding: Array(Self.chunked.utf8).prefix(count), as: UTF8.self)
            let (reader, _) = feed(.chunked, text, split: text.utf8.count)
            #expect(reader.phase != .done && reader.phase != .bad, "at \(count)")
        }
    }

    @Test(arguments: ["x\r\n", "5\r\nhelloxx\r\n", "5\nhello", "\r\n", "5zz\r\n", "1\r\na\n"])
    func badChunks(text: String) {
        for split in 0...text.utf8.count {
            #expect(feed(.chunked, text, split: split).0.phase == .bad, "split at \(split)")
        }
    }

    @Test func lengthLeavesWhatFollows() {
        for split in 0...13 {
            let (reader, left) = feed(.length(10), "0123456789GET", split: split)
            #expect(reader.phase == .done && reader.bodyBytes == 10 && left == 3)
        }
    }

    @Test func evenScheduleKeepsItsRate() {
        var schedule = Schedule(
            start: Instant(nanoseconds: 1_000), rate: 3_000, arrivals: .even, seed: 1)
        for _ in 0..<3_000_000 { schedule.advance() }
        // After a thousand seconds not a nanosecond of drift.
        #expect(schedule.next == 1_000 + 1_000_000_000_000)
        #expect(schedule.taken == 3_000_000)
    }

    @Test func exponentialScheduleIsSeededAndHasItsRate() {
        var first = Schedule(
            start: Instant(nanoseconds: 0), rate: 1_000, arrivals: .exponential, seed: 4)
        var second = first
        var gaps: [Double] = []
        var previous: UInt64 = 0
        for _ in 0..<100_000 {
            gaps.append(Double(first.next - previous))
            previous = first.next
            #expect(first.next == second.next)
            first.advance()
            second.advance()
        }
        let mean = gaps.reduce(0, +) / 100_000
        #expect(abs(mean - 1e6) < 1.5e4)
        // An exponential's standard deviation is its mean.
        let variance = gaps.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 100_000
        #expect(abs(variance.squareRoot() - 1e6) < 3e4)
    }
}
