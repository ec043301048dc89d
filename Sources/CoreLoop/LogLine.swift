/// How much an event matters, most first.
public enum LogLevel: Int, CaseIterable, Sendable, Comparable {
    case error, warn, info, debug

    /// As settings and JSON lines have it.
    public var name: String {
        switch self {
        case .error: "error"
        case .warn: "warn"
        case .info: "info"
        case .debug: "debug"
        }
    }

    /// The level of that name.
    public init?(name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }

    /// As a text line begins.
    var label: StaticString {
        switch self {
        case .error: "ERROR"
        case .warn: "WARN"
        case .info: "INFO"
        case .debug: "DEBUG"
        }
    }

    /// The priority that syslog and the journal know (RFC 5424 §6.2.1).
    public var priority: UInt8 {
        switch self {
        case .error: 3
        case .warn: 4
        case .info: 6
        case .debug: 7
        }
    }

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
}

/// How a line of the gateway's own log is written.
public enum LogFormat: String, CaseIterable, Sendable { case text, json }

/// One event of the gateway's own log.
public struct LogLine: Sendable {
    /// How much it matters.
    public var level: LogLevel
    /// Whose event it is: `supervisor`, or `worker 0`; and that process's id.
    public var process: String
    public var pid: Int32
    /// When it was, by the wall clock, and what a person reads.
    public var wallMs: UInt64
    public var text: String
    /// Events that this line stands for, and that have none of their own.
    public var repeated = 0

    /// An event that happened now.
    public init(_ level: LogLevel, process: String, pid: Int32, wallMs: UInt64, text: String) {
        self.level = level
        self.process = process
        self.pid = pid
        self.wallMs = wallMs
        self.text = text
    }

    /// The line with its newline, at most `Limits.logLineBytesMax` bytes: a text that is longer is
    /// cut. `text` holds whatever peers and files say; no byte of it ends the line or reaches a
    /// terminal as a control.
    ///
    /// Text has no time: the journal and container engines add theirs. With `prioritised`, `<N>`
    /// stands before it, which the journal takes for the priority (sd-daemon(3)).
    public func bytes(_ format: LogFormat, prioritised: Bool) -> [UInt8] {
        var writer = LogLineWriter()
        if prioritised { writer.put("<\(level.priority)>") }
        switch format {
        case .text:
            writer.put("\(level.label) umbra::gateway ")
            if process != Self.supervisor { writer.put("\(process): ") }
            writer.putEscaped(text, quotes: false)
        case .json:
            writer.put("{\"time\":\"\(TimeText.utc(wallMs))\",\"level\":\"\(level.name)\"")
            writer.put(",\"process\":\"\(process)\",\"pid\":\(pid)")
            if repeated > 0 { writer.put(",\"repeated\":\(repeated)") }
            writer.put(",\"message\":\"")
            writer.putEscaped(text, quotes: true)
            writer.put("\"}")
        }
        writer.bytes.append(0x0A)
        return writer.bytes
    }

    /// The process whose text lines carry no name.
    public static let supervisor = "supervisor"
}

/// Collects one bounded line.
private struct LogLineWriter {
    var bytes: [UInt8] = []
    /// Room for what closes a line after its text.
    private static let closingBytes = 16

    mutating func put(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// `text` with controls escaped, and quotes too where it stands in a JSON string.
    mutating func putEscaped(_ text: String, quotes: Bool) {
        let end = Limits.logLineBytesMax - Self.closingBytes
        for scalar in text.unicodeScalars {
            if bytes.count + 6 > end {
                put("…")
                return
            }
            switch scalar.value {
            case 0x22 where quotes, 0x5C where quotes:
                bytes.append(0x5C)
                bytes.append(UInt8(scalar.value))
            // C1 controls too: some terminals act on them.
            case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029:
                let digits = String(scalar.value, radix: 16)
                put("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
            default: bytes.append(contentsOf: String(scalar).utf8)
            }
        }
    }
}
