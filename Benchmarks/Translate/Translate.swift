import AllocationCount
import Glibc
import Providers

/// What a translated chat costs: time, and allocations, which must not grow with the text.
@main
enum Translate {
    static let help = """
        Translate: what a translated chat costs.

        usage: swift run -c release Translate [--help | --only STEP COUNT]

        --only does one step COUNT times and prints nothing: for perf and valgrind.
        Prints for each step its bytes, microseconds of the thread's own time (the best and the median of 9 rounds) and heap
        allocations, for a body of about 4 KiB and one of the same shape with four times the text.
        Exits with 1 where a request and its answer take more than 150 µs together, or where more
        text makes more allocations.
        """

    /// The bar of a translated chat's worker time, microseconds.
    private static let chatUsMax = 150.0
    private static let rounds = 9

    static func main() {
        if CommandLine.arguments.contains("--help") {
            print(help)
            return
        }
        let words = CommandLine.arguments
        if words.count == 4, words[1] == "--only", let step = Workload.Step(rawValue: words[2]),
            let count = Int(words[3])
        {
            exit(Workload(step, texts: 1).run(count) >= 0 ? 0 : 1)
        }
        let before = allocationsTotal
        guard Workload(.request, texts: 1).run(1) > 0, allocationsTotal > before else {
            print("Translate: allocations are not counted: link with --defsym=malloc=...")
            exit(1)
        }
        print("step               bytes   best µs  median µs  allocations")
        var medianUs: [Workload.Step: Double] = [:]
        var isClean = true
        for step in Workload.Step.allCases {
            let small = row(step, texts: 1)
            let large = row(step, texts: 4)
            medianUs[step] = small.medianUs
            // An array that doubles may double once or twice more.
            isClean = isClean && large.allocations <= small.allocations + 4
        }
        let chatUs = (medianUs[.request] ?? 0) + (medianUs[.answer] ?? 0)
        print(
            "a chat of 4 KiB, request and answer:", tenths(chatUs), "µs, at most",
            tenths(chatUsMax)
        )
        if !isClean { print("allocations grow with the text") }
        exit(isClean && chatUs <= chatUsMax ? 0 : 1)
    }

    private static func row(
        _ step: Workload.Step, texts: Int
    ) -> (medianUs: Double, allocations: Int) {
        let workload = Workload(step, texts: texts)
        // About 20 ms a round.
        let start = cpuNs()
        _ = workload.run(100)
        let each = max(1, (cpuNs() - start) / 100)
        let count = Int(max(10, 20_000_000 / each))
        var times: [Double] = []
        let allocated = allocationsTotal
        _ = workload.run(10)
        let allocations = (allocationsTotal - allocated) / 10
        for _ in 0..<rounds {
            let start = cpuNs()
            _ = workload.run(count)
            times.append(Double(cpuNs() - start) / Double(count) / 1_000)
        }
        times.sort()
        print(
            pad(step.rawValue, 16, left: false), pad("\(workload.bytes.count)", 7),
            pad(tenths(times[0]), 9), pad(tenths(times[rounds / 2]), 10),
            pad("\(allocations)", 12))
        return (times[rounds / 2], allocations)
    }

    /// The thread's own time: what else runs on the machine is not this code's.
    private static func cpuNs() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
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
