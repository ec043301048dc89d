import CoreLoop

/// Why a text is not of the form that its key takes, and what to write instead.
public struct TextFault: Error, Equatable, Sendable {
    /// The kind of the fault.
    public let code: DiagnosticCode
    /// What is wrong.
    public let message: String
    /// What to write instead.
    public let suggestion: String?

    init(_ code: DiagnosticCode, _ message: String, _ suggestion: String? = nil) {
        self.code = code
        self.message = message
        self.suggestion = suggestion
    }
}

extension Findings {
    func add(_ fault: TextFault, _ place: Place) {
        add(fault.code, place, fault.message, fault.suggestion)
    }
}

/// The character sets of the texts that a configuration holds.
enum TextForm {
    /// `token` of RFC 9110, section 5.6.2.
    static func isToken(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { isAlphanumeric($0) || tokenMarks.contains($0) }
    }

    /// A target's id or a route's name: safe in a metric's label and in a log line.
    static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= ConfigurationLimits.nameCharactersMax
            && text.utf8.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
    }

    static let nameRule =
        "must be a name of letters, digits, `.`, `_` and `-` "
        + "(at most \(ConfigurationLimits.nameCharactersMax))"

    static func isAlphanumeric(_ byte: UInt8) -> Bool { isDigit(byte) || isLetter(byte) }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A
    }

    private static let tokenMarks: [UInt8] = Array("!#$%&'*+-.^_`|~".utf8)

    /// A host name by its letters (RFC 1123, section 2.1, and the underscore of service names). A
    /// last label of digits alone is refused: resolvers read `127.1` as an address (RFC 3986,
    /// section 7.4).
    static func isHostName(_ text: String) -> Bool {
        let trimmed = text.hasSuffix(".") ? text.dropLast() : text[...]
        guard !trimmed.isEmpty, trimmed.utf8.count <= 253 else { return false }
        let labels = trimmed.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.allSatisfy(isLabel), let last = labels.last else { return false }
        return !last.utf8.allSatisfy(isDigit) && !last.lowercased().hasPrefix("0x")
    }

    /// An IPv4 or IPv6 address, without brackets.
    static func isAddress(_ text: String) -> Bool { SocketAddress(host: text, port: 0) != nil }

    private static func isLabel(_ label: Substring) -> Bool {
        !label.isEmpty && label.utf8.count <= 63 && label.first != "-" && label.last != "-"
            && label.utf8.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
    }

    /// A path as a request may hold it: from `/`, without query, spaces, letters that want an
    /// escape, bad escapes, or `.` and `..` segments, which no request has once its path is normal.
    static func pathFault(_ text: String) -> TextFault? {
        guard text.first == "/" else {
            return TextFault(
                .wrongType, "must start with /, is \(quoted(text))", "write /\(quoted(text))")
        }
        if let mark = text.first(where: { $0 == "?" || $0 == "#" }) {
            return TextFault(
                .wrongType, "holds \(mark), which no path does: \(quoted(text))",
                "leave out \(mark) and what follows")
        }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !#""<>\^`{|}"#.utf8.contains($0) })
        else {
            return TextFault(
                .wrongType, "holds characters that a path carries escaped: \(quoted(text))",
                "write them as %XX")
        }
        guard escapesAreWhole(text) else {
            return TextFault(
                .wrongType, "holds a % without two hexadecimal digits: \(quoted(text))")
        }
        if text.split(separator: "/").contains(where: { $0 == "." || $0 == ".." }) {
            return TextFault(
                .wrongType, "holds a segment . or ..: \(quoted(text))",
                "write the path it stands for")
        }
        return nil
    }

    private static func escapesAreWhole(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.indices.allSatisfy { index in
            guard bytes[index] == UInt8(ascii: "%") else { return true }
            guard index + 2 < bytes.count else { return false }
            return bytes[(index + 1)...(index + 2)].allSatisfy {
                isDigit($0) || (($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x66)
            }
        }
    }
}
