import Providers
import Proxy
import Upstream

/// `providers.targets`, and the look-up of targets by their ids.
struct TargetBlock {
    private(set) var settings: [TargetSettings] = []
    /// Where each `base_url` stands.
    private(set) var places: [Place] = []
    /// The certificates and keys that targets name.
    private(set) var files: [KeyFileUse] = []
    private var indices: [String: Int] = [:]

    /// All ids that the document gives, also those of entries with faults, so that one fault does
    /// not bring forth others.
    var ids: [String] { settings.map(\.id) }

    static func read(_ root: Section, _ findings: Findings) -> TargetBlock {
        var block = TargetBlock()
        let remedy = "write providers: {targets: [{id: app, base_url: \"http://127.0.0.1:9001\"}]}"
        guard root.has("providers") else {
            findings.add(.missingKey, root.place("providers"), "required", remedy)
            return block
        }
        guard let providers = root.section("providers") else { return block }
        guard providers.has("targets") else {
            findings.add(.missingKey, providers.place("targets"), "required", remedy)
            return block
        }
        guard
            let items = providers.list(
                "targets", max: ConfigurationLimits.targetsMax,
                empty: "names no target; at least one is needed", remedy)
        else { return block }
        for (node, place) in items {
            guard
                let section = Section(
                    node, path: place.path, schemaPath: "providers.targets[]", findings: findings)
            else { continue }
            block.add(section, findings)
        }
        return block
    }

    private mutating func add(_ section: Section, _ findings: Findings) {
        let kind = readKind(section, findings)
        let id = readID(section, findings)
        let urlPlace: Place
        var target = TargetSettings(id: id ?? "", authority: "", host: "", port: 0)
        let upstream = UpstreamBlock(section: section, findings: findings)
        if let endpoints = upstream.endpoints(id: id ?? "") {
            urlPlace = section.place("endpoints")
            if section.has("base_url") {
                findings.add(
                    .conflict, section.place("base_url"), "stands beside endpoints",
                    "make it one of the endpoints")
            }
            if let first = endpoints.first {
                target = first.target
                target.endpoints = endpoints.map { $0.target.endpoints[0] }
            }
        } else if let (text, place) = section.text("base_url") {
            urlPlace = place
            do throws(TextFault) {
                target = try BaseURL.read(text, id: id ?? "")
            } catch {
                findings.add(error, place)
            }
        } else if !section.has("base_url"), let url = kind.flatMap(ProviderBlock.baseURL) {
            urlPlace = section.place
            do throws(TextFault) {
                target = try BaseURL.read(url, id: id ?? "")
            } catch {
                findings.add(error, section.place)
            }
        } else {
            urlPlace = section.place
            if kind != nil, !section.has("base_url") {
                findings.add(
                    .missingKey, section.place("base_url"), "required", "write http://HOST:PORT")
            }
        }
        upstream.read(into: &target)
        target.tags.read(section)
        target.provider = ProviderBlock.read(section, kind: kind, &files, findings)
        if target.provider?.azure != nil, target.pathPrefix.hasSuffix("/openai") {
            findings.add(
                .conflict, urlPlace, "/openai is added to it where azure is written",
                "write https://RESOURCE.openai.azure.com")
        }
        if let tls = TLSBlock.target(section, &target, findings) { files += tls }
        if let id { indices[id] = settings.count }
        settings.append(target)
        places.append(urlPlace)
    }

    /// The kind of service; nil and a report where there is no such kind.
    private func readKind(_ section: Section, _ findings: Findings) -> String? {
        guard let (kind, place) = section.text("provider") else { return "http" }
        let kinds = ["http", "openai", "anthropic"]
        if kinds.contains(kind) { return kind }
        let near = NearestName.of(kind, in: kinds).map { "did you mean \($0)?" }
        findings.add(
            .unknownKind, place, "unknown kind \(quoted(kind))",
            near ?? "write http, openai or anthropic")
        return nil
    }

    private func readID(_ section: Section, _ findings: Findings) -> String? {
        guard let (id, place) = section.required("id", "give each target a name of its own"),
            section.isName(id, place)
        else { return nil }
        if let first = indices[id] {
            findings.add(
                .duplicate, place, "\(id) is the id of providers.targets[\(first)] already",
                "give it another id")
            return nil
        }
        return id
    }

    /// The index of a target; nil and a report where no target has the id.
    func index(_ id: String, _ place: Place, _ findings: Findings) -> Int? {
        if let index = indices[id] { return index }
        let known = findings.isFull ? [] : indices.keys.sorted()
        let near = NearestName.of(id, in: known)
        let remedy: String? =
            if let near { "did you mean \(near)?" } else if known.isEmpty { nil } else {
                "defined are \(listed(known))"
            }
        findings.add(.undefinedName, place, "no target has the id \(quoted(id))", remedy)
        return nil
    }
}

/// Names for a message: the first few, and how many more there are.
func listed(_ names: [String], max: Int = 12) -> String {
    let shown = names.prefix(max).map { quoted($0) }.joined(separator: ", ")
    return names.count > max ? "\(shown) and \(names.count - max) more" : shown
}

extension PinnedTags {
    /// Lays `tags` of a section over these.
    mutating func read(_ section: Section) {
        guard let tags = section.section("tags") else { return }
        if let (text, _) = tags.text("model_rev") { modelRevision = text }
        if let (text, _) = tags.text("index_hash") { indexHash = text }
    }
}
