import HTTP

/// Lists of methods, field names and query members.
enum NameList {
    /// Methods in upper case. `CONNECT` makes a tunnel, which is neither routed nor copied.
    static func methods(_ section: Section, _ key: String, _ findings: Findings) -> [String]? {
        guard let (names, place) = names(section, key, findings) else { return nil }
        if names.isEmpty {
            findings.add(.outOfRange, place, "names no method", "leave the key out, or name one")
            return nil
        }
        return unique(names, findings) { text, place in
            // A longer one is refused before any route is asked.
            guard TextForm.isToken(text), text.utf8.count <= HTTP.Limits.methodBytesMax else {
                findings.add(.wrongType, place, "\(quoted(text)) is no method")
                return nil
            }
            guard text.uppercased() != "CONNECT" else {
                findings.add(.outOfRange, place, "CONNECT is never passed on", "leave it out")
                return nil
            }
            return text.uppercased()
        }
    }

    /// Names of fields in lower case, without those that every message needs.
    static func fields(_ section: Section, _ key: String, _ findings: Findings) -> [String]? {
        guard let (names, _) = names(section, key, findings) else { return nil }
        return unique(names, findings) { text, place in
            guard TextForm.isToken(text) else {
                findings.add(.wrongType, place, "\(quoted(text)) is no name of a field")
                return nil
            }
            let name = text.lowercased()
            guard !framing.contains(name) else {
                findings.add(
                    .outOfRange, place,
                    "\(name) belongs to the connection or the framing, which Umbra writes itself",
                    "leave it out")
                return nil
            }
            return name
        }
    }

    private static let framing = [
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer",
        "upgrade",
        "proxy-connection",
    ]

    /// Names of hosts in lower case, without ports.
    static func hosts(_ section: Section, _ key: String, _ findings: Findings) -> [String]? {
        guard let (names, _) = names(section, key, findings) else { return nil }
        return unique(names, findings) { text, place in
            let isName = text.utf8.allSatisfy {
                ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A)
                    || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
                    || $0 == UInt8(ascii: "_")
            }
            guard isName, !text.isEmpty else {
                findings.add(
                    .wrongType, place, "\(quoted(text)) is no name of a host",
                    "write the name alone, without scheme and port")
                return nil
            }
            return text.lowercased()
        }
    }

    /// Names of query members, lower case.
    static func queryMembers(_ section: Section, _ key: String, _ findings: Findings) -> [String]? {
        guard let (names, _) = names(section, key, findings) else { return nil }
        return unique(names, findings) { text, place in
            guard !text.isEmpty, !text.contains(where: { "&=#; ".contains($0) }) else {
                findings.add(.wrongType, place, "\"\(quoted(text))\" is no name of a query member")
                return nil
            }
            return text.lowercased()
        }
    }

    private static func names(
        _ section: Section, _ key: String, _ findings: Findings
    ) -> (names: [(text: String, place: Place)], place: Place)? {
        guard let items = section.list(key, max: ConfigurationLimits.listEntriesMax) else {
            return nil
        }
        var names: [(String, Place)] = []
        for (node, place) in items {
            guard let text = Section.text(of: node, place, "a name", findings) else { continue }
            guard text.utf8.count <= ConfigurationLimits.nameCharactersMax else {
                findings.add(
                    .tooLarge, place,
                    "has \(text.utf8.count) characters; "
                        + "at most \(ConfigurationLimits.nameCharactersMax)"
                )
                continue
            }
            names.append((text, place))
        }
        // An empty list is for the caller to judge; one whose entries all were faulty has been
        // reported.
        if names.isEmpty, !items.isEmpty { return nil }
        return (names, section.place(key))
    }

    private static func unique(
        _ names: [(text: String, place: Place)], _ findings: Findings,
        _ checked: (String, Place) -> String?
    ) -> [String] {
        var out: [String] = []
        for (text, place) in names {
            guard let name = checked(text, place) else { continue }
            if out.contains(name) {
                findings.add(
                    .duplicate, place, "\(quoted(name)) stands in this list already",
                    "keep one of them")
            } else {
                out.append(name)
            }
        }
        return out
    }
}
