import AllocationCount
import Glibc

/// The gate of the codec: time, allocations and, under valgrind, instructions of each sample.
@main
enum HeadParse {
    static let help: StaticString = """
        HeadParse: what parsing a head costs.

        usage: swift run -c release HeadParse [--help | --list | --instructions NAME COUNT]

          (nothing)   prints, for each sample, its bytes, nanoseconds for one parse (the best
                      and the median of 9 rounds), bytes per nanosecond, heap allocations;
                      exits with 1 if any parse allocates.
          --list      prints the samples' names.
          --instructions NAME COUNT
                      parses one sample COUNT times and prints nothing. Run under valgrind
                      by Benchmarks/HeadParse/instructions, which takes the difference of
                      two counts and compares it with Benchmarks/HeadParse/bounds: a gate
                      that does not depend on the machine.

        """

    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        switch arguments.first {
        case nil: exit(table() ? 0 : 1)
        case "--help", "-h": print(help, terminator: "")
        case "--list": for sample in Sample.allCases { print(sample.rawValue) }
        case "--instructions":
            guard arguments.count == 3, let sample = Sample(rawValue: Array(arguments)[1]),
                let count = Int(Array(arguments)[2]), count >= 0
            else { usage() }
            let workload = Workload(sample)
            exit(workload.run(count) >= 0 ? 0 : 1)
        default: usage()
        }
    }

    private static func usage() -> Never {
        let text: StaticString = "HeadParse: see --help\n"
        _ = write(2, text.utf8Start, text.utf8CodeUnitCount)
        exit(2)
    }

    private static func nanoseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// Prints the table; false where something allocated.
    private static func table() -> Bool {
        let before = allocationsTotal
        // A count that never moves would pass for none at all.
        guard Workload(.curl).run(1) > 0, allocationsTotal > before else {
            print("HeadParse: allocations are not counted: link with --defsym=malloc=...")
            return false
        }
        print("sample              bytes   best ns  median ns  bytes/ns  allocations")
        var isClean = true
        for sample in Sample.allCases {
            let workload = Workload(sample)
            let rounds = 9
            // About 20 ms a round.
            let start = nanoseconds()
            var sum = workload.run(1_000)
            let count = max(1_000, 20_000_000_000 / max(1, nanoseconds() - start))
            var times = [Double](repeating: 0, count: rounds)
            let allocations = allocationsTotal
            for round in 0..<rounds {
                let start = nanoseconds()
                sum &+= workload.run(count)
                times[round] = Double(nanoseconds() - start) / Double(count)
            }
            let allocated = allocationsTotal - allocations
            precondition(sum > 0)
            times.sort()
            isClean = isClean && allocated == 0
            print(
                pad(sample.rawValue, 18, left: false), pad("\(workload.bytes.count)", 6),
                pad(tenths(times[0]), 9), pad(tenths(times[rounds / 2]), 10),
                pad(tenths(Double(workload.bytes.count) / times[0]), 9), pad("\(allocated)", 12))
        }
        return isClean
    }

    private static func tenths(_ value: Double) -> String {
        let scaled = Int((value * 10).rounded())
        return "\(scaled / 10).\(scaled % 10)"
    }

    private static func pad(_ text: String, _ width: Int, left: Bool = true) -> String {
        let spaces = String(repeating: " ", count: max(0, width - text.utf8.count))
        return left ? spaces + text : text + spaces
    }
}
