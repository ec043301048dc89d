import CLinux
import CoreLoop
public import Proxy
import Upstream

extension ConfigurationReader {
    /// Looks up the names of all targets that have no address yet, and fills in their addresses in
    /// the resolver's order of preference (RFC 6724), at most
    /// `ConfigurationLimits.addressesPerTargetMax` each.
    ///
    /// Blocks as long as the system's resolver does: for the supervisor at start and reload, never
    /// for a worker. Returns an error for each target whose name has no address; such a target is
    /// left without.
    public static func resolveTargets(_ settings: inout GatewaySettings) -> [Diagnostic] {
        var diagnostics: [Diagnostic] = []
        // Several targets of one host are common, and a look-up that fails may take many seconds.
        var known: [String: Result<[SocketAddress], ResolverFault>] = [:]
        for index in settings.targets.indices where settings.targets[index].addresses.isEmpty {
            let target = settings.targets[index]
            let answer =
                known[target.authority]
                ?? Result { () throws(ResolverFault) in try lookUp(target.host, port: target.port) }
            known[target.authority] = answer
            switch answer {
            case .success(let addresses): settings.targets[index].addresses = addresses
            case .failure(let error):
                diagnostics.append(
                    Diagnostic(
                        .unresolved, path: "providers.targets[\(index)].base_url",
                        message: "\(quoted(target.host)) has no address: \(error.message)"))
            }
        }
        return diagnostics
    }

    private struct ResolverFault: Error {
        let message: String
    }

    private static func lookUp(_ host: String, port: UInt16) throws(ResolverFault)
        -> [SocketAddress]
    {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, "\(port)", &hints, &found)
        guard status == 0 else {
            throw ResolverFault(
                message: status == EAI_SYSTEM
                    ? SystemError.text(lastErrno) : String(cString: gai_strerror(status)))
        }
        defer { freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var next = found
        while let info = next, addresses.count < ConfigurationLimits.addressesPerTargetMax {
            next = info.pointee.ai_next
            guard let sockaddr = info.pointee.ai_addr else { continue }
            let address = SocketAddress(copying: sockaddr, length: info.pointee.ai_addrlen)
            guard address.family == AF_INET || address.family == AF_INET6,
                !addresses.contains(address)
            else { continue }
            addresses.append(address)
        }
        if addresses.isEmpty { throw ResolverFault(message: "no IPv4 or IPv6 address") }
        return addresses
    }
}
