import Configuration
import CoreLoop
import EventLog
import Mirror
import Providers
import Proxy
import Testing
import Upstream

@Suite struct GoodDocumentsTests {
    @Test func leastDocumentHasAllDefaults() throws {
        let read = try settings(
            "providers: {targets: [{id: app, base_url: http://127.0.0.1:9001}]}")
        var expected = GatewaySettings()
        expected.listen = [ListenerSettings(SocketAddress("127.0.0.1:41002")!)]
        expected.targets = [
            TargetSettings(
                id: "app", authority: "127.0.0.1:9001", host: "127.0.0.1", port: 9001,
                addresses: [SocketAddress("127.0.0.1:9001")!])
        ]
        expected.routes = [RouteSettings(name: "default", target: 0)]
        #expect(read == expected)
    }

    /// What asks a model reads, as a GET does; to another API nothing else goes.
    @Test func whatIsMirroredOfLLMTargets() throws {
        let read = try settings(
            """
            providers:
              targets:
                - {id: gpt, provider: openai}
                - {id: local, provider: openai, base_url: "http://127.0.0.1:9001"}
                - {id: claude, provider: anthropic}
                - {id: site, base_url: "http://127.0.0.1:9002"}
            traffic_mirror:
              primary: gpt
              shadows:
                - {shadow: local, timeout_ms: 7}
                - {shadow: claude}
                - {shadow: site}
            routes:
              - {match: {path: /a}, target: gpt, mirror: {safety: {methods: [GET, POST]}}}
              - {match: {path: /b}, target: claude, mirror: {shadow: [local, site]}}
              - {match: {path: /c}, target: site, mirror: {shadow: [local, claude]}}
            """)
        let reads = ["GET", "HEAD", "OPTIONS"]
        let given = ["GET", "POST"]
        #expect(read.routes[0].lanes.map(\.methods) == [given, given, given])
        #expect(read.routes[0].lanes.map(\.takesInference) == [false, false, false])
        #expect(read.routes[1].lanes.map(\.methods) == [[], reads])
        #expect(read.routes[1].lanes.map(\.takesInference) == [true, true])
        #expect(read.routes[2].lanes.map(\.methods) == [reads, reads])
        #expect(read.routes[2].lanes.map(\.takesInference) == [false, false])
        #expect(read.routes[3].lanes.map(\.methods) == [reads, [], reads])
        #expect(read.routes[3].lanes.map(\.takesInference) == [true, true, true])
        #expect(read.shadows.map(\.timeoutMs) == [7, 60_000, 5_000])
    }

    @Test func everyFigureIsRead() throws {
        let read = try settings(
            targets + """
                version: 1
                runtime: {workers: 3, pin_cpus: false, shadows: 2, shadow_nice: 19,
                          shadow_memory: 1GiB,
                          block_bytes: 32 KiB, blocks_per_worker: 1000, connections_per_worker: 100,
                          ring_depth: 64, blocks_on_loan_max: 500, drain_timeout: 2m}
                limits: {head_bytes: 4096, fields: 20, body_bytes: 1 MiB, head_timeout: 1s,
                         body_timeout: 1500ms,
                         idle_timeout: 1h, connect_timeout: 3s, answer_timeout: 4s}
                forwarding:
                  {x_forwarded: "off", allow_trace: true, via: edge-1, forwarded: append, trace: always,
                   trusted_proxies: [10.0.0.0/8, "2001:db8::1", unix]}
                access_log: {path: /tmp/log, format: json}
                event_log: {directory: /tmp/events, segment_bytes: 1MiB, sync: 250ms,
                            retention_days: 30, immutable: false}
                admin: {listen: "[::1]:5", token: {env: TOKEN}, hosts: [Umbra.internal]}
                listen: [localhost:80, {address: "unix:/run/u.sock"}]
                """)
        var runtime = RuntimeSettings()
        runtime.workers = 3
        runtime.pinCPUs = false
        runtime.shadows = 2
        runtime.shadowNice = 19
        runtime.shadowMemoryBytes = 1 << 30
        runtime.blockBytes = 32 << 10
        runtime.blocksPerWorker = 1000
        runtime.connectionsPerWorker = 100
        runtime.ringDepth = 64
        runtime.blocksOnLoanMax = 500
        runtime.drainTimeoutMs = 120_000
        #expect(read.runtime == runtime)
        var events = EventLogSettings()
        events.directory = "/tmp/events"
        events.segmentBytes = 1 << 20
        events.syncMs = 250
        events.retentionDays = 30
        events.isImmutable = false
        #expect(read.eventLog == events)
        var limits = LimitSettings()
        limits.headBytes = 4096
        limits.fields = 20
        limits.bodyBytes = 1 << 20
        limits.headTimeoutMs = 1_000
        limits.bodyTimeoutMs = 1_500
        limits.idleTimeoutMs = 3_600_000
        limits.connectTimeoutMs = 3_000
        limits.answerTimeoutMs = 4_000
        #expect(read.limits == limits)
        #expect(read.forwarding.forwardedFor == .off)
        #expect(read.forwarding.allowTrace)
        #expect(read.forwarding.viaName == "edge-1")
        #expect(read.forwarding.forwarded == .append)
        #expect(read.forwarding.trace == .always)
        #expect(
            read.forwarding.trustedProxies == [IPNetwork("10.0.0.0/8"), IPNetwork("2001:db8::1")])
        #expect(read.forwarding.trustsUnix)
        #expect(read.accessLog?.path == "/tmp/log")
        #expect(read.admin.listen == SocketAddress("[::1]:5"))
        #expect(read.admin.tokenVariable == "TOKEN")
        #expect(read.admin.hosts == ["umbra.internal"])
        #expect(
            read.listen.map(\.address) == [
                SocketAddress("127.0.0.1:80")!, SocketAddress("unix:/run/u.sock")!,
            ])
    }

    /// Without a word of its own, half of the blocks, and never more than what is usual.
    @Test(arguments: [
        ("blocks_per_worker: 64", 32), ("blocks_per_worker: 101", 50),
        ("blocks_per_worker: 3000", 1_500), ("blocks_per_worker: 4095", 2_047),
        ("blocks_per_worker: 4096", 2_048), ("blocks_per_worker: 8192", 2_048),
        ("block_bytes: 4KiB", 2_048), ("blocks_on_loan_max: 100, blocks_per_worker: 3000", 100),
        ("blocks_per_worker: 3000, blocks_on_loan_max: 1500", 1_500),
        ("blocks_per_worker: 8192, blocks_on_loan_max: 4096", 4_096),
    ])
    func blocksOnLoanFollowTheBlocks(_ keys: String, _ expected: Int) throws {
        #expect(try settings(targets + "runtime: {\(keys)}").runtime.blocksOnLoanMax == expected)
    }

    @Test func offIsOff() throws {
        let read = try settings(targets + "admin: off\naccess_log: off\n")
        #expect(read.admin.listen == nil)
        #expect(read.accessLog == nil)
        #expect(try settings(targets + "access_log: {}").accessLog?.path == "-")
        #expect(try settings(targets + "event_log: off").eventLog == nil)
        #expect(try settings(targets + "event_log: {}").eventLog == EventLogSettings())
    }

    @Test(
        arguments: [
            ("http://127.0.0.1", "127.0.0.1:80", "127.0.0.1", 80, "", ["127.0.0.1:80"]),
            ("http://[::1]:9/", "[::1]:9", "::1", 9, "", ["[::1]:9"]),
            ("http://[0:0::1]/a/b/", "[::1]:80", "::1", 80, "/a/b", ["[::1]:80"]),
            ("HTTP://App.Internal:8080/V2", "app.internal:8080", "app.internal", 8080, "/V2", []),
            ("http://app//", "app:80", "app", 80, "", []),
            ("http+unix:///run/app.sock", "localhost", "localhost", 80, "", ["unix:/run/app.sock"]),
        ] as [(String, String, String, UInt16, String, [String])])
    func baseURL(
        _ url: String, _ authority: String, _ host: String, _ port: UInt16, _ prefix: String,
        _ addresses: [String]
    ) throws {
        let read = try settings("providers: {targets: [{id: t, base_url: \"\(url)\"}]}")
        #expect(
            read.targets == [
                TargetSettings(
                    id: "t", authority: authority, host: host, port: port, pathPrefix: prefix,
                    addresses: addresses.map { SocketAddress($0)! })
            ])
    }

    // MARK: Mirror and routes

    @Test func oneShadow() throws {
        let read = try settings(
            targets + """
                traffic_mirror:
                  {enabled: false, primary: app, shadow: next, async: true, sample_rate: 10%,
                   sample_by: header:X-User-Id, timeout_ms: 2s, max_body_bytes: 64KiB,
                   max_answer_bytes: 1MiB, cancel_with_client: true, tags: {model_rev: r2},
                   limits: {qps: 0.5, in_flight: 7},
                   safety: {methods: [get, POST], strip_fields: [X-A], allow_fields: [Cookie],
                            strip_query: [Sid]},
                   breaker: {failures: 2, open: 500ms, open_max: 1m}}
                """)
        var shadow = ShadowSettings(targetID: "next", target: 1)
        shadow.qps = 0.5
        shadow.inFlightMax = 7
        shadow.timeoutMs = 2_000
        shadow.answerBytesMax = 1 << 20
        shadow.cancelsWithClient = true
        shadow.tags.modelRevision = "r2"
        shadow.stripFields = ["x-a"]
        shadow.allowFields = ["cookie"]
        shadow.stripQuery = ["sid"]
        shadow.breakerFailures = 2
        shadow.breakerOpenMs = 500
        shadow.breakerOpenMsMax = 60_000
        #expect(read.shadows == [shadow])
        var lane = LaneSettings(shadow: 0)
        lane.sampleRate = 0.1
        lane.sampleBy = .header("x-user-id")
        lane.bodyBytesMax = 64 << 10
        lane.methods = ["GET", "POST"]
        #expect(read.routes.map(\.lanes) == [[lane]])
        #expect(!read.mirrorEnabled)
    }

    @Test func entriesAreLaidOverTheBlockAndRoutesOverEntries() throws {
        let read = try settings(
            targets + """
                    - {id: third, base_url: "http://127.0.0.1:9003"}
                traffic_mirror:
                  sample_rate: 0.5
                  max_body_bytes: 10
                  limits: {qps: 9, in_flight: 3}
                  safety: {methods: [GET], strip_query: [a]}
                  shadows:
                    - {shadow: next, sample_rate: 0.25, limits: {qps: 8}}
                    - {shadow: third, enabled: false, safety: {strip_query: []}}
                routes:
                  - {match: {path: /both}, mirror: {enabled: true, max_body_bytes: 20}}
                  - {match: {path: /third},
                     mirror: {shadow: third, enabled: true, safety: {methods: [HEAD]}}}
                  - {match: {path: /none}, mirror: {enabled: false}}
                  - {match: {path: /elsewhere}, target: third}
                  - {match: {path: /asked}, target: third, mirror: {shadow: [next]}}
                """)
        #expect(read.shadows.map(\.targetID) == ["next", "third"])
        #expect(read.shadows.map(\.qps) == [8, 9])
        #expect(read.shadows.map(\.inFlightMax) == [3, 3])
        #expect(read.shadows.map(\.stripQuery) == [["a"], []])
        func lane(_ shadow: Int, _ rate: Double, _ bytes: Int, _ methods: [String]) -> LaneSettings
        {
            var lane = LaneSettings(shadow: shadow)
            lane.sampleRate = rate
            lane.bodyBytesMax = bytes
            lane.methods = methods
            return lane
        }
        #expect(
            read.routes.map(\.lanes) == [
                [lane(0, 0.25, 20, ["GET"]), lane(1, 0.5, 20, ["GET"])],
                [lane(1, 0.5, 10, ["HEAD"])],
                [],
                [],
                [lane(0, 0.25, 10, ["GET"])],
                [lane(0, 0.25, 10, ["GET"])],
            ])
        #expect(read.routes.map(\.target) == [0, 0, 0, 2, 2, 0])
        #expect(
            read.routes.map(\.name) == [
                "route-1", "route-2", "route-3", "route-4", "route-5", "default",
            ])
    }

    /// What the block pins lies over what the target does, key by key.
    @Test func tagsAreLaidOverTheTargets() throws {
        let read = try settings(
            """
            version: 1
            providers:
              targets:
                - {id: app, base_url: "http://127.0.0.1:9001", tags: {index_hash: i1}}
                - {id: next, base_url: "http://127.0.0.1:9002",
                   tags: {model_rev: r1, index_hash: i2}}
            traffic_mirror: {shadow: next, tags: {model_rev: r2}}
            """)
        #expect(read.targets.map(\.tags.indexHash) == ["i1", "i2"])
        #expect(read.targets.map(\.tags.modelRevision) == ["", "r1"])
        #expect(read.shadows[0].tags.modelRevision == "r2")
        #expect(read.shadows[0].tags.indexHash == "i2")
    }

    @Test func primaryIsTheDefaultRoutesTarget() throws {
        let read = try settings(targets + "traffic_mirror: {primary: next, shadow: app}")
        #expect(read.routes.map(\.target) == [1])
        #expect(read.shadows.map(\.target) == [0])
    }

    @Test func matches() throws {
        let read = try settings(
            targets + """
                routes:
                  - name: all
                    match:
                      host: "*.Example.com"
                      path_prefix: /a%20b/
                      methods: [get, M-SEARCH]
                      headers: {X-Version: 2, X-Debug: null, X-Empty: ""}
                    target: next
                    rewrite_prefix: /
                  - {match: {host: "[::1]", path: /}, target: next}
                  - {match: {host: 10.0.0.1}, target: next}
                """)
        var route = RouteSettings(name: "all", target: 1)
        route.host = "*.example.com"
        route.path = .prefix("/a%20b/")
        route.methods = ["GET", "M-SEARCH"]
        route.headers = [
            .init(name: "x-version", value: "2"), .init(name: "x-debug", value: nil),
            .init(name: "x-empty", value: ""),
        ]
        route.rewritePrefix = "/"
        #expect(read.routes[0] == route)
        #expect(read.routes[1].host == "[::1]")
        #expect(read.routes[1].path == .exact("/"))
        #expect(read.routes[2].host == "10.0.0.1")
    }

    // MARK: YAML

    @Test func anchorsAliasesAndMerges() throws {
        let read = try settings(
            """
            providers:
              targets:
                - &base {id: app, provider: http, base_url: "http://127.0.0.1:9001"}
                - {<<: *base, id: next}
                - {id: third, <<: [{base_url: "http://127.0.0.1:9003"}, *base]}
            traffic_mirror: {shadow: next, sample_rate: &rate 0.5}
            routes:
              - {match: {path: /x}, target: third, mirror: {sample_rate: *rate}}
            """)
        #expect(read.targets.map(\.id) == ["app", "next", "third"])
        #expect(read.targets.map(\.port) == [9001, 9001, 9003])
        #expect(read.routes[0].lanes[0].sampleRate == 0.5)
    }

    @Test func otherFormsOfYAML() throws {
        let marked =
            "\u{FEFF}%YAML 1.1\n---\n" + targets + "limits: !!map {fields: !!int \"20\"}\n...\n"
        #expect(try settings(marked).limits.fields == 20)
        #expect(
            try settings(
                "{\"providers\": {\"targets\": [{\"id\": \"a\", \"base_url\": \"http://b\"}]}}"
            ).targets[0].id == "a")
        #expect(
            try settings((targets + "limits: {fields: 20}").replacing("\n", with: "\r\n")).limits
                .fields == 20)
    }

    @Test func aCommandsListenStandsInThePlaceOfTheDocuments() throws {
        let text = Array((targets + "listen: 127.0.0.1:1\n").utf8)
        func read(_ address: String) -> ConfigurationResult {
            ConfigurationReader.read(text: text, file: "f", listen: [SocketAddress(address)!])
        }
        #expect(
            read("127.0.0.1:2").settings?.listen.map(\.address) == [SocketAddress("127.0.0.1:2")!])
        // The checks see what will really be listened on.
        #expect(read("127.0.0.1:9001").errors.map(\.code) == [.conflict])
        #expect(read("127.0.0.1:41003").errors.map(\.code) == [.conflict])
    }

    @Test func namesAreResolved() throws {
        var read = try settings(
            """
            providers: {targets: [{id: a, base_url: "http://localhost:9"},
                                  {id: b, base_url: "http://localhost:9/x"},
                                  {id: c, base_url: "http://nowhere.invalid"}]}
            """)
        #expect(read.targets.map(\.addresses.count) == [0, 0, 0])
        let diagnostics = ConfigurationReader.resolveTargets(&read)
        #expect(read.targets[0].addresses.contains(SocketAddress("127.0.0.1:9")!))
        #expect(read.targets[1].addresses == read.targets[0].addresses)
        #expect(read.targets[2].addresses.isEmpty)
        #expect(diagnostics.map(\.code) == [.unresolved])
        #expect(diagnostics.map(\.path) == ["providers.targets[2].base_url"])
    }
}
