import CoreLoop
import Proxy

/// What the workers counted about their clients and upstreams.
extension Prometheus {
    func renderRequests(_ text: inout MetricText) {
        let classes: [(code: String, counter: WorkerCounter)] = [
            ("1xx", .answers1xx), ("2xx", .answers2xx), ("3xx", .answers3xx),
            ("4xx", .answers4xx), ("5xx", .answers5xx),
        ]
        text.family(
            "umbra_requests_total", .counter,
            "Requests that got a whole answer, by the class of its status.")
        for (worker, part) in board.workers.enumerated() {
            for (code, counter) in classes {
                let labels = MetricText.labels(("worker", "\(worker)"), ("code", code))
                text.sample(labels, part.counters.value(counter))
            }
        }
        perWorker(
            &text, "umbra_requests_unanswered_total", .counter, .unanswered,
            "Requests that ended without a whole answer: a side went away.")
        perWorker(
            &text, "umbra_interim_answers_total", .counter, .interimAnswers,
            "Answers (1xx) passed on ahead of the final one.")
        perWorker(
            &text, "umbra_gateway_answers_total", .counter, .gatewayAnswers,
            "Answers made by the gateway instead of an upstream.")
        perWorker(
            &text, "umbra_requests_refused_total", .counter, .refusals,
            "Malformed requests that were refused.")
        perWorker(
            &text, "umbra_unauthorized_total", .counter, .unauthorized,
            "Requests without a key of auth.keys: answered 401.")
        let verdicts: [(verdict: String, counter: WorkerCounter)] = [
            ("redact", .policyRedacted), ("escalate", .policyFlagged), ("block", .policyBlocked),
        ]
        text.family(
            "umbra_policy_requests_total", .counter,
            "Requests in which a policy found something, by what became of them.")
        for (worker, part) in board.workers.enumerated() {
            for (verdict, counter) in verdicts {
                let labels = MetricText.labels(("worker", "\(worker)"), ("verdict", verdict))
                text.sample(labels, part.counters.value(counter))
            }
        }
        text.family(
            "umbra_request_duration_seconds", .histogram,
            "From a request's head to the end of its answer; mirrored=ineligible never could be.")
        let sides: [(mirrored: String, part: (WorkerBoard) -> Histogram)] = [
            ("yes", { $0.mirrored }), ("no", { $0.unmirrored }), ("ineligible", { $0.ineligible }),
        ]
        for (mirrored, part) in sides {
            text.histogram(
                MetricText.labels(("mirrored", mirrored)), LiveMeter.sum(board, part),
                bounds: BucketBound.requests)
        }
    }

    func renderConnections(_ text: inout MetricText) {
        let rows: [(name: String, kind: MetricText.Kind, counter: WorkerCounter, help: String)] = [
            ("connections_open", .gauge, .connectionsOpen, "Client connections."),
            ("connections_accepted_total", .counter, .connectionsAccepted, "Accepted."),
            (
                "connections_refused_total", .counter, .connectionsRefused,
                "Answered 503 at the connection limit."
            ),
            (
                "accepts_paused_total", .counter, .acceptsPaused,
                "Times that accepting rested for want of descriptors."
            ),
            ("upstream_connects_total", .counter, .upstreamConnects, "Connections begun."),
            (
                "upstream_connect_failures_total", .counter, .upstreamConnectFailures,
                "Connections that could not be made."
            ),
            (
                "upstream_reused_total", .counter, .upstreamReused,
                "Requests sent on a connection of the pool."
            ),
            (
                "upstream_retries_total", .counter, .upstreamRetries,
                "Requests sent again after a pooled connection turned out dead."
            ),
            (
                "upstream_faults_total", .counter, .upstreamFaults,
                "Exchanges that an upstream broke off or answered wrongly."
            ),
            (
                "upstream_races_total", .counter, .upstreamRaces,
                "Connects begun beside one that takes long, to the other address family."
            ),
            ("upstream_connections_open", .gauge, .upstreamOpen, "Upstream connections."),
            ("upstream_connections_idle", .gauge, .upstreamIdle, "Of these, idle in the pool."),
            ("tunnels_opened_total", .counter, .tunnelsOpened, "Upgrades that became tunnels."),
            ("tunnels_open", .gauge, .tunnelsOpen, "Tunnels now."),
            ("client_bytes_received_total", .counter, .bytesIn, "Bytes read from clients."),
            ("client_bytes_sent_total", .counter, .bytesOut, "Bytes sent to clients."),
        ]
        for row in rows { perWorker(&text, "umbra_" + row.name, row.kind, row.counter, row.help) }
        let timeouts: [(kind: String, counter: WorkerCounter)] = [
            ("head", .timeoutsHead), ("body", .timeoutsBody), ("write", .timeoutsWrite),
            ("idle", .timeoutsIdle), ("connect", .timeoutsConnect), ("answer", .timeoutsAnswer),
        ]
        text.family("umbra_timeouts_total", .counter, "Deadlines that passed, by kind.")
        for (worker, part) in board.workers.enumerated() {
            for (kind, counter) in timeouts {
                let labels = MetricText.labels(("worker", "\(worker)"), ("kind", kind))
                text.sample(labels, part.counters.value(counter))
            }
        }
    }

    func renderWorkerResources(_ text: inout MetricText) {
        perWorker(&text, "umbra_blocks_taken", .gauge, .blocksTaken, "Blocks in use.")
        perWorker(
            &text, "umbra_blocks_taken_high", .gauge, .blocksTakenHigh, "Most blocks ever in use.")
        perWorker(
            &text, "umbra_blocks_exhausted_total", .counter, .blocksExhausted,
            "Times that a block was wanted and none was free.")
        perWorker(&text, "umbra_loop_turns_total", .counter, .turns, "Turns of the event loop.")
        perWorker(
            &text, "umbra_loop_events_total", .counter, .events, "Events that the loop handled.")
        text.family(
            "umbra_loop_turn_seconds", .histogram,
            "How long a turn with events kept the loop from its next wait: its lag.")
        for (worker, part) in board.workers.enumerated() {
            text.histogram(
                MetricText.labels(("worker", "\(worker)")), part.turnTime.snapshot(),
                bounds: BucketBound.turns)
        }
        perWorker(
            &text, "umbra_log_records_total", .counter, .logRecords, "Access log lines handed on.")
        text.family(
            "umbra_log_dropped_total", .counter,
            "Access log lines that were lost: the thread was behind, or the file took no more.")
        for (worker, part) in board.workers.enumerated() {
            for (reason, counter) in [
                ("queue_full", WorkerCounter.logDropped), ("write_failed", .logUnwritten),
            ] {
                text.sample(
                    MetricText.labels(("worker", "\(worker)"), ("reason", reason)),
                    part.counters.value(counter))
            }
        }
    }
}
