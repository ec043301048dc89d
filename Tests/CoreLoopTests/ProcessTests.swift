import CLinux
import CoreLoop
import Glibc
import Testing

@Suite struct ProcessTests {
    @Test func affinityIsWhatTheKernelSays() throws {
        let line = readFile("/proc/thread-self/status").split(separator: "\n")
            .first { $0.hasPrefix("Cpus_allowed_list:") }
        let list = try #require(line?.split(separator: "\t").last)
        var expected: [Int] = []
        for range in list.split(separator: ",") {
            let ends = range.split(separator: "-").compactMap { Int($0) }
            expected += ends[0]...ends[ends.count - 1]
        }
        #expect(ProcessControl.affinity() == expected)
    }

    @Test func affinityIsSet() async {
        await #expect(processExitsWith: .exitCode(7)) {
            let all = ProcessControl.affinity()
            guard let last = all.last else { return }
            // CPUs that no mask has room for are left out.
            guard ProcessControl.setAffinity([last, 1 << 20, -1]) else { return }
            guard ProcessControl.affinity() == [last] else { return }
            guard !ProcessControl.setAffinity([]) else { return }
            exit(7)
        }
    }

    @Test func aChildDiesWithItsParent() async throws {
        // The child's parent has gone on purpose before it is asked.
        await #expect(processExitsWith: .exitCode(5)) {
            exit(
                ProcessControl.dieWithParent(getppid()) && !ProcessControl.dieWithParent(1) ? 5 : 6)
        }
    }

    @Test func aNameIsShown() async {
        await #expect(processExitsWith: .exitCode(9)) {
            ProcessControl.setName("umbra-a-long-name")
            exit(readFile("/proc/thread-self/comm") == "umbra-a-long-na\n" ? 9 : 1)
        }
    }

    @Test func whoStandsBackIsNice() async {
        await #expect(processExitsWith: .exitCode(6)) {
            func nice() -> Int? {
                Int(readFile("/proc/thread-self/stat").split(separator: " ")[18])
            }
            guard let own = nice() else { exit(1) }
            let wanted = max(own, 7)
            guard ProcessControl.standBack(nice: 7), nice() == wanted else { exit(2) }
            // Nobody comes before who started it.
            guard ProcessControl.standBack(nice: 3), nice() == wanted else { exit(3) }
            ProcessControl.comeForward()
            exit(nice() == wanted ? 6 : 4)
        }
    }

    @Test func whoStandsBackKeepsItsPolicy() async {
        await #expect(processExitsWith: .exitCode(6)) {
            let batch: Int32 = 3  // SCHED_BATCH
            var none = sched_param()
            guard sched_setscheduler(0, batch, &none) == 0 else { exit(1) }
            ProcessControl.standBack(nice: 1)
            ProcessControl.comeForward()
            exit(sched_getscheduler(0) == batch ? 6 : 2)
        }
    }

    @Test func theFileLimitIsRaisedAsFarAsAllowed() async {
        await #expect(processExitsWith: .exitCode(3)) {
            var limit = rlimit(rlim_cur: 64, rlim_max: 128)
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
            guard setrlimit(resource, &limit) == 0 else { exit(1) }
            guard ProcessControl.raiseFileLimit(to: 100) == 100 else { exit(2) }
            // Never lowered.
            guard ProcessControl.raiseFileLimit(to: 10) == 100 else { exit(4) }
            let most = ProcessControl.raiseFileLimit(to: 200)
            exit(most == 200 || most == 128 ? 3 : 5)
        }
    }

    @Test func clocksGoOn() {
        let (first, wall) = (Instant.now(), WallClock.milliseconds())
        let (user, system) = CPUClock.process()
        var spins: UInt64 = 1
        while Instant.now().nanoseconds(since: first) < 20_000_000 { spins &*= 3 }
        #expect(spins != 0)
        #expect(Instant.now() > first)
        #expect(first.nanoseconds(since: Instant.now()) == 0)
        #expect(first.adding(ms: 1_500).nanoseconds - first.nanoseconds == 1_500_000_000)
        #expect(first.adding(ms: 1_500).milliseconds - first.milliseconds == 1_500)
        #expect(WallClock.milliseconds() >= wall + 19)
        #expect(wall > 1_700_000_000_000)
        let after = CPUClock.process()
        #expect(after.userNs + after.systemNs > user + system)
    }

    @Test func systemErrorsSayWhichCallAndWhy() {
        let error = SystemError("bind", code: EADDRINUSE)
        #expect(error.description == "bind: Address already in use")
        errno = ENOENT
        #expect(throws: SystemError("open", code: ENOENT)) { try check(-1, "open") }
        #expect(throws: Never.self) { try check(0, "open") }
    }
}
