/// Puts the member `provider` into a JSON answer as it passes by: in front of its first member, so
/// that the beginning is all that has to be seen, and nothing is written anew.
public enum ProviderAnnotation {
    /// Where it goes.
    public enum Place: Equatable, Sendable {
        /// In front of the byte at this offset.
        case at(Int)
        /// Nowhere: this is no object with a member.
        case nowhere
        /// That cannot be told yet.
        case unknown
    }

    /// The place in an answer of which `bytes` are the beginning.
    public static func place(in bytes: UnsafeRawBufferPointer) -> Place {
        var isBehindBrace = false
        for (offset, byte) in bytes.enumerated() {
            switch byte {
            case 0x20, 0x09, 0x0A, 0x0D: continue
            case UInt8(ascii: "{") where !isBehindBrace: isBehindBrace = true
            case UInt8(ascii: "\"") where isBehindBrace: return .at(offset)
            default: return .nowhere
            }
        }
        return .unknown
    }

    /// What is put in: the member and its comma.
    public static func member(_ provider: String) -> String {
        let written = JSONWriter.write { writer in
            writer.object { $0.member("provider", provider) }
        }
        return String(decoding: written.dropFirst().dropLast(), as: UTF8.self) + ","
    }
}
