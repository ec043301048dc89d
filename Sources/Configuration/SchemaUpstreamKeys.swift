import Upstream

extension Schema {
    private static let failureWords =
        "of " + EndpointFailure.words.map(\.word).joined(separator: ", ")
    private static let target = "providers.targets[]"

    /// The keys of a target with several endpoints, and of the resolver.
    static let upstreams: [SchemaKey] = endpoints + health + faults

    private static let endpoints: [SchemaKey] = [
        SchemaKey(
            "\(target).endpoints", .list("mappings, one for each endpoint, in base_url's place"),
            "–", "[{url: \"http://10.0.0.1:9001\"}, {url: \"http://10.0.0.2:9001\", weight: 2}]",
            "The places where the service is; all with the same path."),
        SchemaKey(
            "\(target).endpoints[].url", .text("as base_url"), "–", "\"http://10.0.0.1:9001\"",
            "Where it is. Required."),
        SchemaKey(
            "\(target).endpoints[].weight", .integer(1...256), "1", "3",
            "Its share of the requests beside the others."),
        SchemaKey(
            "\(target).endpoints[].connections", .integer(0...1_000_000), "0", "64",
            "Connections to it at one time, in equal shares for the workers, one each at least; "
                + "0 is no limit. Where all endpoints are at theirs, 503."),
        SchemaKey(
            "\(target).balance", .forms("round_robin, least_requests, or {hash: header:NAME}"),
            "round_robin", "least_requests",
            "Who gets the next request: each in turn; the less busy of two drawn ones; or always "
                + "the same for the same value of a field."),
        SchemaKey(
            "\(target).balance.hash", .text("header:NAME"), "–", "header:x-user-id",
            "The field; requests without it go round robin."),
        SchemaKey(
            "\(target).panic_threshold", .rate, "50%", "30%",
            "Below this share of usable endpoints all are used, whatever checks and ejection say; "
                + "0 never."),
        SchemaKey(
            "\(target).slow_start", .duration(0...3_600_000), "0s", "30s",
            "How long an endpoint that comes back takes to its full weight."),
    ]

    private static let health: [SchemaKey] = [
        SchemaKey(
            "\(target).health", .mapping, "–", "{path: /healthz}",
            "Active checks of each endpoint; without it none."),
        SchemaKey(
            "\(target).health.path", .text("a path that starts with /"), "–", "/healthz",
            "What a check asks for, behind the target's own path. Required."),
        SchemaKey(
            "\(target).health.method", .choice(HealthSettings.Method.allCases.map(\.rawValue)),
            "GET", "HEAD", "How it asks."),
        SchemaKey(
            "\(target).health.host", .text("a host name or address, with or without :PORT"), "–",
            "app.internal", "The Host field; without it the endpoint's own."),
        SchemaKey(
            "\(target).health.interval", .duration(10...3_600_000), "5s", "1s",
            "From one check to the next, a tenth more or less."),
        SchemaKey(
            "\(target).health.timeout", .duration(1...3_600_000), "2s", "500ms",
            "How long a check may take; where that is longer than the interval, the next one waits."
        ),
        SchemaKey(
            "\(target).health.healthy", .integer(1...1_000), "2", "1",
            "Passed checks in a row after which an unhealthy endpoint is used again."),
        SchemaKey(
            "\(target).health.unhealthy", .integer(1...1_000), "3", "2",
            "Failed checks in a row after which an endpoint is used no more. The very first check "
                + "decides alone."),
        SchemaKey(
            "\(target).health.status",
            .forms("a status, or FIRST-LAST, from 200 to 599, or a list of such"), "200-399",
            "[200, 204, 300-308]", "The statuses that pass."),
    ]

    private static let faults: [SchemaKey] = [
        SchemaKey(
            "\(target).ejection", .forms("a mapping, or off"), "–", "{failures: 3}",
            "When a worker leaves an endpoint out that fails its requests."),
        SchemaKey(
            "\(target).ejection.failures", .integer(1...10_000), "5", "3", "Failures in a row."),
        SchemaKey(
            "\(target).ejection.time", .duration(1...3_600_000), "10s", "30s",
            "How long at first; so much longer each time it fails anew."),
        SchemaKey(
            "\(target).ejection.max_share", .rate, "50%", "30%",
            "Most endpoints left out at one time; one at least, never all."),
        SchemaKey(
            "\(target).ejection.on", .list(failureWords),
            "[connect, reset, timeout, 502, 503, 504]", "[connect, reset]",
            "What counts as a failure."),
        SchemaKey(
            "\(target).retries", .forms("a mapping, or off"), "–", "{attempts: 2}",
            "What is sent again, to another endpoint where there is one: idempotent requests that "
                + "are whole, never after a byte of the answer."),
        SchemaKey(
            "\(target).retries.attempts", .integer(0...10), "1 with several endpoints, else 0", "2",
            "Times that one request is sent again. A refused connection is no try: nothing was "
                + "sent."),
        SchemaKey(
            "\(target).retries.budget", .rate, "20%", "10%",
            "Retries as a share of the last ten seconds' requests, and ten more."),
        SchemaKey(
            "\(target).retries.on", .list(failureWords), "[connect, reset, 502, 503, 504]",
            "[connect, 503]", "After what."),
    ]

    /// The keys of the resolver.
    static let resolver: [SchemaKey] = [
        SchemaKey(
            "resolver", .mapping, "–", "{nameservers: [10.0.0.53]}",
            "How names of endpoints are looked up while the gateway runs."),
        SchemaKey(
            "resolver.nameservers", .list("IP addresses, with or without :PORT"), "–",
            "[10.0.0.53, \"127.0.0.1:5353\"]",
            "The DNS servers that are asked, in this order, in the system's place: neither "
                + "/etc/hosts nor a search list counts then. At most "
                + "\(UpstreamLimits.nameserversMax)."),
        SchemaKey(
            "resolver.interval", .duration(1_000...86_400_000), "30s", "10s",
            "How often names are looked up that have no time to live, as those of /etc/hosts."),
    ]
}
