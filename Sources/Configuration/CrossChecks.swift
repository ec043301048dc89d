import CoreLoop
import Mirror
import Policy
import Proxy
import TLS
import Upstream

/// What only shows where blocks are seen together.
struct CrossChecks {
    let root: Section
    let settings: GatewaySettings
    let targets: TargetBlock
    let mirror: MirrorBlock
    let findings: Findings

    func run() {
        checkAdmin()
        checkLoops()
        checkShadows()
        checkRoutes()
        checkUnusedTargets()
        checkUpstreams()
        checkProviders()
    }

    /// Whoever reaches a listener uses its LLM targets, and their keys: a word on who may is asked
    /// for.
    private func checkOpenness() {
        let routed = Set(settings.routes.map(\.target))
        guard !root.has("auth"),
            let index = settings.targets.indices.first(where: {
                routed.contains($0) && settings.targets[$0].provider != nil
            }),
            let open = settings.listen.first(where: { listener in
                !listener.address.isLoopback && !listener.address.isUnix
                    && listener.redirectPort == nil
                    && listener.tls?.clientCertificates?.isRequired != true
            })
        else { return }
        let key = settings.targets[index].provider?.keySource == nil ? "" : "the key of "
        findings.add(
            .openGateway, targets.places[index],
            "whoever reaches \(quoted(open.address.text)) uses \(key)\(settings.targets[index].id)",
            "add auth: {keys: [{name: team, env: UMBRA_KEY_TEAM}]}, listen on 127.0.0.1, or write "
                + "auth: none")
    }

    /// What acts at LLM targets only.
    private func checkPolicies() {
        guard !settings.hasProviders, root.has("policies"), !settings.policies.isEmpty,
            settings.policies.contains(where: { $0.kind != PolicySettings.Kind.auditLogger })
        else { return }
        findings.add(
            .withoutEffect, root.place("policies"),
            "policies look at requests to LLM targets: there is none",
            "write provider: openai or anthropic at the target that is one")
    }

    /// Only a detector takes anything out of what is stored, and nothing takes it out of the log.
    private func checkStoredTexts() {
        guard settings.logsPrimaryResponse, settings.hasProviders, settings.eventLog != nil,
            !settings.policies.contains(where: {
                if case .piiDetector = $0.kind { true } else { false }
            })
        else { return }
        findings.add(
            .rawTexts,
            mirror.section?.place("log_primary_response") ?? root.place("traffic_mirror"),
            "no pii-detector is in the chain: the event log keeps addresses, numbers and keys of "
                + "prompts and answers",
            "add policies: [{type: pii-detector, action: redact}]")
    }

    /// What a primary's key means for the shadows.
    private func checkProviders() {
        checkOpenness()
        checkPolicies()
        checkStoredTexts()
        for (index, shadow) in mirror.shadows.enumerated() {
            for route in settings.routes where route.lanes.contains(where: { $0.shadow == index }) {
                guard let primary = settings.targets[route.target].provider else { continue }
                let keys = ["authorization", "x-api-key", "api-key"]
                if primary.keySource != nil,
                    let field = shadow.settings.allowFields.first(where: keys.contains)
                {
                    findings.add(
                        .conflict, shadow.place,
                        "safety.allow_fields has \(field): \(shadow.settings.targetID) would get "
                            + "the key of \(settings.targets[route.target].id)",
                        "leave it out, and give the shadow a secret_key_ref of its own")
                    break
                }
            }
        }
    }

    private func checkAdmin() {
        guard let admin = settings.admin.listen,
            settings.listen.contains(where: { $0.address == admin }), admin.port != 0
        else { return }
        // Either may be the one that was left at its default.
        let key = root.has("admin") ? "admin" : "listen"
        findings.add(
            .conflict, root.place(key),
            "admin and traffic would both listen on \(quoted(admin.text))",
            "give one of them another port")
    }

    /// A target that is the gateway itself would send each request round until limits stop it.
    private func checkLoops() {
        for (target, place) in zip(settings.targets, targets.places) {
            for address in target.endpoints.flatMap(\.addresses) {
                if settings.listen.contains(where: { $0.address == address }) {
                    findings.add(
                        .conflict, place,
                        "\(quoted(address.text)) is where the gateway itself listens")
                } else if let port = address.port, address.isLoopback,
                    settings.listen.contains(where: {
                        $0.address.port == port && isWildcard($0.address)
                    })
                {
                    findings.add(
                        .unreachable, place,
                        "the gateway listens on port \(port) of all addresses; "
                            + "\(quoted(address.text)) is itself, unless another has just that"
                    )
                }
            }
        }
    }

    private func isWildcard(_ address: SocketAddress) -> Bool {
        address.hostText == "0.0.0.0" || address.hostText == "::"
    }

    private func checkShadows() {
        guard let block = mirror.place else { return }
        let section = mirror.section
        if !mirror.enabled, anyRouteEnables() {
            findings.add(
                .neverMirrored, section?.place("enabled") ?? block,
                "is false: mirroring starts switched off, also for routes that say enabled: true"
            )
        }
        let everything = settings.routes.flatMap(\.lanes).allSatisfy {
            $0.sampleRate == 1 || $0.sampleRate == 0 || $0.sampleBy != .request
        }
        if mirror.guardOverheadMax != nil, everything {
            findings.add(
                .blindGuard, section?.place("guard") ?? block,
                "compares mirrored requests with unmirrored ones, chosen by chance: there are none",
                "set a sample_rate below 1, sampled by request")
        }
        for (index, shadow) in mirror.shadows.enumerated() {
            let id = shadow.settings.targetID
            let lanes = settings.routes.flatMap(\.lanes).filter { $0.shadow == index }
            if shadow.settings.target == mirror.primary {
                findings.add(
                    .selfMirrored, shadow.place,
                    "the shadow is the primary, \(id): it gets its traffic twice")
            }
            if shadow.settings.qps == 0 {
                findings.add(
                    .neverMirrored, shadow.place, "limits.qps is 0: nothing is sent to \(id)")
            }
            if lanes.isEmpty {
                findings.add(.neverMirrored, shadow.place, "no route is mirrored to \(id)")
            } else if speaksOtherAPI(index), shadow.settings.modelMapping.isEmpty {
                findings.add(
                    .neverMirrored, shadow.place,
                    "\(id) speaks another API and there is no model_mapping: nothing is sent to it",
                    "write model_mapping: {MODEL: MODEL OF \(id)}")
            } else if lanes.allSatisfy({ $0.sampleRate == 0 }) {
                findings.add(
                    .neverMirrored, shadow.place, "sample_rate is 0: nothing is sent to \(id)")
            }
            let loanBytes = settings.runtime.blocksOnLoanMax * settings.runtime.blockBytes
            if let largest = lanes.map(\.bodyBytesMax).max(), largest > loanBytes {
                findings.add(
                    .tightMemory, shadow.place,
                    "max_body_bytes (\(SizeText.text(largest))) is more than all blocks that may "
                        + "be on loan hold (\(SizeText.text(loanBytes)))",
                    "raise runtime.blocks_on_loan_max")
            }
        }
    }

    /// Whether all that is mirrored to a shadow is for an LLM provider of another API.
    private func speaksOtherAPI(_ shadow: Int) -> Bool {
        let target = mirror.shadows[shadow].settings.target
        guard let own = settings.targets[target].provider else { return false }
        return settings.routes.filter { $0.lanes.contains { $0.shadow == shadow } }.allSatisfy {
            settings.targets[$0.target].provider.map { $0.dialect != own.dialect } ?? false
        }
    }

    private func anyRouteEnables() -> Bool {
        guard let (node, _) = root.value("routes"), case .list(let items) = node.content else {
            return false
        }
        return items.contains { item in
            guard case .mapping(let entries) = item.content,
                let mirror = entries.first(where: { $0.key == "mirror" }),
                case .mapping(let keys) = mirror.value.content,
                let enabled = keys.first(where: { $0.key == "enabled" })
            else { return false }
            return !Section.isOff(enabled.value)
        }
    }

    /// Routes behind one that matches every request.
    private func checkRoutes() {
        // A faulty match has been read as one that matches more than is meant.
        guard !findings.hasErrors, let (node, _) = root.value("routes"),
            case .list(let items) = node.content, items.count == settings.routes.count - 1
        else { return }
        for (index, route) in settings.routes.dropLast().enumerated() where matchesAll(route) {
            guard index + 1 < items.count else { return }
            findings.add(
                .unreachable, Place("routes[\(index + 1)]", items[index + 1]),
                "\(route.name) before it matches every request: this one and those behind get none",
                "put the more special routes first")
            return
        }
    }

    private func matchesAll(_ route: RouteSettings) -> Bool {
        route.host == nil && route.methods.isEmpty && route.headers.isEmpty
            && (route.path == .any || route.path == .prefix("/"))
    }

    /// Settings that nothing acts on: those of one endpoint that need several, and those of a
    /// shadow, which gets its copies at the first address that answers.
    private func checkUpstreams() {
        let shadows = Set(mirror.shadows.map(\.settings.target))
        let primaries = Set(settings.routes.map(\.target))
        guard let providers = root.section("providers"),
            let items = providers.list("targets", max: ConfigurationLimits.targetsMax)
        else { return }
        for (index, (node, place)) in items.enumerated() where index < settings.targets.count {
            guard case .mapping(let entries) = node.content else { continue }
            let target = settings.targets[index]
            let isShadow = shadows.contains(index) && !primaries.contains(index)
            for entry in entries {
                let needsSeveral = ["balance", "ejection", "slow_start"].contains(entry.key)
                let isOfPrimary =
                    needsSeveral || ["retries", "health", "panic_threshold"].contains(entry.key)
                let at = Place(
                    "\(place.path).\(entry.key)", line: entry.line, column: entry.column)
                if isShadow, isOfPrimary {
                    findings.add(
                        .withoutEffect, at,
                        "a shadow's copies go to the first address that answers; "
                            + "\(entry.key) is for targets of routes", "leave it out")
                } else if needsSeveral, target.endpoints.count == 1, !Section.isOff(entry.value) {
                    findings.add(
                        .withoutEffect, at, "acts among several endpoints; \(target.id) has one",
                        "leave it out, or write endpoints")
                }
            }
        }
    }

    private func checkUnusedTargets() {
        guard !findings.hasErrors else { return }
        var used = Set(settings.routes.map(\.target))
        for shadow in mirror.shadows { used.insert(shadow.settings.target) }
        for (index, target) in settings.targets.enumerated() where !used.contains(index) {
            findings.add(
                .unreachable, targets.places[index], "nothing is sent to \(target.id)",
                "name it in a route or in traffic_mirror, or leave it out")
        }
    }
}
