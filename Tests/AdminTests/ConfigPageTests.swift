import Configuration
import CoreLoop
import Foundation
import Mirror
import Proxy
import Testing

@testable import Admin

/// `/config` says all that the configuration can say, and no secret.
@Suite struct ConfigPageTests {
    private static let document = """
        version: '1'
        listen:
          - {address: "127.0.0.1:80", redirect_to_https: true}
        admin: {listen: "127.0.0.1:9", token: {env: TOKEN}, hosts: [umbra.internal]}
        runtime: {workers: 3, drain_timeout: 90s}
        forwarding: {trusted_proxies: [10.0.0.0/8, "2001:db8::/32", "::1", 1.2.3.4, unix]}
        limits: {head_timeout: 1500ms, idle_timeout: 2h}
        access_log: {path: "-"}
        event_log: {directory: /tmp/events}
        auth: {keys: [{name: team, env: UMBRA_KEY_TEAM}, {name: ci, file: /run/ci}]}
        pack: {name: edge, version: 1.0.0}
        policies:
          - {type: pii-detector, detect: [phone, email]}
          - {name: words, type: content_filter, action: block, patterns: [falcon, {regex: "a+b"}]}
        providers:
          targets:
            - {id: app, endpoints: [{url: "http://10.0.0.1:9001/v1", weight: 3}, {url: "http://10.0.0.2:9001/v1"}],
               balance: {hash: "header:x-user-id"}, retries: {attempts: 2}, health: {path: /up, status: [200, 204-206]}, ejection: "off"}
            - {id: next, base_url: "http+unix:///run/next.sock"}
            - {id: llm, provider: openai, secret_key_ref: {file: /run/key}}
            - {id: other, provider: openai, secret_key_ref: {env: OTHER_KEY}}
        routes:
          - {name: a, match: {path_prefix: /a, host: "*.example.com", methods: [GET],
                              headers: {x-api-key: hunter2, x-canary: "1", x-debug: null}},
             rewrite_prefix: /b, target: app, mirror: {sample_rate: 0.5, sample_by: "header:x-user"}}
        traffic_mirror: {primary: app, shadow: next, sample_rate: 0.1, guard: {p99_overhead: 0.1}}
        """

    private static func page(_ text: String) throws -> String {
        let result = ConfigurationReader.read(text: Array(text.utf8), file: "t.yaml")
        let report = LintReport.text(result)
        let settings = try #require(result.settings, "\(report)")
        return ConfigPage(settings: settings, workers: 3).json.written
    }

    @Test(arguments: [
        #""listen":[{"address":"127.0.0.1:80","redirect_to_https":443,"tls":null}]"#,
        #""admin":{"listen":"127.0.0.1:9","token":{"env":"TOKEN"},"hosts":["umbra.internal"]}"#,
        #""workers":3"#, #""drain_timeout":"90s""#, #""head_timeout":"1500ms""#,
        #""idle_timeout":"2h""#, #""body_timeout":"30s""#, #""head_bytes":65536"#,
        #""trusted_proxies":["10.0.0.0/8","2001:db8::/32","::1","1.2.3.4","unix"]"#,
        #""access_log":{"path":"-","format":"json"}"#,
        #""auth":{"keys":[{"name":"team","env":"UMBRA_KEY_TEAM"},{"name":"ci","file":"/run/ci"}]}"#,
        #""pack":{"name":"edge","version":"1.0.0"}"#,
        #"{"name":"pii-detector","type":"pii-detector","action":"redact","detect":["email","phone"]}"#,
        #""name":"words","type":"content_filter","action":"block","patterns":["falcon",{"regex":"a+b"}]"#,
        #""compare_metrics":["latency","token_count","content_similarity"]"#,
        #"{"url":"http://10.0.0.1:9001/v1","weight":3,"connections":0}"#,
        #""url":"http+unix:///run/next.sock""#, #""ejection":"off""#,
        #""balance":{"hash":"header:x-user-id"}"#, #""attempts":2"#,
        #""headers":{"x-api-key":"***","x-canary":"1","x-debug":null}"#,
        #""host":"*.example.com","path_prefix":"/a","methods":["GET"]"#, #""rewrite_prefix":"/b""#,
        #""sample_rate":0.5,"sample_by":"header:x-user""#, #""guard":{"p99_overhead":0.1}"#,
        #""health":{"method":"GET","path":"/up","host":null,"interval":"5s","timeout":"2s","#,
        #""status":["200","204-206"]"#, #""resolver":{"nameservers":[],"interval":"30s"}"#,
        #""name":"default""#, #""qps":200.0"#, #""open_max":"30s""#,
    ])
    func holds(_ part: String) throws {
        let page = try Self.page(Self.document)
        #expect(page.contains(part), "\(page)")
        #expect(!page.contains("hunter2"))
    }

    /// Every key of the schema has its place on the page.
    @Test func noKeyIsForgotten() throws {
        let text = try Self.page(Self.document)
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
        var keys: Set<String> = []
        func collect(_ value: Any) {
            if let list = value as? [Any] { list.forEach(collect) }
            for (key, inner) in value as? [String: Any] ?? [:] {
                keys.insert(key)
                collect(inner)
            }
        }
        collect(object)
        // Written under another key, only there where it is set, or without an effect of its own.
        let elsewhere: Set = [
            "base_url", "primary", "shadow", "async", "*", "certificate", "key",
            "ocsp", "min_version", "ciphers", "ciphersuites", "path", "ca", "mode",
            "subject_header",
            "hsts",
            "ticket_rotation", "server_name", "insecure_skip_verify", "certificates",
            "client_certificates", "max_share", "time", "failures", "on",
            "mirror_target", "log_mirror_response", "author", "description", "id", "chain",
            "policy", "content_filter", "pii-detector", "audit-logger", "regex", "deployment",
            "api_version",
        ]
        let known = Schema.keys.map { key in
            key.name.replacing("[]", with: "")
        }
        let missing = Set(known).subtracting(keys).subtracting(elsewhere)
        #expect(missing.isEmpty)
    }

    @Test func offIsOff() throws {
        let page = try Self.page(
            "admin: off\nproviders: {targets: [{id: app, base_url: \"http://127.0.0.1:1\"}]}")
        #expect(page.contains(#""admin":"off""#) && page.contains(#""access_log":"off""#))
        #expect(page.contains(#""traffic_mirror":null"#))
    }

    @Test(arguments: [
        ("authorization", true), ("X-Api-Key", true), ("x_session", true), ("cookie", true),
        ("x-auth", true), ("x-canary", false), ("host", false), ("x-version", false),
    ])
    func secretFields(_ name: String, _ isSecret: Bool) {
        #expect(SecretField.isSecret(name) == isSecret)
    }
}
