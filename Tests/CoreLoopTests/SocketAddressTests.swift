import CLinux
import CoreLoop
import Glibc
import Testing

@Suite struct SocketAddressTests {
    struct Row: CustomTestStringConvertible, Sendable {
        var text: String
        var family: Int32
        var host: String
        var port: UInt16?
        var loopback: Bool
        /// The text that comes back, where it is another.
        var canonical: String?
        var testDescription: String { text }
    }

    static let valid: [Row] = [
        Row(text: "127.0.0.1:80", family: AF_INET, host: "127.0.0.1", port: 80, loopback: true),
        Row(text: "127.255.1.2:0", family: AF_INET, host: "127.255.1.2", port: 0, loopback: true),
        Row(text: "0.0.0.0:65535", family: AF_INET, host: "0.0.0.0", port: 65_535, loopback: false),
        Row(text: "128.0.0.1:1", family: AF_INET, host: "128.0.0.1", port: 1, loopback: false),
        Row(text: "10.127.0.1:1", family: AF_INET, host: "10.127.0.1", port: 1, loopback: false),
        Row(text: "[::1]:8080", family: AF_INET6, host: "::1", port: 8_080, loopback: true),
        Row(text: "[::]:443", family: AF_INET6, host: "::", port: 443, loopback: false),
        Row(
            text: "[2001:DB8::0:1]:1", family: AF_INET6, host: "2001:db8::1", port: 1,
            loopback: false, canonical: "[2001:db8::1]:1"),
        Row(text: "[1::1]:1", family: AF_INET6, host: "1::1", port: 1, loopback: false),
        Row(
            text: "[::ffff:127.0.0.1]:1", family: AF_INET6, host: "::ffff:127.0.0.1", port: 1,
            loopback: false),
        Row(
            text: "127.0.0.1:00080", family: AF_INET, host: "127.0.0.1", port: 80,
            loopback: true, canonical: "127.0.0.1:80"),
        Row(text: "unix:/run/u.sock", family: AF_UNIX, host: "unix:/run/u.sock", loopback: true),
        Row(text: "unix:a", family: AF_UNIX, host: "unix:a", loopback: true),
        Row(
            text: "unix:" + String(repeating: "p", count: 107), family: AF_UNIX,
            host: "unix:" + String(repeating: "p", count: 107), loopback: true),
        Row(text: "unix:/tmp/ü:80", family: AF_UNIX, host: "unix:/tmp/ü:80", loopback: true),
    ]

    @Test(arguments: valid)
    func validTextIsReadAndComesBack(row: Row) throws {
        let address = try #require(SocketAddress(row.text))
        #expect(address.family == row.family)
        #expect(address.hostText == row.host)
        #expect(address.port == row.port)
        #expect(address.isLoopback == row.loopback)
        #expect(address.isUnix == (row.family == AF_UNIX))
        #expect(address.text == row.canonical ?? row.text)
        #expect(SocketAddress(address.text) == address)
        let copy = address.withSockaddr { SocketAddress(copying: $0, length: $1) }
        #expect(copy == address && copy.text == address.text)
        if let port = address.port {
            #expect(SocketAddress(host: row.host, port: port) == address)
        } else {
            #expect(address.unixPath == String(row.text.dropFirst(5)))
        }
    }

    static let invalid = [
        "", ":", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:+80", "127.0.0.1: 80", " 127.0.0.1:80", "127.0.0.1:80 ", "127.0.0.1:0x50",
        "127.0.0.1:99999999999999999999", "127.0.0.1:٨٠", "127.1:80", "127.0.0.256:80", "1.2.3:80",
        "01.2.3.4:80", "localhost:80", "example.com:80", "::1:80", "[::1]", "[::1]:", "[::1]80",
        "[127.0.0.1]:80", "[]:80", "[::1%lo]:80", "[[::1]]:80", "[::g]:80", "[::1:80", "::1]:80",
        "unix:", "unix", "UNIX:/a", "unix:" + String(repeating: "p", count: 108), "unix:a\0b",
        "127.0.0.1\0:80", "127.0.0.1\0.example:80", "[::1\0]:80", "[::1\0:2]:80",
    ]

    @Test(arguments: invalid)
    func otherTextIsNoAddress(text: String) {
        #expect(SocketAddress(text) == nil)
    }

    @Test(arguments: ["", "localhost", "[::1]", "127.0.0.1:80", "127.0.0.1\0x", "::1\0", "1"])
    func otherHostsAreNoAddress(host: String) {
        #expect(SocketAddress(host: host, port: 80) == nil)
    }

    @Test func differentAddressesDiffer() {
        let texts = Self.valid.map { $0.canonical ?? $0.text }
        let addresses = Set(texts).compactMap { SocketAddress($0) }
        for (i, left) in addresses.enumerated() {
            for (j, right) in addresses.enumerated() { #expect((left == right) == (i == j)) }
        }
        #expect(SocketAddress("127.0.0.1:80") != SocketAddress("127.0.0.1:81"))
        #expect(SocketAddress("unix:a") != SocketAddress("unix:ab"))
    }

    @Test func anAddressOfNoFamilyIsNotLoopback() {
        var unspecified = sockaddr()
        unspecified.sa_family = sa_family_t(AF_UNSPEC)
        let address = SocketAddress(copying: &unspecified, length: 2)
        #expect(!address.isLoopback && !address.isUnix && address.port == nil)
        var unnamed = sockaddr()
        unnamed.sa_family = sa_family_t(AF_UNIX)
        #expect(SocketAddress(copying: &unnamed, length: 2).unixPath == "")
    }
}
