import Admin
import CLinux
import CoreLoop
import Proxy

/// `umbra mirror`: the switch and the rates of a running gateway.
enum MirrorCommand {
    private static let help = """
        Usage:
          umbra mirror off|on [--route NAME] [--for TIME]
          umbra mirror rate R [--route NAME] [--for TIME]
          umbra mirror status [--json]
            off     stop mirroring: no further copy is begun, in no process; of one route, or all
            on      mirror as configured; without --route it also takes every order about routes away
            rate R  mirror this share (0.1, or 10%) of one route, or of all. It does not switch on what
                    'off' without --route has switched off.
            --route NAME           one route, by its name in the configuration
            --for TIME             90s, 30m, 2h or 1d (at most 7d): then what held before holds again
        \(AdminAddress.help)
          Orders act at once and outlive a reload, not a restart. Exit status: 0 done, 1 nobody answers or
          refused, 2 wrong usage.
        """

    static func run(_ words: [String]) -> Int32 {
        do {
            return try order(words)
        } catch {
            Console.error("umbra mirror: \(error.text)")
            return 2
        }
    }

    private static func order(_ words: [String]) throws(Arguments.Fault) -> Int32 {
        var rest = words.dropFirst()
        var rate: Double?
        switch words.first {
        case "off", "on", "status": break
        case "rate" where !rest.contains("--help") && !rest.contains("-h"):
            rate = try share(rest.popFirst() ?? "")
        case "rate", "--help", "-h":
            Console.out(help)
            return 0
        default:
            Console.error("umbra mirror: the commands are off, on, rate and status.\n\n\(help)")
            return 2
        }
        let action = words[0]
        let isStatus = action == "status"
        let arguments = try Arguments(
            Array(rest), valued: AdminAddress.options.union(isStatus ? [] : ["--route", "--for"]),
            flags: isStatus ? ["--json"] : [])
        if arguments.has("--help") {
            Console.out(help)
            return 0
        }
        let time = arguments.value("--for")
        if let time {
            guard let ms = SpanText.milliseconds(time), (1...MirrorOrder.forMsMax).contains(ms)
            else {
                throw Arguments.Fault(
                    text: "--for takes a time such as 90s, 30m, 2h or 1d, at most "
                        + SpanText.text(ms: MirrorOrder.forMsMax))
            }
        }
        guard let gateway = try AdminAddress.read(arguments) else { return 2 }
        if isStatus { return status(gateway, asJSON: arguments.has("--json")) }
        let outcome = ControlClient.give(
            gateway.address, "/mirror?format=text",
            json: ControlClient.mirrorOrder(
                action, rate: rate, route: arguments.value("--route"), for: time),
            token: gateway.token)
        if case .done(let text) = outcome {
            Console.write(text, to: STDOUT_FILENO)
            return 0
        }
        return OrderCommand.failed(outcome, gateway, "umbra mirror \(action)")
    }

    private static func share(_ text: String) throws(Arguments.Fault) -> Double {
        let isPercent = text.hasSuffix("%")
        let digits = isPercent ? String(text.dropLast()) : text
        let isPlain = digits.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2E }
        guard isPlain, let number = Double(digits), number <= (isPercent ? 100 : 1) else {
            throw Arguments.Fault(text: "rate takes a share from 0 to 1, as 0.1 or 10%")
        }
        return isPercent ? number / 100 : number
    }

    private static func status(_ gateway: AdminAddress, asJSON: Bool) -> Int32 {
        do throws(StatusFault) {
            let text = try StatusClient.page(
                gateway.address, "/mirror", token: gateway.token, asJSON: asJSON)
            Console.write(text, to: STDOUT_FILENO)
            return 0
        } catch {
            Console.error("umbra mirror status: \(gateway.explained(error.description))")
            return 1
        }
    }
}
