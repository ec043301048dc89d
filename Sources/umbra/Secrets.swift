import CLinux
import CoreLoop
import Mirror
import Proxy
import TLS
import Upstream

/// The page of ticket keys: the supervisor's, so that tickets outlive workers and reloads.
final class TicketPage {
    private let memory: SharedMemory
    private let keys: TicketKeys
    /// What workers get.
    let readOnlyFD: Int32
    private var rotatedAt: Instant

    init() throws(SystemError) {
        let memory = try SharedMemory.create(
            name: "umbra-tickets", byteCount: TicketKeys.byteCount)
        readOnlyFD = try memory.openReadOnly()
        keys = .map(memory.base)
        self.memory = consume memory
        keys.rotate()
        rotatedAt = .now()
    }

    deinit { close(readOnlyFD) }

    /// Gives tickets a new key when it is time; those of the last one are still taken.
    func rotate(everyMs: Int, now: Instant) {
        guard now > rotatedAt.adding(ms: everyMs) else { return }
        keys.rotate()
        rotatedAt = now
    }
}

extension GatewaySettings {
    /// The shortest `ticket_rotation` of all listeners: they share the keys.
    var ticketRotationMs: Int {
        listen.compactMap { $0.tls?.ticketRotationMs }.min() ?? 12 * 3_600_000
    }
}

/// One generation's certificates and keys on their way from the supervisor to those that need them:
/// workers get all, shadow processes what copies to https shadows take, the health process what
/// checks of https targets take, nobody else any.
///
/// Each in a memfd of its own, so that a process that is started later uses what was checked, and
/// no other process has the descriptor.
final class Secrets {
    private let workerFD: Int32
    private let shadowFD: Int32
    private let healthFD: Int32
    private let tickets: TicketPage

    init(_ launch: Launch, _ tickets: TicketPage) throws(SystemError) {
        self.tickets = tickets
        workerFD = try launch.keyFiles.write()
        shadowFD = try launch.keyFiles.only(Self.shadowFiles(launch.settings)).write()
        healthFD = try launch.keyFiles.only(Self.healthFiles(launch.settings)).write()
    }

    deinit {
        close(workerFD)
        close(shadowFD)
        close(healthFD)
    }

    /// Files of the targets that copies go to. A primary's are not among them.
    private static func shadowFiles(_ settings: GatewaySettings) -> [String] {
        settings.shadows.flatMap { shadow -> [String] in
            let target = settings.targets[shadow.target]
            let key = target.provider?.keySource.map { [$0.keyFileName] } ?? []
            return (target.tls?.files ?? []) + key
        }
    }

    /// Files of the https targets that are checked.
    private static func healthFiles(_ settings: GatewaySettings) -> [String] {
        settings.targets.filter { $0.health != nil }.flatMap { $0.tls?.files ?? [] }
    }

    /// What a worker, a shadow process and the health process are started with.
    var forWorkers: [Spawning.Handed] {
        [(workerFD, RoleFD.secrets), (tickets.readOnlyFD, RoleFD.ticketKeys)]
    }
    var forShadows: [Spawning.Handed] { [(shadowFD, RoleFD.secrets)] }
    var forHealth: [Spawning.Handed] { [(healthFD, RoleFD.secrets)] }

    // MARK: In the roles

    /// The contexts of a worker. The files' text is gone afterwards.
    static func forWorker(_ settings: inout GatewaySettings) throws(SystemError) -> Security {
        var files = takeFiles()
        defer { files.wipe() }
        giveKeys(to: &settings, files)
        let page = try RoleCommand.mapForEver(
            RoleFD.ticketKeys, TicketKeys.byteCount, writable: false)
        var security = Security()
        for (index, listener) in settings.listen.enumerated() {
            security.listeners.append(
                listener.tls.map { server($0, index, files, .map(page)) })
        }
        security.targets = settings.targets.map { client($0, files) }
        return security
    }

    /// The contexts of a shadow process, by target; nil for those that get no copies.
    static func forShadow(_ settings: inout GatewaySettings) -> [ClientContext?] {
        var files = takeFiles()
        defer { files.wipe() }
        giveKeys(to: &settings, files)
        let shadows = Set(settings.shadows.map(\.target))
        return settings.targets.enumerated().map { index, target in
            shadows.contains(index) ? client(target, files) : nil
        }
    }

    /// The contexts of the health process, by target; nil for those without checks.
    static func forHealth(_ settings: GatewaySettings) -> [ClientContext?] {
        var files = takeFiles()
        defer { files.wipe() }
        return settings.targets.map { $0.health == nil ? nil : client($0, files) }
    }

    /// A key that is not there leaves its target without one, which then gets no requests.
    private static func giveKeys(to settings: inout GatewaySettings, _ files: KeyFiles) {
        func key(_ source: ProviderSettings.KeySource) -> ProviderKey? {
            files[source.keyFileName].flatMap { ProviderKey($0) }
        }
        for index in (settings.auth?.keys ?? []).indices {
            settings.auth!.keys[index].key = key(settings.auth!.keys[index].source)
        }
        for index in settings.targets.indices {
            guard let source = settings.targets[index].provider?.keySource else { continue }
            settings.targets[index].provider?.key = key(source)
        }
    }

    private static func takeFiles() -> KeyFiles {
        let files = KeyFiles.read(RoleFD.secrets)
        close(RoleFD.secrets)
        return files
    }

    private static func server(
        _ tls: ServerTLSSettings, _ index: Int, _ files: KeyFiles, _ tickets: TicketKeys
    ) -> ServerContext {
        do throws(TLSFault) {
            return try ServerContext(tls, identity: index, files: files, tickets: tickets)
        } catch {
            preconditionFailure("listen[\(index)].tls was checked before: \(error.message)")
        }
    }

    private static func client(_ target: TargetSettings, _ files: KeyFiles) -> ClientContext? {
        guard let tls = target.tls else { return nil }
        do throws(TLSFault) {
            return try ClientContext(
                tls, files: files, hosts: target.endpoints.map(\.host),
                addresses: UpstreamLimits.addressesMax)
        } catch {
            preconditionFailure("the tls of \(target.id) was checked before: \(error.message)")
        }
    }
}
