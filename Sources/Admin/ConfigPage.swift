import CoreLoop
import EventLog
import Mirror
import Providers
import Proxy
import TLS
import Upstream

/// `/config`: what the gateway runs with, under the names of the configuration file, every default
/// filled in. Times are written as the file writes them, sizes are bytes. Where the file gives the
/// mirror's keys once for all and lets routes lay theirs over them, this says for each route what
/// came of it.
///
/// Holds no secret: tokens and keys are named and not shown, and the values of header matches whose
/// names say that they are secrets are masked.
struct ConfigPage {
    let settings: GatewaySettings
    let workers: Int

    /// In a secret's place.
    static let mask = "***"

    var json: JSONText {
        .object([
            ("version", .text("1")),
            ("listen", .list(settings.listen.map { listener($0) })),
            ("admin", admin), ("auth", auth), ("pack", pack), ("policies", policies),
            ("runtime", runtime),
            ("limits", limits),
            ("forwarding", forwarding),
            (
                "resolver",
                .object([
                    ("nameservers", Self.texts(settings.resolver.nameservers.map(\.text))),
                    ("interval", Self.time(settings.resolver.intervalMs)),
                ])
            ),
            ("log", log),
            ("access_log", accessLog), ("event_log", eventLog),
            ("providers", .object([("targets", .list(settings.targets.map { target($0) }))])),
            ("routes", .list(settings.routes.map { route($0) })),
            ("traffic_mirror", mirror),
        ])
    }

    // MARK: Words

    private static func count(_ number: Int) -> JSONText { .integer(UInt64(max(0, number))) }

    /// `30s`: in the largest unit of the file that leaves a whole number.
    private static func time(_ ms: Int) -> JSONText {
        for (unit, scale) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        where ms >= scale && ms % scale == 0 {
            return .text("\(ms / scale)\(unit)")
        }
        return .text("\(ms)ms")
    }

    private static func texts(_ list: [String]) -> JSONText { .list(list.map { .text($0) }) }

    private static func failures(_ set: EndpointFailure) -> JSONText {
        texts(EndpointFailure.words.filter { set.contains($0.failure) }.map(\.word))
    }

    // MARK: Listeners

    private func listener(_ listener: ListenerSettings) -> JSONText {
        .object([
            ("address", .text(listener.address.text)),
            (
                "redirect_to_https",
                listener.redirectPort.map { .integer(UInt64($0)) } ?? .flag(false)
            ),
            ("tls", listener.tls.map { tls($0) } ?? .null),
        ])
    }

    private func tls(_ tls: ServerTLSSettings) -> JSONText {
        let certificates = tls.certificates.map { certificate -> JSONText in
            .object([
                ("certificate", .text(certificate.certificate)), ("key", .text(certificate.key)),
                ("ocsp", .optional(certificate.ocsp)),
            ])
        }
        let clients = tls.clientCertificates.map { clients -> JSONText in
            .object([
                ("ca", .text(clients.ca)),
                ("mode", .text(clients.isRequired ? "required" : "optional")),
                ("subject_header", .text(clients.subjectField)),
            ])
        }
        return .object([
            ("certificates", .list(certificates)), ("min_version", .text(tls.minVersion.rawValue)),
            ("ciphers", .optional(tls.ciphers)), ("ciphersuites", .optional(tls.cipherSuites)),
            ("client_certificates", clients ?? .null),
            ("hsts", tls.hstsMs.map { Self.time($0) } ?? .text("off")),
            ("ticket_rotation", Self.time(tls.ticketRotationMs)),
        ])
    }

    // MARK: Blocks

    private var admin: JSONText {
        guard let listen = settings.admin.listen else { return .text("off") }
        return .object([
            ("listen", .text(listen.text)),
            (
                "token",
                settings.admin.tokenVariable.map { .object([("env", .text($0))]) } ?? .null
            ),
            ("hosts", Self.texts(settings.admin.hosts)),
        ])
    }

    private var runtime: JSONText {
        let runtime = settings.runtime
        return .object([
            ("workers", Self.count(workers)), ("pin_cpus", .flag(runtime.pinCPUs)),
            ("shadows", Self.count(runtime.shadows)),
            ("shadow_nice", Self.count(runtime.shadowNice)),
            ("shadow_memory", Self.count(runtime.shadowMemoryBytes)),
            ("block_bytes", Self.count(runtime.blockBytes)),
            ("blocks_per_worker", Self.count(runtime.blocksPerWorker)),
            ("connections_per_worker", Self.count(runtime.connectionsPerWorker)),
            ("ring_depth", Self.count(runtime.ringDepth)),
            ("blocks_on_loan_max", Self.count(runtime.blocksOnLoanMax)),
            ("drain_timeout", Self.time(runtime.drainTimeoutMs)),
        ])
    }

    private var limits: JSONText {
        let limits = settings.limits
        return .object([
            ("head_bytes", Self.count(limits.headBytes)), ("fields", Self.count(limits.fields)),
            ("body_bytes", Self.count(limits.bodyBytes)),
            ("head_timeout", Self.time(limits.headTimeoutMs)),
            ("body_timeout", Self.time(limits.bodyTimeoutMs)),
            ("idle_timeout", Self.time(limits.idleTimeoutMs)),
            ("connect_timeout", Self.time(limits.connectTimeoutMs)),
            ("answer_timeout", Self.time(limits.answerTimeoutMs)),
        ])
    }

    private var forwarding: JSONText {
        let forwarding = settings.forwarding
        let trusted =
            forwarding.trustedProxies.map(\.text) + (forwarding.trustsUnix ? ["unix"] : [])
        return .object([
            ("x_forwarded", .text(forwarding.forwardedFor.rawValue)),
            ("forwarded", .text(forwarding.forwarded.rawValue)),
            ("trusted_proxies", Self.texts(trusted)), ("trace", .text(forwarding.trace.rawValue)),
            ("allow_trace", .flag(forwarding.allowTrace)), ("via", .text(forwarding.viaName)),
        ])
    }

    private var log: JSONText {
        .object([
            ("level", .text(settings.log.level.name)),
            ("format", .text(settings.log.format.rawValue)),
            ("to", .text(settings.log.destination.rawValue)),
        ])
    }

    private var accessLog: JSONText {
        guard let log = settings.accessLog else { return .text("off") }
        return .object([("path", .text(log.path)), ("format", .text("json"))])
    }

    private var eventLog: JSONText {
        guard let log = settings.eventLog else { return .text("off") }
        return .object([
            ("directory", .text(log.directory)), ("segment_bytes", Self.count(log.segmentBytes)),
            ("sync", Self.time(log.syncMs)), ("retention_days", Self.count(log.retentionDays)),
            ("immutable", .flag(log.isImmutable)),
            ("log_all_access", .flag(log.logsAllAccess)),
        ])
    }

    // MARK: Targets

    private func target(_ target: TargetSettings) -> JSONText {
        let scheme = target.tls == nil ? "http" : "https"
        let endpoints = target.endpoints.map { endpoint -> JSONText in
            let isUnix = endpoint.addresses.first?.isUnix == true
            let path = endpoint.addresses.first?.unixPath ?? ""
            return .object([
                (
                    "url",
                    .text(
                        isUnix
                            ? "http+unix://\(path)"
                            : "\(scheme)://\(endpoint.authority)\(target.pathPrefix)")
                ),
                ("weight", Self.count(endpoint.weight)),
                ("connections", Self.count(endpoint.connectionsMax)),
            ])
        }
        return .object([
            ("id", .text(target.id)), ("provider", .text(target.provider?.name ?? "http")),
            (
                "secret_key_ref",
                target.provider?.keySource.map { .object([keySource($0)]) } ?? .null
            ),
            (
                "azure",
                target.provider?.azure.map {
                    .object([
                        ("deployment", .text($0.deployment)), ("api_version", .text($0.apiVersion)),
                    ])
                } ?? .null
            ),
            ("annotate_provider", target.provider.map { .flag($0.annotates) } ?? .null),
            ("max_tokens", target.provider.map { Self.count($0.maxTokens) } ?? .null),
            ("tags", Self.tags(target.tags)),
            ("endpoints", .list(endpoints)), ("tls", target.tls.map { tls($0) } ?? .null),
            ("balance", balance(target.balance)), ("health", health(target.health)),
            ("panic_threshold", .number(target.panicThreshold)),
            ("slow_start", Self.time(target.slowStartMs)), ("ejection", ejection(target.ejection)),
            (
                "retries",
                .object([
                    ("attempts", Self.count(target.retryAttempts)),
                    ("budget", .number(target.retries.budget)),
                    ("on", Self.failures(target.retries.on)),
                ])
            ),
        ])
    }

    private func tls(_ tls: ClientTLSSettings) -> JSONText {
        .object([
            ("ca", .optional(tls.ca)), ("server_name", .optional(tls.serverName)),
            ("certificate", .optional(tls.certificate)), ("key", .optional(tls.key)),
            ("insecure_skip_verify", .flag(tls.skipsVerification)),
        ])
    }

    private static func tags(_ tags: PinnedTags) -> JSONText {
        func text(_ tag: String) -> JSONText { tag.isEmpty ? .null : .text(tag) }
        return .object([
            ("model_rev", text(tags.modelRevision)), ("index_hash", text(tags.indexHash)),
        ])
    }

    /// Where a key comes from: never the key.
    func keySource(_ source: ProviderSettings.KeySource) -> (String, JSONText) {
        switch source {
        case .variable(let name): ("env", .text(name))
        case .file(let path): ("file", .text(path))
        }
    }

    private func balance(_ policy: BalancePolicy) -> JSONText {
        switch policy {
        case .roundRobin: .text("round_robin")
        case .leastRequests: .text("least_requests")
        case .hash(let header): .object([("hash", .text("header:\(header)"))])
        }
    }

    private func health(_ health: HealthSettings?) -> JSONText {
        guard let health else { return .null }
        return .object([
            ("method", .text(health.method.rawValue)), ("path", .text(health.path)),
            ("host", .optional(health.host)), ("interval", Self.time(health.intervalMs)),
            ("timeout", Self.time(health.timeoutMs)), ("healthy", Self.count(health.healthy)),
            ("unhealthy", Self.count(health.unhealthy)),
            (
                "status",
                Self.texts(
                    health.status.map { range in
                        range.count == 1
                            ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
                    })
            ),
        ])
    }

    private func ejection(_ ejection: EjectionSettings?) -> JSONText {
        guard let ejection else { return .text("off") }
        return .object([
            ("failures", Self.count(ejection.failures)), ("time", Self.time(ejection.timeMs)),
            ("max_share", .number(ejection.shareMax)), ("on", Self.failures(ejection.on)),
        ])
    }

    // MARK: Routes and mirror

    private func route(_ route: RouteSettings) -> JSONText {
        var match: [(String, JSONText)] = []
        if let host = route.host { match.append(("host", .text(host))) }
        switch route.path {
        case .any: break
        case .exact(let path): match.append(("path", .text(path)))
        case .prefix(let path): match.append(("path_prefix", .text(path)))
        }
        if !route.methods.isEmpty { match.append(("methods", Self.texts(route.methods))) }
        if !route.headers.isEmpty {
            match.append(
                (
                    "headers",
                    .object(
                        route.headers.map { header in
                            let isSecret = SecretField.isSecret(header.name)
                            return (
                                header.name,
                                .optional(header.value.map { isSecret ? Self.mask : $0 })
                            )
                        })
                ))
        }
        return .object([
            ("name", .text(route.name)), ("match", .object(match)),
            ("target", .text(settings.targets[route.target].id)),
            ("rewrite_prefix", .optional(route.rewritePrefix)),
            ("mirror", .list(route.lanes.map { lane($0) })),
        ])
    }

    private func lane(_ lane: LaneSettings) -> JSONText {
        var sampleBy = "request"
        if case .header(let name) = lane.sampleBy { sampleBy = "header:\(name)" }
        return .object([
            ("shadow", .text(settings.shadows[lane.shadow].targetID)),
            ("enabled", .flag(lane.enabled)), ("sample_rate", .number(lane.sampleRate)),
            ("sample_by", .text(sampleBy)), ("max_body_bytes", Self.count(lane.bodyBytesMax)),
            ("safety", .object([("methods", Self.texts(lane.methods))])),
        ])
    }

    private var mirror: JSONText {
        guard !settings.shadows.isEmpty else { return .null }
        return .object(
            [
                ("enabled", .flag(settings.mirrorEnabled)),
                (
                    "guard",
                    settings.guardOverheadMax.map { .object([("p99_overhead", .number($0))]) }
                        ?? .null
                ),
                ("shadows", .list(settings.shadows.map { shadow($0) })),
            ] + comparison)
    }

    private func shadow(_ shadow: ShadowSettings) -> JSONText {
        .object([
            ("shadow", .text(shadow.targetID)), ("timeout_ms", Self.count(shadow.timeoutMs)),
            ("max_answer_bytes", Self.count(shadow.answerBytesMax)),
            ("cancel_with_client", .flag(shadow.cancelsWithClient)),
            (
                "model_mapping",
                .object(
                    shadow.mappedModels.map { ($0, .text(shadow.modelMapping[$0] ?? "")) })
            ),
            ("tags", Self.tags(shadow.tags)),
            ("log_shadow_response", .flag(shadow.logsResponse)),
            (
                "limits",
                .object([
                    ("qps", .number(shadow.qps)), ("in_flight", Self.count(shadow.inFlightMax)),
                ])
            ),
            (
                "safety",
                .object([
                    ("strip_fields", Self.texts(shadow.stripFields)),
                    ("allow_fields", Self.texts(shadow.allowFields)),
                    ("strip_query", Self.texts(shadow.stripQuery)),
                    ("tools", .text(shadow.tools.rawValue)),
                ])
            ),
            (
                "breaker",
                .object([
                    ("failures", Self.count(shadow.breakerFailures)),
                    ("open", Self.time(shadow.breakerOpenMs)),
                    ("open_max", Self.time(shadow.breakerOpenMsMax)),
                ])
            ),
        ])
    }
}
