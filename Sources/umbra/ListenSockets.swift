import CLinux
import CoreLoop

/// The listening sockets: the supervisor's, so that connections that wait in a dead worker's queue
/// are served by its next life, and a reload finds them open.
final class ListenSockets {
    /// `sets[worker][address]`: one socket of each address for each worker.
    private(set) var sets: [[Int32]] = []
    /// Where clients connect: as configured, but for ports that the kernel chose.
    private(set) var addresses: [SocketAddress]
    private(set) var admin: Int32 = -1

    /// Opens one socket of each address for each of `workers`. Throws, having said which, where an
    /// address cannot be had.
    init(_ addresses: [SocketAddress], workers: Int) throws(SystemError) {
        self.addresses = addresses
        for worker in 0..<workers {
            var set: [Int32] = []
            for place in addresses.indices { set.append(try open(place, worker, of: workers)) }
            sets.append(set)
        }
    }

    private func open(_ place: Int, _ worker: Int, of workers: Int) throws(SystemError) -> Int32 {
        let address = addresses[place]
        // One path, one socket: all workers accept from it.
        if address.isUnix, worker > 0 { return sets[0][place] }
        do throws(SystemError) {
            if worker == 0, workers > 1, address.port ?? 0 != 0 {
                // A shared port would let a second gateway of the same user take half of the
                // connections without a word.
                close(try Socket.listen(on: address, sharesPort: false))
            }
            let fd = try Socket.listen(on: address, sharesPort: workers > 1)
            // Port 0: the kernel chose; the other workers bind the same.
            if worker == 0, address.port == 0 { addresses[place] = try Socket.localAddress(fd) }
            return fd
        } catch {
            Console.log(
                .error, "cannot listen on \(address.text): \(SystemError.text(error.code))")
            throw error
        }
    }

    /// Opens the admin listener. Throws, having said so, where the address cannot be had.
    func openAdmin(_ address: SocketAddress) throws(SystemError) {
        do throws(SystemError) {
            admin = try Socket.listen(on: address, sharesPort: false)
        } catch {
            Console.log(
                .error, "cannot listen on admin \(address.text): \(SystemError.text(error.code))")
            throw error
        }
    }

    /// Closes the clients' sockets: whoever connects from now on is refused, once the workers have
    /// closed theirs.
    func closeAll() {
        for fd in Set(sets.joined()) { close(fd) }
        sets = []
    }

    var text: String { addresses.map(\.text).joined(separator: ", ") }
}
