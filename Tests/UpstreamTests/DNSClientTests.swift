import CoreLoop
import Testing

@testable import Upstream

/// Look-ups against a server that lies, cuts, refuses and keeps silent.
@Suite struct DNSClientTests {
    /// Looks `host` up; nil where no answer came within ten seconds.
    private func look(
        _ host: String, _ servers: [ScriptedDNS], _ change: (inout ResolverFile) -> Void = { _ in }
    ) throws -> NameAnswer? {
        let epoll = try Epoll()
        let client = DNSClient(kind: 9)
        var file = ResolverFile(nameservers: servers.map(\.address))
        file.timeoutMs = 150
        change(&file)
        client.start(tag: 3, host: host, file: file, epoll, now: .now())
        let deadline = Instant.now().adding(ms: 10_000)
        while !client.isIdle {
            guard Instant.now() < deadline else { return nil }
            let count = epoll.wait(timeoutMs: 2)
            for place in 0..<count {
                let (token, readiness) = epoll.event(place)
                client.handle(token, readiness, epoll, now: .now())
            }
            client.expire(epoll, now: .now())
            for server in servers { server.serve() }
        }
        let finished = client.takeFinished()
        #expect(finished.map(\.tag) == [3])
        return finished.first?.answer
    }

    private static let one = [SocketAddress("10.0.0.1:0")!]
    private static let evil: [UInt8] = [6, 6, 6, 6]

    @Test func bothFamiliesAreAskedFor() throws {
        let server = try ScriptedDNS()
        server.script = { question in
            var message = DNSMessage(to: question)
            if question.type == DNSAnswer.typeA {
                message.record(1, ttl: 60, [10, 0, 0, 1])
            } else {
                message.record(28, ttl: 30, Array(repeating: 0, count: 15) + [1])
            }
            return [message.bytes]
        }
        let answer = try #require(try look("app.test", [server]))
        #expect(answer.v4 == .found(Self.one, ttlMs: 60_000))
        #expect(answer.v6 == .found([SocketAddress("[::1]:0")!], ttlMs: 30_000))
        #expect(answer.ttlMs == 30_000 && answer.strays == 0)
        #expect(server.questions.count == 2 && server.ports.count == 2)
        #expect(Set(server.questions.map(\.type)) == [1, 28])
    }

    @Test func forgeriesAreCountedAndNotBelieved() throws {
        let server = try ScriptedDNS()
        server.script = { question in
            guard question.type == DNSAnswer.typeA else { return [DNSMessage(to: question).bytes] }
            var id = DNSMessage(to: question, id: question.id ^ 1)
            id.record(1, Self.evil)
            var name = DNSMessage(to: DNSQuestion("app.tesu", type: 1, id: question.id)!)
            name.record(1, Self.evil)
            var right = DNSMessage(to: question)
            right.record(1, [10, 0, 0, 1])
            return [id.bytes, name.bytes, [], [1, 2, 3], right.bytes]
        }
        let answer = try #require(try look("app.test", [server]))
        #expect(answer.v4 == .found(Self.one, ttlMs: 60_000))
        #expect(answer.strays == 4)
        #expect(server.questions.count == 2)
    }

    @Test func aFloodOfForgeriesHasTheQuestionAskedAnew() throws {
        let server = try ScriptedDNS()
        var round = 0
        server.script = { question in
            guard question.type == DNSAnswer.typeA else { return [DNSMessage(to: question).bytes] }
            round += 1
            if round == 1 {
                return (0..<100).map { _ in
                    var message = DNSMessage(to: question, id: question.id ^ 1)
                    message.record(1, Self.evil)
                    return message.bytes
                }
            }
            var message = DNSMessage(to: question)
            message.record(1, [10, 0, 0, 1])
            return [message.bytes]
        }
        let answer = try #require(try look("app.test", [server]))
        #expect(answer.v4 == .found(Self.one, ttlMs: 60_000))
        #expect(answer.strays == UpstreamLimits.dnsStraysMax + 1)
        let asked = server.questions.filter { $0.type == DNSAnswer.typeA }
        #expect(asked.count == 2 && asked[0].id != asked[1].id)
    }

    @Test func idsAndPortsCannotBeGuessed() throws {
        let server = try ScriptedDNS()
        server.script = server.address([10, 0, 0, 1])
        for _ in 0..<40 { _ = try look("app.test", [server]) }
        // 80 draws out of 65,536: two or three doubles at most.
        #expect(Set(server.questions.map(\.id)).count > 72)
        #expect(server.ports.count > 72)
    }

    @Test func whatDoesNotFitIsAskedForOverTCP() throws {
        let server = try ScriptedDNS()
        server.script = { [DNSMessage(to: $0, flags: 0x8380).bytes] }
        server.streamScript = { question in
            var message = DNSMessage(to: question)
            let first: [UInt8] = question.type == 1 ? [10, 0, 1] : Array(repeating: 1, count: 15)
            for index in 1...200 { message.record(question.type, first + [UInt8(index)]) }
            return message.bytes
        }
        let answer = try #require(try look("app.test", [server]))
        guard case .found(let addresses, _) = answer.v4 else {
            Issue.record("\(answer)")
            return
        }
        #expect(addresses.count == UpstreamLimits.addressesMax && answer.isTruncated)
        #expect(server.streams == 2)
    }

    @Test func aCutAnswerIsTakenWhereTCPIsNot() throws {
        let server = try ScriptedDNS()
        server.script = { question in
            var message = DNSMessage(to: question, flags: 0x8380)
            if question.type == DNSAnswer.typeA { message.record(1, [10, 0, 0, 1]) }
            return [message.bytes]
        }
        server.streamScript = { DNSMessage(to: $0, id: $0.id ^ 1).bytes }
        let answer = try #require(try look("app.test", [server]))
        #expect(answer.v4 == .found(Self.one, ttlMs: 60_000))
        #expect(answer.v6 == .failed(.noAnswer))
    }

    @Test func theNextServerIsAskedWhereOneIsSilentOrRefuses() throws {
        for flags in [UInt16(0x8182), 0x8185, 0] {
            let (first, second) = (try ScriptedDNS(), try ScriptedDNS())
            first.script = { flags == 0 ? [] : [DNSMessage(to: $0, flags: flags).bytes] }
            second.script = second.address([10, 0, 0, 1])
            let answer = try #require(try look("app.test", [first, second]))
            #expect(answer.v4 == .found(Self.one, ttlMs: 60_000))
            #expect(first.questions.count == 2 && second.questions.count == 2)
        }
    }

    @Test func failuresHaveTheirReasons() throws {
        let silent = try ScriptedDNS()
        let none = try look("app.test", [silent])
        #expect(none?.failure == .noAnswer)
        #expect(silent.questions.count == 2 * UpstreamLimits.dnsAttempts)
        let gone = try ScriptedDNS()
        gone.script = { [DNSMessage(to: $0, flags: 0x8183).bytes] }
        #expect(try look("app.test", [gone])?.failure == .noName)
        #expect(gone.questions.count == 2)
        let broken = try ScriptedDNS()
        broken.script = { question in
            var message = DNSMessage(to: question)
            message.record(question.type, [1, 2, 3])
            return [message.bytes]
        }
        #expect(try look("app.test", [broken])?.failure == .malformed)
        let useless = try ScriptedDNS()
        useless.script = useless.address([0, 0, 0, 0])
        #expect(try look("app.test", [useless])?.failure == .unusable)
        #expect(try look("a..b", [useless])?.failure == .noName)
    }

    @Test func theSearchListIsGoneThrough() throws {
        let server = try ScriptedDNS()
        let right = try #require(DNSQuestion("app.b.test", type: 1, id: 0)).name
        server.script = { question in
            guard question.name == right else {
                return [DNSMessage(to: question, flags: 0x8183).bytes]
            }
            var message = DNSMessage(to: question)
            if question.type == DNSAnswer.typeA { message.record(1, [10, 0, 0, 1]) }
            return [message.bytes]
        }
        let answer = try look("app", [server]) { $0.search = ["a.test", "b.test", "c.test"] }
        #expect(answer?.v4 == .found(Self.one, ttlMs: 60_000))
        #expect(server.questions.count == 4)
    }

    @Test func manyNamesWaitForTheirTurn() throws {
        let server = try ScriptedDNS()
        server.script = server.address([10, 0, 0, 1])
        let epoll = try Epoll()
        let client = DNSClient(kind: 9)
        let file = ResolverFile(nameservers: [server.address])
        let count = 3 * UpstreamLimits.lookupsAtOnceMax
        for tag in 0..<count {
            client.start(tag: tag, host: "n\(tag).test", file: file, epoll, now: .now())
        }
        let deadline = Instant.now().adding(ms: 10_000)
        while !client.isIdle, Instant.now() < deadline {
            for place in 0..<epoll.wait(timeoutMs: 2) {
                let (token, readiness) = epoll.event(place)
                client.handle(token, readiness, epoll, now: .now())
            }
            client.expire(epoll, now: .now())
            server.serve()
        }
        let finished = client.takeFinished()
        #expect(finished.map(\.tag).sorted() == Array(0..<count))
        #expect(finished.allSatisfy { $0.answer.v4 == .found(Self.one, ttlMs: 60_000) })
    }

    @Test func manyNamesThatFailAtOnceEnd() throws {
        // Refused without any wait: whoever called itself for each would run out of stack.
        let epoll = try Epoll()
        let client = DNSClient(kind: 9)
        let file = ResolverFile(nameservers: [SocketAddress("255.255.255.255:53")!])
        for tag in 0..<20_000 {
            client.start(tag: tag, host: "n", file: file, epoll, now: .now())
        }
        #expect(client.isIdle && client.takeFinished().count == 20_000)
    }

    @Test func namesAreLookedUpForTheStart() throws {
        let silent = try NameLookup.run(["a..b"], nameservers: [SocketAddress("127.0.0.1:9")!])
        #expect(silent["a..b"]?.failure == .noName)
    }
}
