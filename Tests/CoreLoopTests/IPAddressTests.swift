import CLinux
import CoreLoop
import Glibc
import Testing

@Suite struct IPAddressTests {
    private static func read(_ text: String) -> IPAddress? {
        Array(text.utf8).withUnsafeBytes { IPAddress(text: $0) }
    }

    /// What the C library reads, IPv4 as IPv6 carries it.
    private static func reference(_ text: String) -> UInt128? {
        var v4 = in_addr()
        if inet_pton(AF_INET, text, &v4) == 1 {
            return 0xFFFF << 32 | UInt128(v4.s_addr.bigEndian)
        }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, text, &v6) == 1 else { return nil }
        return withUnsafeBytes(of: v6) { $0.reduce(0) { $0 << 8 | UInt128($1) } }
    }

    static let texts = [
        "0.0.0.0", "255.255.255.255", "192.0.2.1", "10.0.0.256", "1.2.3", "1.2.3.4.5", "01.2.3.4",
        "1.2.3.", "1..2.3", ".1.2.3", "1.2.3.4 ", "0x1.2.3.4", "::", "::1", "1::", "2001:db8::1",
        "2001:DB8:0:0:0:0:0:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2:3:4:5:6:7:8", "1::2::3", ":::", ":", "1:", ":1",
        "::ffff:192.0.2.1", "64:ff9b::192.0.2.33", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3", "::1.2.3.4:5", "12345::", "::g", "fe80::1%eth0", "[::1]", "", "1", "a.b.c.d",
    ]

    @Test(arguments: texts)
    func readsWhatTheCLibraryReads(text: String) {
        #expect(Self.read(text)?.bits == Self.reference(text))
        for count in 0..<text.utf8.count {
            let part = String(text.prefix(count))
            #expect(Self.read(part)?.bits == Self.reference(part), "\(part)")
        }
    }

    @Test func peersOfBothFamilies() {
        for (text, address) in [
            ("192.0.2.1", SocketAddress("192.0.2.1:80")!),
            ("2001:db8::1", SocketAddress("[2001:db8::1]:80")!),
            ("192.0.2.1", SocketAddress("[::ffff:192.0.2.1]:80")!),
        ] {
            var storage = sockaddr_storage()
            address.withSockaddr { pointer, length in
                withUnsafeMutableBytes(of: &storage) {
                    $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
                }
            }
            #expect(IPAddress(&storage)?.bits == Self.read(text)?.bits)
        }
        var storage = sockaddr_storage()
        storage.ss_family = sa_family_t(AF_UNIX)
        #expect(IPAddress(&storage) == nil)
    }

    struct Row: Sendable {
        let network: String
        let inside: [String]
        let outside: [String]
        init(_ network: String, _ inside: [String], _ outside: [String]) {
            (self.network, self.inside, self.outside) = (network, inside, outside)
        }
    }

    @Test(arguments: [
        Row("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0", "::1"]),
        Row("192.0.2.1", ["192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        Row("192.0.2.1/32", ["192.0.2.1"], ["192.0.2.0"]),
        Row("0.0.0.0/0", ["0.0.0.0", "8.8.8.8"], ["::", "2001:db8::1"]),
        Row("::/0", ["::", "2001:db8::1"], ["0.0.0.0", "8.8.8.8", "::ffff:8.8.8.8"]),
        Row("2001:db8::/33", ["2001:db8:7fff::"], ["2001:db8:8000::", "2001:db7::"]),
        Row("::1/128", ["::1"], ["::", "127.0.0.1"]),
        Row("::ffff:10.0.0.0/104", ["10.0.0.1"], ["11.0.0.1", "::10.0.0.1"]),
        Row("128.0.0.0/1", ["128.0.0.0", "255.1.1.1"], ["127.255.255.255"]),
    ])
    func networks(row: Row) throws {
        let network = try #require(IPNetwork(row.network))
        #expect(!network.hasHostBits)
        for text in row.inside {
            #expect(network.contains(try #require(Self.read(text))), "\(text)")
        }
        for text in row.outside {
            #expect(!network.contains(try #require(Self.read(text))), "\(text)")
        }
    }

    @Test(arguments: [
        "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "/8", "::/129", "::/+1", "10/8",
        "localhost", "", "10.0.0.0 /8", "10.0.0.0/08x",
    ])
    func badNetworks(text: String) { #expect(IPNetwork(text) == nil) }

    @Test(arguments: ["10.0.0.1/8", "::1/64", "192.0.2.128/24"])
    func addressesInsideANetwork(text: String) throws {
        #expect(try #require(IPNetwork(text)).hasHostBits)
    }
}
