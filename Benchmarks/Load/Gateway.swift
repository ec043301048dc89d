public import CoreLoop
import Glibc

/// A running `umbra gateway`, with its configuration in a directory of its own.
public final class Gateway: @unchecked Sendable {
    public struct Fault: Error, CustomStringConvertible {
        public let description: String
        public init(_ description: String) { self.description = description }
    }

    public let listen: SocketAddress
    public let admin: SocketAddress
    public let logFile: String
    private let process: ChildProcess
    private let directory: String

    /// How long it may take until it is ready.
    static let readyMs = 15_000

    /// Writes `configuration`, starts `umbra gateway run --policy-config` and waits until it is
    /// ready.
    public init(
        umbra: String, name: String, configuration: String, listen: SocketAddress, admin: SocketAddress,
        cpus: [Int], directory: String
    ) throws(Fault) {
        self.listen = listen
        self.admin = admin
        self.directory = directory
        let file = "\(directory)/\(name).yaml"
        logFile = "\(directory)/\(name).log"
        do throws(SystemError) {
            try Standard.writeFile(file, configuration)
            process = try ChildProcess(
                umbra, ["gateway", "run", "--policy-config", file], cpus: cpus, logFile: logFile)
        } catch {
            throw Fault("\(name): \(error)")
        }
        Cleanup.add { [process] in process.terminate() }
        let deadline = Instant.now().adding(ms: Self.readyMs)
        while true {
            if let ready = try? Scrape.get(admin, "/readyz", timeoutMs: 500), ready.status == 200 { return }
            if let end = process.end { throw Fault("\(name) ended at its start (\(end)):\n\(logTail())") }
            if Instant.now() > deadline {
                process.terminate()
                throw Fault("\(name) was not ready within \(Self.readyMs / 1_000) s:\n\(logTail())")
            }
            usleep(20_000)
        }
    }

    /// The last lines it wrote.
    public func logTail() -> String {
        let text = String(decoding: Standard.readFile(logFile) ?? [], as: UTF8.self)
        return text.split(separator: "\n").suffix(20).joined(separator: "\n")
    }

    public var tree: ProcessTree { ProcessTree(root: process.pid) }
    public var isRunning: Bool { process.isRunning }
    public var end: String? { process.end }

    public func metrics() throws(Scrape.Fault) -> Metrics { try Metrics.fetch(admin) }

    public func terminate() { process.terminate() }

    /// What is wrong with who listens where; nil where all is well.
    public func listenerFault() -> String? {
        let owners = tree.pids
        for address in [listen, admin] {
            if let port = address.port, let fault = Listeners.fault(port: port, owners: owners) { return fault }
        }
        return nil
    }
}
