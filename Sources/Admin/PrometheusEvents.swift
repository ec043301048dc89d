import CoreLoop
import EventLog
import Proxy

/// What the event log's process counted.
extension Prometheus {
    /// The log's counters; nothing where no events are logged.
    func renderEventLog(_ text: inout MetricText) {
        guard let log = board.eventLog else { return }
        func one(_ name: String, _ kind: MetricText.Kind, _ value: UInt64, _ help: String) {
            text.family(name, kind, help)
            text.sample("", value)
        }
        one(
            "umbra_event_log_records_total", .counter, log.value(.appended),
            "Events that have their place in the log.")
        one(
            "umbra_event_log_dropped_total", .counter, log.value(.dropped),
            "Events that were dropped: too much waited for the disk.")
        one(
            "umbra_event_log_refused_total", .counter, log.value(.refused),
            "Events that were none, or too long.")
        one(
            "umbra_event_log_bytes_total", .counter, log.value(.bytesWritten),
            "Bytes written to segments.")
        text.family(
            "umbra_event_log_failures_total", .counter, "Writes and syncs that failed.")
        for (call, counter) in [("write", LogCounter.writeFailures), ("sync", .syncFailures)] {
            text.sample(MetricText.labels(("call", call)), log.value(counter))
        }
        one(
            "umbra_event_log_syncs_total", .counter, log.value(.syncs),
            "Times that the log was made durable.")
        one(
            "umbra_event_log_segments_begun_total", .counter, log.value(.segmentsBegun),
            "Segments begun.")
        one(
            "umbra_event_log_segments_removed_total", .counter, log.value(.segmentsRemoved),
            "Segments that retention removed.")
        one(
            "umbra_event_log_pending_bytes", .gauge, log.value(.pendingBytes),
            "Bytes that wait to be written.")
        let (last, durable) = (log.value(.lastSequence), log.value(.durableSequence))
        one(
            "umbra_event_log_volatile_records", .gauge, last > durable ? last - durable : 0,
            "Records that a power failure would cost.")
    }
}
