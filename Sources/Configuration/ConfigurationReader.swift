import CLinux
public import CoreLoop
public import Proxy
public import TLS

/// What reading a configuration gave.
public struct ConfigurationResult: Sendable {
    /// As it was asked for; stands before each finding.
    public var file: String
    /// Nil where there is any error.
    public var settings: GatewaySettings?
    /// All findings, in the order of the text.
    public var diagnostics: [Diagnostic]
    /// The document's bytes, for whoever hands it on; empty where it could not be read.
    public var document: [UInt8] = []
    /// The bytes of the files that are named for TLS, where `readFile` read and checked them.
    public var keyFiles = KeyFiles()
    var keyFileUses: [KeyFileUse] = []

    /// What keeps the file from being used.
    public var errors: [Diagnostic] { diagnostics.filter { $0.severity == .error } }
    /// What does not.
    public var warnings: [Diagnostic] { diagnostics.filter { $0.severity == .warning } }
}

/// Reads a configuration: one YAML document to checked settings, with every fault that it has.
public enum ConfigurationReader {
    /// Where clients are expected without `listen`.
    public static let listenDefault = "127.0.0.1:41002"

    /// Reads a document. `file` is only named in the findings. No name is resolved and no file is
    /// touched. `listen` stands in the place of the document's, for a command's own option.
    public static func read(
        text: [UInt8], file: String, listen: [SocketAddress]? = nil
    ) -> ConfigurationResult {
        let findings = Findings()
        var settings: GatewaySettings?
        var files: [KeyFileUse] = []
        if let root = YAMLReader.read(text, findings: findings),
            let section = Section(root, path: "", schemaPath: "", findings: findings)
        {
            (settings, files) = document(section, listen: listen, findings)
        }
        return ConfigurationResult(
            file: file, settings: findings.hasErrors ? nil : settings,
            diagnostics: findings.sorted(), keyFileUses: files)
    }

    /// Reads a file of at most `ConfigurationLimits.documentBytesMax` bytes, and the certificates
    /// and keys that it names: relative to its own folder, checked as far as one can without a
    /// peer. Without `keyFiles` those are left alone: who only asks where a gateway is need not be
    /// able to read its keys.
    public static func readFile(
        _ path: String, listen: [SocketAddress]? = nil, keyFiles: Bool = true
    ) -> ConfigurationResult {
        do throws(FileFault) {
            let document = try bytes(of: path)
            var result = read(text: document, file: path, listen: listen)
            result.document = document
            if keyFiles { KeyFileChecks.run(&result) }
            return result
        } catch {
            return ConfigurationResult(
                file: path, settings: nil,
                diagnostics: [
                    Diagnostic(error.code, message: error.message, suggestion: error.suggestion)
                ])
        }
    }

    /// Reads where a file has the admin listener, and what it asks for: for who asks the gateway
    /// that runs, whom a fault elsewhere in the file must not keep from it. The settings are nil
    /// where the text is no YAML or `admin` has errors; the findings then say which.
    public static func readAdmin(_ path: String) -> (settings: AdminSettings?, [Diagnostic]) {
        do throws(FileFault) {
            let findings = Findings()
            guard let root = YAMLReader.read(try bytes(of: path), findings: findings),
                let section = Section(root, path: "", schemaPath: "", findings: findings)
            else { return (nil, findings.sorted()) }
            let settings = GatewayBlocks.admin(section, findings)
            let faults = findings.sorted().filter {
                $0.severity == .error && ($0.path == "admin" || $0.path.hasPrefix("admin."))
            }
            return (faults.isEmpty ? settings : nil, faults)
        } catch {
            return (nil, [Diagnostic(error.code, message: error.message)])
        }
    }

    private struct FileFault: Error {
        let code: DiagnosticCode
        let message: String
        var suggestion: String?
    }

    private static func bytes(of path: String) throws(FileFault) -> [UInt8] {
        let descriptor = umbra_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard descriptor >= 0 else {
            let code = lastErrno
            throw FileFault(
                code: .unreadable, message: "cannot open it: \(SystemError.text(code))",
                suggestion: code == ENOENT ? "give the path of a YAML file" : nil)
        }
        defer { close(descriptor) }
        let max = ConfigurationLimits.documentBytesMax
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = chunk.withUnsafeMutableBytes {
                CLinux.read(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0, lastErrno == EINTR { continue }
            guard count >= 0 else {
                throw FileFault(
                    code: .unreadable, message: "cannot read it: \(SystemError.text(lastErrno))")
            }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            // Checked while reading: a pipe or a device has no size to ask for.
            guard bytes.count <= max else {
                throw FileFault(
                    code: .tooLarge,
                    message: "larger than \(SizeText.text(max)), which is the most that is read")
            }
        }
    }

    // MARK: The document

    private static func document(
        _ root: Section, listen: [SocketAddress]?, _ findings: Findings
    ) -> (GatewaySettings, [KeyFileUse]) {
        var settings = GatewaySettings()
        if root.has("version") { _ = root.choice("version") }
        let written = ListenBlock.read(root, findings)
        settings.listen = listen?.map { ListenerSettings($0) } ?? written.settings
        settings.admin = GatewayBlocks.admin(root, findings)
        settings.runtime = GatewayBlocks.runtime(root, findings)
        settings.limits = GatewayBlocks.limits(root)
        settings.forwarding = GatewayBlocks.forwarding(root, findings)
        settings.log = GatewayBlocks.log(root)
        settings.resolver = UpstreamBlock.resolver(root, findings)
        settings.accessLog = GatewayBlocks.accessLog(root, findings)
        let targets = TargetBlock.read(root, findings)
        settings.targets = targets.settings
        var files = (listen == nil ? written.files : []) + targets.files
        settings.auth = AuthBlock.read(root, &files, findings)
        let policies = PolicyBlock.read(root, findings)
        settings.pack = policies.pack
        settings.policies = policies.active
        settings.eventLog = GatewayBlocks.eventLog(
            root, policies.audit, hasProviders: settings.hasProviders, findings)
        let mirror = MirrorBlock.read(root, targets, findings)
        settings.mirrorEnabled = mirror.enabled
        settings.guardOverheadMax = mirror.guardOverheadMax
        settings.logsPrimaryResponse = mirror.logsPrimaryResponse
        settings.compareMetrics = mirror.compareMetrics
        settings.captureBytes = mirror.captureBytes
        settings.shadows = mirror.shadows.map(\.settings)
        settings.routes = RouteBlock.read(root, targets, mirror, findings)
        CrossChecks(
            root: root, settings: settings, targets: targets, mirror: mirror,
            findings: findings
        ).run()
        return (settings, files)
    }
}
