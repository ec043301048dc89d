import Configuration
import CoreLoop
import Proxy
import Testing
import Upstream

/// `health` of a target, and the `resolver`.
@Suite struct HealthDocumentsTests {
    private func target(_ keys: String) -> String {
        "providers: {targets: [{id: app, base_url: \"http://127.0.0.1:9001\", \(keys)}]}"
    }

    @Test func everythingThatIsSaid() throws {
        let read = try settings(
            target(
                "health: {path: /up, method: HEAD, host: \"app.internal:81\", interval: 1s, "
                    + "timeout: 3s, healthy: 1, unhealthy: 5, status: [200, \"300-308\"]}")
                + "\nresolver: {nameservers: [10.0.0.53, \"[::1]:5353\"], interval: 5s}")
        var health = HealthSettings(path: "/up")
        health.method = .head
        health.host = "app.internal:81"
        health.intervalMs = 1_000
        health.timeoutMs = 3_000
        health.healthy = 1
        health.unhealthy = 5
        health.status = [200...200, 300...308]
        #expect(read.targets[0].health == health)
        #expect(
            read.resolver.nameservers == ["10.0.0.53:53", "[::1]:5353"].map { SocketAddress($0)! })
        #expect(read.resolver.intervalMs == 5_000)
    }

    @Test func whatIsNotSaid() throws {
        let read = try settings(target("health: {path: /}"))
        #expect(read.targets[0].health == HealthSettings(path: "/"))
        #expect(read.resolver == ResolverSettings())
        #expect(read.needsHealthProcess)
        // Neither checks nor names: no process.
        let plain = try settings(target("provider: http"))
        #expect(!plain.needsHealthProcess)
        let named = "providers: {targets: [{id: a, base_url: \"http://app:1\"}]}"
        let looked = try settings(named)
        #expect(looked.needsHealthProcess)
    }

    @Test(arguments: [
        ("{}", "path"), ("{path: up}", "path"), ("{path: \"/a b\"}", "path"),
        ("{path: /, method: POST}", "method"), ("{path: /, interval: 1ms}", "interval"),
        ("{path: /, timeout: 0s}", "timeout"), ("{path: /, healthy: 0}", "healthy"),
        ("{path: /, status: []}", "status"), ("{path: /, status: 199}", "status"),
        ("{path: /, status: \"300-200\"}", "status"), ("{path: /, status: \"+20-300\"}", "status"),
        ("{path: /, status: [200, 600]}", "status[1]"), ("{path: /, status: {a: b}}", "status"),
        ("{path: /, host: \"a b\"}", "host"), ("{path: /, host: \"a\\r\\nX: y\"}", "host"),
        ("{path: /, host: \"a:b\"}", "host"), ("{path: /, host: \"unix:/a\"}", "host"),
        ("{path: /, port: 9}", "port"), ("/up", ""),
    ])
    func faultsOfChecks(_ text: String, _ key: String) {
        let result = lint(target("health: \(text)"))
        let path = "providers.targets[0].health" + (key.isEmpty ? "" : "." + key)
        #expect(result.settings == nil && result.errors.map(\.path) == [path])
    }

    @Test(arguments: [
        ("nameservers: 10.0.0.1", "nameservers"), ("nameservers: [dns.test]", "nameservers[0]"),
        ("nameservers: [\"10.0.0.1:0\"]", "nameservers[0]"),
        ("nameservers: [0.0.0.0]", "nameservers[0]"),
        ("nameservers: [\"unix:/run/dns\"]", "nameservers[0]"),
        ("nameservers: [10.0.0.1, \"10.0.0.1:53\"]", "nameservers[1]"),
        ("nameservers: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4]", "nameservers"),
        ("interval: 10ms", "interval"), ("nameserver: 10.0.0.1", "nameserver"),
    ])
    func faultsOfTheResolver(_ text: String, _ key: String) {
        let result = lint(targets + "resolver: {\(text)}")
        #expect(result.settings == nil && result.errors.map(\.path) == ["resolver.\(key)"])
    }
}
