import COpenSSL

/// What the callbacks of a context need, in memory that outlives it: OpenSSL hands them a pointer.
struct ContextFacts {
    /// Where small buffers are put together for one record. Used within one call, by one thread.
    let scratch: UnsafeMutableRawPointer
    /// Nil where tickets are not ours to seal.
    var tickets: TicketKeys?
    /// Looked up once: a look-up takes longer than the sealing.
    var ticketCipher: OpaquePointer?

    /// Facts with a scratch of one record.
    static func make() -> UnsafeMutablePointer<ContextFacts> {
        let facts = UnsafeMutablePointer<ContextFacts>.allocate(capacity: 1)
        facts.initialize(
            to: ContextFacts(
                scratch: .allocate(byteCount: TLSLimits.gatheredBytesMax, alignment: 64),
                tickets: nil, ticketCipher: nil))
        return facts
    }

    /// Those of the context that a session belongs to.
    static func of(_ session: OpaquePointer?) -> UnsafeMutablePointer<ContextFacts> {
        umbra_ctx_app_data(SSL_get_SSL_CTX(session)).assumingMemoryBound(to: ContextFacts.self)
    }

    static func free(_ facts: UnsafeMutablePointer<ContextFacts>) {
        facts.pointee.scratch.deallocate()
        EVP_CIPHER_free(facts.pointee.ticketCipher)
        facts.deinitialize(count: 1)
        facts.deallocate()
    }
}

/// What all contexts have in common.
enum ContextForm {
    /// A context that speaks TLS as both sides do it here: no renegotiation (RFC 5746's repair does
    /// not make it cheap), no compression (CRIME), no early data, buffers given back when empty.
    /// The chain is what the certificate's file holds: OpenSSL would look for more of it among the
    /// authorities that clients are checked against, in each handshake.
    static func make(
        isServer: Bool, facts: UnsafeMutablePointer<ContextFacts>, minVersion: TLSVersion
    ) throws(TLSFault) -> OpaquePointer {
        guard let context = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
            throw .openSSL("cannot make a context")
        }
        umbra_ctx_set_app_data(context, facts)
        let modes =
            UInt32(SSL_MODE_ENABLE_PARTIAL_WRITE) | UInt32(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
            | UInt32(SSL_MODE_RELEASE_BUFFERS) | UInt32(SSL_MODE_NO_AUTO_CHAIN)
        _ = umbra_ctx_set_mode(context, Int(modes))
        umbra_ctx_set_read_ahead(context, 1)
        SSL_CTX_set_info_callback(context, countSteps)
        _ = umbra_ctx_set_min_version(
            context, minVersion == .v13 ? TLS1_3_VERSION : TLS1_2_VERSION)
        SSL_CTX_set_options(context, Options.both)
        return context
    }

    private static let countSteps: @convention(c) (OpaquePointer?, Int32, Int32) -> Void = {
        ssl, place, _ in
        guard place & SSL_CB_LOOP != 0 else { return }
        let bio = SSL_get_rbio(ssl)
        var state = SocketState(bio)
        guard state.isSecured else { return }
        state.countStep()
        state.store(bio)
    }

    /// Adds the authorities of a PEM text to those that a context trusts.
    static func trust(_ context: OpaquePointer, _ text: [UInt8], namesThem: Bool) throws(TLSFault) {
        let store = SSL_CTX_get_cert_store(context)
        for authority in try Certificate.readAll(text) {
            X509_STORE_add_cert(store, authority)
            if namesThem { SSL_CTX_add_client_CA(context, authority) }
            X509_free(authority)
        }
        // The same authority twice in one file is no fault.
        ERR_clear_error()
    }

    /// Gives a context a certificate of its own. One of each kind of key may stand in a context.
    static func use(_ context: OpaquePointer, _ certificate: Certificate) throws(TLSFault) {
        guard SSL_CTX_use_certificate(context, certificate.leaf) == 1,
            SSL_CTX_use_PrivateKey(context, certificate.key) == 1
        else { throw .openSSL("the certificate cannot be used") }
        for authority in certificate.chain where umbra_ctx_add_chain(context, authority) != 1 {
            throw .openSSL("its chain cannot be used")
        }
    }
}

/// Options by the bits that OpenSSL's headers give them; Swift cannot import the macros.
enum Options {
    private static let noCompression: UInt64 = 1 << 17
    private static let noRenegotiation: UInt64 = 1 << 30
    private static let serverPreference: UInt64 = 1 << 22
    private static let prioritizeChaCha: UInt64 = 1 << 21
    static let both = noCompression | noRenegotiation
    /// Our order counts, but a client that puts ChaCha20 first has no AES in hardware.
    static let server = both | serverPreference | prioritizeChaCha
}
