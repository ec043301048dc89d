import CLinux
import CoreLoop

@testable import Upstream

/// A DNS server on loopback, turned by hand: answers each question as the script says.
final class ScriptedDNS {
    /// Datagrams that are sent back for one question.
    var script: (DNSQuestion) -> [[UInt8]] = { _ in [] }
    /// What is answered over TCP.
    var streamScript: (DNSQuestion) -> [UInt8] = { _ in [] }
    private(set) var questions: [DNSQuestion] = []
    private(set) var streams = 0
    /// Ports that questions came from.
    private(set) var ports: Set<UInt16> = []
    let address: SocketAddress
    private let fd: Int32
    private let listener: Int32
    private var connections: [Int32] = []

    init() throws {
        // One port for both: TCP takes what UDP got, or another pair is tried.
        var pair: (Int32, Int32, SocketAddress)?
        for _ in 0..<64 where pair == nil {
            let listener = try Socket.listen(on: SocketAddress("127.0.0.1:0")!, sharesPort: false)
            let address = try Socket.localAddress(listener)
            let type = Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue)
            let fd = socket(AF_INET, type, 0)
            if address.withSockaddr({ bind(fd, $0, $1) }) == 0 {
                pair = (fd, listener, address)
            } else {
                close(fd)
                close(listener)
            }
        }
        guard let pair else { throw SystemError("bind", code: EADDRINUSE) }
        (fd, listener, address) = pair
    }

    deinit {
        close(fd)
        close(listener)
        for connection in connections { close(connection) }
    }

    var settings: ResolverSettings {
        var settings = ResolverSettings()
        settings.nameservers = [address]
        return settings
    }

    /// A script: this IPv4 address, and no IPv6 one.
    func address(_ bytes: [UInt8], ttl: UInt32 = 60) -> (DNSQuestion) -> [[UInt8]] {
        { question in
            var message = DNSMessage(to: question)
            if question.type == DNSAnswer.typeA { message.record(1, ttl: ttl, bytes) }
            return [message.bytes]
        }
    }

    /// The question of a message as it came.
    private static func question(_ bytes: [UInt8]) -> DNSQuestion {
        var labels: [String] = []
        var place = 12
        while bytes[place] > 0 {
            let end = place + 1 + Int(bytes[place])
            labels.append(String(decoding: bytes[(place + 1)..<end], as: UTF8.self))
            place = end
        }
        return DNSQuestion(
            labels.joined(separator: "."),
            type: UInt16(bytes[place + 1]) << 8 | UInt16(bytes[place + 2]),
            id: UInt16(bytes[0]) << 8 | UInt16(bytes[1]))!
    }

    func serve() {
        while true {
            var bytes = [UInt8](repeating: 0, count: 1_024)
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(fd, &bytes, bytes.count, 0, $0, &length)
                }
            }
            guard count > 0 else { break }
            let question = Self.question(Array(bytes[..<count]))
            questions.append(question)
            let peer = withUnsafePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    SocketAddress(copying: $0, length: length)
                }
            }
            ports.insert(peer.port!)
            for message in script(question) {
                _ = peer.withSockaddr { sendto(fd, message, message.count, 0, $0, $1) }
            }
        }
        serveStreams()
    }

    private func serveStreams() {
        var storage = sockaddr_storage()
        var length: socklen_t = 0
        while case .connection(let connection) = Socket.accept(listener, &storage, &length) {
            connections.append(connection)
        }
        for connection in connections {
            var bytes = [UInt8](repeating: 0, count: 1_024)
            let outcome = bytes.withUnsafeMutableBytes {
                Socket.receive(connection, $0.baseAddress!, $0.count)
            }
            guard case .bytes(let count) = outcome else { continue }
            streams += 1
            let answer = streamScript(Self.question(Array(bytes[2..<count])))
            let framed = [UInt8(answer.count >> 8), UInt8(answer.count & 0xFF)] + answer
            // In two parts, so that neither the length nor the message comes whole.
            for part in [framed.prefix(1), framed.dropFirst(1)] {
                _ = part.withUnsafeBytes { Socket.send(connection, $0.baseAddress!, $0.count) }
            }
        }
    }
}
