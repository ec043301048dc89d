import Certificates
import CoreLoop
import TLS
import Testing

@testable import Proxy

/// What a TLS client sends right behind its handshake is served.
@Suite struct SecuringTests {
    /// The event that the last step of a handshake comes of may be one for writing only: the
    /// kernel had nothing to read when it was asked, and has by the time that the step reads. The
    /// request comes in with it, and no event tells of it any more.
    @Test func aRequestBehindTheHandshakeNeedsNoEventOfItsOwn() throws {
        let site = ServerTLSSettings(certificates: [
            ServerTLSSettings.Certificate(certificate: "site.pem", key: "site.key")
        ])
        var security = Security()
        security.listeners = [
            try ServerContext(site, identity: 0, files: certificates, tickets: nil)
        ]
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let rig = try GatewayRig(security: security) {
            $0.listen = [ListenerSettings(address)]
            $0.listen[0].tls = site
        }
        let line = try rig.client()
        var trust = ClientTLSSettings()
        trust.ca = "ca.pem"
        let context = try ClientContext(
            trust, files: certificates, hosts: ["site.test"], addresses: 1)
        let client = try #require(context.connect(line.fd, endpoint: 0, address: 0))
        defer { client.close(saysGoodbye: false) }

        // The ClientHello goes out, the worker's flight comes back, and with the last step the
        // client's Finished is on its way.
        let isSecured = rig.turn {
            if case .done = client.handshake() { true } else { false }
        }
        try #require(isSecured)
        let request = Array("GET / HTTP/1.1\r\nHost: h\r\n\r\n".utf8)
        #expect(request.withUnsafeBytes { client.send($0.baseAddress!, $0.count) } == .bytes(27))
        #expect(rig.counted(.tlsClientDone) == 0)
        rig.worker.clientEvent(0, .writable)
        #expect(rig.counted(.tlsClientDone) == 1)

        let primary = try rig.accept()
        rig.expect("GET / HTTP/1.1", on: primary)
    }
}
