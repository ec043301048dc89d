import COpenSSL

/// Why a context could not be made, or a certificate, a key or an answer not be read.
public struct TLSFault: Error, Equatable, Sendable {
    /// One sentence's end, in lower case: `holds no certificate`.
    public let message: String

    /// A fault with this message.
    public init(_ message: String) { self.message = message }

    /// A fault that OpenSSL describes; takes its queue of errors.
    static func openSSL(_ what: String) -> TLSFault {
        let code = ERR_peek_last_error()
        ERR_clear_error()
        guard code != 0, let reason = ERR_reason_error_string(code) else { return TLSFault(what) }
        return TLSFault("\(what): \(String(cString: reason))")
    }
}
