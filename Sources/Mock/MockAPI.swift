import CoreLoop
import Providers

/// What a stand-in answers to a whole request: who may ask, what the model's name asks for, the
/// rate limits, and the API itself. No I/O; the time is an argument.
struct MockAPI {
    private let options: MockOptions
    private let openAI: OpenAIMock
    private let anthropic: AnthropicMock
    private var count: UInt64 = 0
    /// Flaky models that failed the last time.
    private var hasFailed: Set<String> = []
    private var limits: MockRateLimit

    init(_ options: MockOptions, now: Instant) {
        self.options = options
        openAI = OpenAIMock(seed: options.seed)
        anthropic = AnthropicMock(seed: options.seed)
        limits = MockRateLimit(
            requestsMax: options.requestsPerMinute, tokensMax: options.tokensPerMinute, now: now)
    }

    /// The answer, with the times at which it is to be sent.
    mutating func answer(_ request: MockRequest, now: Instant, wallMs: UInt64) -> MockReply {
        count += 1
        var context = OpenAIMock.Context(
            random: FastRandom(seed: MockText.hash(request.path.utf8, seed: options.seed ^ count)),
            createdSeconds: Int(wallMs / 1_000))
        let requestID = MockText.id(24, &context.random)
        var reply = decide(request, &context, now)
        if options.tokensPerSecond > 0 {
            let tokenMs = 1_000 / options.tokensPerSecond
            reply.intervalMs = tokenMs
            if !reply.streams { reply.delayMs += Double(reply.tokenCount) * tokenMs }
        }
        if reply.isEndless { reply.intervalMs = max(reply.intervalMs, 1) }
        reply.delayMs += options.latencyMs
        reply.fields += fields(requestID, delayMs: reply.delayMs, now, wallMs)
        return reply
    }

    private mutating func decide(
        _ request: MockRequest, _ context: inout OpenAIMock.Context, _ now: Instant
    ) -> MockReply {
        if let refused = authorize(request) { return refused }
        let model = (try? JSONDocument(request.body))?.root["model"]?.string ?? ""
        let tokens = MockText.count(bytes: request.body.count)
        if let seconds = limits.take(tokens: tokens, now: now) {
            var reply = failure(429, "Rate limit reached for requests.")
            reply.fields = [("retry-after", "\(seconds)")]
            return reply
        }
        if let failed = failure(model: model) { return failed }
        var reply: MockReply?
        switch options.dialect {
        case .openAI: reply = openAI.answer(request, &context)
        case .anthropic: reply = anthropic.answer(request, &context)
        }
        guard var reply else {
            return failure(404, "Invalid URL (\(request.method) \(request.path))")
        }
        if reply.status == 200 { spoil(&reply, model) }
        return reply
    }

    private func failure(_ status: Int, _ message: String, code: String? = nil) -> MockReply {
        switch options.dialect {
        case .openAI: OpenAIMock.failure(status, message, code: code)
        case .anthropic: AnthropicMock.failure(status, message)
        }
    }

    private func authorize(_ request: MockRequest) -> MockReply? {
        let bearer = request.field("authorization").flatMap { value in
            value.lowercased().hasPrefix("bearer ") ? String(value.dropFirst(7)) : nil
        }
        let given = options.dialect == .anthropic ? request.field("x-api-key") ?? bearer : bearer
        guard let given, !given.isEmpty else {
            return options.dialect == .openAI
                ? failure(401, "You didn't provide an API key.", code: nil)
                : failure(401, "x-api-key header is required")
        }
        if let key = options.key, key != given {
            return options.dialect == .openAI
                ? failure(401, "Incorrect API key provided.", code: "invalid_api_key")
                : failure(401, "invalid x-api-key")
        }
        return nil
    }

    // MARK: Faults by the model's name

    /// `error-429` fails always, `flaky-429` every second time.
    private mutating func failure(model: String) -> MockReply? {
        guard let dash = model.lastIndex(of: "-"),
            let status = Int(model[model.index(after: dash)...]),
            (400...599).contains(status)
        else { return nil }
        switch model[..<dash] {
        case "error": break
        case "flaky":
            if hasFailed.remove(model) != nil { return nil }
            hasFailed.insert(model)
        default: return nil
        }
        let messages = [
            401: "Incorrect API key provided.", 404: "The model does not exist.",
            429: "Rate limit reached for requests.", 529: "Overloaded",
        ]
        var reply = failure(
            status, messages[status] ?? "The stand-in was asked to fail with \(status).",
            code: status == 429 ? "rate_limit_exceeded" : nil)
        if status == 429 || status == 503 {
            reply.fields = [("retry-after-ms", "20"), ("retry-after", "1")]
        }
        return reply
    }

    /// What goes wrong with an answer that began well.
    private func spoil(_ reply: inout MockReply, _ model: String) {
        switch model {
        case "hang": reply.ending = .never
        case "endless": reply.isEndless = reply.streams && reply.events.count > 2
        case "cut":
            reply.ending = .reset
            reply.events = Array(reply.events.prefix(max(1, reply.events.count / 2)))
        case "html":
            reply = MockReply(
                contentType: "text/html", body: Array("<html><body>Bad Gateway</body></html>".utf8))
        case "invalid-json": reply.body = Array(reply.body.dropLast(reply.body.count / 2))
        case "error-in-stream":
            guard reply.streams else { return }
            reply.events = Array(reply.events.prefix(max(1, reply.events.count / 2)))
            let message = "The server had an error while processing your request."
            var event: [UInt8] = []
            switch options.dialect {
            case .openAI:
                EventStream.append(
                    data: ErrorBody.chat(message: message, type: "server_error", code: nil),
                    to: &event)
            case .anthropic:
                EventStream.append(
                    event: "error",
                    data: ErrorBody.messages(message: message, type: "overloaded_error"),
                    to: &event)
            }
            reply.events.append(event)
        default: break
        }
    }

    // MARK: Fields

    private func fields(
        _ requestID: String, delayMs: Double, _ now: Instant, _ wallMs: UInt64
    ) -> [(String, String)] {
        switch options.dialect {
        case .openAI:
            return [
                ("x-request-id", "req_\(requestID)"), ("openai-version", "2020-10-01"),
                ("openai-organization", "umbra-mock"),
                ("openai-processing-ms", "\(Int(delayMs.rounded(.up)))"),
            ] + limits.openAIFields(now)
        case .anthropic:
            return [
                ("request-id", "req_\(requestID)"), ("anthropic-organization-id", "umbra-mock"),
            ] + limits.anthropicFields(now, wallMs: wallMs)
        }
    }
}

/// Requests and tokens in a window of one minute, and the fields that tell them.
struct MockRateLimit {
    private static let windowMs: UInt64 = 60_000
    private let requestsMax: Int
    private let tokensMax: Int
    private var start: Instant
    private var requests = 0
    private var tokens = 0

    init(requestsMax: Int, tokensMax: Int, now: Instant) {
        self.requestsMax = requestsMax
        self.tokensMax = tokensMax
        start = now
    }

    /// Counts a request; where there is no room, the seconds until there is.
    mutating func take(tokens taken: Int, now: Instant) -> Int? {
        if now.milliseconds - start.milliseconds >= Self.windowMs {
            (start, requests, tokens) = (now, 0, 0)
        }
        guard requests < requestsMax, tokens < tokensMax else {
            return Int((leftMs(now) + 999) / 1_000)
        }
        requests += 1
        tokens += taken
        return nil
    }

    private func leftMs(_ now: Instant) -> UInt64 {
        Self.windowMs - min(Self.windowMs, now.milliseconds - start.milliseconds)
    }

    func openAIFields(_ now: Instant) -> [(String, String)] {
        let left = leftMs(now)
        let reset = left < 1_000 ? "\(left)ms" : "\(left / 1_000)s"
        return [
            ("x-ratelimit-limit-requests", "\(requestsMax)"),
            ("x-ratelimit-limit-tokens", "\(tokensMax)"),
            ("x-ratelimit-remaining-requests", "\(max(0, requestsMax - requests))"),
            ("x-ratelimit-remaining-tokens", "\(max(0, tokensMax - tokens))"),
            ("x-ratelimit-reset-requests", reset), ("x-ratelimit-reset-tokens", reset),
        ]
    }

    func anthropicFields(_ now: Instant, wallMs: UInt64) -> [(String, String)] {
        let reset = MockTime.rfc3339(seconds: Int((wallMs + leftMs(now)) / 1_000))
        return ["requests", "tokens"].flatMap { kind -> [(String, String)] in
            let (most, used) = kind == "requests" ? (requestsMax, requests) : (tokensMax, tokens)
            return [
                ("anthropic-ratelimit-\(kind)-limit", "\(most)"),
                ("anthropic-ratelimit-\(kind)-remaining", "\(max(0, most - used))"),
                ("anthropic-ratelimit-\(kind)-reset", reset),
            ]
        }
    }
}

/// Times for people and clients.
enum MockTime {
    /// A time in UTC, as RFC 3339 writes it. The days by Howard Hinnant's `civil_from_days`.
    static func rfc3339(seconds: Int) -> String {
        let days = seconds / 86_400 + 719_468
        let era = days / 146_097
        let dayOfEra = days - era * 146_097
        let yearOfEra =
            (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
        return "\(year)-\(two(month))-\(two(day))T\(two(hour)):\(two(minute)):\(two(second))Z"
    }
}
