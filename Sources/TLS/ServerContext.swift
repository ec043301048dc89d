import CLinux
import COpenSSL

/// A listener's side of TLS: its certificates and rules, for one worker's connections.
///
/// A class, because OpenSSL's callbacks come back to it by its address; made at start, never again.
public final class ServerContext {
    /// Mozilla's "intermediate" of version 5.7 for TLS 1.2, without finite-field Diffie-Hellman:
    /// its cost is the server's alone (CVE-2002-20001), and every client of it speaks ECDHE.
    public static let ciphersDefault =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
        + "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
        + "ECDHE-RSA-CHACHA20-POLY1305"
    /// The same for TLS 1.3.
    public static let cipherSuitesDefault =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    static let groups = "X25519:P-256:P-384"

    /// Certificates that cover the same names, one of each kind of key, in a context of their own.
    private struct Group {
        var context: OpaquePointer
        var certificates: [Int]
    }

    private let facts: UnsafeMutablePointer<ContextFacts>
    private var groups: [Group] = []
    /// By name, lower case; below a `*.` for wildcards.
    private var byName: [String: Int] = [:]
    private var byWildcard: [String: Int] = [:]
    /// The OCSP answers by certificate.
    private var staples: [(leaf: OpaquePointer, answer: [UInt8])] = []
    private let certificates: [Certificate]

    /// - Parameters:
    ///   - identity: tells listeners apart: a ticket of one is none for another.
    ///   - files: the bytes of all files that `settings` name.
    ///   - tickets: the keys that all workers share; nil lets OpenSSL make its own.
    ///
    /// Throws where a file is missing, holds something else, or a list names no cipher.
    public init(
        _ settings: ServerTLSSettings, identity: Int, files: KeyFiles, tickets: TicketKeys?
    ) throws(TLSFault) {
        var list: [Certificate] = []
        for entry in settings.certificates {
            guard let text = files[entry.certificate], let key = files[entry.key] else {
                throw TLSFault("the files of \(entry.certificate) were not read")
            }
            list.append(try Certificate(certificate: text, key: key))
        }
        certificates = list
        facts = ContextFacts.make()
        facts.pointee.tickets = tickets
        facts.pointee.ticketCipher = EVP_CIPHER_fetch(nil, "AES-256-CBC", nil)
        for (place, entry) in settings.certificates.enumerated() {
            if let name = entry.ocsp, let answer = files[name] {
                staples.append((list[place].leaf, answer))
            }
        }
        for (members, names) in Self.grouped(list) {
            let context = try makeContext(settings, identity, files)
            groups.append(Group(context: context, certificates: members))
            for member in members { try ContextForm.use(context, list[member]) }
            for name in names {
                if name.hasPrefix("*.") {
                    byWildcard[String(name.dropFirst(2))] = groups.count - 1
                } else {
                    byName[name] = groups.count - 1
                }
            }
        }
    }

    deinit {
        for group in groups { SSL_CTX_free(group.context) }
        ContextFacts.free(facts)
    }

    /// Which certificates stand together: for each name the first of each kind of key, and all
    /// names with the same choice share a context. The first group is that of the first
    /// certificate.
    private static func grouped(_ list: [Certificate]) -> [(members: [Int], names: [String])] {
        var choices: [(name: String, members: [Int])] = []
        for (place, certificate) in list.enumerated() {
            for name in certificate.names {
                guard let known = choices.firstIndex(where: { $0.name == name }) else {
                    choices.append((name, [place]))
                    continue
                }
                let kinds = choices[known].members.map { list[$0].keyKind }
                if !kinds.contains(certificate.keyKind) { choices[known].members.append(place) }
            }
        }
        var groups: [(members: [Int], names: [String])] = []
        for choice in choices {
            if let known = groups.firstIndex(where: { $0.members == choice.members }) {
                groups[known].names.append(choice.name)
            } else {
                groups.append((choice.members, [choice.name]))
            }
        }
        // A certificate without a DNS name is found by address only.
        if !groups.contains(where: { $0.members.contains(0) }) { groups.insert(([0], []), at: 0) }
        let first = groups.firstIndex { $0.members.first == 0 } ?? 0
        groups.swapAt(0, first)
        return groups
    }

    private func makeContext(
        _ settings: ServerTLSSettings, _ identity: Int, _ files: KeyFiles
    ) throws(TLSFault) -> OpaquePointer {
        let context = try ContextForm.make(
            isServer: true, facts: facts, minVersion: settings.minVersion)
        do throws(TLSFault) {
            SSL_CTX_set_options(context, Options.server)
            guard
                SSL_CTX_set_cipher_list(context, settings.ciphers ?? Self.ciphersDefault) == 1
            else { throw .openSSL("ciphers") }
            guard
                SSL_CTX_set_ciphersuites(
                    context, settings.cipherSuites ?? Self.cipherSuitesDefault) == 1
            else { throw .openSSL("ciphersuites") }
            _ = umbra_ctx_set_groups(context, Self.groups)
            let this = Unmanaged.passUnretained(self).toOpaque()
            umbra_ctx_set_servername(context, Self.chooseByName, this)
            umbra_ctx_set_status(context, Self.staple, this)
            SSL_CTX_set_alpn_select_cb(context, Self.chooseProtocol, nil)
            setSessions(context, settings, identity, files)
            if let clients = settings.clientCertificates {
                guard let text = files[clients.ca] else {
                    throw TLSFault("\(clients.ca) was not read")
                }
                try ContextForm.trust(context, text, namesThem: true)
                let mode =
                    SSL_VERIFY_PEER
                    | (clients.isRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0)
                SSL_CTX_set_verify(context, mode, nil)
                SSL_CTX_set_verify_depth(context, Int32(TLSLimits.chainDepthMax))
            }
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        return context
    }

    /// Sessions live in tickets alone: workers share no memory for a cache, and need none.
    private func setSessions(
        _ context: OpaquePointer, _ settings: ServerTLSSettings, _ identity: Int, _ files: KeyFiles
    ) {
        umbra_ctx_set_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
        SSL_CTX_set_num_tickets(context, 1)
        if facts.pointee.tickets != nil {
            umbra_ctx_set_ticket_keys(context, Self.sealTicket)
        }
        let seconds = min(settings.ticketRotationMs / 1_000, TLSLimits.ticketSecondsMax)
        SSL_CTX_set_timeout(context, max(60, seconds))
        // Who was let in by one authority must not come back by a ticket to another's listener.
        var name = [UInt8](repeating: 0, count: Int(SSL_MAX_SID_CTX_LENGTH))
        let text =
            Array("\(identity) \(settings.clientCertificates?.isRequired ?? false) ".utf8)
            + (settings.clientCertificates.flatMap { files[$0.ca] } ?? [])
        var length: UInt32 = 0
        EVP_Digest(text, text.count, &name, &length, EVP_sha256(), nil)
        SSL_CTX_set_session_id_context(context, name, min(length, UInt32(name.count)))
    }

    /// A session for an accepted connection; nil where memory has run out.
    public func accept(_ fd: Int32) -> TLSSession? {
        TLSSession(groups[0].context, fd: fd, isServer: true)
    }

    // MARK: Callbacks

    /// The group for a name that a client asks for (RFC 6066 §3); nil where nothing covers it.
    func group(for name: String) -> Int? {
        let name = name.lowercased()
        if let exact = byName[name] { return exact }
        guard !byWildcard.isEmpty, let dot = name.firstIndex(of: ".") else { return nil }
        return byWildcard[String(name[name.index(after: dot)...])]
    }

    private static let chooseByName:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<Int32>?, UnsafeMutableRawPointer?
        ) -> Int32 = { ssl, _, argument in
            guard let argument, let text = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
            else { return SSL_TLSEXT_ERR_NOACK }
            let context = Unmanaged<ServerContext>.fromOpaque(argument).takeUnretainedValue()
            // Unknown names get the first certificate: an alert would tell a person less than the
            // browser's page on the wrong name does.
            guard let place = context.group(for: String(cString: text)) else {
                return SSL_TLSEXT_ERR_NOACK
            }
            if place > 0 { SSL_set_SSL_CTX(ssl, context.groups[place].context) }
            return SSL_TLSEXT_ERR_OK
        }

    private static let staple: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32 =
        { ssl, argument in
            guard let argument else { return SSL_TLSEXT_ERR_NOACK }
            let context = Unmanaged<ServerContext>.fromOpaque(argument).takeUnretainedValue()
            let leaf = SSL_get_certificate(ssl)
            guard let staple = context.staples.first(where: { $0.leaf == leaf }),
                let copy = umbra_openssl_malloc(staple.answer.count)
            else { return SSL_TLSEXT_ERR_NOACK }
            copy.copyMemory(from: staple.answer, byteCount: staple.answer.count)
            _ = umbra_ssl_set_status(
                ssl, copy.assumingMemoryBound(to: UInt8.self), staple.answer.count)
            return SSL_TLSEXT_ERR_OK
        }

    /// The only protocol that is spoken here; who offers others alone is told so (RFC 7301 §3.2).
    private static let chooseProtocol:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
            UnsafeMutablePointer<UInt8>?, UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
        ) -> Int32 = { _, chosen, chosenCount, offered, offeredCount, _ in
            guard let offered, let chosen, let chosenCount else { return SSL_TLSEXT_ERR_NOACK }
            var place = 0
            while place < Int(offeredCount) {
                let length = Int(offered[place])
                let name = offered + place + 1
                guard place + 1 + length <= Int(offeredCount) else { break }
                if length == 8, memcmp(name, "http/1.1", 8) == 0 {
                    chosen.pointee = name
                    chosenCount.pointee = UInt8(length)
                    return SSL_TLSEXT_ERR_OK
                }
                place += 1 + length
            }
            return SSL_TLSEXT_ERR_ALERT_FATAL
        }

    /// Seals a new ticket with the present key, or opens one that comes back. Returns 2 for one
    /// that is to be sealed anew.
    private static let sealTicket:
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?,
            OpaquePointer?, OpaquePointer?, Int32
        ) -> Int32 = { ssl, name, vector, cipher, mac, isNew in
            let facts = ContextFacts.of(ssl)
            guard let tickets = facts.pointee.tickets, tickets.isReady, let name, let vector else {
                return 0
            }
            let key: UnsafePointer<TicketKey>
            var isOld = false
            if isNew != 0 {
                key = tickets.present
                memcpy(name, key, 16)
                guard RAND_bytes(vector, 16) == 1 else { return -1 }
            } else {
                guard let found = tickets.find(name) else { return 0 }
                (key, isOld) = found
            }
            let bytes = UnsafeRawPointer(key).assumingMemoryBound(to: UInt8.self)
            let method = facts.pointee.ticketCipher
            let isSet =
                isNew != 0
                ? EVP_EncryptInit_ex(cipher, method, nil, bytes + 16, vector)
                : EVP_DecryptInit_ex(cipher, method, nil, bytes + 16, vector)
            guard isSet == 1, umbra_mac_set_key(mac, bytes + 48, 32) == 1 else { return -1 }
            // TLS 1.3 clients use a ticket once, so that nobody can tell their connections apart
            // (RFC 8446 §C.4): without a new one each second handshake would be a full one.
            return isOld || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1
        }
}
