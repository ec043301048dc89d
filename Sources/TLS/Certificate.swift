import CLinux
import COpenSSL

/// A certificate with what belongs to it: the chain up to its authority, and its key.
///
/// A class, because OpenSSL counts the references of its parts; used while contexts are made, and
/// by whoever checks the files.
public final class Certificate {
    let leaf: OpaquePointer
    let chain: [OpaquePointer]
    let key: OpaquePointer

    /// Reads PEM texts. Throws where one of them holds nothing of the kind, where the key asks for
    /// a passphrase, or where the two do not belong together.
    public init(certificate: [UInt8], key: [UInt8]) throws(TLSFault) {
        let certificates = try Self.readAll(certificate)
        do throws(TLSFault) {
            let pointer = try Self.readKey(key)
            self.key = pointer
        } catch {
            for each in certificates { X509_free(each) }
            throw error
        }
        leaf = certificates[0]
        chain = Array(certificates.dropFirst())
        guard X509_check_private_key(leaf, self.key) == 1 else {
            ERR_clear_error()
            throw TLSFault("is not the key of the certificate")
        }
    }

    deinit {
        X509_free(leaf)
        for each in chain { X509_free(each) }
        EVP_PKEY_free(key)
    }

    /// The certificates of a PEM text, in its order; the caller frees them.
    static func readAll(_ text: [UInt8]) throws(TLSFault) -> [OpaquePointer] {
        var list: [OpaquePointer] = []
        text.withUnsafeBytes { raw in
            guard let bio = umbra_bio_memory(raw.baseAddress, Int32(raw.count)) else { return }
            defer { BIO_free(bio) }
            while list.count < TLSLimits.certificatesPerFileMax,
                let certificate = PEM_read_bio_X509(bio, nil, { _, _, _, _ in 0 }, nil)
            {
                list.append(certificate)
            }
        }
        let code = ERR_peek_last_error()
        let isOver = umbra_library(code) == ERR_LIB_PEM && umbra_reason(code) == PEM_R_NO_START_LINE
        guard !list.isEmpty else {
            let fault =
                isOver || code == 0
                ? TLSFault("holds no certificate in PEM form") : .openSSL("holds no certificate")
            ERR_clear_error()
            throw fault
        }
        guard isOver || code == 0 else {
            for each in list { X509_free(each) }
            throw .openSSL("certificate \(list.count + 1) in it cannot be read")
        }
        ERR_clear_error()
        return list
    }

    private static func readKey(_ text: [UInt8]) throws(TLSFault) -> OpaquePointer {
        var wasAsked = false
        let key = text.withUnsafeBytes { raw -> OpaquePointer? in
            guard let bio = umbra_bio_memory(raw.baseAddress, Int32(raw.count)) else { return nil }
            defer { BIO_free(bio) }
            // Without a callback of its own OpenSSL would ask the terminal.
            return withUnsafeMutablePointer(to: &wasAsked) { asked in
                PEM_read_bio_PrivateKey(
                    bio, nil,
                    { _, _, _, flag in
                        flag?.assumingMemoryBound(to: Bool.self).pointee = true
                        return -1
                    }, asked)
            }
        }
        guard let key else {
            let fault =
                wasAsked
                ? TLSFault("asks for a passphrase") : TLSFault("holds no private key in PEM form")
            ERR_clear_error()
            throw fault
        }
        ERR_clear_error()
        guard umbra_key_security_bits(key) >= TLSLimits.keySecurityBitsMin else {
            EVP_PKEY_free(key)
            throw TLSFault("is too short a key: RSA takes 2,048 bits, ECDSA P-256")
        }
        return key
    }

    /// Checks a PEM text of authorities. Throws where it holds none.
    public static func checkAuthorities(_ text: [UInt8]) throws(TLSFault) {
        for each in try readAll(text) { X509_free(each) }
    }

    /// Checks an OCSP answer (RFC 6960 §4.2.1). Throws where it is none, or one that says no more
    /// than an error.
    public static func checkOCSP(_ bytes: [UInt8]) throws(TLSFault) {
        let status = bytes.withUnsafeBufferPointer { raw -> Int32 in
            var place = raw.baseAddress
            guard let answer = d2i_OCSP_RESPONSE(nil, &place, raw.count) else { return -1 }
            defer { OCSP_RESPONSE_free(answer) }
            return OCSP_response_status(answer)
        }
        ERR_clear_error()
        guard status >= 0 else { throw TLSFault("holds no OCSP answer in DER form") }
        guard status == 0 else {
            throw TLSFault("holds an OCSP answer that says no more than an error (\(status))")
        }
    }

    // MARK: What it says

    /// Whether a certificate of this kind can stand beside one of another kind for the same name.
    var keyKind: Int32 { EVP_PKEY_get_base_id(key) }

    /// Days until it ends, below 0 once it has; nil where its date cannot be read.
    public var daysLeft: Int? { CertificateDates.daysLeft(leaf) }

    /// Whether it is valid already; a certificate made on a machine whose clock is ahead is not.
    public var hasBegun: Bool { X509_cmp_current_time(X509_get0_notBefore(leaf)) < 0 }

    /// The DNS names that it stands for, lower case (`*.example.com` among them); its common name
    /// where it has no others.
    public var names: [String] {
        var names: [String] = []
        if let raw = X509_get_ext_d2i(leaf, NID_subject_alt_name, nil, nil) {
            let list = OpaquePointer(raw)
            for place in 0..<umbra_names_count(list) {
                guard let name = umbra_names_at(list, place), umbra_name_type(name) == GEN_DNS
                else { continue }
                if let text = Self.text(umbra_name_dns(name)) { names.append(text) }
            }
            GENERAL_NAMES_free(list)
        }
        if names.isEmpty {
            let subject = X509_get_subject_name(leaf)
            let place = X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
            if place >= 0,
                let text = Self.text(
                    X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place)))
            {
                names.append(text)
            }
        }
        return names
    }

    private static func text(_ string: UnsafePointer<ASN1_STRING>?) -> String? {
        guard let string, let data = ASN1_STRING_get0_data(string) else { return nil }
        let bytes = UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(string)))
        // A name with a zero byte in it is a trick on C programs.
        guard !bytes.isEmpty, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        return String(decoding: bytes, as: UTF8.self).lowercased()
    }
}

/// When a certificate holds.
enum CertificateDates {
    /// Days until it ends, below 0 once it has; nil where its date cannot be read.
    static func daysLeft(_ certificate: OpaquePointer) -> Int? {
        var days: Int32 = 0
        var seconds: Int32 = 0
        let end = X509_get0_notAfter(certificate)
        guard ASN1_TIME_diff(&days, &seconds, nil, end) == 1 else { return nil }
        return days == 0 && seconds < 0 ? -1 : Int(days)
    }
}
