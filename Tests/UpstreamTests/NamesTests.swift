import CoreLoop
import Testing

@testable import Upstream

/// The system's files, and what a name's look-ups leave behind.
@Suite struct NamesTests {
    private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private static func list(_ texts: String...) -> [SocketAddress] {
        texts.map { SocketAddress(host: $0, port: 0)! }
    }

    // MARK: Files

    @Test func resolvConf() {
        let file = ResolverFile(
            text: Self.bytes(
                """
                # written by somebody
                domain old.test
                nameserver 10.0.0.1
                nameserver\t::1
                nameserver fe80::1%eth0
                nameserver nonsense
                nameserver 10.0.0.3 ; the third
                nameserver 10.0.0.4
                search a.test. b.test
                options ndots:3 timeout:99 attempts:0 rotate ndots ndots:x
                """))
        #expect(
            file.nameservers
                == ["10.0.0.1:53", "[::1]:53", "10.0.0.3:53"].map {
                    SocketAddress($0)!
                })
        #expect(file.search == ["a.test", "b.test"])
        #expect(file.ndots == 3 && file.timeoutMs == 10_000 && file.attempts == 1)
        #expect(ResolverFile(text: []).nameservers == [SocketAddress("127.0.0.1:53")!])
    }

    @Test(arguments: [
        ("app", 1, ["app.a.test", "app.b.test", "app"]),
        ("app.x", 1, ["app.x", "app.x.a.test", "app.x.b.test"]),
        ("app.x", 5, ["app.x.a.test", "app.x.b.test", "app.x"]), ("app.", 5, ["app"]),
        ("app.x.", 1, ["app.x"]),
    ])
    func candidates(_ host: String, _ ndots: Int, _ wanted: [String]) {
        var file = ResolverFile(nameservers: [])
        file.search = ["a.test", "b.test"]
        file.ndots = ndots
        #expect(file.candidates(host) == wanted)
    }

    @Test func hosts() {
        let file = HostsFile(
            text: Self.bytes(
                """
                127.0.0.1 localhost
                ::1\t localhost ip6-localhost
                10.0.0.7  App app.test # that one
                10.0.0.7 app
                #10.0.0.8 app
                0.0.0.0 blocked
                nonsense app
                10.0.0.9
                """))
        #expect(file.addresses(of: "localhost") == Self.list("127.0.0.1", "::1"))
        #expect(file.addresses(of: "APP") == Self.list("10.0.0.7"))
        #expect(file.addresses(of: "that").isEmpty && file.addresses(of: "blocked").isEmpty)
    }

    @Test(arguments: [
        ("", true, true), ("hosts: files dns", true, true),
        ("passwd: files\nhosts:  files myhostname", true, false),
        ("hosts: dns", false, true),
        ("# hosts: x\nhosts: mymachines resolve [!UNAVAIL=return] files", true, true),
    ])
    func sources(_ text: String, _ hasFiles: Bool, _ hasDNS: Bool) {
        let sources = NameSources(text: Self.bytes(text))
        #expect(sources.hasFiles == hasFiles && sources.hasDNS == hasDNS)
    }

    // MARK: Memory

    @Test func theLastGoodAddressesStay() {
        var memory = AddressMemory([SocketAddress("10.0.0.1:80")!, SocketAddress("[::1]:80")!])
        let before = memory
        for failure in [NameLookup.Failure.noName, .noAnswer, .malformed, .unusable] {
            let answer = NameAnswer(failure)
            #expect(answer.failure == failure)
            let isNew = memory.take(answer)
            #expect(!isNew && memory == before)
        }
    }

    @Test func oneFamilysFailureLeavesTheOthersAlone() {
        var memory = AddressMemory(Self.list("10.0.0.1", "2001:db8::1"))
        // Nobody answered for IPv6: what was known stays.
        let half = NameAnswer(
            v6: .failed(.noAnswer), v4: .found(Self.list("10.0.0.2"), ttlMs: 5_000))
        #expect(half.failure == nil && half.ttlMs == 5_000)
        var isNew = memory.take(half)
        #expect(isNew)
        #expect(memory.v6 == Self.list("2001:db8::1") && memory.v4 == Self.list("10.0.0.2"))
        // It is known that there are none: they go.
        isNew = memory.take(NameAnswer(v6: .noName, v4: .found(Self.list("10.0.0.2"), ttlMs: 1)))
        #expect(isNew)
        #expect(memory.v6.isEmpty)
    }

    @Test func anotherOrderIsNoChange() {
        var memory = AddressMemory([])
        let one = memory.take(NameAnswer(Self.list("10.0.0.1", "10.0.0.2")))
        let turned = memory.take(NameAnswer(Self.list("10.0.0.2", "10.0.0.1")))
        #expect(one && !turned)
        #expect(memory.v4 == Self.list("10.0.0.1", "10.0.0.2"))
        let fewer = memory.take(NameAnswer(Self.list("10.0.0.2")))
        #expect(fewer)
    }

    @Test func familiesAreInTurnAndWhatHasNoRouteIsLast() {
        let memory = AddressMemory(Self.list("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"))
        #expect(
            memory.ordered { _ in true }
                == Self.list("2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2"))
        #expect(
            memory.ordered { $0.hostText.hasPrefix("10.") }
                == Self.list("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"))
        #expect(memory.ordered { _ in false }.count == 4)
    }

    @Test func thereIsAWayToOurselves() {
        #expect(SocketAddress("127.0.0.1:0")!.hasRoute)
    }

    @Test func ports() {
        #expect(SocketAddress("10.0.0.1:80")!.with(port: 65_535) == SocketAddress("10.0.0.1:65535"))
        #expect(SocketAddress("[::1]:65535")!.with(port: 0) == SocketAddress("[::1]:0"))
        let unix = SocketAddress("unix:/a")!
        #expect(unix.with(port: 1) == unix)
    }

    // MARK: Pace

    @Test(arguments: [
        (nil as Int?, 30_000), (0, 1_000), (999, 1_000), (60_000, 60_000), (86_400_000, 300_000),
    ])
    func timesToLiveAreBounded(_ ttlMs: Int?, _ nextMs: Int) {
        #expect(LookupPace.nextMs(ttlMs: ttlMs, intervalMs: 30_000) == nextMs)
    }

    @Test func failuresAreAskedForLessAndLess() {
        let waits = (1...7).map { LookupPace.retryMs(failures: $0) }
        #expect(waits == [2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
        #expect(LookupPace.retryMs(failures: .max) == 30_000)
    }

    @Test func eachNameIsWatchedOnce() {
        var one = TargetSettings(id: "a", authority: "app:1", host: "app", port: 1)
        one.endpoints.append(EndpointSettings(authority: "b:2", host: "b", port: 2))
        let literal = TargetSettings(
            id: "b", authority: "10.0.0.1:1", host: "10.0.0.1", port: 1,
            addresses: [SocketAddress("10.0.0.1:1")!])
        let two = TargetSettings(id: "c", authority: "app:3", host: "app", port: 3)
        let names = WatchedName.all([one, literal, two])
        #expect(names.map(\.host) == ["app", "b"])
        #expect(
            names[0].endpoints.map(\.target) == [0, 2] && names[1].endpoints.map(\.place) == [1])
    }
}
