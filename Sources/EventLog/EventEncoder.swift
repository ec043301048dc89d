extension DecisionEvent {
    /// Writes the event as one JSON object into `memory`, and returns its bytes; nil where it does
    /// not fit. `Limits.recordBytesMax` bytes hold every event whose texts other than the prompt
    /// and the answers are of ordinary length; those are cut to what is left, and marked.
    ///
    /// What readers filter by comes first: they stop at what they looked for.
    public func encode(into memory: UnsafeMutableRawBufferPointer) -> UnsafeRawBufferPointer? {
        var line = JSONLine(memory)
        line.open()
        line.member("id", "evt_", id: id)
        line.member("event_type", word: "decision")
        line.member("timestamp", moment: timestampMs)
        line.member("verdict", word: verdict.label)
        line.member("reason_code", reasonCode)
        if let policy { line.member("policy", policy) }
        if !policies.isEmpty { line.member("policies", policies) }
        if let model { line.member("model", model) }
        line.member("provider", primary.provider)
        line.member("request_id", requestID)
        if let shadowID { line.member("shadow_id", shadowID) }
        if let route { line.member("route", route) }
        line.member("config_version", configVersion)
        if let requestHash { line.member("req_hash", requestHash) }
        primary.encodeFacts(into: &line)
        if !primaryTranslationLoss.isEmpty {
            line.member("primary_translation_loss", primaryTranslationLoss)
        }
        if let dropReason { line.member("drop_reason", dropReason) }
        if !translationLoss.isEmpty { line.member("translation_loss", translationLoss) }
        if let shadow {
            line.open("shadow")
            line.member("provider", shadow.provider)
            shadow.encodeFacts(into: &line)
            line.close()
            encodePair(shadow, &line)
        } else if let shadowProvider {
            line.open("shadow")
            line.member("provider", shadowProvider)
            line.close()
        }
        encodeTexts(&line)
        line.close()
        return line.bytes
    }

    /// The two sides and their differences, in the form of the surface page.
    private func encodePair(_ shadow: Side, _ line: inout JSONLine) {
        if let embedder = comparison?.embedder { line.member("embedder", embedder) }
        line.open("traffic_mirror")
        line.open("primary")
        primary.encodePaired(into: &line)
        line.close()
        line.open("shadow")
        shadow.encodePaired(into: &line)
        line.close()
        if let comparison {
            line.open("comparison")
            if comparison.latency {
                line.member("latency_diff_ms", thousandths: shadow.latencyUs - primary.latencyUs)
            }
            if comparison.tokens, let a = primary.usage, let b = shadow.usage {
                line.member("token_count_diff", b.outputTokens - a.outputTokens)
            }
            if let similarity = comparison.contentSimilarity {
                line.member("content_similarity", similarity)
            }
            line.close()
        }
        line.close()
    }

    private func encodeTexts(_ line: inout JSONLine) {
        guard prompt != nil || primary.response != nil || shadow?.response != nil else { return }
        // Each takes at most a third of what is left; the closing braces have their room.
        func put(_ name: StaticString, _ text: String?, _ after: Int) {
            guard let text else { return }
            line.open(name)
            let reserve = 256 + after * Limits.textBytesMax
            let isCut = line.member(
                "text", cutting: text, limit: Limits.textBytesMax, reserve: reserve)
            if isCut { line.member("truncated", true) }
            line.close()
        }
        put("prompt", prompt, 2)
        line.open("responses")
        put("primary", primary.response, 1)
        put("shadow", shadow?.response, 0)
        line.close()
    }
}

extension DecisionEvent.Side {
    /// What is known of this side alone.
    fileprivate func encodeFacts(into line: inout JSONLine) {
        line.member("http_status", httpStatus)
        line.member("latency_ms", thousandths: latencyUs)
        if let firstByteUs { line.member("ttft_ms", thousandths: firstByteUs) }
        if requestBytes != nil || answerBytes != nil {
            line.open("bytes")
            if let requestBytes { line.member("request", requestBytes) }
            if let answerBytes { line.member("answer", answerBytes) }
            line.close()
        }
        if let usage {
            line.open("usage")
            line.member("input_tokens", usage.inputTokens)
            line.member("output_tokens", usage.outputTokens)
            if usage.isEstimated { line.member("estimated", true) }
            line.close()
        }
        if let modelRevision { line.member("model_rev", modelRevision) }
        if let indexHash { line.member("index_hash", indexHash) }
        if let finishReason { line.member("finish_reason", finishReason) }
        if isRefusal { line.member("refusal", true) }
        if !toolCalls.isEmpty { line.member("tool_calls", toolCalls) }
        if !rateLimit.isEmpty {
            line.open("rate_limit")
            for field in rateLimit { line.member(named: field.name, field.value) }
            line.close()
        }
        if let retryAfterSeconds { line.member("retry_after", retryAfterSeconds) }
    }

    /// What is shown beside the other side.
    fileprivate func encodePaired(into line: inout JSONLine) {
        line.member("provider", provider)
        if let model { line.member("model", model) }
        line.member("latency_ms", thousandths: latencyUs)
        if let usage {
            line.member("input_tokens", usage.inputTokens)
            line.member("output_tokens", usage.outputTokens)
            if usage.isEstimated { line.member("estimated", true) }
        }
        line.member("status", word: status.label)
    }
}
