import CLinux
import CoreLoop
import Testing

@testable import Load

/// An origin on a free port for one test.
final class TestOrigin {
    let origin: Origin

    init(_ change: (inout OriginOptions) -> Void = { _ in }) throws {
        var options = OriginOptions(listen: SocketAddress("127.0.0.1:0")!)
        options.connectionsMax = 64
        change(&options)
        origin = try Origin(options)
        origin.start()
    }

    deinit { origin.stop() }

    func load(_ change: (inout LoadOptions) -> Void) throws -> LoadResult {
        var options = LoadOptions(target: origin.address)
        options.connections = 4
        options.seconds = 0.2
        options.graceSeconds = 5
        change(&options)
        return try LoadGenerator(options).run()
    }
}

@Suite(.serialized) struct GeneratorTests {
    /// What holds of every run, whatever the target did.
    private func addsUp(_ result: LoadResult) -> Bool {
        for counts in [result.total, result.measured] {
            if counts[.offered] != counts[.answered] + counts.failed + counts[.unanswered] {
                return false
            }
            let byClass =
                counts[.status2xx] + counts[.status3xx] + counts[.status4xx] + counts[.status5xx]
            if byClass != counts[.answered] { return false }
        }
        return result.latency.count == result.measured[.answered]
    }

    @Test func openLoopOffersItsRateAndAllIsAnswered() throws {
        let test = try TestOrigin()
        let result = try test.load {
            $0.rate = 1_000
            $0.warmUpSeconds = 0.1
            $0.bodyBytesExpected = 1_024
        }
        #expect(addsUp(result))
        #expect(result.total[.offered] == 300 && result.measured[.offered] == 200)
        #expect(result.total[.status2xx] == 300 && result.total[.wrongLength] == 0)
        #expect(test.origin.value(.requests) == 300 && test.origin.value(.answers) == 300)
        #expect(result.total[.bodyBytes] == 300 * 1_024 && result.total[.connectionsMade] == 4)
    }

    @Test func closedLoopSaturates() throws {
        let test = try TestOrigin { $0.delayMs = 10 }
        let result = try test.load { _ in }
        #expect(addsUp(result))
        // Four connections, 10 ms each: at most 20 each in 0.2 s, on a busy machine far fewer.
        #expect(result.measured[.answered] <= 84 && result.measured[.answered] >= 4)
        #expect(test.origin.value(.requests) == result.total[.sent])
    }

    @Test func requestsMaxEndsTheRun() throws {
        let test = try TestOrigin()
        for rate in [nil, 2_000.0] {
            let result = try test.load {
                $0.rate = rate
                $0.seconds = 20
                $0.requestsMax = 137
            }
            #expect(
                result.total[.offered] == 137 && result.total[.answered] == 137 && addsUp(result))
        }
    }

    /// One connection and an origin of 20 ms serve 50 a second; 200 are offered. A generator that
    /// forgets its backlog would report 20 ms.
    @Test func latencyCountsFromTheIntendedTime() throws {
        let test = try TestOrigin { $0.delayMs = 20 }
        let result = try test.load {
            $0.connections = 1
            $0.rate = 200
            $0.graceSeconds = 5
        }
        #expect(addsUp(result) && result.total[.answered] == 40)
        // The last is intended at 195 ms and answered at 800 ms or later.
        #expect(result.latency.value(at: 1)! > 560e6)
        #expect(result.lateness.value(at: 0.5)! > 200e6)
    }

    @Test func backlogIsBounded() throws {
        let test = try TestOrigin { $0.mode = .hang }
        let result = try test.load {
            $0.connections = 2
            $0.rate = 500
            $0.backlogMax = 10
        }
        #expect(addsUp(result))
        #expect(
            result.total[.offered] == 100 && result.total[.sent] == 2
                && result.total[.unanswered] == 100)
        #expect(result.total[.backlogDropped] == 88)
    }

    @Test(arguments: [
        (OriginMode.hang, LoadCounter.unanswered), (.neverAccept, .unanswered),
        (.reset, .failedReset),
        (.refuse, .failedConnect), (.garbage, .failedBadAnswer), (.close, .failedReset),
    ])
    func faultsAreCountedByKind(mode: OriginMode, counter: LoadCounter) throws {
        let test = try TestOrigin { $0.mode = mode }
        for rate in [nil, 200.0] {
            let result = try test.load { $0.rate = rate }
            #expect(addsUp(result), "\(mode)")
            #expect(
                result.total[.offered] > 0 && result.total[counter] == result.total[.offered],
                "\(mode)")
            #expect(rate == nil || result.total[.offered] == 40)
        }
    }

    @Test func timeoutIsAnErrorAndFreesTheConnection() throws {
        let test = try TestOrigin { $0.mode = .hang }
        let result = try test.load {
            $0.connections = 1
            $0.rate = 20
            $0.timeoutSeconds = 0.05
            $0.graceSeconds = 2
        }
        #expect(
            addsUp(result) && result.total[.failedTimeout] == 4
                && result.total[.connectionsMade] == 4)
    }

    @Test func statusClassesAndWrongLengths() throws {
        let test = try TestOrigin { try! $0.apply(mode: "status=503;retry-after=2") }
        let result = try test.load {
            $0.rate = 100
            $0.bodyBytesExpected = 7
        }
        #expect(
            result.total[.status5xx] == 20 && result.total[.wrongLength] == 20 && addsUp(result))
    }

    @Test(arguments: [false, true], [false, true])
    func bodiesBothWays(chunkedRequest: Bool, chunkedAnswer: Bool) throws {
        let test = try TestOrigin {
            $0.bodyBytes = 300_000
            $0.isChunked = chunkedAnswer
        }
        var request = LoadRequest(method: "POST", path: "/upload")
        request.bodyBytes = 400_000
        request.isChunked = chunkedRequest
        let result = try test.load {
            $0.requests = [request]
            $0.seconds = 10
            $0.requestsMax = 20
            $0.bodyBytesExpected = 300_000
        }
        #expect(addsUp(result) && result.total[.status2xx] == 20)
        #expect(result.total[.wrongLength] == 0 && result.total[.strayBytes] == 0)
        #expect(
            test.origin.value(.complete) == 20 && test.origin.value(.bytesReceived) > 20 * 400_000)
    }

    @Test func unixSocketsCarryLongBodiesToo() throws {
        let path = "/tmp/umbra-load-test-\(getpid()).sock"
        defer { unlink(path) }
        let test = try TestOrigin {
            $0.listen = SocketAddress("unix:" + path)!
            $0.bodyBytes = 200_000
        }
        var request = LoadRequest(method: "POST")
        request.bodyBytes = 200_000
        let result = try test.load {
            $0.requests = [request]
            $0.seconds = 10
            $0.requestsMax = 20
            $0.bodyBytesExpected = 200_000
        }
        #expect(addsUp(result) && result.total[.status2xx] == 20 && result.total[.wrongLength] == 0)
        #expect(test.origin.value(.complete) == 20)
    }

    /// Long bodies are thrown away unread, and what follows them must not be.
    @Test func longAnswersOneAfterTheOther() throws {
        let test = try TestOrigin { $0.bodyBytes = 3_000_000 }
        let result = try test.load {
            $0.connections = 2
            $0.seconds = 10
            $0.requestsMax = 40
            $0.bodyBytesExpected = 3_000_000
        }
        #expect(addsUp(result) && result.total[.status2xx] == 40)
        #expect(result.total[.wrongLength] == 0 && result.total[.strayBytes] == 0)
        #expect(result.total[.bodyBytes] == 40 * 3_000_000 && result.total[.connectionsMade] == 2)
    }

    @Test func numbersReachTheOrigin() throws {
        let test = try TestOrigin { $0.arrivalsMax = 25 }
        _ = try test.load {
            $0.rate = 200
            $0.numbered = [
                NumberedField(name: "X-Load-Serial", source: .serial),
                NumberedField(name: "X-Load-Connection", source: .connection),
            ]
        }
        let arrivals = test.origin.arrivals()
        // 40 came, 25 were kept.
        #expect(test.origin.value(.requests) == 40 && arrivals.count == 25)
        #expect(
            Set(arrivals.map(\.serial)).count == 25
                && arrivals.allSatisfy { $0.connection < 4 && !$0.isShadow })
        #expect(zip(arrivals, arrivals.dropFirst()).allSatisfy { $0.atNs <= $1.atNs })
    }

    @Test func headAnswersHaveNoBody() throws {
        let test = try TestOrigin()
        let result = try test.load {
            $0.requests = [LoadRequest(method: "HEAD"), LoadRequest(method: "GET")]
            $0.rate = 100
        }
        #expect(
            addsUp(result) && result.total[.answered] == 20
                && result.total[.bodyBytes] == 10 * 1_024)
        #expect(result.total[.connectionsMade] == 4 && result.total[.strayBytes] == 0)
    }
}
