/// Translates the event stream of a messages API into that of chat completions, event by event,
/// wherever the input is split.
///
/// A provider that fails within the stream, sends what cannot be read, or ends too early makes the
/// stream end in a `data` object with an `error`, at which clients raise, and without `[DONE]`.
public struct ChatStream {
    private var reader = EventStreamReader()
    private let shape: AnswerShape
    private let created: Int
    private var step = StreamStep.goesOn
    /// What every chunk begins and ends with; empty before the message has begun.
    private var opening: [UInt8] = []
    private var closing: [UInt8] = []
    private var block = Block.none
    /// Calls of tools so far.
    private var callCount = 0
    private var callHasArguments = false
    private var hasFinished = false
    private var list = LossList()
    /// What the provider has counted so far.
    public private(set) var usage: TokenUsage?

    private enum Block { case none, text, thinking, call, formed, other }

    /// The answer to a request of `shape`; `created` is the time in seconds since 1970.
    public init(_ shape: AnswerShape, created: Int) {
        self.shape = shape
        self.created = created
    }

    /// What was lost so far.
    public var losses: [TranslationLoss] { list.all }

    /// Takes what has come of the stream and appends to `output` what it makes.
    public mutating func take(
        _ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]
    ) -> StreamStep {
        var position = 0
        while step == .goesOn {
            switch reader.next(bytes, &position) {
            case .needMore: return step
            case .comment: continue
            case .tooLong: fail("an event of the provider's is too long", "invalid_answer", &output)
            case .event: read(into: &output)
            }
        }
        return step
    }

    /// The provider's stream ended.
    public mutating func end(into output: inout [UInt8]) -> StreamStep {
        if step == .goesOn {
            fail("the provider's stream ended before the answer did", "stream_cut", &output)
        }
        return step
    }

    private mutating func fail(_ message: String, _ code: String, _ output: inout [UInt8]) {
        step = .failed
        let body = ErrorBody.chat(message: message, type: "upstream_error", code: code)
        EventStream.append(data: body, to: &output)
    }

    // MARK: Events

    private mutating func read(into output: inout [UInt8]) {
        // Some servers keep a connection alive with events of nothing.
        if reader.data.isEmpty { return }
        guard let document = try? JSONDocument(reader.data) else {
            return fail("an event of the provider's cannot be read", "invalid_answer", &output)
        }
        let event = document.root
        switch event["type"]?.string {
        case "message_start": begin(event["message"], &output)
        case "content_block_start": beginBlock(event["content_block"], &output)
        case "content_block_delta": takeDelta(event["delta"], &output)
        case "content_block_stop": endBlock(&output)
        case "message_delta": finish(event, &output)
        case "message_stop": stop(&output)
        case "ping": EventStream.append(comment: "ping", to: &output)
        case "error":
            step = .failed
            let error = event["error"]
            let body = ErrorBody.chat(
                message: error?["message"]?.string ?? "the provider failed",
                type: "upstream_error", code: error?["type"]?.string ?? "api_error")
            EventStream.append(data: body, to: &output)
        // What a later version of the API sends is for clients that know it.
        default: break
        }
    }

    private mutating func begin(_ message: JSONValue?, _ output: inout [UInt8]) {
        guard opening.isEmpty, let message else { return }
        usage = TokenUsage(message["usage"])
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("id")
        ChatID.write(message["id"], to: &writer)
        writer.member("object", "chat.completion.chunk")
        writer.member("created", created)
        writer.name("model")
        if let model = message["model"], model.kind == .string {
            writer.value(model)
        } else {
            writer.value("")
        }
        opening = Array("data: ".utf8) + writer.bytes
        closing = Array((shape.includesUsage ? ",\"usage\":null}\n\n" : "}\n\n").utf8)
        chunk(&output) { delta in
            delta.member("role", "assistant")
            delta.member("content", "")
            delta.null("refusal")
        }
    }

    private mutating func beginBlock(_ started: JSONValue?, _ output: inout [UInt8]) {
        switch started?["type"]?.string {
        case "text":
            block = .text
            if let text = started?["text"], text.kind == .string, !text.isEmptyText {
                textChunk("content", text, &output)
            }
        case "thinking": block = .thinking
        case "tool_use":
            if let tool = shape.schemaTool, started?["name"]?.string == tool {
                block = .formed
                return
            }
            guard callCount < Limits.blocksMax else {
                return fail("the answer calls too many tools", "invalid_answer", &output)
            }
            block = .call
            callHasArguments = false
            let index = callCount
            callCount += 1
            let shape = shape
            callChunk(index, &output) { call in
                call.member("id", started?["id"]?.string ?? "")
                call.member("type", "function")
                call.object("function") { function in
                    function.name("name")
                    ChatID.writeToolName(started?["name"], shape, to: &function)
                    function.member("arguments", "")
                }
            }
        case let type:
            block = .other
            list.add(.dropped, "content.\(type ?? "")")
        }
    }

    private mutating func takeDelta(_ delta: JSONValue?, _ output: inout [UInt8]) {
        switch (block, delta?["type"]?.string) {
        case (.text, "text_delta"): textChunk("content", delta?["text"], &output)
        case (.thinking, "thinking_delta"):
            textChunk("reasoning_content", delta?["thinking"], &output)
        case (.formed, "input_json_delta"):
            guard let text = delta?["partial_json"], !text.isEmptyText else { return }
            callHasArguments = true
            textChunk("content", text, &output)
        case (.call, "input_json_delta"):
            guard let text = delta?["partial_json"], text.kind == .string, !text.isEmptyText
            else { return }
            callHasArguments = true
            argumentsChunk(text, &output)
        case (_, "citations_delta"): list.add(.dropped, "content.text.citations")
        default: break
        }
    }

    private mutating func endBlock(_ output: inout [UInt8]) {
        // A tool without arguments has an empty object all the same.
        if block == .call, !callHasArguments {
            callChunk(callCount - 1, &output) { call in
                call.object("function") { $0.member("arguments", "{}") }
            }
        }
        block = .none
    }

    private mutating func finish(_ event: JSONValue, _ output: inout [UInt8]) {
        if let told = event["usage"] {
            if usage == nil { usage = TokenUsage(told) } else { usage?.update(told) }
        }
        guard let reason = event["delta"]?.present("stop_reason"), !hasFinished else { return }
        hasFinished = true
        var word = FinishReason(messages: reason)
        if word == .toolCalls, callCount == 0, shape.schemaTool != nil { word = .stop }
        writeChunk(&output, reason: word.chat) { _ in }
    }

    private mutating func stop(_ output: inout [UInt8]) {
        if !hasFinished {
            return fail("the provider's stream ended without a reason", "stream_cut", &output)
        }
        step = .ended
        if shape.includesUsage, let usage {
            var writer = JSONWriter(continuing: opening)
            writer.list("choices") { _ in }
            usage.writeChat("usage", to: &writer)
            writer.endObject()
            output.append(contentsOf: writer.bytes)
            output.append(contentsOf: "\n\n".utf8)
        }
        output.append(contentsOf: "data: [DONE]\n\n".utf8)
    }

    // MARK: Chunks

    private func chunk(_ output: inout [UInt8], _ delta: (inout JSONWriter) -> Void) {
        writeChunk(&output, reason: nil, delta)
    }

    private func writeChunk(
        _ output: inout [UInt8], reason: String?, _ delta: (inout JSONWriter) -> Void
    ) {
        // Without a beginning there is nothing that this could be a part of.
        guard !opening.isEmpty else { return }
        var writer = JSONWriter(continuing: opening)
        writer.list("choices") { list in
            list.object { choice in
                choice.member("index", 0)
                choice.object("delta", delta)
                choice.null("logprobs")
                choice.member("finish_reason", reason)
            }
        }
        output.append(contentsOf: writer.bytes)
        output.append(contentsOf: closing)
    }

    private func textChunk(_ name: String, _ text: JSONValue?, _ output: inout [UInt8]) {
        guard let text, text.kind == .string else { return }
        chunk(&output) { $0.member(name, raw: text) }
    }

    private func callChunk(
        _ index: Int, _ output: inout [UInt8], _ body: (inout JSONWriter) -> Void
    ) {
        chunk(&output) { delta in
            delta.list("tool_calls") { list in
                list.object { call in
                    call.member("index", index)
                    body(&call)
                }
            }
        }
    }

    private func argumentsChunk(_ text: JSONValue, _ output: inout [UInt8]) {
        callChunk(callCount - 1, &output) { call in
            call.object("function") { $0.member("arguments", raw: text) }
        }
    }
}
