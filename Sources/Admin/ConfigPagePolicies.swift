import EventLog
import Policy
import Proxy
import Upstream

/// The parts of `/config` that say who may ask, and what.
extension ConfigPage {
    var auth: JSONText {
        guard let auth = settings.auth else { return .text("none") }
        let keys = auth.keys.map { key -> JSONText in
            .object([("name", .text(key.name)), keySource(key.source)])
        }
        return .object([("keys", .list(keys))])
    }

    var pack: JSONText {
        settings.pack.map {
            .object([("name", .text($0.name)), ("version", .text($0.version))])
        } ?? .null
    }

    /// As the list form has them.
    var policies: JSONText { .list(settings.policies.map { policy($0) }) }

    private func policy(_ policy: PolicySettings) -> JSONText {
        let rest: [(String, JSONText)] =
            switch policy.kind {
            case .contentFilter(let filter):
                [
                    ("type", .text(PolicySettings.KindName.contentFilter.rawValue)),
                    ("action", .text(filter.action.rawValue)),
                    ("patterns", .list(filter.patterns.map { pattern($0) })),
                ]
            case .piiDetector(let detector):
                [
                    ("type", .text(PolicySettings.KindName.piiDetector.rawValue)),
                    ("action", .text(detector.action.rawValue)),
                    (
                        "detect",
                        .list(
                            PIIKinds.names.filter { detector.kinds.contains($0.kind) }.map {
                                .text($0.name)
                            })
                    ),
                ]
            case .auditLogger:
                [("type", .text(PolicySettings.KindName.auditLogger.rawValue))]
            }
        return .object([("name", .text(policy.name))] + rest)
    }

    private func pattern(_ pattern: ContentFilterSettings.Pattern) -> JSONText {
        switch pattern {
        case .literal(let text): .text(text)
        case .expression(let text): .object([("regex", .text(text))])
        }
    }

    /// What `traffic_mirror` says of the comparison, for all shadows.
    var comparison: [(String, JSONText)] {
        let metrics = CompareMetrics.names.filter { settings.compareMetrics.contains($0.metric) }
        return [
            ("log_primary_response", .flag(settings.logsPrimaryResponse)),
            ("compare_metrics", .list(metrics.map { .text($0.name) })),
            ("capture_bytes", .integer(UInt64(max(0, settings.captureBytes)))),
        ]
    }
}
