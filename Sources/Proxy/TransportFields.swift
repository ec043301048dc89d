import CLinux
import HTTP
import TLS

/// The fields that speak of the client's own connection: who the client is by its certificate
/// (request), and that it shall come by TLS only (answer; RFC 6797). Prepared at start, for each
/// entry of `listen`.
struct TransportFields {
    private struct Entry {
        /// `X-Client-Subject: `; empty where clients show no certificate.
        let subjectStart: PreparedBytes
        /// `Strict-Transport-Security: max-age=…` with its CRLF; empty where it is off.
        let policy: PreparedBytes
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let count: Int
    /// The subject's field names of all listeners, lower case.
    private let names: UnsafeMutablePointer<PreparedBytes>
    private let nameCount: Int

    init(_ listeners: [ListenerSettings]) {
        count = listeners.count
        entries = .allocate(capacity: max(1, count))
        var fields: [String] = []
        for (place, listener) in listeners.enumerated() {
            let name = listener.tls?.clientCertificates?.subjectField
            let policy = listener.tls?.hstsMs.map {
                "Strict-Transport-Security: max-age=\($0 / 1_000)\r\n"
            }
            (entries + place).initialize(
                to: Entry(
                    subjectStart: PreparedBytes(name.map { $0 + ": " } ?? ""),
                    policy: PreparedBytes(policy ?? "")))
            if let name, !fields.contains(name.lowercased()) { fields.append(name.lowercased()) }
        }
        nameCount = fields.count
        names = .allocate(capacity: max(1, nameCount))
        for (place, name) in fields.enumerated() {
            (names + place).initialize(to: PreparedBytes(name))
        }
    }

    /// Whether any listener passes its clients' subjects on. Then no client may bring the field
    /// itself, on none of the listeners.
    @inline(__always) var namesClients: Bool { nameCount > 0 }

    /// Copies the lines that pass, but for the subject's fields and the gateway's own keys.
    func copyFields(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, leavingOut: UInt64,
        _ keys: ClientKeys?, _ writer: inout HeadWriter
    ) {
        for index in 0..<fields.count {
            let field = fields[index]
            guard !field.isHopByHop, field.known.bit & leavingOut == 0,
                !isSubject(bytes + field.name.start, Int(field.name.count)),
                keys?.carriesKey(field, bytes) != true
            else { continue }
            writer.append(
                UnsafeRawBufferPointer(
                    start: bytes + field.line.start, count: Int(field.line.count)))
        }
    }

    /// Whether a field's name is one of the subject's. `_` counts as `-`: to programs that get
    /// fields as environment variables (RFC 3875 §4.1.18) they are the same.
    func isSubject(_ start: UnsafeRawPointer, _ length: Int) -> Bool {
        for place in 0..<nameCount where names[place].count == length {
            let name = names[place].start
            var isSame = true
            for index in 0..<length {
                let byte = start.load(fromByteOffset: index, as: UInt8.self)
                if fold(byte) != fold(name.load(fromByteOffset: index, as: UInt8.self)) {
                    isSame = false
                    break
                }
            }
            if isSame { return true }
        }
        return false
    }

    private func fold(_ byte: UInt8) -> UInt8 {
        switch byte {
        case 0x41...0x5A: byte | 0x20
        case UInt8(ascii: "_"): UInt8(ascii: "-")
        default: byte
        }
    }

    /// Appends who the client is, where it has shown a certificate.
    func writeSubject(_ tls: TLSSession, _ entry: Int, _ writer: inout HeadWriter) {
        guard tls.isOn, entry < count, entries[entry].subjectStart.count > 0,
            let subject = tls.subject
        else { return }
        writer.append(entries[entry].subjectStart.buffer)
        writer.append(subject)
        writer.append("\r\n")
    }

    /// Appends the policy, unless the upstream has one of its own.
    func writePolicy(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, _ entry: Int,
        _ writer: inout HeadWriter
    ) {
        guard entry < count, entries[entry].policy.count > 0 else { return }
        let name: StaticString = "strict-transport-security"
        for index in 0..<fields.count
        where Int(fields[index].name.count) == name.utf8CodeUnitCount {
            let start = bytes + fields[index].name.start
            if strncasecmp(start, name.utf8Start, name.utf8CodeUnitCount) == 0 { return }
        }
        writePolicy(entry, &writer)
    }

    /// Appends the policy.
    func writePolicy(_ entry: Int, _ writer: inout HeadWriter) {
        if entry < count { writer.append(entries[entry].policy.buffer) }
    }
}
