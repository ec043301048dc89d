import CLinux
import CoreLoop

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
