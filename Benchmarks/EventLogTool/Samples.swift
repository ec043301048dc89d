import CoreLoop
import EventLog

/// Decisions as an LLM gateway makes them, all alike but for their numbers.
enum Samples {
    /// Decision number `index` of a log that began at `startMs`; one in ten is blocked, one in
    /// fifty failed at the shadow.
    static func event(_ index: Int, timeMs: UInt64, textBytes: Int = 0) -> DecisionEvent {
        var primary = DecisionEvent.Side(
            provider: "openai", model: "gpt-4o-mini", latencyUs: 834_000 + index % 997,
            status: .success)
        primary.httpStatus = 200
        primary.firstByteUs = 312_000
        primary.requestBytes = 412
        primary.answerBytes = 1_877
        primary.usage = DecisionEvent.Usage(inputTokens: 18, outputTokens: 245)
        primary.finishReason = "stop"
        if textBytes > 0 { primary.response = String(repeating: "x", count: textBytes) }
        var shadow = DecisionEvent.Side(
            provider: "anthropic", model: "claude-sonnet-4-20250514",
            latencyUs: 1_102_000 + index % 499, status: index % 50 == 49 ? .timeout : .success)
        shadow.httpStatus = index % 50 == 49 ? 0 : 200
        shadow.usage = DecisionEvent.Usage(inputTokens: 18, outputTokens: 312)
        let number = UInt64(index)
        var event = DecisionEvent(
            id: (0x0197_0000_0000_7000 | number << 16, 0x8000_0000_0000_0000 | number),
            timestampMs: timeMs, verdict: index % 10 == 9 ? .block : .allow,
            reasonCode: index % 10 == 9 ? "content_filter.match" : "ok",
            requestID: "req-\(index)", configVersion: "1", primary: primary)
        if index % 10 == 9 { event.policy = "content-filter" }
        event.model = "gpt-4o-mini"
        event.route = "default"
        event.shadow = shadow
        event.shadowID = "01970000-0000-7000-8000-\(index)"
        var comparison = DecisionEvent.Comparison()
        comparison.contentSimilarity = 0.87
        comparison.embedder = "lexical-v1"
        event.comparison = comparison
        return event
    }
}
