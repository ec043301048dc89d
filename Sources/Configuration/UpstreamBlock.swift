import CoreLoop
import Proxy
import Upstream

/// What a target says of its endpoints and of how they are used, and the `resolver`.
struct UpstreamBlock {
    let section: Section
    let findings: Findings

    /// Reads all of it but `base_url` and `endpoints` into `target`.
    func read(into target: inout TargetSettings) {
        if let policy = balance() { target.balance = policy }
        readEjection(into: &target.ejection)
        section.read("panic_threshold", into: &target.panicThreshold)
        section.read("slow_start", into: &target.slowStartMs)
        readRetries(into: &target.retries)
        target.health = health()
    }

    // MARK: Endpoints

    /// The targets that the entries of `endpoints` name, each with its place; nil where there is no
    /// such key.
    func endpoints(id: String) -> [(target: TargetSettings, place: Place)]? {
        guard section.has("endpoints") else { return nil }
        guard
            let items = section.list(
                "endpoints", max: UpstreamLimits.endpointsMax, empty: "names no endpoint",
                "write [{url: \"http://HOST:PORT\"}]")
        else { return [] }
        var read: [(target: TargetSettings, place: Place)] = []
        for (node, place) in items {
            guard let entry = endpoint(node, place, id: id) else { continue }
            if let twin = read.first(where: { $0.target.isWhere(entry.target) }) {
                findings.add(
                    .duplicate, entry.place,
                    "\(quoted(entry.target.endpoints[0].label)) is an endpoint already: "
                        + twin.place.path, "keep one of them, with a larger weight")
            }
            if let first = read.first, first.target.pathPrefix != entry.target.pathPrefix {
                findings.add(
                    .conflict, entry.place,
                    "its path is \(quoted(entry.target.pathPrefix + "/")), that of "
                        + "\(first.place.path) is \(quoted(first.target.pathPrefix + "/")): "
                        + "the endpoints of one target are alike",
                    "make it a target of its own, or let routes rewrite the path")
            }
            if let first = read.first, (first.target.tls == nil) != (entry.target.tls == nil) {
                findings.add(
                    .conflict, entry.place,
                    "is \(entry.target.tls == nil ? "http" : "https"), which "
                        + "\(first.place.path) is not: the endpoints of one target are alike",
                    "make it a target of its own")
            }
            read.append(entry)
        }
        return read
    }

    private func endpoint(
        _ node: YAMLNode, _ place: Place, id: String
    ) -> (target: TargetSettings, place: Place)? {
        guard
            let entry = Section(
                node, path: place.path, schemaPath: section.schemaPath + ".endpoints[]",
                findings: findings)
        else { return nil }
        guard let (text, urlPlace) = entry.required("url", "write url: \"http://HOST:PORT\"")
        else { return nil }
        do throws(TextFault) {
            var target = try BaseURL.read(text, id: id)
            entry.read("weight", into: &target.endpoints[0].weight)
            entry.read("connections", into: &target.endpoints[0].connectionsMax)
            return (target, urlPlace)
        } catch {
            findings.add(error, urlPlace)
            return nil
        }
    }

    // MARK: Balance

    private func balance() -> BalancePolicy? {
        guard let (node, place) = section.value("balance") else { return nil }
        if case .mapping = node.content {
            guard let form = section.section("balance"),
                let (text, hashPlace) = form.required("hash", "write hash: header:x-user-id")
            else { return nil }
            return hash(text, hashPlace)
        }
        let words = ["round_robin", "least_requests"]
        guard case .scalar(let text, _) = node.content else {
            findings.add(
                .wrongType, place,
                "must be round_robin, least_requests or {hash: header:NAME}, is \(node.kindText)")
            return nil
        }
        switch text {
        case "round_robin": return .roundRobin
        case "least_requests": return .leastRequests
        default:
            findings.add(
                .wrongType, place,
                "must be round_robin, least_requests or {hash: header:NAME}, is \(quoted(text))",
                NearestName.of(text, in: words).map { "did you mean \($0)?" })
            return nil
        }
    }

    private func hash(_ text: String, _ place: Place) -> BalancePolicy? {
        let name = text.dropFirst("header:".count).lowercased()
        guard text.hasPrefix("header:"), TextForm.isToken(name),
            name.utf8.count <= ConfigurationLimits.nameCharactersMax
        else {
            findings.add(
                .wrongType, place, "must be header:NAME, is \(quoted(text))",
                "write header:\(TextForm.isToken(text) ? text : "x-user-id")")
            return nil
        }
        return .hash(header: name)
    }

    // MARK: Health

    private func health() -> HealthSettings? {
        guard let health = section.section("health") else { return nil }
        var settings = HealthSettings(path: "/")
        if let (path, place) = health.required("path", "write the path of a cheap page") {
            if let fault = TextForm.pathFault(path) {
                findings.add(.wrongType, place, "\(fault.message)", fault.suggestion)
            }
            settings.path = path
        }
        if let method = health.choice("method") {
            settings.method = HealthSettings.Method(rawValue: method) ?? .get
        }
        if let (host, place) = health.text("host") {
            if Self.isHostField(host) {
                settings.host = host
            } else {
                findings.add(
                    .wrongType, place,
                    "must be a host name or address, with or without :PORT, is "
                        + quoted(host), "write app.internal")
            }
        }
        health.read("interval", into: &settings.intervalMs)
        health.read("timeout", into: &settings.timeoutMs)
        health.read("healthy", into: &settings.healthy)
        health.read("unhealthy", into: &settings.unhealthy)
        if let ranges = statuses(health) { settings.status = ranges }
        return settings
    }

    private static func isHostField(_ text: String) -> Bool {
        if SocketAddress(text) != nil || SocketAddress(host: text, port: 0) != nil {
            return !text.hasPrefix("unix:")
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let name = parts.first, parts.count <= 2, TextForm.isHostName(name.lowercased())
        else { return false }
        return parts.count == 1 || UInt16(parts[1]) != nil
    }

    /// The statuses that pass: one entry or a list of such.
    private func statuses(_ health: Section) -> [ClosedRange<Int>]? {
        guard let (node, place) = health.value("status") else { return nil }
        let items: [(node: YAMLNode, place: Place)]
        if case .list = node.content {
            guard let list = health.list("status", max: UpstreamLimits.statusRangesMax) else {
                return nil
            }
            if list.isEmpty {
                findings.add(.outOfRange, place, "names no status: nothing would pass")
            }
            items = list
        } else {
            items = [(node, place)]
        }
        var ranges: [ClosedRange<Int>] = []
        for (node, place) in items {
            guard let text = Section.text(of: node, place, health.type("status").text, findings)
            else { continue }
            if let range = Self.statuses(text) {
                ranges.append(range)
            } else {
                findings.add(
                    .wrongType, place,
                    "must be a status, or a range of such, from 200 to 599, is \(quoted(text))",
                    "write 200-399")
            }
        }
        return ranges.isEmpty ? nil : ranges
    }

    private static func statuses(_ text: String) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
            .map { word in
                word.count == 3 && word.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
                    ? Int(word) : nil
            }
        guard let first = ends.first ?? nil, let last = ends.last ?? nil, first >= 200,
            last <= 599, first <= last
        else { return nil }
        return first...last
    }

    // MARK: Ejection and retries

    private func readEjection(into target: inout EjectionSettings?) {
        guard let (node, _) = section.value("ejection") else { return }
        if Section.isOff(node) {
            target = nil
            return
        }
        guard let ejection = section.section("ejection") else { return }
        var settings = EjectionSettings()
        ejection.read("failures", into: &settings.failures)
        ejection.read("time", into: &settings.timeMs)
        ejection.read("max_share", into: &settings.shareMax)
        if let failures = failures(ejection) { settings.on = failures }
        target = settings
    }

    private func readRetries(into settings: inout RetrySettings) {
        guard let (node, _) = section.value("retries") else { return }
        if Section.isOff(node) {
            settings.attempts = 0
            return
        }
        guard let retries = section.section("retries") else { return }
        var attempts = 1
        retries.read("attempts", into: &attempts)
        settings.attempts = attempts
        retries.read("budget", into: &settings.budget)
        if let failures = failures(retries) { settings.on = failures }
    }

    private func failures(_ section: Section) -> EndpointFailure? {
        let rows = EndpointFailure.words.map { ($0.word, $0.failure) }
        return section.words("on", max: rows.count, rows, "kind of failure")
    }

    // MARK: The resolver

    /// The `resolver` block.
    static func resolver(_ root: Section, _ findings: Findings) -> ResolverSettings {
        var settings = ResolverSettings()
        guard let section = root.section("resolver") else { return settings }
        section.read("interval", into: &settings.intervalMs)
        guard let items = section.list("nameservers", max: UpstreamLimits.nameserversMax) else {
            return settings
        }
        let form = section.type("nameservers").text
        for (node, place) in items {
            guard let text = Section.text(of: node, place, form, findings) else { continue }
            let address = SocketAddress(text) ?? SocketAddress(host: text, port: 53)
            guard let address, !address.isUnix, address.port != 0, address.isUnicast else {
                findings.add(
                    .badAddress, place,
                    "\(quoted(text)) is no IP address, with or without a port",
                    "write 10.0.0.53, or 10.0.0.53:5353")
                continue
            }
            guard !settings.nameservers.contains(address) else {
                findings.add(.duplicate, place, "\(quoted(text)) is named already")
                continue
            }
            settings.nameservers.append(address)
        }
        return settings
    }
}

extension TargetSettings {
    /// Whether both have their first endpoint at the same place.
    fileprivate func isWhere(_ other: TargetSettings) -> Bool {
        authority == other.authority && addresses == other.addresses
    }
}
