/// Why a sampled request was not sent to the shadow. `sampled = sent + Σ dropped{reason}`.
public enum DropReason: Int, CaseIterable, Sendable {
    /// The request's body is longer than `max_body_bytes`.
    case bodyTooLarge
    /// `blocks_on_loan_max` heads and blocks are already lent.
    case loanLimit
    /// The ring to the shadow process is full.
    case queueFull
    /// No record for another copy: `ring_depth` are under way, or this one is in too many pieces.
    case captureLimit
    /// `limits.in_flight` copies are at the shadow already.
    case inFlightLimit
    /// `limits.qps` sends within the last second.
    case qpsCap
    /// The breaker is open after repeated failures.
    case breakerOpen
    /// The shadow asked for a pause: 429 or 503 with Retry-After, or 529 of an LLM provider.
    case coolDown
    /// No connection to the shadow could be made.
    case connectFailed
    /// The shadow's certificate does not hold, or its TLS handshake failed.
    case tlsFailed
    /// The client went away before its request was whole; with `cancel_with_client`, before its
    /// copy was sent.
    case clientAborted
    /// No shadow process is attached.
    case shadowDown
    /// The shadow process died before it sent the copy.
    case shadowRestarted
    /// The worker died before the copy was sent.
    case workerRestarted
    /// The copy waited longer than the shadow's timeout.
    case stale
    /// The copy's head could not be read or sanitised.
    case invalidCopy
    /// Mirroring was switched off before the copy's first byte.
    case switchedOff
    /// The shadow speaks another API, and `model_mapping` has nothing for the model asked for.
    case unmappedModel
    /// The body is no request that can be read, or none that the shadow's API has a form for.
    case untranslatable
    /// It could do something besides being answered, which `safety.tools` does not allow.
    case sideEffects
    /// The bodies that the shadow process holds for other copies leave no room for this one's.
    case memoryLimit

    /// The label of `umbra_mirror_dropped_total`.
    public var label: String {
        switch self {
        case .bodyTooLarge: "body_too_large"
        case .loanLimit: "loan_limit"
        case .queueFull: "queue_full"
        case .captureLimit: "capture_limit"
        case .inFlightLimit: "in_flight_limit"
        case .qpsCap: "qps_cap"
        case .breakerOpen: "breaker_open"
        case .coolDown: "cool_down"
        case .connectFailed: "connect_failed"
        case .tlsFailed: "tls_failed"
        case .clientAborted: "client_aborted"
        case .shadowDown: "shadow_down"
        case .shadowRestarted: "shadow_restarted"
        case .workerRestarted: "worker_restarted"
        case .stale: "stale"
        case .invalidCopy: "invalid_copy"
        case .switchedOff: "switched_off"
        case .unmappedModel: "unmapped_model"
        case .untranslatable: "untranslatable"
        case .sideEffects: "side_effects"
        case .memoryLimit: "memory_limit"
        }
    }
}

/// What became of a copy that was sent. `sent = ok + error + timeout + cancelled`.
public enum CopyResult: Int, CaseIterable, Sendable {
    /// A whole, well-formed answer with a status below 500.
    case ok
    /// A status of 500 or above, a reset, a malformed or too long answer.
    case error
    case timeout
    /// Given up by us: the shadow or worker process ended, or with `cancel_with_client` the client
    /// left.
    case cancelled

    /// The label of `umbra_mirror_results_total`.
    public var label: String {
        switch self {
        case .ok: "ok"
        case .error: "error"
        case .timeout: "timeout"
        case .cancelled: "cancelled"
        }
    }
}
