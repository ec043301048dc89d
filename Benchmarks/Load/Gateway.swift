public import CoreLoop
import Glibc

/// A running `umbra gateway`, with its configuration in a directory of its own.
public final class Gateway: @unchecked Sendable {
    /// A gateway that could not be started, and what it wrote.
    public struct Fault: Error, CustomStringConvertible {
        /// The sentence that the tool prints.
        public let description: String
        /// A fault with its sentence.
        public init(_ description: String) { self.description = description }
    }

    /// Where clients connect.
    public let listen: SocketAddress
    /// Where metrics and health are.
    public let admin: SocketAddress
    /// What it writes to standard output and error.
    public let logFile: String
    private let process: ChildProcess
    private let directory: String

    /// How long it may take until it is ready.
    static let readyMs = 15_000
    /// How long to wait for shadow processes, which a gateway can do without.
    private static let shadowsMs = 5_000
    /// From the start of a shadow process to its first copy.
    private static let attachMs: UInt32 = 300

    /// Writes `configuration`, starts `umbra gateway run --policy-config`, waits until it is ready.
    public init(
        umbra: String, name: String, configuration: String, listen: SocketAddress,
        admin: SocketAddress,
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
            if let ready = try? Scrape.get(admin, "/readyz", timeoutMs: 500), ready.status == 200 {
                break
            }
            if let end = process.end {
                throw Fault("\(name) ended at its start (\(end)):\n\(logTail())")
            }
            if Instant.now() > deadline {
                process.terminate()
                throw Fault("\(name) was not ready within \(Self.readyMs / 1_000) s:\n\(logTail())")
            }
            usleep(20_000)
        }
        awaitShadows()
    }

    /// A gateway is ready for users before its shadow processes are attached, and copies of that
    /// time are dropped. Waits for them; one that does not come up shows in the counters.
    private func awaitShadows() {
        let deadline = Instant.now().adding(ms: Self.shadowsMs)
        while Instant.now() < deadline, isRunning {
            if let metrics = try? Metrics.fetch(admin) {
                let shadows = metrics.select("umbra_process_up", ["role": "shadow"])
                if shadows.allSatisfy({ $0.value == 1 }) { break }
            }
            usleep(20_000)
        }
        // A process is up when it has started; it attaches within some milliseconds.
        usleep(Self.attachMs * 1_000)
    }

    /// The last lines it wrote.
    public func logTail() -> String {
        let text = String(decoding: Standard.readFile(logFile) ?? [], as: UTF8.self)
        return text.split(separator: "\n").suffix(20).joined(separator: "\n")
    }

    /// All its processes, as they are now.
    public var tree: ProcessTree { ProcessTree(root: process.pid) }
    /// Whether its first process, the supervisor, still runs.
    public var isRunning: Bool { process.isRunning }
    /// How it ended, in words; nil while it runs.
    public var end: String? { process.end }

    /// Its metrics now. Throws `Scrape.Fault`.
    public func metrics() throws(Scrape.Fault) -> Metrics { try Metrics.fetch(admin) }

    /// SIGTERM, and SIGKILL to what is left after some seconds. Waits for its end.
    public func terminate() { process.terminate() }

    /// What is wrong with who listens where; nil where all is well.
    public func listenerFault() -> String? {
        let owners = tree.pids
        for address in [listen, admin] {
            if let port = address.port, let fault = Listeners.fault(port: port, owners: owners) {
                return fault
            }
        }
        return nil
    }
}
