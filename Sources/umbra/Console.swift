import CLinux
import CoreLoop

/// What people read: standard output for answers, standard error for everything else.
enum Console {
    static func out(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }
    static func error(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    /// One line of the gateway's own log. Warnings and errors that repeat (`isLimited`; of one kind
    /// are those said at one place) are counted after the first few: see `LogThrottle`.
    static func log(
        _ level: LogLevel, _ text: String, isLimited: Bool? = nil,
        file: StaticString = #fileID, line: UInt = #line
    ) {
        GatewayLog.say(
            level, text, kind: isLimited ?? (level <= .warn) ? LogKind(file, line) : nil)
    }

    static func write(_ text: String, to fd: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { CLinux.write(fd, $0.baseAddress, $0.count) }
            if count < 0 {
                if umbra_errno() == EINTR { continue }
                return
            }
            bytes = bytes.dropFirst(count)
        }
    }
}

/// A command's words: `--name value`, `--name=value` and flags.
struct Arguments {
    private var values: [String: String] = [:]
    private var flags: Set<String> = []

    struct Fault: Error { let text: String }

    /// Reads `words`, of which `valued` take a value and `flags` none; anything else is an error
    /// that says so.
    init(_ words: [String], valued: Set<String>, flags known: Set<String>) throws(Fault) {
        var index = 0
        while index < words.count {
            var word = words[index]
            index += 1
            var attached: String?
            if word.hasPrefix("--"), let equals = word.firstIndex(of: "=") {
                attached = String(word[word.index(after: equals)...])
                word = String(word[..<equals])
            }
            if word == "-h" { word = "--help" }
            if known.contains(word) || word == "--help" {
                guard attached == nil else { throw Fault(text: "\(word) takes no value") }
                flags.insert(word)
            } else if valued.contains(word) {
                guard values[word] == nil else { throw Fault(text: "\(word) is given twice") }
                if attached == nil, index < words.count {
                    attached = words[index]
                    index += 1
                }
                guard let attached else { throw Fault(text: "\(word) needs a value") }
                values[word] = attached
            } else {
                let choices = valued.union(known).sorted().joined(separator: ", ")
                throw Fault(text: "unknown option '\(word)'; known are \(choices)")
            }
        }
    }

    func value(_ name: String) -> String? { values[name] }
    func has(_ name: String) -> Bool { flags.contains(name) }

    /// A whole number within `range`; nil where the option is absent.
    func number(_ name: String, in range: ClosedRange<Int>) throws(Fault) -> Int? {
        guard let text = values[name] else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw Fault(
                text: "\(name) takes a whole number from \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return number
    }
}
