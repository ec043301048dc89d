/// The oldest version of the protocol that is spoken.
public enum TLSVersion: String, Sendable, CaseIterable {
    case v12 = "1.2"
    case v13 = "1.3"
}

/// `listen[].tls`: how a listener proves who it is, and what it asks of its clients. Files are
/// named as the configuration writes them; `KeyFiles` has their bytes.
public struct ServerTLSSettings: Sendable, Equatable {
    /// A certificate with its chain, its key, and the authority's word that it still holds.
    public struct Certificate: Sendable, Equatable {
        /// PEM files.
        public var certificate: String
        public var key: String
        /// A DER file that is stapled (RFC 6066 §8); nil staples nothing.
        public var ocsp: String?

        /// An entry of `certificates`.
        public init(certificate: String, key: String, ocsp: String? = nil) {
            self.certificate = certificate
            self.key = key
            self.ocsp = ocsp
        }
    }

    /// `client_certificates`: who may connect.
    public struct ClientCertificates: Sendable, Equatable {
        /// PEM file of the authorities that sign clients.
        public var ca: String
        /// False lets clients in that present none.
        public var isRequired = true
        /// The request's field that gets the subject, as written (RFC 4514).
        public var subjectField = "X-Client-Subject"

        /// Clients signed by the authorities of this file.
        public init(ca: String) { self.ca = ca }
    }

    /// At least one; the first is for clients that name no server, or one that nothing covers.
    public var certificates: [Certificate]
    /// Older versions are refused.
    public var minVersion = TLSVersion.v12
    /// Lists in OpenSSL's form, for TLS 1.2 and for TLS 1.3; nil is Mozilla's "intermediate".
    public var ciphers: String?
    public var cipherSuites: String?
    /// Nil asks no client for a certificate.
    public var clientCertificates: ClientCertificates?
    /// `max-age` of Strict-Transport-Security, milliseconds; nil sends none.
    public var hstsMs: Int?
    /// After so long session tickets get another key.
    public var ticketRotationMs = 12 * 3_600_000

    /// A listener with these certificates and all defaults.
    public init(certificates: [Certificate]) { self.certificates = certificates }

    /// Every file that is named here.
    public var files: [String] {
        certificates.flatMap { [$0.certificate, $0.key] + ($0.ocsp.map { [$0] } ?? []) }
            + (clientCertificates.map { [$0.ca] } ?? [])
    }
}

/// What a client offers, where a measurement has to fix it. The gateway's own connections offer
/// all that is safe.
public struct ClientOffer: Sendable, Equatable {
    /// This version alone; nil offers both.
    public var version: TLSVersion?
    /// Lists in OpenSSL's form, for TLS 1.2, for TLS 1.3, and of the groups for the key exchange;
    /// nil is OpenSSL's default.
    public var ciphers: String?
    public var cipherSuites: String?
    public var groups: String?
    /// False makes each handshake a full one.
    public var resumes = true

    /// All that is safe.
    public init() {}
}

/// How the gateway proves a target's identity, and its own to the target.
public struct ClientTLSSettings: Sendable, Equatable {
    /// PEM file of the authorities that are trusted; nil is the system's store.
    public var ca: String?
    /// The name that the target's certificate has to have, also sent to it (RFC 6066 §3) unless it
    /// is an IP address; nil is each endpoint's host.
    public var serverName: String?
    /// PEM files of our own certificate and its key; both or none.
    public var certificate: String?
    public var key: String?
    /// Takes any certificate: whoever is on the way can read and change everything.
    public var skipsVerification = false

    /// A target whose endpoints have to prove their hosts' names to the system's store.
    public init() {}

    /// Every file that is named here.
    public var files: [String] { [ca, certificate, key].compactMap { $0 } }
}
