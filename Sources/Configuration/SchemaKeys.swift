import EventLog
import Mirror
import Upstream

extension Schema {
    private static let timeMs = 1...86_400_000

    /// The keys that this version acts on, in the order of the documentation.
    public static let keys: [SchemaKey] =
        general + access + runtime + limits + forwarding + resolver + targets + upstreams + routes
        + mirror + policies + log + accessLog + eventLog

    private static let general: [SchemaKey] =
        [
            SchemaKey(
                "version", .choice(["1"]), "'1'", "'1'", "The form of this document."),
            SchemaKey(
                "listen",
                .forms("ADDRESS:PORT, unix:PATH, or a list of such and of {address: …, tls: …}"),
                "127.0.0.1:41002",
                "[127.0.0.1:41002, \"[::1]:41002\"]", "Where clients connect."),
            SchemaKey(
                "listen[].address", .text("ADDRESS:PORT or unix:PATH"), "–", "\"[::]:8080\"",
                "The long form of an entry."),
        ] + tls + [
            SchemaKey(
                "admin", .forms("a mapping, or off"), "–", "off",
                "The admin listener: health and metrics."),
            SchemaKey(
                "admin.listen", .text("ADDRESS:PORT or unix:PATH"), "127.0.0.1:41003",
                "127.0.0.1:9901",
                "Where the admin listener is."),
            SchemaKey(
                "admin.token", .mapping, "–", "{env: UMBRA_ADMIN_TOKEN}",
                "What its users have to present."),
            SchemaKey(
                "admin.token.env", .text("the name of an environment variable"), "–",
                "UMBRA_ADMIN_TOKEN",
                "The variable that holds the bearer token; without it none is asked for. It has to be "
                    + "set where the gateway starts."),
            SchemaKey(
                "admin.hosts", .list("names"), "–", "[umbra-admin.internal]",
                "Names that clients may use for it besides localhost and addresses. With a token and "
                    + "without this list any name will do."),
        ]

    private static let runtime: [SchemaKey] = [
        SchemaKey("runtime", .mapping, "–", "{workers: 2}", "Processes and their memory."),
        SchemaKey(
            "runtime.workers", .integerOrAuto(1...256), "auto", "2",
            "Worker processes; auto is one for each CPU that the process may use."),
        SchemaKey(
            "runtime.pin_cpus", .boolean, "true", "false", "Whether each worker keeps to one CPU."),
        SchemaKey(
            "runtime.shadows", .integer(1...16), "1", "2",
            "Shadow processes, which send the copies."),
        SchemaKey(
            "runtime.shadow_nice", .integer(0...19), "10", "15",
            "How far the shadow process stands back for others where CPUs are short."),
        SchemaKey(
            "runtime.shadow_memory", .size(32 << 20...64 << 30), "256MiB", "512MiB",
            "Memory that one shadow process may use."),
        SchemaKey(
            "runtime.block_bytes", .sizePowerOfTwo(4 << 10...1 << 20), "16KiB", "32KiB",
            "Size of one block that a worker reads into."),
        SchemaKey(
            "runtime.blocks_per_worker", .integer(64...1 << 20), "4096", "8192",
            "Blocks of one worker; used up, further requests get 503."),
        SchemaKey(
            "runtime.connections_per_worker", .integer(16...1 << 20), "16384", "65536",
            "Client connections of one worker; further ones get 503."),
        SchemaKey(
            "runtime.ring_depth", .powerOfTwo(16...1 << 20), "4096", "1024",
            "Copies that may wait between a worker and a shadow process; further ones are dropped."
        ),
        SchemaKey(
            "runtime.blocks_on_loan_max", .integer(0...1 << 20), "2048", "1024",
            "Heads, and blocks of bodies, that copies may hold at one time; further copies are dropped. "
                + "Without this key, at most half of blocks_per_worker."),
        SchemaKey(
            "runtime.drain_timeout", .duration(0...86_400_000), "30s", "2m",
            "How long requests in flight may take to end at a stop or a reload."),
    ]

    private static let limits: [SchemaKey] = [
        SchemaKey("limits", .mapping, "–", "{head_bytes: 32KiB}", "What one client may ask for."),
        SchemaKey(
            "limits.head_bytes", .size(1 << 10...1 << 20), "64KiB", "32KiB",
            "Bytes of a request's head, or of an answer's; above it 431, 414 or 502."),
        SchemaKey(
            "limits.fields", .integer(8...1_024), "128", "64",
            "Fields of a head; above it 431 or 502."),
        SchemaKey(
            "limits.body_bytes", .size(0...1 << 50), "0", "10MiB",
            "Bytes of a request's body, above it 413; 0 is no limit."),
        SchemaKey(
            "limits.head_timeout", .duration(timeMs), "10s", "5s",
            "How long a request's head may take; then 408."),
        SchemaKey(
            "limits.body_timeout", .duration(timeMs), "30s", "1m",
            "How long a body may take for its next 4 KiB; then 408, or a cut where the answer has begun."
        ),
        SchemaKey(
            "limits.idle_timeout", .duration(timeMs), "75s", "2m",
            "How long a client's connection may wait for its next request."),
        SchemaKey(
            "limits.connect_timeout", .duration(timeMs), "2s", "500ms",
            "How long connecting to a target may take; then 504."),
        SchemaKey(
            "limits.answer_timeout", .duration(timeMs), "10m", "30s",
            "How long a target may take to begin its answer; then 504."),
    ]

    private static let forwarding: [SchemaKey] = [
        SchemaKey(
            "forwarding", .mapping, "–", "{x_forwarded: replace}",
            "What is added to requests on their way."),
        SchemaKey(
            "forwarding.x_forwarded", .choice(["append", "replace", "off"]), "append", "replace",
            "X-Forwarded-For, -Proto, -Host: append to the client's, replace, or leave them."
        ),
        SchemaKey(
            "forwarding.forwarded", .choice(["append", "replace", "off"]), "off", "append",
            "The same for Forwarded (RFC 7239); off adds none."),
        SchemaKey(
            "forwarding.trusted_proxies", .list("addresses, networks in CIDR form, and unix"), "[]",
            "[10.0.0.0/8, \"2001:db8::/32\", unix]",
            "Peers whose X-Forwarded-* and Forwarded are believed; named, others' are taken out."),
        SchemaKey(
            "forwarding.trace", .choice(["off", "on", "always"]), "on", "always",
            "traceparent: leave it, give it a span of our own, or begin a trace where none is."),
        SchemaKey(
            "forwarding.allow_trace", .boolean, "false", "true",
            "Whether TRACE is passed on; otherwise 405."),
        SchemaKey(
            "forwarding.via", .text("a token, without spaces"), "umbra", "edge-1",
            "The name in the Via field."),
    ]

    private static let targets: [SchemaKey] =
        [
            SchemaKey(
                "providers", .mapping, "–", "{targets: [{id: app, base_url: \"http://app:9001\"}]}",
                "The services behind; required."),
            SchemaKey(
                "providers.targets", .list("mappings, one for each service"), "–",
                "[{id: app, base_url: \"http://app:9001\"}]", "At least one. Required."),
            SchemaKey(
                "providers.targets[].id", .text("a name of letters, digits, `.`, `_` and `-`"), "–",
                "app",
                "What routes and traffic_mirror call it. Required."),
            SchemaKey(
                "providers.targets[].provider", .choice(["http", "openai", "anthropic"]), "http",
                "openai",
                "What kind of service it is; openai is everything that speaks its API."),
            SchemaKey(
                "providers.targets[].base_url",
                .text("http://HOST[:PORT][/PATH], https://…, or http+unix://PATH"),
                "–",
                "\"http://127.0.0.1:9001\"",
                "Where it is; PATH is put before each request's path. Required for http, "
                    + "else the provider's own."
            ),
            SchemaKey(
                "providers.targets[].secret_key_ref", .mapping, "–", "{env: OPENAI_API_KEY}",
                "The key that openai or anthropic gets in the place of the client's; env or file."),
            SchemaKey(
                "providers.targets[].secret_key_ref.env",
                .text("the name of an environment variable"), "–", "OPENAI_API_KEY",
                "The gateway's own variable; while it is not set, requests get 503."),
            SchemaKey(
                "providers.targets[].secret_key_ref.file", .text("the path of a file"), "–",
                "/run/secrets/openai", "A file with the key and nothing else."),
            SchemaKey(
                "providers.targets[].azure", .mapping, "–",
                "{deployment: gpt-4o, api_version: 2024-10-21}",
                "The target is a deployment of Azure OpenAI: what asks a model goes to its path, with the "
                    + "version in the query and the key as api-key."),
            SchemaKey(
                "providers.targets[].azure.deployment", .text("the name of a deployment"), "–",
                "gpt-4o", "The model's deployment. Required."),
            SchemaKey(
                "providers.targets[].azure.api_version", .text("a version"), "–", "2024-10-21",
                "The version of the API. Required."),
            SchemaKey(
                "providers.targets[].annotate_provider", .boolean, "true", "false",
                "Whether chat answers that are not streamed tell who gave them: a member provider."
            ),
            SchemaKey(
                "providers.targets[].max_tokens", .integer(1...10_000_000),
                "\(ProviderSettings.maxTokensDefault)", "1024",
                "What a translated request asks for where the client's sets no bound, and the target's "
                    + "API asks for one."),
            SchemaKey(
                "providers.targets[].tags", .mapping, "–", "{model_rev: 2026-11, index_hash: 8c1f}",
                "What events say of the target's answers where these do not."),
            SchemaKey(
                "providers.targets[].tags.model_rev", .text("a revision"), "–", "2026-11",
                "The revision of its model."),
            SchemaKey(
                "providers.targets[].tags.index_hash", .text("a hash or name"), "–", "8c1f",
                "The index that it reads."),
            SchemaKey(
                "providers.traffic_mirror", .mapping, "–", "{primary: app, shadow: app}",
                "Another place for the block traffic_mirror."),
        ] + targetTLS

    private static let routes: [SchemaKey] = [
        SchemaKey(
            "routes", .list("mappings, the first match wins"), "–",
            "[{match: {path_prefix: /static/}, target: app}]",
            "Which request goes where; what none matches goes to the default route."),
        SchemaKey(
            "routes[].name", .text("a name of letters, digits, `.`, `_` and `-`"), "route-N",
            "search",
            "For metrics and logs; N counts from 1."),
        SchemaKey(
            "routes[].match", .mapping, "–", "{path_prefix: /search}",
            "All that is given has to hold; nothing given matches every request."),
        SchemaKey(
            "routes[].match.host", .text("a host name without port; *.NAME for all names below it"),
            "–",
            "\"*.example.com\"", "The request's host."),
        SchemaKey(
            "routes[].match.path", .text("a path that starts with /"), "–", "/healthz",
            "The whole path, byte for byte; the query does not count."),
        SchemaKey(
            "routes[].match.path_prefix", .text("a path that starts with /"), "–", "/static/",
            "The beginning of the path, byte for byte: /api matches /apiary too, /api/ does not."),
        SchemaKey(
            "routes[].match.methods", .list("methods"), "–", "[GET, HEAD]",
            "One of these methods."),
        SchemaKey(
            "routes[].match.headers", .mapping, "–", "{x-canary: \"1\", x-debug: null}",
            "Fields of the request."),
        SchemaKey(
            "routes[].match.headers.*", .forms("a text, or null"), "–", "\"1\"",
            "The field's exact value; null asks only that the field is there."),
        SchemaKey(
            "routes[].target", .text("the id of a target"), "the default route's", "app",
            "Where these requests go."),
        SchemaKey(
            "routes[].rewrite_prefix", .text("a path that starts with /"), "–", "/v2/",
            "Put in the place of match.path_prefix, which it needs."),
        SchemaKey(
            "routes[].mirror", .mapping, "–", "{sample_rate: 0.5}",
            "Keys of traffic_mirror, laid over it for this route."),
        SchemaKey(
            "routes[].mirror.shadow",
            .forms("the id of one of traffic_mirror's shadows, or a list of such"),
            "all of them", "next", "Which shadows get this route's copies."),
    ]

    private static let mirror: [SchemaKey] = [
        SchemaKey(
            "traffic_mirror", .mapping, "–", "{primary: app, shadow: next}",
            "Where copies go. Without it nothing is mirrored."),
        SchemaKey(
            "traffic_mirror.enabled", .boolean, "true", "false",
            "Whether mirroring is on at start; elsewhere, whether that shadow or route is.",
            scope: .route),
        SchemaKey(
            "traffic_mirror.primary", .text("the id of a target"), "the first target", "app",
            "The target of the default route; routes to it are mirrored.", scope: .block),
        SchemaKey(
            "traffic_mirror.shadow", .text("the id of a target"), "–", "next",
            "The target that gets the copies. Required, or shadows.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.mirror_target", .text("the id of a target"), "–", "next",
            "Another name for shadow; with it, enabled is false where it is not written.",
            scope: .block),
        SchemaKey(
            "traffic_mirror.shadows",
            .list("mappings: shadow, and any key that is laid over the block's"), "–",
            "[{shadow: next, sample_rate: 0.1}, {shadow: canary}]",
            "Several shadows, each with its own sample, cap and breaker.", scope: .block),
        SchemaKey(
            "traffic_mirror.async", .boolean, "true", "true",
            "Always so: a user's request never waits for a shadow.", scope: .block),
        SchemaKey(
            "traffic_mirror.sample_rate", .rate, "1", "0.1",
            "The share of eligible requests that is copied.", scope: .route),
        SchemaKey(
            "traffic_mirror.sample_by", .text("request, or header:NAME"), "request",
            "header:x-user-id",
            "By chance, or by a field's value: always the same choice for the same value.",
            scope: .route),
        SchemaKey(
            "traffic_mirror.max_body_bytes", .size(0...1 << 30), "1MiB", "64KiB",
            "Requests with a larger body are counted and not mirrored.", scope: .route),
        SchemaKey(
            "traffic_mirror.timeout_ms", .milliseconds(1...3_600_000), "5000", "2000",
            "How long one copy may take, to the end of its answer; 60000 where an LLM target is the "
                + "shadow.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.model_mapping", .mapping, "–", "{gpt-4o: claude-sonnet-4-20250514}",
            "The shadow's model for each of the primary's. One that is not in it keeps its name where "
                + "both speak one API; else the request is not mirrored.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.model_mapping.*", .text("the name of a model"), "–",
            "claude-sonnet-4-20250514", "The shadow's model.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.log_shadow_response", .boolean, "false", "true",
            "Whether events hold the texts of the shadow's answers.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.log_mirror_response", .boolean, "false", "true",
            "Another name for it.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.log_primary_response", .boolean, "false", "true",
            "Whether events hold the prompts and the texts of the primary's answers, without what "
                + "a `pii-detector` of the chain looks for.",
            scope: .block),
        SchemaKey(
            "traffic_mirror.compare_metrics",
            .list("metrics: latency, token_count, content_similarity"),
            "[latency, token_count, content_similarity]", "[latency]",
            "What events compare.", scope: .block),
        SchemaKey(
            "traffic_mirror.tags", .mapping, "–", "{model_rev: 2026-12-rc1}",
            "What events say of the shadow's answers where these do not, laid over its target's.",
            scope: .shadow),
        SchemaKey(
            "traffic_mirror.tags.model_rev", .text("a revision"), "–", "2026-12-rc1",
            "The revision of its model.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.tags.index_hash", .text("a hash or name"), "–", "8c1f",
            "The index that it reads.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.capture_bytes", .size(0...ShadowSettings.captureBytesDefault), "1MiB",
            "256KiB",
            "Bytes of a request and of each answer that are kept to be compared.", scope: .block),
        SchemaKey(
            "traffic_mirror.max_answer_bytes", .size(1 << 10...1 << 40), "64MiB", "1MiB",
            "Bytes of one of the shadow's answers that are read before its connection is given up.",
            scope: .shadow),
        SchemaKey(
            "traffic_mirror.cancel_with_client", .boolean, "false", "true",
            "Whether a copy is given up where the client leaves before the primary's answer was "
                + "whole; else the shadow's answer is read to its end.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.limits", .mapping, "–", "{qps: 50, in_flight: 64}",
            "What the shadow can bear.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.limits.qps",
            .number(0...ShadowSettings.qpsMax, least: ConfigurationLimits.qpsMin), "200", "0.5",
            "Most copies in any second, over all processes; 0.5 is one in two seconds, 0 none.",
            scope: .shadow),
        SchemaKey(
            "traffic_mirror.limits.in_flight", .integer(1...65_536), "256", "64",
            "Copies that may be at the shadow at one time.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.guard", .mapping, "–", "{p99_overhead: 0.05}",
            "Holds mirroring for a while where it slows the users' requests.", scope: .block),
        SchemaKey(
            "traffic_mirror.guard.p99_overhead", .number(0...10, least: 0.01), "0.05", "0.1",
            "What it may add to the P99 of mirrored requests, as a share of the unmirrored ones'; "
                + "needs a sample_rate below 1, to have both.",
            scope: .block),
        SchemaKey(
            "traffic_mirror.safety", .mapping, "–", "{methods: [GET, HEAD]}",
            "What the shadow may get.", scope: .route),
        SchemaKey(
            "traffic_mirror.safety.methods", .list("methods"), "[GET, HEAD, OPTIONS]",
            "[GET, HEAD, POST]",
            "Methods that are mirrored.", scope: .route),
        SchemaKey(
            "traffic_mirror.safety.strip_fields", .list("names of fields"), "[]", "[x-session]",
            "Fields that are left out of the copy, besides the built-in ones.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.safety.allow_fields", .list("names of fields"), "[]", "[authorization]",
            "Fields of the built-in list that are sent all the same.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.safety.strip_query", .list("names of query members"), "[]", "[session]",
            "Members of the query whose values are left out, besides the built-in ones.",
            scope: .shadow),
        SchemaKey(
            "traffic_mirror.safety.tools", .choice(["client", "none", "all"]), "client", "none",
            "Which requests that ask a model are copied to an LLM shadow: those whose tools the client "
                + "runs, those without tools, or all, with what the provider runs itself.",
            scope: .shadow),
        SchemaKey(
            "traffic_mirror.breaker", .mapping, "–", "{failures: 3}",
            "When a failing shadow is left alone.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.breaker.failures", .integer(1...10_000), "5", "3",
            "Failures in a row that open the breaker.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.breaker.open", .duration(1...3_600_000), "1s", "500ms",
            "How long it stays open at first; twice as long each time after.", scope: .shadow),
        SchemaKey(
            "traffic_mirror.breaker.open_max", .duration(1...3_600_000), "30s", "1m",
            "How long it stays open at most.", scope: .shadow),
    ]

    private static let log: [SchemaKey] = [
        SchemaKey(
            "log", .mapping, "–", "{level: warn}",
            "What the gateway says of itself, on standard error."),
        SchemaKey(
            "log.level", .choice(["error", "warn", "info", "debug"]), "info", "warn",
            "Lines of this level, and of those that matter more."),
        SchemaKey(
            "log.format", .choice(["text", "json"]), "text", "json",
            "LEVEL umbra::gateway TEXT, or one JSON object a line."),
        SchemaKey(
            "log.to", .choice(["auto", "stderr", "journald"]), "auto", "journald",
            "Whether lines begin with the journal's <N>: where standard error is the journal's, never, or always."
        ),
    ]

    private static let accessLog: [SchemaKey] = [
        SchemaKey(
            "access_log", .forms("a mapping, or off"), "off", "{path: \"-\"}",
            "One line for each request."),
        SchemaKey(
            "access_log.path", .text("a file, or - for standard output"), "\"-\"",
            "/var/log/umbra.log", "Where the lines go."),
        SchemaKey("access_log.format", .choice(["json"]), "json", "json", "How they are written."),
    ]

    private static let eventLog: [SchemaKey] = [
        SchemaKey(
            "event_log", .forms("a mapping, or off"), "off without LLM targets, else on",
            "{directory: /var/lib/umbra/events}",
            "A tamper-evident record of each request to an LLM target, and of each copy: docs/events.md."
        ),
        SchemaKey(
            "event_log.directory", .text("a folder"), "umbra-events", "/var/lib/umbra/events",
            "Where the segments are; made where it is missing. One gateway writes a folder."),
        SchemaKey(
            "event_log.segment_bytes", .size(EventLog.Limits.segmentBytes), "64MiB", "256MiB",
            "A segment of this size is closed; each day begins a new one, too."),
        SchemaKey(
            "event_log.sync", .duration(10...3_600_000), "1s", "100ms",
            "What is written is made durable this often: what a power failure may cost."),
        SchemaKey(
            "event_log.retention_days", .integer(EventLog.Limits.retentionDays), "365", "90",
            "Days that a segment is kept behind the end of its own."),
        SchemaKey(
            "event_log.immutable", .boolean, "true", "false",
            "Closed segments become read-only, and fewer retention_days do not shorten theirs."),
    ]
}
