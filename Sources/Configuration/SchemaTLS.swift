extension Schema {
    private static let pem = SchemaType.text("the name of a PEM file")

    /// What an entry of `listen` says beside its address.
    static let tls: [SchemaKey] = [
        SchemaKey(
            "listen[].redirect_to_https", .forms("true, false, or a port"), "false", "true",
            "Sends every request of a plain listener to https on this port (true: 443): 301 for GET "
                + "and HEAD, 308 for all others."),
        SchemaKey(
            "listen[].tls", .mapping, "–", "{certificate: site.pem, key: site.key}",
            "Speaks TLS on this listener."),
        SchemaKey(
            "listen[].tls.certificate", pem, "–", "site.pem",
            "The certificate with its chain. Required, or certificates."),
        SchemaKey(
            "listen[].tls.key", pem, "–", "site.key", "The certificate's key. Required beside it."),
        SchemaKey(
            "listen[].tls.ocsp", .text("the name of a DER file"), "–", "site.ocsp",
            "An OCSP answer that is stapled to the certificate."),
        SchemaKey(
            "listen[].tls.certificates", .list("mappings: certificate, key, ocsp"), "–",
            "[{certificate: a.pem, key: a.key}, {certificate: b.pem, key: b.key}]",
            "Several, chosen by the name that the client asks for; for one name an ECDSA and an RSA "
                + "one may stand side by side. The first is for all other clients."),
        SchemaKey(
            "listen[].tls.certificates[].certificate", pem, "–", "a.pem",
            "The certificate with its chain. Required."),
        SchemaKey(
            "listen[].tls.certificates[].key", pem, "–", "a.key", "Its key. Required."),
        SchemaKey(
            "listen[].tls.certificates[].ocsp", .text("the name of a DER file"), "–", "a.ocsp",
            "An OCSP answer that is stapled to it."),
        SchemaKey(
            "listen[].tls.min_version", .choice(["1.2", "1.3"]), "1.2", "1.3",
            "The oldest version that is spoken."),
        SchemaKey(
            "listen[].tls.ciphers", .text("a list in OpenSSL's form"), "–",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "Ciphers of TLS 1.2; without it Mozilla's intermediate."),
        SchemaKey(
            "listen[].tls.ciphersuites", .text("a list in OpenSSL's form"), "–",
            "TLS_AES_128_GCM_SHA256", "Ciphers of TLS 1.3; without it all three."),
        SchemaKey(
            "listen[].tls.client_certificates", .mapping, "–", "{ca: clients.pem}",
            "Who may connect. Without it no client is asked for a certificate."),
        SchemaKey(
            "listen[].tls.client_certificates.ca", pem, "–", "clients.pem",
            "The authorities that sign clients. Required."),
        SchemaKey(
            "listen[].tls.client_certificates.mode", .choice(["required", "optional"]), "required",
            "optional", "Whether clients without a certificate are let in."),
        SchemaKey(
            "listen[].tls.client_certificates.subject_header", .text("the name of a field"),
            "X-Client-Subject", "X-Client-DN",
            "The field that carries the client's subject to the target; the client's own is removed."
        ),
        SchemaKey(
            "listen[].tls.hsts", .duration(0...63_072_000_000), "off", "8760h",
            "max-age of Strict-Transport-Security in answers; off sends none."),
        SchemaKey(
            "listen[].tls.ticket_rotation", .duration(60_000...604_800_000), "12h", "1h",
            "After so long session tickets get a new key; those of the last one are still taken. The "
                + "shortest of all listeners counts."),
    ]

    static let targetTLS: [SchemaKey] = [
        SchemaKey(
            "providers.targets[].tls", .mapping, "–", "{ca: internal-ca.pem}",
            "How an https target proves itself; without it, to the system's store by its host name."
        ),
        SchemaKey(
            "providers.targets[].tls.ca", pem, "–", "internal-ca.pem",
            "The authorities that are trusted instead of the system's."),
        SchemaKey(
            "providers.targets[].tls.server_name", .text("a host name or an IP address"), "–",
            "app.internal", "The name that its certificate must have, in place of the URL's host."),
        SchemaKey(
            "providers.targets[].tls.certificate", pem, "–", "umbra.pem",
            "Our own certificate, where the target asks for one."),
        SchemaKey(
            "providers.targets[].tls.key", pem, "–", "umbra.key", "Its key."),
        SchemaKey(
            "providers.targets[].tls.insecure_skip_verify", .boolean, "false", "true",
            "Takes any certificate. For tests only: lint, the log and a metric warn of it."),
    ]
}
