import CoreLoop
import Testing

@testable import Upstream

/// Answers of the DNS: right ones, and what an attacker or a broken server sends.
@Suite struct DNSAnswerTests {
    private static let question = DNSQuestion("App.Test", type: DNSAnswer.typeA, id: 0x1234)!
    private static let wide = DNSQuestion("app.test", type: DNSAnswer.typeAAAA, id: 0x1234)!
    private static let typeCNAME: UInt16 = 5

    private func read(_ message: DNSMessage) -> DNSAnswer.Outcome {
        DNSAnswer.read(message.bytes, to: Self.question, port: 80)
    }

    private func found(_ texts: String..., ttlMs: Int = 60_000) -> DNSAnswer.Outcome {
        .found(DNSAnswer(addresses: texts.map { SocketAddress($0)! }, ttlMs: ttlMs))
    }

    // MARK: Questions

    @Test func aQuestionIsWhatEveryServerKnows() {
        #expect(
            Self.question.bytes == [
                0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0x61, 0x70, 0x70, 4, 0x74, 0x65, 0x73,
                0x74, 0, 0, 1, 0, 1,
            ])
    }

    @Test(arguments: [
        ("a", true), ("a.", true), (String(repeating: "a", count: 63), true),
        (String(repeating: "a", count: 64), false), ("", false), (".", false), ("a..b", false),
        (".a", false), (String(repeating: "abc.", count: 63) + "a", true),
        (String(repeating: "abc.", count: 63) + "abc", false),
    ])
    func names(_ host: String, _ isName: Bool) {
        #expect((DNSQuestion(host, type: 1, id: 1) != nil) == isName)
    }

    // MARK: Right answers

    @Test func addressesAndTheShortestTime() {
        var message = DNSMessage(to: Self.question)
        message.record(1, ttl: 300, [10, 0, 0, 1])
        message.record(1, ttl: 30, [10, 0, 0, 2])
        message.record(1, ttl: 300, [10, 0, 0, 1])
        #expect(read(message) == found("10.0.0.1:80", "10.0.0.2:80", ttlMs: 30_000))
        var six = DNSMessage(to: Self.wide)
        six.record(28, [0x20, 1, 0xD, 0xB8] + Array(repeating: 0, count: 11) + [7])
        #expect(DNSAnswer.read(six.bytes, to: Self.wide, port: 443) == found("[2001:db8::7]:443"))
    }

    @Test func aliasesAreFollowedInAnyOrder() {
        var message = DNSMessage(to: Self.question)
        message.record(1, ttl: 50, [10, 0, 0, 1], owner: DNSMessage.name("c.test"))
        message.record(5, ttl: 20, DNSMessage.name("C.test"), owner: DNSMessage.name("b.test"))
        message.record(5, ttl: 90, DNSMessage.name("b.TEST"))
        #expect(read(message) == found("10.0.0.1:80", ttlMs: 20_000))
    }

    @Test func whatBelongsToAnotherNameIsNoAnswer() {
        var message = DNSMessage(to: Self.question)
        message.record(1, [6, 6, 6, 6], owner: DNSMessage.name("evil.test"))
        #expect(read(message) == .noName)
        message.record(1, [10, 0, 0, 1])
        #expect(read(message) == found("10.0.0.1:80"))
        // Of another class or type.
        var other = DNSMessage(to: Self.question)
        other.record(1, [6, 6, 6, 6], kind: 3)
        other.record(28, Array(repeating: 6, count: 16))
        #expect(read(other) == .noName)
    }

    @Test func aliasesInCirclesEnd() {
        var message = DNSMessage(to: Self.question)
        message.record(5, DNSMessage.name("b.test"))
        message.record(5, DNSMessage.name("app.test"), owner: DNSMessage.name("b.test"))
        #expect(read(message) == .noName)
        // One more than is followed.
        var long = DNSMessage(to: Self.question)
        long.record(5, DNSMessage.name("n0.test"))
        for index in 0..<UpstreamLimits.dnsAliasesMax {
            long.record(
                5, DNSMessage.name("n\(index + 1).test"),
                owner: DNSMessage.name("n\(index).test"))
        }
        long.record(
            1, [10, 0, 0, 1], owner: DNSMessage.name("n\(UpstreamLimits.dnsAliasesMax).test"))
        #expect(read(long) == .noName)
    }

    @Test func timesToLiveBeyondTheirRangeCountAsNone() {
        var message = DNSMessage(to: Self.question)
        message.record(1, ttl: 0x8000_0001, [10, 0, 0, 1])
        #expect(read(message) == found("10.0.0.1:80", ttlMs: 0))
    }

    @Test func onlySoManyAddressesAreKept() {
        var message = DNSMessage(to: Self.question)
        for index in 1...40 { message.record(1, [10, 0, 0, UInt8(index)]) }
        guard case .found(let answer) = read(message) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.addresses.count == UpstreamLimits.addressesMax && answer.isTruncated)
    }

    // MARK: Lies

    @Test func whatAnswersAnotherQuestionIsStray() {
        func answer(_ message: DNSMessage) -> DNSMessage {
            var message = message
            message.record(1, [6, 6, 6, 6])
            return message
        }
        #expect(read(answer(DNSMessage(to: Self.question, id: 0x1235))) == .stray)
        // A question that comes back is none, nor is another operation's answer.
        #expect(read(answer(DNSMessage(to: Self.question, flags: 0x0100))) == .stray)
        #expect(read(answer(DNSMessage(to: Self.question, flags: 0xA180))) == .stray)
        let other = DNSQuestion("app.tesu", type: 1, id: 0x1234)!
        #expect(read(answer(DNSMessage(to: other))) == .stray)
        #expect(read(answer(DNSMessage(to: Self.wide))) == .stray)
        var kind = answer(DNSMessage(to: Self.question))
        kind.bytes[25] = 3
        #expect(read(kind) == .stray)
        #expect(read(answer(DNSMessage(to: Self.question, questions: 0))) == .stray)
        #expect(DNSAnswer.read([], to: Self.question) == .stray)
    }

    @Test(arguments: [(UInt16(1), false), (2, false), (3, true), (4, false), (5, false)])
    func refusals(_ code: UInt16, _ isName: Bool) {
        #expect(
            read(DNSMessage(to: Self.question, flags: 0x8180 | code))
                == (isName ? .noName : .refused))
        // Some refuse without the question; that a name is gone has to be said of the name.
        #expect(
            read(DNSMessage(to: Self.question, flags: 0x8180 | code, questions: 0))
                == (isName ? .stray : .refused))
    }

    @Test func everyTruncationIsMalformedOrStray() {
        var message = DNSMessage(to: Self.question)
        message.record(5, ttl: 90, DNSMessage.name("b.test"))
        message.record(1, [10, 0, 0, 1], owner: DNSMessage.name("b.test"))
        #expect(read(message) == found("10.0.0.1:80"))
        for count in message.bytes.indices {
            let outcome = DNSAnswer.read(Array(message.bytes[..<count]), to: Self.question)
            #expect(outcome == .malformed || outcome == .stray, "\(count)")
        }
    }

    @Test func anyBytesAreReadWithoutHarm() {
        var random = FastRandom(seed: 1)
        var message = DNSMessage(to: Self.question)
        message.record(5, ttl: 90, DNSMessage.name("b.test"))
        message.record(1, [10, 0, 0, 1], owner: DNSMessage.name("b.test"))
        for _ in 0..<5_000 {
            var bytes = message.bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                // Behind the id, so that what follows is looked at.
                bytes[Int.random(in: 2..<bytes.count, using: &random)] = .random(
                    in: 0...255, using: &random)
            }
            if case .found(let answer) = DNSAnswer.read(bytes, to: Self.question) {
                #expect(answer.addresses.count <= UpstreamLimits.addressesMax)
                #expect(answer.addresses.allSatisfy { $0.isUnicast })
            }
        }
    }

    /// To itself, forwards, into the middle of itself, beyond the end; a label that leads back to
    /// its own pointer; reserved kinds of labels.
    static let astray: [[UInt8]] = [
        [0xC0, 26], [0xC0, 40], [0xC0, 27], [0xFF, 0xFF], [1, 0x61, 0xC0, 26], [0x40, 0],
        [0x80, 0],
    ]

    @Test(arguments: astray)
    func pointersThatLeadAstray(_ owner: [UInt8]) {
        var message = DNSMessage(to: Self.question)
        message.record(1, [10, 0, 0, 1], owner: owner)
        #expect(read(message) == .malformed)
    }

    @Test func aChainOfPointersCostsLittle() {
        // 64 KiB in which each record's name begins with the last link of a long chain.
        var message = DNSMessage(to: Self.question)
        var chain: [UInt8] = [0xC0, 12]
        var last = message.bytes.count + 12
        for _ in 0..<8_000 where last < 0x3FF0 {
            chain += [UInt8(0xC0 | last >> 8), UInt8(last & 0xFF)]
            last += 2
        }
        message.record(99, chain)
        let link: [UInt8] = [UInt8(0xC0 | last >> 8), UInt8(last & 0xFF)]
        while message.bytes.count < 65_000 { message.record(1, [10, 0, 0, 1], owner: link) }
        let clock = ContinuousClock()
        let time = clock.measure { #expect(read(message) == .malformed) }
        #expect(time < .seconds(20))
    }

    @Test func addressesThatNoServerHasAreNotTaken() {
        let useless: [[UInt8]] = [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]]
        for address in useless {
            var message = DNSMessage(to: Self.question)
            message.record(1, address)
            #expect(read(message) == .unusable)
        }
        var short = DNSMessage(to: Self.question)
        short.record(1, [10, 0, 0])
        #expect(read(short) == .malformed)
    }

    @Test func aCutAnswerIsNone() {
        var message = DNSMessage(to: Self.question, flags: 0x8380)
        #expect(read(message) == .cut(nil))
        message.record(1, [10, 0, 0, 1])
        let partial = DNSAnswer(addresses: [SocketAddress("10.0.0.1:80")!], ttlMs: 60_000)
        #expect(read(message) == .cut(partial))
        message.bytes.removeLast()
        #expect(read(message) == .cut(nil))
    }
}
