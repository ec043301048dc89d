import Mirror
import Proxy
import Upstream

/// `routes`, and the closing route behind them.
enum RouteBlock {
    /// The name of the route that gets what no other matches.
    static let closingName = "default"

    static func read(
        _ root: Section, _ targets: TargetBlock, _ mirror: MirrorBlock, _ findings: Findings
    ) -> [RouteSettings] {
        var routes: [RouteSettings] = []
        var places: [String: Place] = [:]
        let items = root.list("routes", max: ConfigurationLimits.routesMax) ?? []
        for (index, (node, place)) in items.enumerated() {
            guard
                let section = Section(
                    node, path: place.path, schemaPath: "routes[]", findings: findings)
            else {
                continue
            }
            var route = RouteSettings(name: "route-\(index + 1)", target: mirror.primary)
            readName(section, into: &route, &places, findings)
            if let (id, place) = section.text("target"),
                let index = targets.index(id, place, findings)
            {
                route.target = index
            }
            if let match = section.section("match") { readMatch(match, into: &route, findings) }
            readRewrite(section, into: &route, findings)
            route.lanes = lanes(section, target: route.target, targets, mirror, findings)
            routes.append(route)
        }
        var closing = RouteSettings(name: closingName, target: mirror.primary)
        closing.lanes = defaultLanes(
            mirror, over: LaneKeys(), only: nil, target: mirror.primary, targets)
        routes.append(closing)
        return routes
    }

    private static func readName(
        _ section: Section, into route: inout RouteSettings, _ places: inout [String: Place],
        _ findings: Findings
    ) {
        var place = section.place
        if let (name, namePlace) = section.text("name") {
            place = namePlace
            guard section.isName(name, place) else { return }
            route.name = name
        }
        if route.name == closingName {
            findings.add(
                .duplicate, place,
                "\(closingName) is the name of the closing route, which stands behind all others",
                "give it another name")
        } else if let first = places[route.name] {
            findings.add(
                .duplicate, place,
                "the route of line \(first.line) has the name \(route.name) already",
                "give it another name")
        }
        places[route.name] = place
    }

    // MARK: Match

    private static func readMatch(
        _ match: Section, into route: inout RouteSettings, _ findings: Findings
    ) {
        if let (text, place) = match.text("host") { route.host = host(text, place, findings) }
        let exact = match.has("path")
        if exact, match.has("path_prefix") {
            findings.add(
                .conflict, match.place("path_prefix"), "stands beside path", "keep one of them")
        }
        if let text = path(match, "path", findings) { route.path = .exact(text) }
        if let text = path(match, "path_prefix", findings), !exact { route.path = .prefix(text) }
        if let methods = NameList.methods(match, "methods", findings) { route.methods = methods }
        if let headers = match.section("headers") {
            route.headers = self.headers(headers, findings)
        }
    }

    private static func path(_ section: Section, _ key: String, _ findings: Findings) -> String? {
        guard let (text, place) = section.text(key) else { return nil }
        if let fault = TextForm.pathFault(text) {
            findings.add(fault, place)
            return nil
        }
        if text.contains("*") {
            findings.add(
                .unreachable, place, "* is matched as the letter that it is, no wildcard",
                "path_prefix matches all that begins with it")
        }
        return text
    }

    /// A host pattern in lower case.
    private static func host(_ text: String, _ place: Place, _ findings: Findings) -> String? {
        let name = text.lowercased()
        let bare = name.hasPrefix("*.") ? String(name.dropFirst(2)) : name
        if bare.hasPrefix("["), bare.hasSuffix("]"), bare == name {
            if let address = SocketAddressText.ipv6(String(bare.dropFirst().dropLast())) {
                return "[\(address)]"
            }
        } else if SocketAddressText.isIPv4(bare), bare == name {
            return name
        } else if TextForm.isHostName(bare), !bare.hasSuffix(".") {
            return name
        }
        let remedy: String? =
            if name == "*" {
                "leave host out: without it every host matches"
            } else if let colon = bare.lastIndex(of: ":"),
                bare[bare.index(after: colon)...].utf8.allSatisfy(TextForm.isDigit)
            {
                "leave out the port: \(quoted(String(bare[..<colon])))"
            } else if name.contains("/") { "write the host alone" } else { nil }
        findings.add(
            .badAddress, place, "must be a host name without port, or *.NAME, is \(quoted(text))",
            remedy)
        return nil
    }

    private static func headers(_ section: Section, _ findings: Findings) -> [RouteSettings
        .HeaderMatch]
    {
        guard section.entries.count <= ConfigurationLimits.listEntriesMax else {
            findings.add(
                .tooLarge, section.place,
                "has \(section.entries.count) entries; "
                    + "at most \(ConfigurationLimits.listEntriesMax)"
            )
            return []
        }
        var matches: [RouteSettings.HeaderMatch] = []
        for entry in section.entries {
            let place = section.place(entry.key)
            let name = entry.key.lowercased()
            guard TextForm.isToken(name), name.utf8.count <= ConfigurationLimits.nameCharactersMax
            else {
                findings.add(.wrongType, place, "\(quoted(entry.key)) is no name of a field")
                continue
            }
            if name == "host" {
                findings.add(
                    .conflict, place, "is not matched as a field", "write match: {host: NAME}")
                continue
            }
            if matches.contains(where: { $0.name == name }) {
                findings.add(
                    .duplicate, place, "\(name) is matched already; names of fields ignore case")
                continue
            }
            guard let value = headerValue(entry, Place(place.path, entry.value), findings) else {
                continue
            }
            matches.append(RouteSettings.HeaderMatch(name: name, value: value))
        }
        return matches
    }

    /// The value to match; an inner nil for null, an outer one for a fault.
    private static func headerValue(_ entry: YAMLEntry, _ place: Place, _ findings: Findings)
        -> String??
    {
        if entry.value.isNull { return .some(nil) }
        guard let text = Section.text(of: entry.value, place, "a text, or null", findings) else {
            return nil
        }
        guard text.utf8.first != 0x20, text.utf8.last != 0x20 else {
            findings.add(
                .wrongType, place, "begins or ends with a space, which no field's value does",
                "leave it out")
            return nil
        }
        return .some(text)
    }

    private static func readRewrite(
        _ section: Section, into route: inout RouteSettings, _ findings: Findings
    ) {
        guard let text = path(section, "rewrite_prefix", findings) else { return }
        route.rewritePrefix = text
        let place = section.place("rewrite_prefix")
        guard case .prefix(let prefix) = route.path else {
            // A faulty path_prefix has its own report.
            if section.section("match")?.has("path_prefix") != true {
                findings.add(
                    .conflict, place, "replaces match.path_prefix, which this route has not",
                    "add match: {path_prefix: …}")
            }
            return
        }
        if prefix.hasSuffix("/") != text.hasSuffix("/") {
            let example = prefix.hasSuffix("/") ? prefix + "a" : prefix + "/a"
            let result = text + example.dropFirst(prefix.count)
            findings.add(
                .rewriteSlashes, place, "\(quoted(example)) becomes \(quoted(result))",
                "end both path_prefix and rewrite_prefix with / or neither")
        }
    }

    // MARK: Mirror

    /// What a route sends: to all shadows where its target is the primary or it has a `mirror` of
    /// its own, to those that `mirror.shadow` names, to none where `mirror.enabled` is false.
    private static func lanes(
        _ section: Section, target: Int, _ targets: TargetBlock, _ mirror: MirrorBlock,
        _ findings: Findings
    ) -> [LaneSettings] {
        guard section.has("mirror") else {
            return target == mirror.primary
                ? defaultLanes(mirror, over: LaneKeys(), only: nil, target: target, targets) : []
        }
        guard let own = section.section("mirror") else { return [] }
        var keys = LaneKeys()
        keys.read(own, findings)
        let only = shadowNames(own, mirror, findings)
        if mirror.place == nil, keys.enabled != false {
            findings.add(
                .conflict, section.place("mirror"),
                "there is no traffic_mirror that it could be laid over",
                "add traffic_mirror: {shadow: ID}")
            return []
        }
        let lanes = defaultLanes(mirror, over: keys, only: only, target: target, targets)
        for lane in lanes where mirror.shadows[lane.shadow].settings.target == target {
            findings.add(
                .selfMirrored, section.place("mirror"),
                "copies to \(mirror.shadows[lane.shadow].settings.targetID) "
                    + "go to this route's own target"
            )
        }
        return lanes
    }

    private static func defaultLanes(
        _ mirror: MirrorBlock, over keys: LaneKeys, only: [Int]?, target: Int,
        _ targets: TargetBlock
    ) -> [LaneSettings] {
        let all = targets.settings
        return mirror.shadows.indices.compactMap { index in
            if let only, !only.contains(index) { return nil }
            let shadow = mirror.shadows[index]
            let lane = keys.laid(over: shadow.lane).settings(
                shadow: index, primary: all.isEmpty ? nil : all[target].provider,
                provider: all[shadow.settings.target].provider)
            return lane.enabled ? lane : nil
        }
    }

    /// Indices of the shadows that `mirror.shadow` names; nil where it is absent.
    private static func shadowNames(_ section: Section, _ mirror: MirrorBlock, _ findings: Findings)
        -> [Int]?
    {
        guard let (node, place) = section.value("shadow") else { return nil }
        var items = [(node, place)]
        if case .list(let nodes) = node.content {
            items = nodes.prefix(ConfigurationLimits.shadowsMax).enumerated().map {
                ($1, Place("\(place.path)[\($0)]", $1))
            }
        }
        var indices: [Int] = []
        for (node, place) in items {
            guard let id = Section.text(of: node, place, "the id of a shadow", findings) else {
                continue
            }
            if let index = mirror.shadows.firstIndex(where: { $0.settings.targetID == id }) {
                indices.append(index)
            } else if mirror.place != nil, !mirror.shadows.isEmpty {
                let known = mirror.shadows.map(\.settings.targetID)
                findings.add(
                    .undefinedName, place, "\(quoted(id)) is no shadow of traffic_mirror",
                    NearestName.of(id, in: known).map { "did you mean \($0)?" }
                        ?? "its shadows are \(listed(known)); add others to traffic_mirror.shadows")
            }
        }
        return indices
    }
}
