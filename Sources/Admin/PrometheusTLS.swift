import CoreLoop
import Mirror
import Proxy
import TLS
import Upstream

/// What workers and shadow processes counted about TLS.
extension Prometheus {
    /// Handshakes of all workers and shadow processes, by side.
    func renderTLS(_ text: inout MetricText) {
        func sum(_ counter: WorkerCounter) -> UInt64 {
            board.workers.reduce(0) { $0 + $1.counters.value(counter) }
        }
        let shadows = (0..<board.mirror.shape.shadowProcesses).flatMap { process in
            (0..<board.mirror.shape.shadows).map {
                board.mirror.gauges(process: process, shadow: $0)
            }
        }
        func shadowSum(_ gauge: ShadowGauge) -> UInt64 {
            shadows.reduce(0) { $0 + $1.value(gauge) }
        }
        let ends: [(side: String, result: String, value: UInt64)] = [
            ("client", "ok", sum(.tlsClientDone)), ("client", "failed", sum(.tlsClientFailed)),
            ("client", "timeout", sum(.tlsClientTimeout)),
            ("client", "plain_http", sum(.tlsClientPlain)),
            ("upstream", "ok", sum(.tlsUpstreamDone)),
            ("upstream", "failed", sum(.tlsUpstreamFailed)),
            ("upstream", "timeout", sum(.tlsUpstreamTimeout)),
            ("shadow", "ok", shadowSum(.tlsHandshakes)),
            ("shadow", "failed", shadowSum(.tlsFailures)),
        ]
        text.family("umbra_tls_handshakes_total", .counter, "TLS handshakes, by side and end.")
        for end in ends {
            text.sample(MetricText.labels(("side", end.side), ("result", end.result)), end.value)
        }
        text.family(
            "umbra_tls_resumed_total", .counter, "Of those that succeeded: took up a session.")
        let resumed = [
            ("client", sum(.tlsClientResumed)), ("upstream", sum(.tlsUpstreamResumed)),
            ("shadow", shadowSum(.tlsResumed)),
        ]
        for (side, value) in resumed { text.sample(MetricText.labels(("side", side)), value) }
        text.family(
            "umbra_tls_versions_total", .counter, "Of those that succeeded, by version.")
        let versions = [
            ("client", sum(.tlsClientDone), sum(.tlsClient13)),
            ("upstream", sum(.tlsUpstreamDone), sum(.tlsUpstream13)),
        ]
        for (side, all, newer) in versions {
            // Read one after the other while a worker counts: never below 0.
            let older = all > newer ? all - newer : 0
            text.sample(MetricText.labels(("side", side), ("version", "1.2")), older)
            text.sample(MetricText.labels(("side", side), ("version", "1.3")), newer)
        }
        text.family(
            "umbra_tls_unverified_targets", .gauge,
            "Targets whose certificate is not checked (insecure_skip_verify).")
        let unverified = settings.targets.count { $0.tls?.skipsVerification == true }
        text.sample("", UInt64(unverified))
    }
}
