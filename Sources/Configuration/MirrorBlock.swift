import EventLog
import Mirror
import Providers
import Proxy
import Upstream

/// `traffic_mirror`: its shadows, each with what it sends by default.
struct MirrorBlock {
    struct Shadow {
        var settings: ShadowSettings
        /// What a route sends to it where the route says nothing else.
        var lane: LaneKeys
        let place: Place
    }

    var enabled = true
    var shadows: [Shadow] = []
    /// Index of the default route's target.
    var primary = 0
    /// Nil where the document has no `traffic_mirror`.
    var section: Section?
    var place: Place? { section?.place }
    /// Nil without `guard`.
    var guardOverheadMax: Double?
    var logsPrimaryResponse = false
    var compareMetrics = CompareMetrics.all
    var captureBytes = ShadowSettings.captureBytesDefault

    static func read(_ root: Section, _ targets: TargetBlock, _ findings: Findings) -> MirrorBlock {
        var block = MirrorBlock()
        guard let section = find(root, findings) else { return block }
        block.section = section
        block.readSwitch(section, findings)
        block.readComparison(section, findings)
        checkAsync(section, findings)
        if let latencies = section.section("guard") {
            var overhead = 0.05
            latencies.read("p99_overhead", into: &overhead)
            block.guardOverheadMax = overhead
        }
        if let (id, place) = section.text("primary"), let index = targets.index(id, place, findings)
        {
            block.primary = index
        }
        var settings = ShadowSettings(targetID: "", target: 0)
        settings.captureBytes = block.captureBytes
        // None yet: which one holds without a word depends on the target.
        settings.timeoutMs = 0
        readShadowKeys(section, into: &settings, findings)
        var lane = LaneKeys()
        lane.read(section, findings)
        // Here it is the switch of the whole mirror, and no lane's.
        lane.enabled = nil
        let key = shadowKey(section, findings)
        switch (key != nil, section.has("shadows")) {
        case (false, false):
            findings.add(
                .missingKey, section.place("shadow"), "required",
                "name the target that gets the copies"
                    + (targets.ids.isEmpty ? "" : ": \(listed(targets.ids))"))
        case (true, true):
            findings.add(
                .conflict, section.place("shadows"), "stands beside \(key!)",
                "make \(key!) one of the entries of shadows")
        case (true, false):
            if let shadow = target(section, key!, settings, lane, targets, findings) {
                block.shadows = [shadow]
            }
        case (false, true):
            block.readShadows(section, settings, lane, targets, findings)
        }
        return block
    }

    /// `traffic_mirror` at the top level or under `providers`.
    private static func find(_ root: Section, _ findings: Findings) -> Section? {
        let providers: Section? =
            if let (node, _) = root.value("providers"), case .mapping = node.content {
                root.section("providers")
            } else { nil }
        guard let providers, providers.has("traffic_mirror") else {
            return root.section("traffic_mirror")
        }
        if root.has("traffic_mirror") {
            findings.add(
                .conflict, providers.place("traffic_mirror"), "stands at the top level too",
                "keep one of them")
        }
        return providers.section("traffic_mirror", as: "traffic_mirror")
    }

    /// The key that names the one shadow; nil where none does.
    private static func shadowKey(_ section: Section, _ findings: Findings) -> String? {
        switch (section.has("shadow"), section.has("mirror_target")) {
        case (true, true):
            findings.add(
                .conflict, section.place("mirror_target"), "is another name for shadow",
                "keep one of them")
            return "shadow"
        case (false, true): return "mirror_target"
        case (true, false): return "shadow"
        case (false, false): return nil
        }
    }

    /// The form that says `mirror_target` is switched off until it says `enabled: true`.
    private mutating func readSwitch(_ section: Section, _ findings: Findings) {
        if section.has("mirror_target"), !section.has("enabled") {
            enabled = false
            findings.add(
                .neverMirrored, section.place("mirror_target"),
                "with mirror_target mirroring is off where enabled is not written",
                "write enabled: true")
        }
        section.read("enabled", into: &enabled)
    }

    private mutating func readComparison(_ section: Section, _ findings: Findings) {
        section.read("log_primary_response", into: &logsPrimaryResponse)
        section.read("capture_bytes", into: &captureBytes)
        let rows = CompareMetrics.names.map { ($0.name, $0.metric) }
        let listMax = ConfigurationLimits.listEntriesMax
        if let metrics = section.words("compare_metrics", max: listMax, rows, "metric") {
            compareMetrics = metrics
        }
    }

    private static func checkAsync(_ section: Section, _ findings: Findings) {
        var isAsync = true
        section.read("async", into: &isAsync)
        if !isAsync {
            findings.add(
                .conflict, section.place("async"),
                "cannot be false: a user's request never waits for a shadow",
                "leave the key out")
        }
    }

    private mutating func readShadows(
        _ section: Section, _ settings: ShadowSettings, _ lane: LaneKeys, _ targets: TargetBlock,
        _ findings: Findings
    ) {
        guard
            let items = section.list(
                "shadows", max: ConfigurationLimits.shadowsMax,
                empty: "names no shadow; at least one is needed")
        else { return }
        for (node, place) in items {
            if case .scalar(let id, _) = node.content, !node.isNull {
                findings.add(
                    .wrongType, place, "must be a mapping, is \(node.kindText)",
                    "write {shadow: \(quoted(id))}")
                continue
            }
            guard
                let entry = Section(
                    node, path: place.path, schemaPath: "traffic_mirror.shadows[]",
                    findings: findings)
            else { continue }
            var settings = settings
            Self.readShadowKeys(entry, into: &settings, findings)
            var lane = lane
            lane.read(entry, findings)
            guard entry.has("shadow") else {
                findings.add(
                    .missingKey, entry.place("shadow"), "required",
                    "name the target that gets the copies")
                continue
            }
            guard let shadow = Self.target(entry, "shadow", settings, lane, targets, findings)
            else {
                continue
            }
            if shadows.contains(where: { $0.settings.target == shadow.settings.target }) {
                findings.add(
                    .duplicate, shadow.place, "\(shadow.settings.targetID) is a shadow already",
                    "for two copies give the service a second entry in providers.targets"
                )
                continue
            }
            shadows.append(shadow)
        }
    }

    private static func target(
        _ section: Section, _ key: String, _ settings: ShadowSettings, _ lane: LaneKeys,
        _ targets: TargetBlock, _ findings: Findings
    ) -> Shadow? {
        guard let (id, place) = section.text(key),
            let index = targets.index(id, place, findings)
        else {
            return nil
        }
        var settings = settings
        settings.targetID = id
        settings.tags = settings.tags.laid(over: targets.settings[index].tags)
        settings.target = index
        if settings.timeoutMs == 0 {
            settings.timeoutMs =
                targets.settings[index].provider == nil
                ? ShadowSettings.timeoutMsDefault : ShadowSettings.modelTimeoutMsDefault
        }
        return Shadow(settings: settings, lane: lane, place: place)
    }

    /// The keys that hold for a whole shadow, laid over what `settings` says.
    private static func readShadowKeys(
        _ section: Section, into settings: inout ShadowSettings, _ findings: Findings
    ) {
        section.read("timeout_ms", into: &settings.timeoutMs)
        section.read("max_answer_bytes", into: &settings.answerBytesMax)
        section.read("cancel_with_client", into: &settings.cancelsWithClient)
        readModels(section, into: &settings, findings)
        settings.tags.read(section)
        section.read("log_shadow_response", into: &settings.logsResponse)
        if section.has("log_mirror_response") {
            if section.has("log_shadow_response") {
                findings.add(
                    .conflict, section.place("log_mirror_response"),
                    "is another name for log_shadow_response", "keep one of them")
            }
            section.read("log_mirror_response", into: &settings.logsResponse)
        }
        if let limits = section.section("limits") {
            limits.read("qps", into: &settings.qps)
            limits.read("in_flight", into: &settings.inFlightMax)
        }
        if let safety = section.section("safety") {
            if let names = NameList.fields(safety, "strip_fields", findings) {
                settings.stripFields = names
            }
            if let names = NameList.fields(safety, "allow_fields", findings) {
                settings.allowFields = names
            }
            if let word = safety.choice("tools") { settings.tools = ToolSafety(rawValue: word)! }
            if let names = NameList.queryMembers(safety, "strip_query", findings) {
                settings.stripQuery = names
            }
            if let both = settings.allowFields.first(where: settings.stripFields.contains) {
                let key = safety.has("allow_fields") ? "allow_fields" : "strip_fields"
                findings.add(
                    .conflict, safety.place(key),
                    "\(both) stands in strip_fields and in allow_fields",
                    "keep one of them")
            }
        }
        if let breaker = section.section("breaker") {
            breaker.read("failures", into: &settings.breakerFailures)
            breaker.read("open", into: &settings.breakerOpenMs)
            breaker.read("open_max", into: &settings.breakerOpenMsMax)
            if settings.breakerOpenMs > settings.breakerOpenMsMax {
                findings.add(
                    .conflict, breaker.place(breaker.has("open") ? "open" : "open_max"),
                    "open (\(DurationText.text(settings.breakerOpenMs))) is longer than open_max "
                        + "(\(DurationText.text(settings.breakerOpenMsMax)))")
            }
        }
    }
}

extension MirrorBlock {
    /// `model_mapping`: names of models in the document's order.
    private static func readModels(
        _ section: Section, into settings: inout ShadowSettings, _ findings: Findings
    ) {
        guard let models = section.section("model_mapping") else { return }
        guard models.entries.count <= ConfigurationLimits.mappedModelsMax else {
            findings.add(
                .tooLarge, models.place,
                "has \(models.entries.count) entries; "
                    + "at most \(ConfigurationLimits.mappedModelsMax) are read")
            return
        }
        settings.modelMapping = [:]
        settings.mappedModels = []
        for entry in models.entries {
            let place = models.place(entry.key)
            let at = Place(place.path, entry.value)
            guard let model = Section.text(of: entry.value, at, "the name of a model", findings)
            else { continue }
            guard !model.isEmpty, !entry.key.isEmpty else {
                findings.add(.wrongType, place, "names no model")
                continue
            }
            settings.modelMapping[entry.key] = model
            settings.mappedModels.append(entry.key)
        }
    }
}

/// The keys that a route may lay over its shadows' own; nil leaves theirs.
struct LaneKeys {
    var enabled: Bool?
    var sampleRate: Double?
    var sampleBy: SampleKey?
    var bodyBytesMax: Int?
    var methods: [String]?

    /// Lays a section's keys over these.
    mutating func read(_ section: Section, _ findings: Findings) {
        if section.has("enabled") {
            var value = enabled ?? true
            section.read("enabled", into: &value)
            enabled = value
        }
        if section.has("sample_rate") {
            var value = sampleRate ?? 1
            section.read("sample_rate", into: &value)
            sampleRate = value
        }
        if section.has("max_body_bytes") {
            var value = bodyBytesMax ?? 0
            section.read("max_body_bytes", into: &value)
            bodyBytesMax = value
        }
        if let key = Self.sampleBy(section, findings) { sampleBy = key }
        if let safety = section.section("safety"),
            let names = NameList.methods(safety, "methods", findings)
        {
            methods = names
        }
    }

    func laid(over other: LaneKeys) -> LaneKeys {
        var keys = other
        if let enabled { keys.enabled = enabled }
        if let sampleRate { keys.sampleRate = sampleRate }
        if let sampleBy { keys.sampleBy = sampleBy }
        if let bodyBytesMax { keys.bodyBytesMax = bodyBytesMax }
        if let methods { keys.methods = methods }
        return keys
    }

    /// What is sent to a shadow. Where `primary` is an LLM provider's, requests that ask a model
    /// are among it, unless methods are given; to another API nothing else goes, as it has no
    /// other request in common.
    func settings(
        shadow: Int, primary: ProviderSettings?, provider: ProviderSettings?
    ) -> LaneSettings {
        var lane = LaneSettings(shadow: shadow)
        if let enabled { lane.enabled = enabled }
        if let sampleRate { lane.sampleRate = sampleRate }
        if let sampleBy { lane.sampleBy = sampleBy }
        if let bodyBytesMax { lane.bodyBytesMax = bodyBytesMax }
        if let methods {
            lane.methods = methods
        } else if let primary {
            lane.takesInference = true
            if let provider, provider.dialect != primary.dialect { lane.methods = [] }
        }
        return lane
    }

    private static func sampleBy(_ section: Section, _ findings: Findings) -> SampleKey? {
        guard let (node, place) = section.value("sample_by") else { return nil }
        guard case .scalar(let text, _) = node.content else {
            findings.add(
                .wrongType, place, "must be request or header:NAME, is \(node.kindText)",
                "write header:x-user-id")
            return nil
        }
        if text == "request" { return .request }
        if text.hasPrefix("header:") {
            let name = text.dropFirst("header:".count).lowercased()
            if TextForm.isToken(name), name.utf8.count <= ConfigurationLimits.nameCharactersMax {
                return .header(name)
            }
            findings.add(
                .wrongType, place, "\"\(quoted(name))\" is no name of a field",
                "write header:x-user-id")
            return nil
        }
        findings.add(
            .wrongType, place, "must be request or header:NAME, is \(quoted(text))",
            TextForm.isToken(text)
                ? "did you mean "
                    + "\(NearestName.of(text, in: ["request"]) ?? "header:\(quoted(text))")?"
                : nil)
        return nil
    }
}
