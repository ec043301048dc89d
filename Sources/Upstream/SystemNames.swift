public import CoreLoop

/// What /etc/resolv.conf says (resolv.conf(5)). Pure: text in, settings out.
public struct ResolverFile: Equatable, Sendable {
    /// At most `UpstreamLimits.nameserversMax`; this machine where the file names none.
    public var nameservers: [SocketAddress] = []
    /// Put behind names that have fewer dots than `ndots`.
    public var search: [String] = []
    public var ndots = 1
    /// For each try, and tries for each server.
    public var timeoutMs = UpstreamLimits.dnsTimeoutMs
    public var attempts = UpstreamLimits.dnsAttempts

    /// These servers alone, and no search list: what `resolver.nameservers` means.
    public init(nameservers: [SocketAddress]) { self.nameservers = nameservers }

    /// Reads the file. What it has too much of, or malformed, is left out.
    public init(text: [UInt8]) {
        for line in Self.lines(text) {
            let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
            switch words.first {
            case "nameserver":
                guard words.count > 1, nameservers.count < UpstreamLimits.nameserversMax,
                    let address = SocketAddress(host: words[1], port: 53)
                else { continue }
                nameservers.append(address)
            case "domain", "search":
                // The last line of either counts.
                search = words.dropFirst().prefix(UpstreamLimits.searchMax).map {
                    $0.last == "." ? String($0.dropLast()) : $0
                }.filter { !$0.isEmpty }
            case "options":
                for option in words.dropFirst() { read(option) }
            default: continue
            }
        }
        if nameservers.isEmpty { nameservers = [SocketAddress(host: "127.0.0.1", port: 53)!] }
    }

    private mutating func read(_ option: String) {
        let parts = option.split(separator: ":")
        guard parts.count == 2, let number = Int(parts[1]), number >= 0 else { return }
        switch parts[0] {
        case "ndots": ndots = min(number, 15)
        case "timeout": timeoutMs = min(max(1, number), 10) * 1_000
        case "attempts": attempts = min(max(1, number), 5)
        default: return
        }
    }

    /// The names to be asked for, the likelier first. A dot at the end says that there is only one.
    public func candidates(_ host: String) -> [String] {
        if host.last == "." { return [String(host.dropLast())] }
        let longer = search.map { "\(host).\($0)" }
        let dots = host.utf8.count { $0 == 0x2E }
        return dots >= ndots ? [host] + longer : longer + [host]
    }

    /// Without comments, which begin with `#` or `;`.
    fileprivate static func lines(_ text: [UInt8]) -> [Substring] {
        String(decoding: text, as: UTF8.self).split { $0 == "\n" || $0 == "\r\n" }.map { line in
            line.prefix { $0 != "#" && $0 != ";" }
        }
    }
}

/// /etc/hosts (hosts(5)). Pure.
public struct HostsFile: Sendable {
    private var byName: [String: [SocketAddress]] = [:]

    /// Reads the file; lines that are malformed are left out.
    public init(text: [UInt8]) {
        for line in ResolverFile.lines(text) {
            let words = line.split { $0 == " " || $0 == "\t" }
            guard let first = words.first,
                let address = SocketAddress(host: String(first), port: 0), address.isUnicast
            else { continue }
            for word in words.dropFirst() {
                let name = word.lowercased()
                let known = byName[name] ?? []
                guard !known.contains(address), known.count < UpstreamLimits.addressesMax else {
                    continue
                }
                byName[name, default: []].append(address)
            }
        }
    }

    /// The addresses of `host`, port 0, in the file's order; empty where it has none.
    public func addresses(of host: String) -> [SocketAddress] { byName[host.lowercased()] ?? [] }
}

/// The line `hosts:` of /etc/nsswitch.conf (nsswitch.conf(5)). Pure.
public struct NameSources: Equatable, Sendable {
    /// Whether /etc/hosts and the DNS are among the sources.
    public var hasFiles = true
    public var hasDNS = true

    /// Reads the file; without such a line it is as if `files dns` stood there.
    public init(text: [UInt8]) {
        for line in ResolverFile.lines(text) {
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.first == "hosts:" else { continue }
            hasFiles = words.contains("files")
            // systemd-resolved is reached by its own protocol, and by the DNS as well.
            hasDNS = words.contains("dns") || words.contains("resolve")
        }
    }
}
