import CoreLoop
import Proxy
import TLS

/// What the doctor makes of figures: pure, the reading of them is `Doctor`'s.
enum DoctorJudgement {
    /// The limit of open files that a process gets, against what its connections may take.
    static func fileLimit(_ limit: Int, connections: Int) -> DoctorFinding {
        let wanted = ProxyLimits.descriptors(connections: connections)
        guard limit < wanted else {
            return DoctorFinding(
                .limit, .ok, "nofile", "\(limit), enough for the \(wanted) that a worker may take")
        }
        // One for a client and one for its upstream.
        let served = max(0, limit - 256) / 2
        let isFarOff = served < connections / 4
        return DoctorFinding(
            .limit, isFarOff ? .problem : .warning, "nofile",
            "\(limit) is enough for some \(served) busy connections a worker; "
                + "runtime.connections_per_worker is \(connections)",
            remedy: "LimitNOFILE=\(wanted) in the unit (ulimit -n \(wanted) in a shell), or a "
                + "lower runtime.connections_per_worker")
    }

    /// Waiting connections that the kernel keeps, against those that are asked for.
    static func backlog(_ kernelMax: Int) -> DoctorFinding {
        let wanted = Limits.listenBacklog
        guard kernelMax < wanted else {
            return DoctorFinding(.limit, .ok, "somaxconn", "\(kernelMax)")
        }
        return DoctorFinding(
            .limit, .warning, "somaxconn",
            "\(kernelMax) connections may wait to be accepted, \(wanted) are asked for: in a burst "
                + "further ones are dropped",
            remedy: "sysctl -w net.core.somaxconn=\(wanted)")
    }

    /// Worker processes against the CPUs that they may use.
    static func workers(_ workers: Int, cpus: Int) -> DoctorFinding {
        guard workers > cpus else {
            return DoctorFinding(.limit, .ok, "cpus", "\(workers) workers on \(cpus) CPUs")
        }
        return DoctorFinding(
            .limit, .warning, "cpus", "\(workers) workers share \(cpus) CPUs",
            remedy: "runtime.workers: auto, or \(cpus)")
    }

    /// The memory that all pools hold where they are full, against what there is.
    static func memory(_ runtime: RuntimeSettings, workers: Int, hasShadows: Bool, bytes: UInt64)
        -> DoctorFinding
    {
        let pools = UInt64(workers) * UInt64(runtime.blocksPerWorker * runtime.blockBytes)
        let shadows =
            hasShadows ? UInt64(runtime.shadows) * UInt64(runtime.shadowMemoryBytes) : 0
        let most = mebibytes(pools + shadows)
        let text = "\(most) at most for blocks and shadow processes, of \(mebibytes(bytes))"
        guard pools + shadows > bytes else { return DoctorFinding(.limit, .ok, "memory", text) }
        return DoctorFinding(
            .limit, .warning, "memory", text,
            remedy: "lower runtime.blocks_per_worker, runtime.workers or runtime.shadow_memory")
    }

    private static func mebibytes(_ bytes: UInt64) -> String { "\(bytes >> 20) MiB" }

    /// Room on the disk that the access log is written to.
    static func room(_ folder: String, free: UInt64, total: UInt64) -> DoctorFinding {
        let percent = total == 0 ? 0 : free * 100 / total
        let text = "writable, \(mebibytes(free)) free (\(percent) %)"
        guard free < AdminLimits.freeBytesMin || percent < 5 else {
            return DoctorFinding(.folder, .ok, folder, text)
        }
        return DoctorFinding(
            .folder, .warning, folder, text + ": lines will be lost once it is full",
            remedy: "make room, or rotate the access log more often (docs/operations.md)")
    }

    /// Days that a certificate is still valid.
    static func certificate(_ subject: String, daysLeft: Int?) -> DoctorFinding {
        guard let days = daysLeft else {
            return DoctorFinding(
                .certificate, .warning, subject, "its end cannot be read",
                remedy: "openssl x509 -noout -enddate says what it holds")
        }
        if days < 0 {
            return DoctorFinding(
                .certificate, .problem, subject, "has ended", remedy: "renew it, then reload")
        }
        guard days < TLSLimits.expiryWarningDays else {
            return DoctorFinding(.certificate, .ok, subject, "\(days) days left")
        }
        return DoctorFinding(
            .certificate, .warning, subject, "\(days) days left", remedy: "renew it, then reload")
    }

    /// The wall clock, and whether the kernel takes it for synchronised; nil where it does not say.
    static func clock(wallMs: UInt64, isSynchronised: Bool?) -> DoctorFinding {
        let time = TimeText.utc(wallMs)
        let remedy = "timedatectl set-ntp true, or another time service"
        // Before this was written, or so late that something is broken.
        guard (1_767_225_600_000...4_102_444_800_000).contains(wallMs) else {
            return DoctorFinding(
                .clock, .problem, "time", "\(time) cannot be: certificates will be refused",
                remedy: remedy)
        }
        switch isSynchronised {
        case true: return DoctorFinding(.clock, .ok, "time", "\(time), synchronised")
        case false:
            return DoctorFinding(
                .clock, .warning, "time", "\(time), not synchronised by a time service",
                remedy: remedy)
        default:
            return DoctorFinding(
                .clock, .ok, "time", "\(time); the kernel does not say whether it is synchronised")
        }
    }

    /// An endpoint that was reached, or was not.
    static func target(
        _ subject: String, _ outcome: DoctorProbe.Outcome, connectTimeoutMs: Int
    ) -> DoctorFinding {
        switch outcome {
        case .reached(let address, let connectNs, let tls):
            let text =
                "reached at \(address) in \(milliseconds(connectNs)) ms"
                + (tls.map { ", \($0.version) handshake in \(milliseconds($0.ns)) ms" } ?? "")
            guard connectNs > UInt64(connectTimeoutMs) * 500_000 else {
                return DoctorFinding(.target, .ok, subject, text)
            }
            return DoctorFinding(
                .target, .warning, subject,
                text + ": more than half of limits.connect_timeout",
                remedy: "look at the way there, or raise limits.connect_timeout")
        case .refused(let address, let why):
            return DoctorFinding(
                .target, .problem, subject, "\(address): \(why)",
                remedy: "see that it runs and listens there, and that no firewall is between")
        case .insecure(let address, let why):
            return DoctorFinding(
                .target, .problem, subject, "\(address): TLS: \(why)",
                remedy: "see tls.ca and tls.server_name; openssl s_client -connect \(address) "
                    + "shows what it presents")
        case .unresolved(let why):
            return DoctorFinding(
                .target, .problem, subject, why,
                remedy: "see the name, and resolv.conf or resolver.nameserver")
        }
    }

    private static func milliseconds(_ ns: UInt64) -> String {
        let tenths = (ns + 50_000) / 100_000
        return "\(tenths / 10).\(tenths % 10)"
    }
}
