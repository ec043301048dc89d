import CLinux
import Configuration
import CoreLoop
import Proxy
import TLS
import Upstream

/// Everything a role needs to know that is no shared memory: passed in a memfd, so that every
/// process reads the same configuration, whatever happens to the file meanwhile.
///
/// Form: one line `workers N`, one line `log LEVEL`, one line `listen ADDRESS` for each address
/// that a command's option puts in the place of the document's, one line `endpoint TARGET INDEX
/// ADDRESS …` for each endpoint with a name, an empty line, the YAML document.
struct Launch {
    var settings: GatewaySettings
    var workers: Int
    let document: [UInt8]
    /// What stands in the place of the document's `listen`.
    var listen: [SocketAddress]?
    /// The certificates and keys that the document names. Not on the page: see `Secrets`.
    var keyFiles = KeyFiles()

    var shape: Board.Shape { Board.Shape(settings: settings, workers: workers) }

    /// The shadow process that worker number `worker` lends its requests to.
    func shadowProcess(ofWorker worker: Int) -> Int { worker % max(1, settings.runtime.shadows) }

    /// Writes the page into a new memfd.
    func write() throws(SystemError) -> Int32 {
        var text = "workers \(workers)\nlog \(settings.log.level.name)\n"
        for address in listen ?? [] { text += "listen \(address.text)\n" }
        for (index, target) in settings.targets.enumerated() {
            for (place, endpoint) in target.endpoints.enumerated() where endpoint.isNamed {
                let list = endpoint.addresses.map { " " + $0.text }.joined()
                text += "endpoint \(index) \(place)\(list)\n"
            }
        }
        let bytes = Array((text + "\n").utf8) + document
        let fd = try check(memfd_create("umbra-launch", UMBRA_MFD_CLOEXEC), "memfd_create")
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                CLinux.write(fd, $0.baseAddress! + start, bytes.count - start)
            }
            if count < 0 { throw SystemError("write(memfd)") }
            start += count
        }
        return fd
    }

    /// Reads the page that the supervisor wrote. Traps on anything else: only the supervisor starts
    /// a role.
    static func read(_ fd: Int32) -> Launch {
        var status = stat()
        precondition(fstat(fd, &status) == 0, "a role needs its launch page")
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        let count = bytes.withUnsafeMutableBytes { pread(fd, $0.baseAddress, $0.count, 0) }
        precondition(count == bytes.count, "the launch page is cut off")
        var found: [(target: Int, endpoint: Int, addresses: [SocketAddress])] = []
        var workers = 1
        var level = LogLevel.info
        var listen: [SocketAddress] = []
        var start = 0
        while let end = bytes[start...].firstIndex(of: 0x0A) {
            let line = String(decoding: bytes[start..<end], as: UTF8.self)
            start = end + 1
            if line.isEmpty { break }
            let words = line.split(separator: " ")
            if words[0] == "workers" { workers = Int(words[1])! }
            if words[0] == "log" { level = LogLevel(name: String(words[1]))! }
            if words[0] == "listen" { listen.append(SocketAddress(String(words[1]))!) }
            if words[0] == "endpoint" {
                let addresses = words.dropFirst(3).compactMap { SocketAddress(String($0)) }
                found.append((Int(words[1])!, Int(words[2])!, addresses))
            }
        }
        let document = Array(bytes[start...])
        let override = listen.isEmpty ? nil : listen
        let result = ConfigurationReader.read(
            text: document, file: "launch page", listen: override)
        var settings = result.settings!
        // A command's option goes before the document.
        settings.log.level = level
        for (target, endpoint, addresses) in found {
            settings.targets[target].endpoints[endpoint].addresses = addresses
        }
        return Launch(settings: settings, workers: workers, document: document, listen: override)
    }
}

/// The descriptors that a role is started with: fixed numbers, laid out by the supervisor.
enum RoleFD {
    static let launch: Int32 = 3
    static let board: Int32 = 4
    /// The role's own door: an eventfd.
    static let wake: Int32 = 5
    // A worker's:
    static let blocks: Int32 = 6
    static let link: Int32 = 7
    /// The eventfd of the worker's shadow process.
    static let shadowWake: Int32 = 8
    /// The page of ticket keys, read-only.
    static let ticketKeys: Int32 = 10
    static let firstListener: Int32 = 16
    /// The rings of the event log, and the door of its process.
    static let eventRings: Int32 = 11
    static let eventsWake: Int32 = 12
    /// In the events process: the rings of former generations, one after the other.
    static let formerRings: Int32 = 16
    // A worker's, a shadow process's and the health process's:
    /// The certificates and keys that it needs.
    static let secrets: Int32 = 9
    // A shadow process's: for each of its workers a pair (blocks, read-only; link), then the cap of
    // each shadow.
    static let firstPair: Int32 = 16
    // The admin process's:
    static let adminListener: Int32 = 6
    /// The mailbox to the supervisor, and the eventfd to knock with. `wake` is for its answers.
    static let control: Int32 = 7
    static let controlBell: Int32 = 8
}
