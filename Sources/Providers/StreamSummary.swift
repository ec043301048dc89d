/// Reads an event stream of any of the APIs as it passes by: the common form of its answer, its
/// usage, and whether it came to its end. Bounded like `AnswerSummary`.
public struct StreamSummary {
    private var reader = EventStreamReader()
    private let dialect: Dialect
    /// Places of the calls in the summary, by the stream's own index.
    private var calls: [Int: Int] = [:]
    private var isUnreadable = false
    /// What has come so far.
    public private(set) var answer = AnswerSummary()
    /// Whether the stream said that it is over.
    public private(set) var isWhole = false

    /// A reader of a stream in `dialect`.
    public init(_ dialect: Dialect) { self.dialect = dialect }

    /// True once something came that cannot be read; nothing further is looked at.
    public var isInvalid: Bool { isUnreadable }

    /// Takes what has come of the stream.
    public mutating func take(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while !isUnreadable, !isWhole {
            switch reader.next(bytes, &position) {
            case .needMore: return
            case .comment: continue
            case .tooLong: isUnreadable = true
            case .event: read()
            }
        }
    }

    private mutating func read() {
        if reader.data.isEmpty { return }
        if reader.data.elementsEqual("[DONE]".utf8) {
            isWhole = true
            return
        }
        guard let document = try? JSONDocument(reader.data), document.root.kind == .object else {
            isUnreadable = true
            return
        }
        let event = document.root
        if let error = event.present("error") {
            answer.error = error["type"]?.string ?? error["code"]?.string ?? "error"
        }
        if let type = event["type"]?.string {
            if dialect == .anthropic {
                readMessages(event, type)
            } else {
                readResponses(event, type)
            }
        } else {
            readChat(event)
        }
    }

    private mutating func readChat(_ chunk: JSONValue) {
        if let model = chunk["model"]?.string { answer.model = model }
        if let pin = chunk["system_fingerprint"]?.string { answer.fingerprint = pin }
        if let usage = TokenUsage(chunk["usage"]) { answer.usage = usage }
        guard let choices = chunk["choices"] else { return }
        for choice in choices.elements where choice["index"]?.integer ?? 0 == 0 {
            if let reason = choice.present("finish_reason") {
                answer.finishReason = FinishReason(chat: reason)
            }
            if let text = choice["text"]?.string { answer.add(text: text) }
            guard let delta = choice["delta"] else { continue }
            if let text = delta["content"]?.string { answer.add(text: text) }
            if let text = delta["reasoning_content"]?.string { answer.add(reasoning: text) }
            if let text = delta["refusal"]?.string { answer.add(refusal: text) }
            guard let calls = delta["tool_calls"] else { continue }
            for call in calls.elements {
                let index = call["index"]?.integer ?? 0
                begin(call: index, call["function"]?["name"])
                addArguments(call["function"]?["arguments"], toCall: index)
            }
        }
    }

    private mutating func readMessages(_ event: JSONValue, _ type: String) {
        switch type {
        case "message_start":
            answer.model = event["message"]?["model"]?.string ?? ""
            answer.usage = TokenUsage(event["message"]?["usage"])
        case "content_block_start":
            let block = event["content_block"]
            if let text = block?["text"]?.string { answer.add(text: text) }
            if block?["type"]?.isText("tool_use") == true {
                begin(call: event["index"]?.integer ?? 0, block?["name"])
            }
        case "content_block_delta":
            let delta = event["delta"]
            if let text = delta?["text"]?.string { answer.add(text: text) }
            if let text = delta?["thinking"]?.string { answer.add(reasoning: text) }
            addArguments(delta?["partial_json"], toCall: event["index"]?.integer ?? 0)
        case "message_delta":
            if let reason = event["delta"]?.present("stop_reason") {
                answer.finishReason = FinishReason(messages: reason)
                answer.isRefusal = answer.finishReason == .contentFilter
            }
            guard let told = event["usage"] else { return }
            if answer.usage == nil { answer.usage = TokenUsage(told) }
            answer.usage?.update(told)
        case "message_stop": isWhole = true
        default: break
        }
    }

    private mutating func readResponses(_ event: JSONValue, _ type: String) {
        switch type {
        case "response.output_text.delta":
            if let text = event["delta"]?.string { answer.add(text: text) }
        case "response.completed", "response.incomplete", "response.failed":
            // The last event holds the whole answer.
            if let response = event["response"] { answer.readResponse(response) }
            isWhole = true
        default: break
        }
    }

    private mutating func begin(call index: Int, _ name: JSONValue?) {
        guard calls[index] == nil, answer.toolCalls.count < Limits.summaryCallsMax else { return }
        calls[index] = answer.toolCalls.count
        answer.add(call: name?.string ?? "")
    }

    private mutating func addArguments(_ text: JSONValue?, toCall index: Int) {
        guard let text = text?.string, let place = calls[index] else { return }
        answer.add(arguments: text, toCall: place)
    }
}
