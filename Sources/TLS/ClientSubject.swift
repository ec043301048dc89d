import COpenSSL

/// The subject of a client's certificate as text (RFC 4514), kept with its session.
extension TLSSession {
    private static let index = umbra_ssl_new_index { _, memory, _, _, _, _ in
        if let memory { umbra_openssl_free(memory) }
    }

    /// What noting the subject came to.
    public enum SubjectOutcome { case none, noted, tooLong }

    /// Writes down who the client is, once after the handshake: a request only copies it.
    public func noteSubject() -> SubjectOutcome {
        guard let certificate = SSL_get1_peer_certificate(pointer) else { return .none }
        defer { X509_free(certificate) }
        guard let bio = BIO_new(BIO_s_mem()) else { return .tooLong }
        defer { BIO_free(bio) }
        // Controls and what is not ASCII come escaped: the text is fit for a field's value.
        _ = umbra_print_name(bio, X509_get_subject_name(certificate))
        var start: UnsafeMutablePointer<CChar>?
        let count = umbra_bio_data(bio, &start)
        guard let start, count > 0 else { return .none }
        guard count <= TLSLimits.subjectBytesMax,
            let copy = umbra_openssl_malloc(count + 2)
        else { return .tooLong }
        copy.storeBytes(of: UInt16(count), as: UInt16.self)
        (copy + 2).copyMemory(from: start, byteCount: count)
        guard SSL_set_ex_data(pointer, Self.index, copy) == 1 else {
            umbra_openssl_free(copy)
            return .tooLong
        }
        return .noted
    }

    /// The subject's bytes, as long as the session lives; nil where the client has none.
    public var subject: UnsafeRawBufferPointer? {
        guard let memory = SSL_get_ex_data(pointer, Self.index) else { return nil }
        let count = Int(memory.load(as: UInt16.self))
        return UnsafeRawBufferPointer(start: memory + 2, count: count)
    }
}
