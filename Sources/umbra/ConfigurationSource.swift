import CLinux
import Configuration
import CoreLoop
import EventLog
import Proxy
import Synchronization
import TLS
import Upstream

/// Where the configuration comes from: read at start, and again with each reload.
struct ConfigurationSource: Sendable {
    let file: String
    /// A command's option in the place of the file's `listen`.
    let listen: [SocketAddress]?
    /// A command's option in the place of the file's `log.level`.
    let logLevel: LogLevel?

    /// A configuration that can be served, or why there is none.
    enum Outcome: Sendable {
        case read(Launch, [Diagnostic])
        case refused([Diagnostic])
        /// What the file asks for cannot be had.
        case unusable(String, GatewayLogSettings)
    }

    /// Reads and checks the file and all that it names. Blocks for as long as look-ups take: at a
    /// reload those of names that were not `known` before.
    func load(known: KnownAddresses? = nil) -> Outcome {
        let result = ConfigurationReader.readFile(file, listen: listen)
        guard var settings = result.settings else { return .refused(result.diagnostics) }
        if let logLevel { settings.log.level = logLevel }
        known?.fill(&settings.targets)
        let unresolved = ConfigurationReader.resolveTargets(&settings)
        let findings = result.diagnostics + unresolved
        guard settings.targets.contains(where: { !$0.addresses.isEmpty }) else {
            // No target has an address: the findings say why.
            return .refused(findings)
        }
        let faults = [Self.accessLogFault, Self.eventLogFault, Self.tokenFault]
        if let reason = faults.lazy.compactMap({ $0(settings) }).first {
            return .unusable(reason, settings.log)
        }
        let workers = settings.runtime.workers ?? ProcessControl.affinity().count
        return .read(
            Launch(
                settings: settings, workers: workers, document: result.document, listen: listen,
                keyFiles: result.keyFiles), findings)
    }
}

extension ConfigurationSource {
    /// Why the access log cannot be opened: later that would only be a line in the gateway's log. A
    /// pipe that nobody reads yet counts as one that can.
    private static func accessLogFault(_ settings: GatewaySettings) -> String? {
        guard let path = settings.accessLog?.path, path != "-" else { return nil }
        let fd = AccessLog.open(path)
        if fd >= 0 { close(fd) }
        guard fd < 0, lastErrno != ENXIO else { return nil }
        return "cannot open access_log.path \(path): \(SystemError.text(lastErrno))"
    }

    /// Why events cannot be written; their folder is made where it is missing.
    private static func eventLogFault(_ settings: GatewaySettings) -> String? {
        guard let path = settings.eventLog?.directory else { return nil }
        let isMade = mkdir(path, 0o750) == 0 || lastErrno == EEXIST
        if isMade, access(path, R_OK | W_OK | X_OK) == 0 { return nil }
        return "cannot write to event_log.directory \(path): \(SystemError.text(lastErrno))"
    }

    /// Why there is no token, where the configuration names one: the admin listener would ask for
    /// none.
    private static func tokenFault(_ settings: GatewaySettings) -> String? {
        guard settings.admin.listen != nil, let name = settings.admin.tokenVariable,
            getenv(name).map({ strlen($0) == 0 }) ?? true
        else { return nil }
        return "admin.token.env names \(name), which is not set"
    }
}

/// Reads a configuration on a thread of its own, so that the supervisor goes on to look after its
/// children while name servers let it wait.
final class ConfigurationLoad: @unchecked Sendable {
    private let source: ConfigurationSource
    private let known: KnownAddresses
    private let bell: Wake
    private let isDone = Atomic<Bool>(false)
    // Written by the thread before `isDone`, read by the supervisor after it.
    private var result: ConfigurationSource.Outcome?

    /// Starts to read. `known` is what the present generation has found; `bell` is rung when it is
    /// done.
    init(
        _ source: ConfigurationSource, known: KnownAddresses, bell: Wake
    ) throws(SystemError) {
        self.source = source
        self.known = known
        self.bell = bell
        let context = Unmanaged.passRetained(self)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<ConfigurationLoad>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        if code != 0 {
            context.release()
            throw SystemError("pthread_create", code: code)
        }
        pthread_detach(thread)
    }

    private func run() {
        result = source.load(known: known)
        isDone.store(true, ordering: .releasing)
        bell.signal()
    }

    /// What came of it; nil while it is under way.
    var outcome: ConfigurationSource.Outcome? {
        isDone.load(ordering: .acquiring) ? result : nil
    }
}
