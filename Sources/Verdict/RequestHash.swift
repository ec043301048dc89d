import EventLog
import Providers

/// `req_hash`: the SHA-256 of what a request asks for, the same however it is spelt.
///
/// Hashed are the method, the path, the query's members in the order of their bytes and the body,
/// each ended by a newline. A body of JSON stands without white space, members sorted by name (of a
/// repeated one the last), strings with the fewest escapes, numbers as they were spelt; any other
/// body as it came. Members of the query that carry keys are left out.
enum RequestHash {
    private static let keyNames: Set<String> = [
        "key", "api_key", "api-key", "apikey", "token", "access_token",
    ]

    /// The 64 hexadecimal digits. `document` is nil where the body is no JSON.
    static func text(
        method: String, target: String, document: JSONDocument?, body: UnsafeRawBufferPointer
    ) -> String {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var bytes = Array((method + "\n").utf8)
        bytes.append(contentsOf: (parts.first ?? "").utf8)
        bytes.append(0x0A)
        if parts.count > 1 {
            let members = parts[1].split(separator: "&").filter {
                !keyNames.contains($0.prefix { $0 != "=" }.lowercased())
            }
            bytes.append(contentsOf: members.sorted().joined(separator: "&").utf8)
        }
        bytes.append(0x0A)
        if let document {
            append(document.root, to: &bytes)
        } else {
            bytes.append(contentsOf: body)
        }
        bytes.append(0x0A)
        return ChainHash.of(bytes).text
    }

    /// Recurses no deeper than documents are nested (`Providers.Limits.depthMax`).
    private static func append(_ value: JSONValue, to bytes: inout [UInt8]) {
        switch value.kind {
        case .null, .flag, .number: bytes.append(contentsOf: value.raw)
        case .string: value.withText { append($0, to: &bytes) }
        case .list:
            bytes.append(UInt8(ascii: "["))
            for (place, element) in value.elements.enumerated() {
                if place > 0 { bytes.append(UInt8(ascii: ",")) }
                append(element, to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object:
            var members: [String: JSONValue] = [:]
            for member in value.members { members[member.name] = member.value }
            bytes.append(UInt8(ascii: "{"))
            for (place, name) in members.keys.sorted().enumerated() {
                if place > 0 { bytes.append(UInt8(ascii: ",")) }
                var text = name
                text.withUTF8 { append(UnsafeRawBufferPointer($0), to: &bytes) }
                bytes.append(UInt8(ascii: ":"))
                if let member = members[name] { append(member, to: &bytes) }
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    private static func append(_ text: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0..<0x20:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(0x30 + byte >> 4)
                bytes.append(byte & 15 < 10 ? 0x30 + byte & 15 : 0x57 + byte & 15)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
