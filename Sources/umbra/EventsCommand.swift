import CLinux
import Configuration
import CoreLoop
import EventLog
import Proxy

/// `umbra events tail | list | export | verify`.
enum EventsCommand {
    private static let help = """
        Usage:
          umbra events tail [--last N] [--follow] [FILTERS] [--format table | json | --json]
              The newest decisions, 10 without --last; json prints one object a line.
              --follow goes on with what comes, from segment to segment, until it is stopped.
          umbra events list [--last N] [FILTERS] [--format table | json | --json]
              Decisions, oldest first; all that match without --last. json prints one array.
          umbra events export [FILTERS] [--format csv | json] [--output FILE]
              Decisions for a spreadsheet (csv, the default) or a program. FILE appears whole or not
              at all; without it, or with -, standard output.
          umbra events verify [--head NUMBER:HASH] [--json]
              Checks every record against the one before it, and names the first that is not as it
              was written. Prints the head of the log: kept elsewhere, it shows later (--head) that
              no record up to it was replaced or cut off.

        Filters, each of which a record has to pass:
          --since WHEN, --until WHEN   from, before: RFC 3339, a date, or back from now: 90s, 5m, 2h, 7d
          --verdict V                  allow, block, redact or escalate
          --policy NAME                decided, or had something to say
          --model NAME, --provider ID, --request-id ID
          --all                        the log's own records too: segments, gaps, recoveries, retention

        All take --dir FOLDER, the event log; or --policy-config FILE, the configuration that names it
        (event_log.directory). Without either: umbra-events.
        Exit status: 0 done, and verify: the chain holds; 1 the log cannot be read, or the chain is
        broken; 2 the command is not understood.
        """

    private static let filters: Set<String> = [
        "--dir", "--policy-config", "--since", "--until", "--verdict", "--policy", "--model",
        "--provider",
        "--request-id",
    ]
    private static let recordsMax = 1_000_000_000

    static func run(_ words: [String]) -> Int32 {
        let rest = Array(words.dropFirst())
        do {
            switch words.first {
            case "tail": return try tail(rest)
            case "list": return try list(rest)
            case "export": return try export(rest)
            case "verify": return try verify(rest)
            case "--help", "-h", "help":
                Console.out(help)
                return 0
            default:
                Console.error(
                    "umbra events: the commands are 'tail', 'list', 'export' and 'verify'."
                        + "\n\n\(help)")
                return 2
            }
        } catch {
            Console.error("umbra events: \(error.text)")
            return 2
        }
    }

    // MARK: Commands

    private static func tail(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: filters.union(["--last", "--format"]),
            flags: ["--follow", "--all", "--json"])
        if arguments.has("--help") { return showHelp() }
        let format: EventFormat = try isJSON(arguments) ? .lines : .table
        let last = try arguments.number("--last", in: 0...recordsMax) ?? 10
        let filter = try filter(arguments)
        return try reading(arguments, filter) {
            (reader: inout LogReader) throws(SystemError) -> Int32 in
            var printer = EventPrinter(STDOUT_FILENO, format)
            printer.begin()
            try reader.select(last: last) { printer.print($0) }
            guard arguments.has("--follow") else { return outcome(printer.end(), &printer) }
            while printer.flush(), try reader.follow({ printer.print($0) }) { LogReader.rest() }
            return outcome(false, &printer)
        }
    }

    private static func list(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: filters.union(["--last", "--format"]), flags: ["--all", "--json"])
        if arguments.has("--help") { return showHelp() }
        let format: EventFormat = try isJSON(arguments) ? .array : .table
        let last = try arguments.number("--last", in: 0...recordsMax)
        let filter = try filter(arguments)
        return try reading(arguments, filter) {
            (reader: inout LogReader) throws(SystemError) -> Int32 in
            var printer = EventPrinter(STDOUT_FILENO, format)
            printer.begin()
            try reader.select(last: last) { printer.print($0) }
            return outcome(printer.end(), &printer)
        }
    }

    private static func export(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: filters.union(["--format", "--output"]), flags: ["--all", "--json"])
        if arguments.has("--help") { return showHelp() }
        var format = EventFormat.csv
        switch arguments.value("--format") ?? (arguments.has("--json") ? "json" : "csv") {
        case "csv": break
        case "json": format = .array
        case let other: throw Arguments.Fault(text: "--format \(other): csv or json")
        }
        let filter = try filter(arguments)
        let path = arguments.value("--output") ?? "-"
        return try reading(arguments, filter) {
            (reader: inout LogReader) throws(SystemError) -> Int32 in
            let file = try OutputFile(path)
            var printer = EventPrinter(file.fd, format)
            printer.begin()
            try reader.select { printer.print($0) }
            let isWhole = printer.end()
            if isWhole { try file.keep() }
            return outcome(isWhole, &printer)
        }
    }

    private static func verify(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        let arguments = try Arguments(
            words, valued: ["--dir", "--policy-config", "--head"], flags: ["--json"])
        if arguments.has("--help") { return showHelp() }
        var anchor: ChainCheck.Head?
        if let text = arguments.value("--head") {
            anchor = ChainCheck.Head(text)
            if anchor == nil {
                throw Arguments.Fault(
                    text: "--head takes NUMBER:HASH as verify prints it, not '\(text)'")
            }
        }
        let folder = try folder(arguments)
        do {
            let check = try ChainCheck.run(folder, anchor: anchor)
            Console.write(
                arguments.has("--json") ? ChainReport.json(check) : ChainReport.text(check),
                to: STDOUT_FILENO)
            return check.broken == nil ? 0 : 1
        } catch {
            return unreadable(folder, error)
        }
    }

    // MARK: What they share

    private static func showHelp() -> Int32 {
        Console.out(help)
        return 0
    }

    private static func isJSON(_ arguments: Arguments) throws(Arguments.Fault) -> Bool {
        switch arguments.value("--format") {
        case nil: return arguments.has("--json")
        case "json": return true
        case "table" where arguments.has("--json"):
            throw Arguments.Fault(text: "--json and --format table exclude each other")
        case "table": return false
        case let other?: throw Arguments.Fault(text: "--format \(other): table or json")
        }
    }

    private static func filter(_ arguments: Arguments) throws(Arguments.Fault) -> EventFilter {
        var filter = EventFilter()
        filter.includesAll = arguments.has("--all")
        filter.sinceMs = try moment("--since", arguments)
        filter.untilMs = try moment("--until", arguments)
        if let verdict = arguments.value("--verdict") {
            let known = DecisionEvent.Verdict.allCases.map { "\($0.label)" }
            guard known.contains(verdict) else {
                let choices = known.joined(separator: ", ")
                throw Arguments.Fault(text: "--verdict \(verdict): one of \(choices)")
            }
            filter.require("verdict", verdict)
        }
        if let policy = arguments.value("--policy") { filter.require(policy: policy) }
        if let model = arguments.value("--model") { filter.require("model", model) }
        if let provider = arguments.value("--provider") { filter.require("provider", provider) }
        if let id = arguments.value("--request-id") { filter.require("request_id", id) }
        return filter
    }

    private static func moment(
        _ name: String, _ arguments: Arguments
    ) throws(Arguments.Fault) -> UInt64? {
        guard let text = arguments.value(name) else { return nil }
        guard let moment = EventTime.parse(text, now: WallClock.milliseconds()) else {
            throw Arguments.Fault(
                text: "\(name) \(text): RFC 3339 (2026-11-27T19:05:00Z), a date, or 90s, 5m, 2h, 7d"
            )
        }
        return moment
    }

    private static func reading(
        _ arguments: Arguments, _ filter: EventFilter,
        _ body: (inout LogReader) throws(SystemError) -> Int32
    ) throws(Arguments.Fault) -> Int32 {
        let folder = try folder(arguments)
        do throws(SystemError) {
            var reader = try LogReader(folder, filter)
            let code = try body(&reader)
            if reader.strayLines > 0 {
                Console.error(
                    "umbra events: passed over \(reader.strayLines) line(s) that are no records:"
                        + " see umbra events verify")
            }
            return code
        } catch {
            return unreadable(folder, error)
        }
    }

    private static func folder(_ arguments: Arguments) throws(Arguments.Fault) -> String {
        if let folder = arguments.value("--dir") { return folder }
        guard let file = arguments.value("--policy-config") else {
            return EventLogSettings().directory
        }
        guard let settings = ConfigurationReader.readFile(file, keyFiles: false).settings else {
            throw Arguments.Fault(text: "\(file) is not valid: see umbra policy lint")
        }
        guard let log = settings.eventLog else {
            throw Arguments.Fault(text: "\(file) has no event_log")
        }
        return log.directory
    }

    private static func unreadable(_ folder: String, _ error: SystemError) -> Int32 {
        Console.error(
            "umbra events: \(folder): \(error). Where is it? --dir FOLDER, or --policy-config FILE")
        return 1
    }

    /// A reader of ours that has gone (`| head`) is no error.
    private static func outcome(_ isWhole: Bool, _ printer: inout EventPrinter) -> Int32 {
        if isWhole || printer.errorCode == EPIPE { return 0 }
        Console.error("umbra events: cannot write: \(SystemError.text(printer.errorCode))")
        return 1
    }
}

/// A file that appears under its name whole, or not at all.
private struct OutputFile: ~Copyable {
    let fd: Int32
    private let path: String
    private let temporary: String?

    /// `-` is standard output.
    init(_ path: String) throws(SystemError) {
        self.path = path
        if path == "-" {
            temporary = nil
            fd = STDOUT_FILENO
            return
        }
        let name = "\(path).\(getpid()).part"
        fd = try check(
            umbra_open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600), "open(output)")
        temporary = name
    }

    deinit {
        guard let temporary else { return }
        close(fd)
        // Gone already where the file was kept.
        unlink(temporary)
    }

    /// Gives the file its name.
    borrowing func keep() throws(SystemError) {
        guard let temporary else { return }
        try check(fsync(fd), "fsync(output)")
        try check(rename(temporary, path), "rename(output)")
    }
}

/// What `verify` says.
private enum ChainReport {
    static func text(_ check: ChainCheck) -> String {
        var lines: [String] = []
        if let broken = check.broken {
            let place = broken.line > 0 ? "\(broken.file):\(broken.line)" : broken.file
            lines.append("BROKEN \(place): \(broken.reason)")
            lines.append("\(check.records) record(s) before it hold")
        } else {
            lines.append("intact: \(check.records) record(s) in \(check.segments) segment(s)")
        }
        lines += check.notes.map { "note: \($0)" }
        if let head = check.head { lines.append("head \(head.text)") }
        return lines.joined(separator: "\n") + "\n"
    }

    static func json(_ check: ChainCheck) -> String {
        var memory = [UInt8](repeating: 0, count: 64 << 10)
        return memory.withUnsafeMutableBytes { room in
            var line = JSONLine(room)
            line.open()
            line.member("valid", check.broken == nil)
            line.member("segments", check.segments)
            line.member("records", check.records)
            line.member("bytes", check.byteCount)
            if let first = check.firstSequence { line.member("first_seq", Int(clamping: first)) }
            if let head = check.head { line.member("head", head.text) }
            if let broken = check.broken {
                line.open("broken")
                line.member("file", broken.file)
                line.member("line", broken.line)
                line.member("reason", broken.reason)
                line.close()
            }
            line.member("notes", check.notes)
            line.close()
            return String(decoding: line.bytes ?? UnsafeRawBufferPointer(room), as: UTF8.self)
                + "\n"
        }
    }
}
