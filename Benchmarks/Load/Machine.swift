import CLinux
import CoreLoop

/// What the host took of each CPU of this machine so far, though there was work for it (`steal` of
/// proc_stat(5)).
public struct StolenTime: Sendable {
    private let taken: Instant
    private let ticks: [Int: Int]

    /// As it stands now.
    public init() {
        let text = Standard.readFile("/proc/stat") ?? []
        self.init(String(decoding: text, as: UTF8.self), at: .now())
    }

    /// As `/proc/stat` had it in `text`.
    init(_ text: String, at time: Instant) {
        taken = time
        ticks = text.split(separator: "\n").reduce(into: [:]) { ticks, line in
            let words = line.split(separator: " ")
            guard words.count > 8, words[0].hasPrefix("cpu"), let cpu = Int(words[0].dropFirst(3))
            else { return }
            ticks[cpu] = Int(words[8])
        }
    }

    /// The share of the time since `earlier` that was taken of the one of `cpus` that lost most, 0
    /// to 1; of all CPUs where there are none.
    public func share(since earlier: StolenTime, of cpus: [Int] = []) -> Double {
        let seconds = Double(taken.nanoseconds(since: earlier.taken)) / 1e9
        let lost =
            ticks.filter { cpus.isEmpty || cpus.contains($0.key) }
            .map { cpu, ticks in ticks - (earlier.ticks[cpu] ?? ticks) }.max() ?? 0
        return Double(lost) / (seconds * Double(sysconf(Int32(_SC_CLK_TCK))))
    }
}

/// What a result must say of where it was measured.
public enum Machine {
    /// Time, kernel, CPU, number of CPUs and load average.
    public static var json: JSONText {
        func line(_ file: String) -> String {
            String(decoding: (Standard.readFile(file) ?? []).prefix { $0 != 0x0A }, as: UTF8.self)
        }
        let cpuInfo = String(decoding: Standard.readFile("/proc/cpuinfo") ?? [], as: UTF8.self)
        let model = cpuInfo.split(separator: "\n").first { $0.hasPrefix("model name") }
        return .object([
            ("unix_ms", .integer(WallClock.milliseconds())),
            ("kernel", .text(line("/proc/sys/kernel/osrelease"))),
            (
                "cpu",
                .text(
                    model?.split(separator: ":").last.map { String($0.drop { $0 == " " }) }
                        ?? "unknown")
            ),
            ("cpus", .integer(ProcessControl.affinity().count)),
            ("load_average", .text(line("/proc/loadavg"))),
        ])
    }
}
