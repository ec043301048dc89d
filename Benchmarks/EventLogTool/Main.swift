import CLinux
import CoreLoop
import EventLog
import Load

/// Writes event logs for tests, and measures what a log costs.
@main
enum EventLogTool {
    static let help = """
        EventLogTool: writes event logs, and measures what writing and reading them costs.

        usage: EventLogTool write --dir FOLDER [OPTIONS]
               EventLogTool measure [--dir FOLDER] [--count N] [--umbra FILE]

        write: decisions, all alike but for their numbers, through a ring and the writer's loop. Prints
        `durable N` whenever a sync made records durable, and what it counted at its end (SIGTERM
        ends it, too).
          --count N            how many (default 1000; 0: until it is ended)
          --rate N             so many a second (default 0: as fast as the writer takes them)
          --text-bytes N       an answer's text of so many bytes in each
          --segment-bytes N, --sync MS, --retention-days N, --mutable
                               as in EventLogSettings
          --start-ms N         the first one's time, milliseconds since 1970 (default: now)
          --step-ms N          with --start-ms: the clock moves on by so much with each
          --settle             waits for the disk where a segment ends, so that none exceeds its size

        measure: appends N decisions (default 1000000), then reads them; prints one line a figure.
          --dir FOLDER         where (default: a folder in /tmp, removed in the end)
          --umbra FILE         times `umbra events list --last 50` of this binary as well

        """

    static func main() {
        umbra_ignore_signal(SIGPIPE)
        var arguments = ArgumentList(Array(CommandLine.arguments.dropFirst()))
        do {
            if arguments.flag("--help") || arguments.flag("-h") {
                print(help, terminator: "")
                return
            }
            switch arguments.word() {
            case "write": exit(try WriteCommand(&arguments).run())
            case "measure": exit(try MeasureCommand(&arguments).run())
            case let other: throw ArgumentList.Fault("unknown command \(other ?? ""); see --help")
            }
        } catch {
            fail("\(error)", code: error is ArgumentList.Fault ? 2 : 1)
        }
    }

    static func fail(_ text: String, code: Int32) -> Never {
        let line = Array("EventLogTool: \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
        exit(code)
    }
}
