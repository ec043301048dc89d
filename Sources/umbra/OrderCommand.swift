import Admin
import CLinux
import Configuration
import CoreLoop

/// `umbra gateway reload | stop`: orders to a running gateway.
enum OrderCommand {
    /// Between two looks at a gateway that ends, and beyond its own time limit.
    private static let lookMs: UInt32 = 100
    private static let graceMs = 5_000

    /// Exit status: 0 done, 1 refused or nobody answers, 2 an invalid configuration.
    static func reload(_ gateway: AdminAddress) -> Int32 {
        let outcome = ControlClient.give(
            gateway.address, "/reload", json: "{}", token: gateway.token)
        if case .done(let body) = outcome {
            Console.out(ControlClient.reloadText(body))
            return 0
        }
        return failed(outcome, gateway, "umbra gateway reload")
    }

    /// Says what kept an order from being carried out.
    static func failed(
        _ outcome: ControlClient.Outcome, _ gateway: AdminAddress, _ command: String
    ) -> Int32 {
        switch outcome {
        case .done: return 0
        case .refused(let reason):
            Console.error("\(command): \(gateway.explained(reason))")
            return 1
        case .invalid(let file, let findings):
            for finding in findings { Console.error(finding.text(file: file)) }
            Console.error("\(command): \(file) is not valid: nothing has changed")
            return 2
        }
    }

    /// Exit status: 0 once it is gone, 1 where it is not, or nobody answers.
    static func stop(_ gateway: AdminAddress) -> Int32 {
        let outcome = ControlClient.give(
            gateway.address, "/drain", json: "{}", token: gateway.token)
        guard case .done(let body) = outcome, let first = ControlClient.draining(body) else {
            return failed(outcome, gateway, "umbra gateway stop")
        }
        let start = Instant.now()
        let end = start.adding(ms: first.drainTimeoutMs + graceMs)
        var saidSecond: UInt64?
        var open = first.connectionsOpen
        while Instant.now() < end {
            let second = Instant.now().nanoseconds(since: start) / 1_000_000_000
            if saidSecond != second {
                saidSecond = second
                let limit = first.drainTimeoutMs / 1_000
                Console.error("stopping: \(open) connection(s) open, \(second) s of \(limit) s")
            }
            usleep(lookMs * 1_000)
            do throws(StatusFault) {
                let now = try ControlClient.draining(gateway.address, token: gateway.token)
                // Another one has been started meanwhile.
                if now.pid != first.pid { return gone() }
                open = now.connectionsOpen
            } catch {
                if ControlClient.isGone(gateway.address) { return gone() }
            }
        }
        Console.error("umbra gateway stop: it still runs (process \(first.pid))")
        return 1
    }

    private static func gone() -> Int32 {
        Console.out("stopped")
        return 0
    }
}
