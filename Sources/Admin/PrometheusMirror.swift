import CoreLoop
import Mirror
import Proxy

/// What the workers and the shadow processes counted about copies.
extension Prometheus {
    private func shadowLabels(_ shadow: Int) -> String {
        MetricText.labels(("shadow", settings.shadows[shadow].targetID))
    }

    func renderLanes(_ text: inout MetricText, _ reading: MirrorReading) {
        func each(_ name: String, _ help: String, _ value: (MirrorReading.Lane) -> UInt64) {
            text.family(name, .counter, help)
            for lane in reading.lanes {
                let labels = MetricText.labels(
                    ("worker", "\(lane.worker)"), ("route", routeNames[lane.route]),
                    ("shadow", settings.shadows[lane.shadow].targetID))
                text.sample(labels, value(lane))
            }
        }
        each("umbra_mirror_eligible_total", "Requests that the shadow could have got.") {
            $0.eligible
        }
        each("umbra_mirror_sampled_total", "Of these, the ones that sampling chose.") {
            $0.sampled
        }
        each("umbra_mirror_not_sampled_total", "Of these, the ones that sampling left out.") {
            $0.notSampled
        }
    }

    func renderCopies(_ text: inout MetricText, _ reading: MirrorReading) {
        text.family("umbra_mirror_sent_total", .counter, "Copies that went to the shadow.")
        for (shadow, part) in reading.shadows.enumerated() {
            text.sample(shadowLabels(shadow), part.sent)
        }
        text.family(
            "umbra_mirror_dropped_total", .counter, "Sampled requests not sent, by reason.")
        for (shadow, part) in reading.shadows.enumerated() {
            for reason in DropReason.allCases {
                let labels = MetricText.labels(
                    ("shadow", settings.shadows[shadow].targetID), ("reason", reason.label))
                text.sample(labels, part.dropped[reason.rawValue])
            }
        }
        text.family(
            "umbra_mirror_results_total", .counter, "What became of the copies that were sent.")
        for (shadow, part) in reading.shadows.enumerated() {
            for result in CopyResult.allCases {
                let labels = MetricText.labels(
                    ("shadow", settings.shadows[shadow].targetID), ("result", result.label))
                text.sample(labels, part.results[result.rawValue])
            }
        }
        text.family(
            "umbra_mirror_outstanding", .gauge,
            "Copies handed over and not yet accounted for: sampled - sent - dropped at rest.")
        for (shadow, part) in reading.shadows.enumerated() {
            text.sample(shadowLabels(shadow), part.outstanding)
        }
    }

    func renderTaps(_ text: inout MetricText) {
        let rows: [(name: String, kind: MetricText.Kind, gauge: TapGauge, help: String)] = [
            (
                "bytes_copied_total", .counter, .bytesCopied,
                "Bytes that the tee had to copy; 0 for bodies that go out unchanged."
            ),
            (
                "ring_depth_high", .gauge, .ringDepthHigh,
                "Most cells that ever waited in the ring to the shadow process."
            ),
            (
                "blocks_on_loan", .gauge, .blocksOnLoan,
                "What is lent to copies: each head, and each block of a body."
            ),
            ("blocks_on_loan_high", .gauge, .blocksOnLoanHigh, "Most ever lent."),
            ("copies_out", .gauge, .ticketsUsed, "Copies that have not come back."),
            ("wakes_total", .counter, .wakes, "Times that a sleeping shadow process was woken."),
        ]
        for row in rows {
            perWorker(&text, "umbra_mirror_" + row.name, row.kind, row.help) {
                board.mirror.tap(worker: $0).value(row.gauge)
            }
        }
    }

    func renderShadows(_ text: inout MetricText, _ now: Instant) {
        let gauges = settings.shadows.indices.map { ShadowGauges(board.mirror, shadow: $0) }
        let sums: [(name: String, kind: MetricText.Kind, gauge: ShadowGauge, help: String)] = [
            ("in_flight", .gauge, .inFlight, "Copies at the shadow now."),
            ("connections_open", .gauge, .connectionsOpen, "Connections to the shadow."),
            ("connections_idle", .gauge, .connectionsIdle, "Of these, idle in the pool."),
            ("connects_total", .counter, .connects, "Connections made to the shadow."),
            (
                "connect_failures_total", .counter, .connectFailures,
                "Connections to the shadow that could not be made."
            ),
            ("breaker_opened_total", .counter, .breakerOpened, "Times that the breaker opened."),
            ("answer_bytes_total", .counter, .answerBytes, "Bytes of answers that were drained."),
        ]
        for row in sums {
            text.family("umbra_mirror_" + row.name, row.kind, row.help)
            for (shadow, part) in gauges.enumerated() {
                text.sample(shadowLabels(shadow), part.sum(row.gauge))
            }
        }
        renderShadowStates(&text, gauges, now)
        text.family(
            "umbra_mirror_guard_held", .gauge,
            "1 while mirroring is held because it slowed the users' requests.")
        text.sample("", board.mirror.control.value(.guardHolds))
        text.family("umbra_mirror_guard_holds_total", .counter, "Times that it was held.")
        text.sample("", board.mirror.control.value(.guardHoldsTotal))
        text.family(
            "umbra_shadow_duration_seconds", .histogram,
            "From a copy's first byte to the end of the shadow's answer; whole answers only.")
        for shadow in settings.shadows.indices {
            var total = HistogramSnapshot()
            for process in 0..<board.mirror.shape.shadowProcesses {
                total.add(board.mirror.latency(process: process, shadow: shadow).snapshot())
            }
            text.histogram(shadowLabels(shadow), total, bounds: BucketBound.requests)
        }
    }

    /// What cannot be summed over the shadow processes.
    private func renderShadowStates(
        _ text: inout MetricText, _ gauges: [ShadowGauges], _ now: Instant
    ) {
        func each(_ gauge: ShadowGauge, _ sample: (String, UInt64) -> Void) {
            for (shadow, part) in gauges.enumerated() {
                for (process, values) in part.processes.enumerated() {
                    let labels = MetricText.labels(
                        ("shadow", settings.shadows[shadow].targetID), ("process", "\(process)"))
                    sample(labels, values[gauge.rawValue])
                }
            }
        }
        text.family(
            "umbra_mirror_in_flight_high", .gauge, "Most copies that were ever at the shadow.")
        each(.inFlightHigh) { text.sample($0, $1) }
        text.family(
            "umbra_mirror_breaker_state", .gauge, "0 closed, 1 open, 2 half open.")
        each(.breakerState) { text.sample($0, $1) }
        text.family(
            "umbra_mirror_cool_down_seconds", .gauge,
            "How long copies are still held back because the shadow asked for a pause.")
        each(.coolDownUntil) { labels, until in
            text.sample(
                labels, nanoseconds: Instant(nanoseconds: until).nanoseconds(since: now))
        }
    }

    func renderMeter(_ text: inout MetricText) {
        text.family("umbra_mirror_enabled", .gauge, "1 where mirroring is on.")
        text.sample("", board.mirror.control.value(.enabled) == 0 ? 0 : 1)
        text.family(
            "umbra_mirror_override", .gauge,
            "1 where an operator's order holds for the route's mirroring.")
        for (place, route) in settings.routes.enumerated() where !route.lanes.isEmpty {
            let word = board.mirror.overrides[place].value(.word)
            text.sample(
                MetricText.labels(("route", routeNames[place])),
                MirrorOverride(word: word) == .configured ? 0 : 1)
        }
        let meter = LiveMeter(board)
        text.family(
            "umbra_mirror_p99_seconds", .gauge,
            "P99 of eligible requests; only with 1000 samples or more.")
        if let p99 = meter.mirroredP99Ns {
            text.sample(MetricText.labels(("mirrored", "yes")), ratio: p99 / 1e9)
        }
        if let p99 = meter.unmirroredP99Ns {
            text.sample(MetricText.labels(("mirrored", "no")), ratio: p99 / 1e9)
        }
        text.family(
            "umbra_mirror_p99_ratio", .gauge,
            "P99 of mirrored over P99 of unmirrored requests: what mirroring costs the users.")
        if let ratio = meter.p99Ratio { text.sample(ratio: ratio) }
    }
}
