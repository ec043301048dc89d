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
    }

    private var listeners: [Listener] = []
    private var admins: [(address: SocketAddress, fd: Int32)] = []

    /// Opens what is not open yet. Throws, having said which, where an address cannot be had;
    /// then nothing has changed.
    func plan(
        _ addresses: [SocketAddress], admin: SocketAddress?, workers: Int
    ) throws(SystemError) -> ListenPlan {
        let before = allSockets
        do throws(SystemError) {
            return try open(addresses, admin: admin, workers: workers)
        } catch {
            closeAll(but: before)
            throw error
        }
    }

    private func open(
        _ addresses: [SocketAddress], admin: SocketAddress?, workers: Int
    ) throws(SystemError) -> ListenPlan {
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

    private func addSocket(to place: Int, of sets: Int) throws(SystemError) {
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
        } catch {
            Console.log(
                .error, "cannot listen on \(address.text): \(SystemError.text(error.code))")
            throw error
        }
    }

    /// Whether we listen on this port ourselves, maybe on another of the machine's addresses.
    private func holdsPort(of address: SocketAddress) -> Bool {
        listeners.contains { !$0.sockets.isEmpty && $0.address.port == address.port }
    }

    private func openAdmin(_ address: SocketAddress) throws(SystemError) -> Int32 {
        if let known = admins.first(where: { $0.address == address }) { return known.fd }
        do throws(SystemError) {
            let fd = try Socket.listen(on: address, sharesPort: false)
            admins.append((address, fd))
            return fd
        } catch {
            Console.log(
                .error, "cannot listen on admin \(address.text): \(SystemError.text(error.code))")
            throw error
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

    private func closeAll(but kept: Set<Int32>) {
        for fd in allSockets.subtracting(kept) { close(fd) }
        for place in listeners.indices { listeners[place].sockets.removeAll { !kept.contains($0) } }
        listeners.removeAll { $0.sockets.isEmpty }
        admins.removeAll { !kept.contains($0.fd) }
    }
}
