import CoreLoop
import EventLog
import Proxy

/// What the event log's process counted.
extension Prometheus {
    /// The log's counters; nothing where no events are logged.
    func renderEventLog(_ text: inout MetricText) {
        guard let log = board.eventLog else { return }
        let rows: [(name: String, counter: LogCounter, help: String)] = [
            ("records", .appended, "Events that have their place in the log."),
            ("dropped", .dropped, "Events that were dropped: too much waited for the disk."),
            ("refused", .refused, "Events that were none, or too long."),
            (
                "captures_dropped", .capturesDropped,
                "Captures of LLM exchanges that were lost: their events lack what they said."
            ),
            ("bytes", .bytesWritten, "Bytes written to segments."),
            ("syncs", .syncs, "Times that the log was made durable."),
            ("segments_begun", .segmentsBegun, "Segments begun."),
            ("segments_removed", .segmentsRemoved, "Segments that retention removed."),
        ]
        for row in rows {
            text.family("umbra_event_log_\(row.name)_total", .counter, row.help)
            text.sample("", log.value(row.counter))
        }
        text.family(
            "umbra_event_log_failures_total", .counter, "Writes and syncs that failed.")
        for (call, counter) in [("write", LogCounter.writeFailures), ("sync", .syncFailures)] {
            text.sample(MetricText.labels(("call", call)), log.value(counter))
        }
        text.family(
            "umbra_event_log_pending_bytes", .gauge, "Bytes that wait to be written.")
        text.sample("", log.value(.pendingBytes))
        let (last, durable) = (log.value(.lastSequence), log.value(.durableSequence))
        text.family(
            "umbra_event_log_volatile_records", .gauge,
            "Records that a power failure would cost.")
        text.sample("", last > durable ? last - durable : 0)
    }
}
