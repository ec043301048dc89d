import CLinux
public import Configuration
import CoreLoop
import EventLog
import Proxy
import Synchronization
import TLS
import Upstream

/// `umbra doctor`: looks at everything that a gateway of this configuration needs, without being
/// one. Changes nothing: ports are bound for an instant, files are not made. Ends within
/// `AdminLimits.doctorLookUpMs` for names and `probeTimeoutMs` for each lot of addresses.
public struct Doctor {
    private var report: DoctorReport
    private let result: ConfigurationResult

    /// What a gateway of this configuration would find here and now.
    public static func run(_ result: ConfigurationResult) -> DoctorReport {
        var doctor = Doctor(report: DoctorReport(file: result.file), result: result)
        doctor.checkConfiguration()
        if var settings = result.settings {
            doctor.checkTargets(&settings)
            doctor.checkCertificates(settings)
            doctor.checkFolders(settings)
            doctor.checkPorts(settings)
            doctor.checkToken(settings)
            doctor.checkLimits(settings)
        }
        doctor.checkClock()
        return doctor.report
    }

    private mutating func add(_ finding: DoctorFinding) { report.findings.append(finding) }

    private mutating func checkConfiguration() {
        for finding in result.diagnostics {
            let place = finding.line > 0 ? ":\(finding.line)" : ""
            add(
                DoctorFinding(
                    .configuration, finding.severity == .error ? .problem : .warning,
                    result.file + place,
                    "\(finding.code.rawValue): \(finding.path.isEmpty ? "" : finding.path + ": ")"
                        + finding.message,
                    remedy: finding.suggestion
                        ?? "docs/configuration.md says what the key takes"))
        }
        if let settings = result.settings {
            add(
                DoctorFinding(
                    .configuration, .ok, result.file,
                    "valid: \(LintReport.summary(settings))"))
        }
    }

    // MARK: Targets

    private mutating func checkTargets(_ settings: inout GatewaySettings) {
        let failures = Self.resolve(&settings)
        var subjects: [String] = []
        var probes: [DoctorProbe?] = []
        for target in settings.targets {
            let context = target.tls.flatMap { tls in
                try? ClientContext(
                    tls, files: result.keyFiles, hosts: target.endpoints.map(\.host),
                    addresses: UpstreamLimits.addressesMax)
            }
            for (place, endpoint) in target.endpoints.enumerated() {
                let scheme = target.tls == nil ? "http://" : "https://"
                let unix = endpoint.addresses.first?.isUnix == true
                subjects.append("\(target.id) \(unix ? "" : scheme)\(endpoint.label)")
                probes.append(
                    endpoint.addresses.isEmpty
                        ? nil : DoctorProbe(endpoint.addresses, context, endpoint: place))
            }
        }
        DoctorProbe.run(probes.compactMap { $0 }, timeoutMs: AdminLimits.probeTimeoutMs)
        var names = failures[...]
        for (subject, probe) in zip(subjects, probes) {
            let outcome =
                probe?.outcome ?? .unresolved(why: names.popFirst() ?? "it has no address")
            add(
                DoctorJudgement.target(
                    subject, outcome, connectTimeoutMs: settings.limits.connectTimeoutMs))
            if case .reached(_, _, let handshake?) = outcome {
                add(DoctorJudgement.certificate(subject, daysLeft: handshake.daysLeft))
            }
        }
    }

    /// Looks all names up on a thread of its own, because servers that do not answer take their
    /// time; returns why the endpoints that are left without an address have none, in their order.
    private static func resolve(_ settings: inout GatewaySettings) -> [String] {
        guard settings.targets.contains(where: { $0.endpoints.contains { $0.addresses.isEmpty } }),
            let wake = try? Wake.create()
        else { return [] }
        let lookUp = LookUp(settings, wake)
        lookUp.start()
        var poller = pollfd(fd: wake.fd, events: Int16(POLLIN), revents: 0)
        _ = poll(&poller, 1, Int32(AdminLimits.doctorLookUpMs))
        guard let (resolved, failures) = lookUp.answer else {
            let count = settings.targets.reduce(0) {
                $0 + $1.endpoints.count { $0.addresses.isEmpty }
            }
            let seconds = AdminLimits.doctorLookUpMs / 1_000
            return Array(
                repeating: "the name servers gave no answer within \(seconds) s", count: count)
        }
        settings = resolved
        return failures
    }

    /// The look-up's thread, which is left to itself where it takes too long.
    private final class LookUp: Sendable {
        private let settings: GatewaySettings
        private let wake: Wake
        private let done = Mutex<(GatewaySettings, [String])?>(nil)

        init(_ settings: GatewaySettings, _ wake: Wake) {
            self.settings = settings
            self.wake = wake
        }

        var answer: (GatewaySettings, [String])? { done.withLock { $0 } }

        func start() {
            var thread = pthread_t()
            let context = Unmanaged.passRetained(self).toOpaque()
            pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<LookUp>.fromOpaque(context!).takeRetainedValue().run()
                    return nil
                }, context)
            pthread_detach(thread)
        }

        private func run() {
            var resolved = settings
            let failures = ConfigurationReader.resolveTargets(&resolved).map(\.message)
            done.withLock { $0 = (resolved, failures) }
            wake.signal()
        }
    }

    // MARK: Files

    private mutating func checkCertificates(_ settings: GatewaySettings) {
        var seen: Set<String> = []
        let own =
            settings.listen.flatMap { $0.tls?.certificates ?? [] }.map { ($0.certificate, $0.key) }
            + settings.targets.compactMap { target in
                target.tls.flatMap { tls in tls.certificate.flatMap { c in tls.key.map { (c, $0) } }
                }
            }
        for (name, keyName) in own where seen.insert(name).inserted {
            guard let text = result.keyFiles[name], let key = result.keyFiles[keyName],
                let certificate = try? Certificate(certificate: text, key: key)
            else { continue }
            add(DoctorJudgement.certificate(name, daysLeft: certificate.daysLeft))
        }
    }

    private mutating func checkFolders(_ settings: GatewaySettings) {
        if let log = settings.accessLog, log.path != "-" {
            let folder = Self.folder(of: log.path)
            var status = stat()
            let exists = stat(log.path, &status) == 0
            if exists, access(log.path, W_OK) != 0 {
                cannotWrite(log.path, "access_log.path")
            } else if !exists, access(folder, W_OK | X_OK) != 0 {
                cannotWrite(folder, "access_log.path")
            } else if !exists || status.st_mode & mode_t(S_IFMT) == mode_t(S_IFREG) {
                checkRoom(folder)
            }
        }
        if let log = settings.eventLog { checkEventFolder(log.directory) }
        for address in settings.listen.map(\.address) + [settings.admin.listen].compactMap({ $0 }) {
            guard let path = address.unixPath else { continue }
            let folder = Self.folder(of: path)
            if access(folder, W_OK | X_OK) != 0 {
                cannotWrite(folder, address.text)
            } else {
                add(DoctorFinding(.folder, .ok, folder, "writable, for \(address.text)"))
            }
        }
    }

    /// The event log's folder, or where it is to be made.
    private mutating func checkEventFolder(_ path: String) {
        var status = stat()
        let exists = stat(path, &status) == 0
        let folder = exists ? path : Self.folder(of: path)
        if access(folder, W_OK | X_OK) != 0 {
            cannotWrite(folder, "event_log.directory")
        } else {
            checkRoom(folder)
        }
    }

    private mutating func checkRoom(_ folder: String) {
        var disk = statvfs()
        guard statvfs(folder, &disk) == 0 else { return }
        let unit = UInt64(disk.f_frsize)
        add(
            DoctorJudgement.room(
                folder, free: UInt64(disk.f_bavail) * unit, total: UInt64(disk.f_blocks) * unit))
    }

    private mutating func cannotWrite(_ path: String, _ what: String) {
        add(
            DoctorFinding(
                .folder, .problem, path, "\(SystemError.text(lastErrno)) (for \(what))",
                remedy: "make it, and give it to the user that the gateway runs as "
                    + "(this was tried as user \(geteuid()))"))
    }

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    // MARK: Ports

    private mutating func checkPorts(_ settings: GatewaySettings) {
        let runs = settings.admin.listen.map(Self.isGateway)
        for address in settings.listen.map(\.address) + [settings.admin.listen].compactMap({ $0 }) {
            checkPort(address, runs)
        }
    }

    /// `runs`: whether a gateway of this configuration does; nil where nobody can say.
    private mutating func checkPort(_ address: SocketAddress, _ runs: Bool?) {
        if address.isUnix {
            // Binding would leave a file behind: whoever listens there answers a connect.
            switch Socket.connect(to: address) {
            case .connected(let fd), .inProgress(let fd):
                close(fd)
                taken(address, runs)
            case .failed: add(DoctorFinding(.port, .ok, address.text, "free"))
            }
            return
        }
        do throws(SystemError) {
            close(try Socket.listen(on: address, sharesPort: false))
            add(DoctorFinding(.port, .ok, address.text, "free"))
        } catch {
            switch error.code {
            case EADDRINUSE: taken(address, runs)
            case EACCES:
                add(
                    DoctorFinding(
                        .port, .problem, address.text, "no right to listen on a port below 1024",
                        remedy: "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"))
            case EADDRNOTAVAIL:
                add(
                    DoctorFinding(
                        .port, .problem, address.text, "no address of this machine",
                        remedy: "ip address shows those that there are; 0.0.0.0 and [::] are all"))
            default:
                add(
                    DoctorFinding(
                        .port, .problem, address.text, SystemError.text(error.code),
                        remedy: "listen elsewhere"))
            }
        }
    }

    private mutating func taken(_ address: SocketAddress, _ runs: Bool?) {
        if runs == true {
            add(DoctorFinding(.port, .ok, address.text, "served by a gateway that runs"))
            return
        }
        let how =
            address.port.map { "ss -ltnp 'sport = :\($0)' shows whose it is" }
            ?? "ss -lxp shows whose it is"
        add(
            runs == nil
                ? DoctorFinding(
                    .port, .warning, address.text,
                    "somebody listens there: this gateway or another process (admin is off)",
                    remedy: how)
                : DoctorFinding(
                    .port, .problem, address.text, "another process listens there", remedy: how))
    }

    /// Whether a gateway's admin listener answers there; its probe page takes no token.
    private static func isGateway(_ address: SocketAddress) -> Bool {
        let answer = try? StatusClient.get(address, "/readyz", token: nil)
        return answer?.body.contains("\"workers\"") ?? false
    }

    private mutating func checkToken(_ settings: GatewaySettings) {
        guard let name = settings.admin.tokenVariable else { return }
        let isSet = getenv(name).map { strlen($0) > 0 } ?? false
        add(
            isSet
                ? DoctorFinding(.token, .ok, name, "set")
                : DoctorFinding(
                    .token, .warning, name, "not set here: a gateway would not start",
                    remedy: "EnvironmentFile= in the unit, readable by its user alone"))
    }

    // MARK: The machine

    private mutating func checkLimits(_ settings: GatewaySettings) {
        let cpus = ProcessControl.affinity().count
        let workers = settings.runtime.workers ?? cpus
        let connections = settings.runtime.connectionsPerWorker
        // As the gateway does at its start, and with its rights.
        let limit = ProcessControl.raiseFileLimit(
            to: ProxyLimits.descriptors(connections: connections))
        add(DoctorJudgement.fileLimit(limit, connections: connections))
        if let number = Self.number(in: "/proc/sys/net/core/somaxconn") {
            add(DoctorJudgement.backlog(Int(clamping: number)))
        }
        add(DoctorJudgement.workers(workers, cpus: cpus))
        let machine = UInt64(sysconf(Int32(_SC_PHYS_PAGES))) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
        let group = Self.number(in: "/sys/fs/cgroup/memory.max") ?? .max
        add(
            DoctorJudgement.memory(
                settings.runtime, workers: workers, hasShadows: !settings.shadows.isEmpty,
                bytes: min(machine, group)))
    }

    /// The number that a file of the kernel's holds; nil where it holds none.
    private static func number(in path: String) -> UInt64? {
        let fd = umbra_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(fd, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return UInt64(
            String(decoding: bytes[..<count].filter { $0 >= 0x30 && $0 <= 0x39 }, as: UTF8.self))
    }

    private mutating func checkClock() {
        let state = umbra_clock_state()
        add(
            DoctorJudgement.clock(
                wallMs: WallClock.milliseconds(), isSynchronised: state < 0 ? nil : state == 1))
    }
}
