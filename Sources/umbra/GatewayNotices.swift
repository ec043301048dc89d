import CoreLoop
import Mirror
import Proxy
import TLS
import Upstream

/// The lines that a gateway says of itself when it starts.
enum GatewayNotices {
    static func start(_ settings: GatewaySettings) {
        Console.log(
            .info,
            "Loaded \(settings.targets.count) provider(s), \(settings.policies.count) policy(ies)")
        for target in settings.targets where target.tls?.skipsVerification == true {
            Console.log(
                .warn,
                "The certificate of target \(target.id) IS NOT CHECKED (insecure_skip_verify)",
                isLimited: false)
        }
        let primary = settings.targets[settings.routes.last!.target].id
        for (place, shadow) in settings.shadows.enumerated() {
            let lane = settings.routes.last!.lanes.first { $0.shadow == place }
            let rate = lane.map { percent($0.sampleRate) } ?? "per route"
            Console.log(
                .info,
                "Traffic mirror: primary=\(primary), shadow=\(shadow.targetID), sample_rate=\(rate)"
            )
            sayModels(shadow)
        }
    }

    private static func sayModels(_ shadow: ShadowSettings) {
        guard !shadow.mappedModels.isEmpty else { return }
        let pairs = shadow.mappedModels.map { "\($0)→\(shadow.modelMapping[$0] ?? "")" }
        Console.log(.info, "Model mapping: \(pairs.joined(separator: ", "))")
    }

    /// Says so where a process may have fewer descriptors than its connections take.
    static func fileLimit(_ limit: Int, of wanted: Int) {
        guard limit < wanted else { return }
        Console.log(
            .warn,
            "The limit of open files (nofile) is \(limit), and could not be raised to the \(wanted) "
                + "that runtime.connections_per_worker may take: accepting will rest earlier")
    }

    static func ready(_ launch: Launch, listen: String) {
        let admin = launch.settings.admin.listen.map { ", admin on \($0.text)" } ?? ""
        Console.log(.info, "Listening on \(listen), \(launch.workers) worker(s)\(admin)")
        Console.log(.info, "Gateway ready")
    }

    private static func percent(_ rate: Double) -> String {
        let millionths = Int((rate * 100_000_000).rounded())
        let whole = millionths / 1_000_000
        var rest = "\(1_000_000 + millionths % 1_000_000)".dropFirst()
        while rest.last == "0" { rest = rest.dropLast() }
        return rest.isEmpty ? "\(whole)%" : "\(whole).\(rest)%"
    }
}
