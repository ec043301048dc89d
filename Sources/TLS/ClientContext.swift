import CLinux
import COpenSSL

/// A target's side of TLS: whom to trust, by which name, and who we are. For one process's
/// connections to it.
///
/// The last session with each of the target's addresses is kept and taken up again: a connection
/// more costs no look at the certificate. Endpoints share none, because each has a name of its own
/// to prove.
public final class ClientContext {
    private let context: OpaquePointer
    private let facts: UnsafeMutablePointer<ContextFacts>
    private let sessions: UnsafeMutablePointer<OpaquePointer?>
    private let addresses: Int
    private let checksNames: Bool
    private let names: [Name]

    /// Who an endpoint has to be.
    private struct Name {
        var text: String
        /// An IP address, which no server is asked for by (RFC 6066 §3).
        var isAddress: Bool

        init(_ text: String) {
            self.text = text
            var literal = in6_addr()
            isAddress =
                inet_pton(AF_INET, text, &literal) == 1 || inet_pton(AF_INET6, text, &literal) == 1
        }
    }

    /// - Parameters:
    ///   - files: the bytes of all files that `settings` name.
    ///   - hosts: of the target's endpoints: at least one.
    ///   - addresses: of each endpoint, as many sessions are kept at most.
    ///
    /// Throws where a file is missing or holds something else, or a list of `offer` names nothing.
    public init(
        _ settings: ClientTLSSettings, files: KeyFiles, hosts: [String], addresses: Int,
        offer: ClientOffer = ClientOffer()
    ) throws(TLSFault) {
        let facts = ContextFacts.make()
        let context: OpaquePointer
        do throws(TLSFault) {
            context = try ContextForm.make(
                isServer: false, facts: facts, minVersion: offer.version ?? .v12)
        } catch {
            ContextFacts.free(facts)
            throw error
        }
        self.facts = facts
        self.context = context
        self.addresses = addresses
        names = hosts.map { Name(settings.serverName ?? $0) }
        checksNames = !settings.skipsVerification
        sessions = .allocate(capacity: names.count * addresses)
        sessions.initialize(repeating: nil, count: names.count * addresses)
        try setTrust(settings, files)
        if let certificate = settings.certificate, let key = settings.key {
            guard let text = files[certificate], let keyText = files[key] else {
                throw TLSFault("the files of \(certificate) were not read")
            }
            try ContextForm.use(context, try Certificate(certificate: text, key: keyText))
        }
        let protocols: [UInt8] = [8] + Array("http/1.1".utf8)
        SSL_CTX_set_alpn_protos(context, protocols, UInt32(protocols.count))
        umbra_ctx_set_cache_mode(
            context, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
        if offer.resumes { SSL_CTX_sess_set_new_cb(context, Self.keepSession) }
        try limit(to: offer)
    }

    deinit {
        for place in 0..<names.count * addresses { SSL_SESSION_free(sessions[place]) }
        sessions.deallocate()
        SSL_CTX_free(context)
        ContextFacts.free(facts)
    }

    private func limit(to offer: ClientOffer) throws(TLSFault) {
        if offer.version == .v12 { _ = umbra_ctx_set_max_version(context, TLS1_2_VERSION) }
        if let list = offer.ciphers, SSL_CTX_set_cipher_list(context, list) != 1 {
            throw .openSSL("ciphers")
        }
        if let list = offer.cipherSuites, SSL_CTX_set_ciphersuites(context, list) != 1 {
            throw .openSSL("ciphersuites")
        }
        if let list = offer.groups, umbra_ctx_set_groups(context, list) != 1 {
            throw .openSSL("groups")
        }
    }

    private func setTrust(
        _ settings: ClientTLSSettings, _ files: KeyFiles
    ) throws(TLSFault) {
        guard !settings.skipsVerification else {
            SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
            return
        }
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        SSL_CTX_set_verify_depth(context, Int32(TLSLimits.chainDepthMax))
        if let name = settings.ca {
            guard let text = files[name] else { throw TLSFault("\(name) was not read") }
            try ContextForm.trust(context, text, namesThem: false)
        } else {
            // SSL_CERT_FILE and SSL_CERT_DIR count, as in every program that uses OpenSSL.
            SSL_CTX_set_default_verify_paths(context)
            ERR_clear_error()
        }
        let parameters = SSL_CTX_get0_param(context)
        X509_VERIFY_PARAM_set_hostflags(
            parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        for name in names where !expect(name, parameters) {
            throw .openSSL("\(name.text) is a name that cannot be checked")
        }
    }

    private func expect(_ name: Name, _ parameters: OpaquePointer?) -> Bool {
        name.isAddress
            ? X509_VERIFY_PARAM_set1_ip_asc(parameters, name.text) == 1
            : X509_VERIFY_PARAM_set1_host(parameters, name.text, 0) == 1
    }

    /// A session over a connected socket to address number `address` of endpoint number `endpoint`;
    /// nil where memory has run out.
    public func connect(_ fd: Int32, endpoint: Int = 0, address: Int) -> TLSSession? {
        guard let session = TLSSession(context, fd: fd, isServer: false) else { return nil }
        let name = names[endpoint]
        if checksNames, !expect(name, SSL_get0_param(session.pointer)) {
            session.close(saysGoodbye: false)
            return nil
        }
        let place = sessions + (endpoint * addresses + address % addresses)
        SSL_set_ex_data(session.pointer, 0, place)
        if !name.isAddress { _ = umbra_ssl_set_hostname(session.pointer, name.text) }
        if let known = place.pointee { SSL_set_session(session.pointer, known) }
        ERR_clear_error()
        return session
    }

    /// Puts a new session in the place of the last one; 1 says that it was kept.
    private static let keepSession: @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32 = {
        ssl, session in
        guard let raw = SSL_get_ex_data(ssl, 0) else { return 0 }
        let place = raw.assumingMemoryBound(to: OpaquePointer?.self)
        SSL_SESSION_free(place.pointee)
        place.pointee = session
        return 1
    }
}
