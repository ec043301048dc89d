import CLinux
import Certificates
import CoreLoop
import Testing

@testable import TLS

/// Both ends of a connection in one thread.
private struct Wire: ~Copyable {
    let fds: (client: Int32, server: Int32)

    init() {
        var pair: [Int32] = [0, 0]
        #expect(
            socketpair(
                AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0, &pair)
                == 0)
        fds = (pair[0], pair[1])
    }

    deinit {
        close(fds.client)
        close(fds.server)
    }
}

/// What came of a handshake, as the client sees it.
private enum Ending: Equatable {
    case full, resumed
    case refused(isCertificate: Bool)
}

private func shake(_ client: TLSSession, _ server: TLSSession) -> Ending {
    var isServerDone = false
    for _ in 0..<20 {
        let outcome = client.handshake()
        if !isServerDone, case .done = server.handshake() { isServerDone = true }
        switch outcome {
        case .failed(let fault): return .refused(isCertificate: fault.isCertificate)
        case .done where isServerDone: return client.isResumed ? .resumed : .full
        default: break
        }
    }
    Issue.record("no end of the handshake")
    return .refused(isCertificate: false)
}

/// A handshake and one byte each way, which brings TLS 1.3's ticket along.
private func converse(
    _ client: ClientContext, _ server: ServerContext, endpoint: Int = 0
) -> Ending {
    let wire = Wire()
    let near = client.connect(wire.fds.client, endpoint: endpoint, address: 0)!
    let far = server.accept(wire.fds.server)!
    defer {
        near.close(saysGoodbye: true)
        far.close(saysGoodbye: true)
    }
    let ending = shake(near, far)
    if case .refused = ending { return ending }
    var byte: UInt8 = 7
    #expect(near.send(&byte, 1) == .bytes(1))
    byte = 0
    #expect(far.receive(&byte, 1) == .bytes(1))
    #expect(byte == 7)
    #expect(far.send(&byte, 1) == .bytes(1))
    #expect(near.receive(&byte, 1) == .bytes(1))
    return ending
}

@Suite struct HandshakeTests {
    private let memory = UnsafeMutableRawPointer.allocate(
        byteCount: TicketKeys.byteCount, alignment: 4_096)
    private let keys: TicketKeys

    init() {
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: TicketKeys.byteCount)
        keys = .map(memory)
        keys.rotate()
    }

    private func server(
        _ name: String = "site", identity: Int = 0, minVersion: TLSVersion = .v12
    ) throws -> ServerContext {
        var settings = ServerTLSSettings(certificates: [
            ServerTLSSettings.Certificate(certificate: "\(name).pem", key: "\(name).key")
        ])
        settings.minVersion = minVersion
        return try ServerContext(
            settings, identity: identity, files: certificates, tickets: keys)
    }

    private func client(
        _ hosts: [String] = ["site.test"], offer: ClientOffer = ClientOffer()
    ) throws -> ClientContext {
        var settings = ClientTLSSettings()
        settings.ca = "ca.pem"
        return try ClientContext(
            settings, files: certificates, hosts: hosts, addresses: 1, offer: offer)
    }

    /// TLS 1.3 clients use a ticket once: each connection has to bring the next one's.
    @Test(arguments: TLSVersion.allCases) func sessionsAreTakenUpAgainAndAgain(
        _ version: TLSVersion
    ) throws {
        var offer = ClientOffer()
        offer.version = version
        let (client, server) = (try client(offer: offer), try server())
        #expect(converse(client, server) == .full)
        for _ in 0..<4 { #expect(converse(client, server) == .resumed) }
    }

    @Test func offersAreKept() throws {
        var offer = ClientOffer()
        offer.resumes = false
        let (client, server) = (try client(offer: offer), try server(minVersion: .v13))
        for _ in 0..<3 { #expect(converse(client, server) == .full) }
        offer.version = .v12
        #expect(try converse(self.client(offer: offer), server) == .refused(isCertificate: false))
        offer.version = .v13
        offer.cipherSuites = "TLS_AES_128_CCM_SHA256"
        #expect(try converse(self.client(offer: offer), server) == .refused(isCertificate: false))
        offer.groups = "none such"
        #expect(throws: TLSFault.self) { try self.client(offer: offer) }
    }

    /// Another worker's context with the same keys takes the session up.
    @Test func aTicketIsGoodWithEveryWorker() throws {
        let client = try client()
        #expect(try converse(client, server()) == .full)
        #expect(try converse(client, server()) == .resumed)
    }

    /// Taken with the key that sealed it and with one newer key about, and then sealed anew: a
    /// client that comes back in time is never asked for the whole handshake.
    @Test func ticketsOutliveOneRotation() throws {
        let (client, server) = (try client(), try server())
        #expect(converse(client, server) == .full)
        for _ in 0..<4 {
            keys.rotate()
            #expect(converse(client, server) == .resumed)
        }
        keys.rotate()
        keys.rotate()
        #expect(converse(client, server) == .full)
    }

    @Test func aTicketOfOneListenerIsNoneForAnother() throws {
        let client = try client()
        #expect(try converse(client, server(identity: 0)) == .full)
        #expect(try converse(client, server(identity: 1)) == .full)
    }

    /// A session with one endpoint must not stand in for the proof of another's name.
    @Test func endpointsShareNoSession() throws {
        let (client, server) = (try client(["site.test", "else.test"]), try server())
        #expect(converse(client, server, endpoint: 0) == .full)
        #expect(converse(client, server, endpoint: 1) == .refused(isCertificate: true))
        #expect(converse(client, server, endpoint: 0) == .resumed)
    }

    @Test(arguments: [
        ("site", "site.test", true), ("site", "127.0.0.1", true), ("site", "::1", true),
        ("site", "127.0.0.2", false), ("site", "test", false), ("wild", "a.wild.test", true),
        ("wild", "wild.test", false), ("wild", "a.b.wild.test", false),
        ("expired", "site.test", false), ("alone", "site.test", false),
    ])
    func namesAreChecked(_ name: String, _ host: String, _ isGood: Bool) throws {
        let ending = try converse(client([host]), server(name))
        #expect(ending == (isGood ? .full : .refused(isCertificate: true)))
    }

    @Test(arguments: [
        ("site", "other", "is not the key"), ("site", "locked", "passphrase"),
        ("site", "site.pem", "no private key"),
    ])
    func pairsAreChecked(_ certificate: String, _ key: String, _ words: String) throws {
        let keyFile = key.hasSuffix(".pem") ? key : key + ".key"
        let fault = #expect(throws: TLSFault.self) {
            _ = try Certificate(
                certificate: certificates[certificate + ".pem"]!, key: certificates[keyFile]!)
        }
        #expect(fault?.message.contains(words) == true, "\(String(describing: fault))")
    }
}
