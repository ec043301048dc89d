@testable import Upstream

/// Writes DNS messages, right and wrong ones.
struct DNSMessage {
    var bytes: [UInt8]

    /// An answer to `question`, without records yet; `flags` are QR, RD and RA by default.
    init(to question: DNSQuestion, id: UInt16? = nil, flags: UInt16 = 0x8180, questions: UInt16 = 1)
    {
        bytes = []
        for word in [id ?? question.id, flags, questions, 0, 0, 0] { add(word) }
        if questions > 0 { bytes += question.bytes[12...] }
    }

    mutating func add(_ word: UInt16) { bytes += [UInt8(word >> 8), UInt8(word & 0xFF)] }

    /// One more record. `owner` is as on the wire; the question's name by default.
    mutating func record(
        _ type: UInt16, ttl: UInt32 = 60, _ data: [UInt8], owner: [UInt8] = [0xC0, 12],
        kind: UInt16 = 1
    ) {
        let count = (UInt16(bytes[6]) << 8 | UInt16(bytes[7])) &+ 1
        (bytes[6], bytes[7]) = (UInt8(count >> 8), UInt8(count & 0xFF))
        bytes += owner
        for word in [type, kind, UInt16(ttl >> 16), UInt16(ttl & 0xFFFF), UInt16(data.count)] {
            add(word)
        }
        bytes += data
    }

    /// A name in its wire form.
    static func name(_ text: String) -> [UInt8] {
        text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }
}
