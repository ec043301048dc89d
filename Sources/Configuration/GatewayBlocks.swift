import CoreLoop
import EventLog
import Proxy

/// The blocks that stand alone: admin, runtime, limits, forwarding, log, access_log, event_log.
enum GatewayBlocks {
    // MARK: Listeners

    static func admin(_ root: Section, _ findings: Findings) -> AdminSettings {
        var admin = AdminSettings()
        guard let (node, _) = root.value("admin") else { return admin }
        if Section.isOff(node) {
            admin.listen = nil
            return admin
        }
        guard let section = root.section("admin") else { return admin }
        var listenPlace = section.place
        if let (node, place) = section.value("listen") {
            listenPlace = place
            if let address = ListenBlock.address(node, place, findings) { admin.listen = address }
        }
        if let (node, place) = section.value("token"), case .scalar = node.content {
            findings.add(
                .wrongType, place, "must be a mapping; the token itself does not belong here",
                "write {env: NAME}, and set that variable")
        } else if let token = section.section("token") {
            if let (name, place) = token.required("env", "name the variable that holds the token"),
                SecretBlock.isVariable(name, place, of: "token", findings)
            {
                admin.tokenVariable = name
            }
        }
        if let hosts = NameList.hosts(section, "hosts", findings) { admin.hosts = hosts }
        if let address = admin.listen, !address.isLoopback, !section.has("token") {
            findings.add(
                .adminExposed, listenPlace,
                "\(quoted(address.text)) is reachable from other machines, and asks for no token",
                "set admin.token, or listen on 127.0.0.1")
        }
        return admin
    }

    // MARK: Figures

    static func runtime(_ root: Section, _ findings: Findings) -> RuntimeSettings {
        var runtime = RuntimeSettings()
        guard let section = root.section("runtime") else { return runtime }
        if let (node, _) = section.value("workers") {
            var workers = 0
            if case .scalar("auto", _) = node.content {
                runtime.workers = nil
            } else {
                section.read("workers", into: &workers)
                runtime.workers = workers == 0 ? nil : workers
            }
        }
        section.read("pin_cpus", into: &runtime.pinCPUs)
        section.read("shadows", into: &runtime.shadows)
        section.read("shadow_nice", into: &runtime.shadowNice)
        section.read("shadow_memory", into: &runtime.shadowMemoryBytes)
        section.read("block_bytes", into: &runtime.blockBytes)
        section.read("blocks_per_worker", into: &runtime.blocksPerWorker)
        section.read("connections_per_worker", into: &runtime.connectionsPerWorker)
        section.read("ring_depth", into: &runtime.ringDepth)
        // Without a word of its own, never more than half of what there is.
        runtime.blocksOnLoanMax = min(runtime.blocksOnLoanMax, runtime.blocksPerWorker / 2)
        section.read("blocks_on_loan_max", into: &runtime.blocksOnLoanMax)
        section.read("drain_timeout", into: &runtime.drainTimeoutMs)
        checkBlocks(runtime, section, findings)
        return runtime
    }

    private static func checkBlocks(
        _ runtime: RuntimeSettings, _ section: Section, _ findings: Findings
    ) {
        let pool = runtime.blockBytes * runtime.blocksPerWorker
        let poolMax = ConfigurationLimits.blockPoolBytesMax
        if pool > poolMax {
            findings.add(
                .outOfRange, section.place("blocks_per_worker"),
                "block_bytes × blocks_per_worker is \(SizeText.text(pool)) a worker; "
                    + "at most \(SizeText.text(poolMax))"
            )
        }
        let loans = runtime.blocksOnLoanMax
        let loansPlace = section.place(
            section.has("blocks_on_loan_max") ? "blocks_on_loan_max" : "blocks_per_worker")
        if loans > runtime.blocksPerWorker {
            findings.add(
                .conflict, loansPlace,
                "blocks_on_loan_max (\(loans)) is more than there are blocks "
                    + "(blocks_per_worker: \(runtime.blocksPerWorker))",
                "half of the blocks is a good start: \(runtime.blocksPerWorker / 2)"
            )
        } else if loans > runtime.blocksPerWorker / 2 {
            findings.add(
                .tightMemory, loansPlace,
                "copies may hold more than half of a worker's blocks (\(loans) of "
                    + "\(runtime.blocksPerWorker)); users' requests need the rest",
                "blocks_on_loan_max: \(runtime.blocksPerWorker / 2)")
        }
    }

    static func limits(_ root: Section) -> LimitSettings {
        var limits = LimitSettings()
        guard let section = root.section("limits") else { return limits }
        section.read("head_bytes", into: &limits.headBytes)
        section.read("fields", into: &limits.fields)
        section.read("body_bytes", into: &limits.bodyBytes)
        section.read("head_timeout", into: &limits.headTimeoutMs)
        section.read("body_timeout", into: &limits.bodyTimeoutMs)
        section.read("idle_timeout", into: &limits.idleTimeoutMs)
        section.read("connect_timeout", into: &limits.connectTimeoutMs)
        section.read("answer_timeout", into: &limits.answerTimeoutMs)
        return limits
    }

    static func forwarding(_ root: Section, _ findings: Findings) -> ForwardingSettings {
        var forwarding = ForwardingSettings()
        guard let section = root.section("forwarding") else { return forwarding }
        if let text = section.choice("x_forwarded") {
            forwarding.forwardedFor = ForwardingSettings.ForwardedFor(rawValue: text)!
        }
        if let text = section.choice("forwarded") {
            forwarding.forwarded = ForwardingSettings.ForwardedFor(rawValue: text)!
        }
        if let text = section.choice("trace") {
            forwarding.trace = ForwardingSettings.Trace(rawValue: text)!
        }
        trustedProxies(section, &forwarding, findings)
        section.read("allow_trace", into: &forwarding.allowTrace)
        if let (name, place) = section.text("via") {
            if TextForm.isToken(name), name.utf8.count <= ConfigurationLimits.nameCharactersMax {
                forwarding.viaName = name
            } else {
                findings.add(
                    .wrongType, place,
                    "must be a token of at most \(ConfigurationLimits.nameCharactersMax) "
                        + "characters (RFC 9110, section 7.6.3), is \(quoted(name))"
                )
            }
        }
        return forwarding
    }

    private static func trustedProxies(
        _ section: Section, _ forwarding: inout ForwardingSettings, _ findings: Findings
    ) {
        let items = section.list("trusted_proxies", max: ConfigurationLimits.listEntriesMax) ?? []
        for (node, place) in items {
            guard let text = Section.text(of: node, place, "an address or a network", findings)
            else { continue }
            if text == "unix" {
                forwarding.trustsUnix = true
                continue
            }
            guard let network = IPNetwork(text) else {
                findings.add(
                    .wrongType, place,
                    "must be an IP address, a network in CIDR form, or unix, is \(quoted(text))",
                    "write it as 10.0.0.0/8 or \"2001:db8::/32\"")
                continue
            }
            if network.hasHostBits {
                findings.add(
                    .outOfRange, place,
                    "\(quoted(text)) names an address inside the network, not its first one",
                    "leave the length out for one address, or clear the bits behind it")
                continue
            }
            if forwarding.trustedProxies.contains(network) {
                findings.add(
                    .duplicate, place, "\(quoted(text)) stands in this list already",
                    "keep one of them")
                continue
            }
            forwarding.trustedProxies.append(network)
        }
    }

    static func log(_ root: Section) -> GatewayLogSettings {
        var log = GatewayLogSettings()
        guard let section = root.section("log") else { return log }
        if let name = section.choice("level") { log.level = LogLevel(name: name)! }
        if let name = section.choice("format") { log.format = LogFormat(rawValue: name)! }
        if let name = section.choice("to") {
            log.destination = GatewayLogSettings.Destination(rawValue: name)!
        }
        return log
    }

    /// Without a word of its own there is a log where an audit-logger or a provider is.
    static func eventLog(
        _ root: Section, _ audit: AuditKeys?, hasProviders: Bool, _ findings: Findings
    ) -> EventLogSettings? {
        guard root.has("event_log") else {
            guard audit != nil || hasProviders else { return nil }
            var log = EventLogSettings()
            audit?.lay(over: &log)
            return log
        }
        guard let (node, place) = root.value("event_log") else { return nil }
        if Section.isOff(node) {
            if let audit {
                findings.add(
                    .conflict, audit.place, "keeps the event log, which is off",
                    "take event_log: off away")
            }
            return nil
        }
        guard case .mapping = node.content else {
            findings.add(
                .wrongType, place, "must be a mapping or off, is \(node.kindText)",
                "write {directory: umbra-events}")
            return nil
        }
        var log = EventLogSettings()
        guard let section = root.section("event_log") else { return nil }
        if let (path, place) = section.text("directory") {
            if path.isEmpty { findings.add(.wrongType, place, "names no folder") }
            log.directory = path
        }
        section.read("segment_bytes", into: &log.segmentBytes)
        section.read("sync", into: &log.syncMs)
        section.read("retention_days", into: &log.retentionDays)
        section.read("immutable", into: &log.isImmutable)
        if let audit {
            audit.checkBeside(section, log, findings)
            audit.lay(over: &log)
        }
        return log
    }

    static func accessLog(_ root: Section, _ findings: Findings) -> AccessLogSettings? {
        guard let (node, place) = root.value("access_log"), !Section.isOff(node) else { return nil }
        guard case .mapping = node.content else {
            findings.add(
                .wrongType, place, "must be a mapping or off, is \(node.kindText)",
                "write {path: \"-\"}")
            return nil
        }
        var log = AccessLogSettings()
        guard let section = root.section("access_log") else { return nil }
        if let (path, place) = section.text("path") {
            if path.isEmpty {
                findings.add(.wrongType, place, "names no file", "write - for standard output")
            }
            log.path = path
        }
        _ = section.choice("format")
        return log
    }
}
