import CLinux
import CoreLoop

/// The sockets that one generation is to serve.
struct ListenPlan {
    /// Where clients connect: as configured, but for ports that the kernel chose.
    var addresses: [SocketAddress]
    /// `sets[n][place]`: one socket of each address in each set. At least one set a worker; after
    /// a reload with fewer workers there are more, which the living ones serve.
    var sets: [[Int32]]
    /// The admin listener; -1 for none.
    var admin: Int32

    var text: String { addresses.map(\.text).joined(separator: ", ") }
}

/// Why a configuration cannot be served.
struct StartFault: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }

    init(_ error: SystemError) { description = "\(error)" }
}

/// The listening sockets: the supervisor's, so that connections that wait in a dead worker's queue
/// are served by its next life, and a reload finds them open.
final class ListenSockets {
    private struct Listener {
        /// As the configuration has it.
        let configured: SocketAddress
        /// The same, but for a port that the kernel chose.
        var address: SocketAddress
        /// One a set.
        var sockets: [Int32] = []
        var file: SocketFile?
    }

    private var listeners: [Listener] = []
    private var admins: [(address: SocketAddress, fd: Int32, file: SocketFile?)] = []

    /// Opens what is not open yet. Throws where an address cannot be had; then nothing has changed.
    func plan(
        _ addresses: [SocketAddress], admin: SocketAddress?, workers: Int
    ) throws(StartFault) -> ListenPlan {
        let before = allSockets
        do throws(StartFault) {
            return try open(addresses, admin: admin, workers: workers)
        } catch {
            closeAll(but: before)
            throw error
        }
    }

    private func open(
        _ addresses: [SocketAddress], admin: SocketAddress?, workers: Int
    ) throws(StartFault) -> ListenPlan {
        let sets = max(workers, listeners.map(\.sockets.count).max() ?? 0)
        var actual: [SocketAddress] = []
        var columns: [[Int32]] = []
        for address in addresses {
            var place = listeners.firstIndex { $0.configured == address }
            if place == nil {
                listeners.append(Listener(configured: address, address: address))
                place = listeners.count - 1
            }
            while listeners[place!].sockets.count < sets { try addSocket(to: place!, of: sets) }
            actual.append(listeners[place!].address)
            columns.append(listeners[place!].sockets)
        }
        var adminFD: Int32 = -1
        if let admin { adminFD = try openAdmin(admin) }
        return ListenPlan(
            addresses: actual, sets: (0..<sets).map { set in columns.map { $0[set] } },
            admin: adminFD)
    }

    private func addSocket(to place: Int, of sets: Int) throws(StartFault) {
        let address = listeners[place].address
        // One path, one socket: all workers accept from it.
        if address.isUnix, let first = listeners[place].sockets.first {
            listeners[place].sockets.append(first)
            return
        }
        do throws(SystemError) {
            if listeners[place].sockets.isEmpty, address.port ?? 0 != 0, !holdsPort(of: address) {
                // A shared port would let a second gateway of the same user take half of the
                // connections without a word.
                close(try Socket.listen(on: address, sharesPort: false))
            }
            // Shared by one worker, too: a reload may bring more.
            let fd = try Socket.listen(on: address, sharesPort: true)
            // Port 0: the kernel chose; the other workers bind the same.
            if listeners[place].sockets.isEmpty, address.port == 0 {
                listeners[place].address = try Socket.localAddress(fd)
            }
            listeners[place].sockets.append(fd)
            listeners[place].file = SocketFile(address)
        } catch {
            throw StartFault(
                "cannot listen on \(address.text): \(SystemError.text(error.code))")
        }
    }

    /// Whether we listen on this port ourselves, maybe on another of the machine's addresses.
    private func holdsPort(of address: SocketAddress) -> Bool {
        listeners.contains { !$0.sockets.isEmpty && $0.address.port == address.port }
    }

    private func openAdmin(_ address: SocketAddress) throws(StartFault) -> Int32 {
        if let known = admins.first(where: { $0.address == address }) { return known.fd }
        do throws(SystemError) {
            let fd = try Socket.listen(on: address, sharesPort: false)
            admins.append((address, fd, SocketFile(address)))
            return fd
        } catch {
            throw StartFault(
                "cannot listen on admin \(address.text): \(SystemError.text(error.code))")
        }
    }

    private var allSockets: Set<Int32> {
        Set(listeners.flatMap(\.sockets)).union(admins.map(\.fd))
    }

    /// Closes every socket that `plan` does not have: whoever connects there from now on is
    /// refused, once the workers have closed theirs.
    func keepOnly(_ plan: ListenPlan) {
        closeAll(but: Set(plan.sets.joined()).union([plan.admin]))
    }

    /// Closes the clients' sockets; the admin listener stays until the gateway has ended.
    func closeForClients() { closeAll(but: Set(admins.map(\.fd))) }

    /// Closes all, at the gateway's end.
    func closeAll() { closeAll(but: []) }

    private func closeAll(but kept: Set<Int32>) {
        for fd in allSockets.subtracting(kept) { close(fd) }
        for listener in listeners where listener.sockets.allSatisfy({ !kept.contains($0) }) {
            listener.file?.remove()
        }
        for admin in admins where !kept.contains(admin.fd) { admin.file?.remove() }
        for place in listeners.indices { listeners[place].sockets.removeAll { !kept.contains($0) } }
        listeners.removeAll { $0.sockets.isEmpty }
        admins.removeAll { !kept.contains($0.fd) }
    }
}

/// The file of a Unix socket that we have made: removed with it, unless another has taken its
/// place.
private struct SocketFile {
    private let path: String
    private let device: dev_t
    private let inode: ino_t

    /// Nil for an address that is no path.
    init?(_ address: SocketAddress) {
        var status = stat()
        guard let path = address.unixPath, lstat(path, &status) == 0 else { return nil }
        self.path = path
        device = status.st_dev
        inode = status.st_ino
    }

    func remove() {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode else {
            return
        }
        unlink(path)
    }
}
