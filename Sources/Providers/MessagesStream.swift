/// Translates the event stream of chat completions into that of a messages API, event by event,
/// wherever the input is split.
///
/// A provider that fails within the stream, sends what cannot be read, or ends before `[DONE]`
/// makes the stream end in an `error` event.
public struct MessagesStream {
    private var reader = EventStreamReader()
    private let shape: AnswerShape
    private var step = StreamStep.goesOn
    private var hasBegun = false
    private var reason: FinishReason?
    private var hasRefused = false
    /// The block that is open, and how many there were.
    private var open = Block.none
    private var blockCount = 0
    /// The blocks of the calls, by the chat stream's index.
    private var callBlocks: [Int: Int] = [:]
    private var list = LossList()
    /// What the provider has counted so far.
    public private(set) var usage: TokenUsage?

    private enum Block: Equatable { case none, text, call(Int) }

    /// The answer to a request of `shape`.
    public init(_ shape: AnswerShape) { self.shape = shape }

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
            case .comment: EventStreamPing.append(to: &output)
            case .tooLong: fail("an event of the provider's is too long", &output)
            case .event: read(into: &output)
            }
        }
        return step
    }

    /// The provider's stream ended.
    public mutating func end(into output: inout [UInt8]) -> StreamStep {
        if step == .goesOn {
            fail("the provider's stream ended before the answer did", &output)
        }
        return step
    }

    private mutating func fail(
        _ message: String, type: String = "api_error", _ output: inout [UInt8]
    ) {
        step = .failed
        let body = ErrorBody.messages(message: message, type: type)
        EventStream.append(event: "error", data: body, to: &output)
    }

    // MARK: Chunks

    private mutating func read(into output: inout [UInt8]) {
        if reader.data.elementsEqual("[DONE]".utf8) { return finish(&output) }
        // Some servers keep a connection alive with events of nothing.
        if reader.data.isEmpty { return }
        guard let document = try? JSONDocument(reader.data), document.root.kind == .object else {
            return fail("an event of the provider's cannot be read", &output)
        }
        let chunk = document.root
        if let error = chunk.present("error") {
            let message = error["message"]?.string ?? error.string ?? "the provider failed"
            return fail(message, &output)
        }
        // Azure says first how it judges the prompt, in a chunk without a name.
        if !hasBegun, chunk["choices"]?.count == 0, chunk["id"]?.isEmptyText == true { return }
        begin(chunk, &output)
        if let told = TokenUsage(chunk["usage"]) { usage = told }
        guard let choices = chunk["choices"] else { return }
        for choice in choices.elements {
            guard choice["index"]?.integer ?? 0 == 0 else {
                list.add(.dropped, "choices")
                continue
            }
            take(choice["delta"], &output)
            if let told = choice.present("finish_reason") { reason = FinishReason(chat: told) }
        }
    }

    private mutating func begin(_ chunk: JSONValue, _ output: inout [UInt8]) {
        guard !hasBegun else { return }
        hasBegun = true
        append("message_start", &output) { event in
            event.object("message") { message in
                message.name("id")
                MessageID.write(chunk["id"], to: &message)
                message.member("type", "message")
                message.member("role", "assistant")
                message.member("model", chunk["model"]?.string ?? "")
                message.list("content") { _ in }
                message.null("stop_reason")
                message.null("stop_sequence")
                // What the prompt took is told at the end of the other side's stream.
                TokenUsage().writeMessages("usage", to: &message)
            }
        }
    }

    private mutating func take(_ delta: JSONValue?, _ output: inout [UInt8]) {
        guard let delta, delta.kind == .object, step == .goesOn else { return }
        if let text = delta.present("content") { takeText(text, &output) }
        if let text = delta.present("refusal") {
            if !text.isEmptyText { hasRefused = true }
            takeText(text, &output)
        }
        for name in ["reasoning_content", "audio", "function_call"]
        where delta[named: name].map({ !$0.isNull }) == true {
            list.add(.dropped, "delta.\(name)")
        }
        guard let calls = delta.present("tool_calls") else { return }
        for call in calls.elements where step == .goesOn { take(call: call, &output) }
    }

    private mutating func takeText(_ text: JSONValue, _ output: inout [UInt8]) {
        guard text.kind == .string, !text.isEmptyText else { return }
        if open != .text {
            closeBlock(&output)
            open = .text
            beginBlock(&output) { block in
                block.member("type", "text")
                block.member("text", "")
            }
        }
        let index = blockCount - 1
        append("content_block_delta", &output) { event in
            event.member("index", index)
            event.object("delta") { delta in
                delta.member("type", "text_delta")
                delta.member("text", raw: text)
            }
        }
    }

    private mutating func take(call: JSONValue, _ output: inout [UInt8]) {
        let index = call["index"]?.integer ?? 0
        let function = call["function"]
        if callBlocks[index] == nil {
            guard callBlocks.count < Limits.blocksMax else {
                return fail("the answer calls too many tools", &output)
            }
            closeBlock(&output)
            open = .call(index)
            callBlocks[index] = blockCount
            let shape = shape
            beginBlock(&output) { block in
                block.member("type", "tool_use")
                block.member("id", call["id"]?.string ?? "")
                block.name("name")
                ChatID.writeToolName(function?["name"], shape, to: &block)
                block.object("input") { _ in }
            }
        }
        guard let text = function?["arguments"], text.kind == .string, !text.isEmptyText,
            let place = callBlocks[index]
        else { return }
        append("content_block_delta", &output) { event in
            event.member("index", place)
            event.object("delta") { delta in
                delta.member("type", "input_json_delta")
                delta.member("partial_json", raw: text)
            }
        }
    }

    private mutating func finish(_ output: inout [UInt8]) {
        guard hasBegun, let reason else {
            return fail("the provider's stream ended without a reason", &output)
        }
        closeBlock(&output)
        step = .ended
        let usage = usage ?? TokenUsage()
        let word = hasRefused ? "refusal" : reason.messages
        append("message_delta", &output) { event in
            event.object("delta") { delta in
                delta.member("stop_reason", word)
                delta.null("stop_sequence")
            }
            usage.writeMessages("usage", to: &event)
        }
        append("message_stop", &output) { _ in }
    }

    // MARK: Events

    private mutating func beginBlock(
        _ output: inout [UInt8], _ block: (inout JSONWriter) -> Void
    ) {
        let index = blockCount
        blockCount += 1
        append("content_block_start", &output) { event in
            event.member("index", index)
            event.object("content_block", block)
        }
    }

    private mutating func closeBlock(_ output: inout [UInt8]) {
        guard open != .none else { return }
        open = .none
        let index = blockCount - 1
        append("content_block_stop", &output) { $0.member("index", index) }
    }

    private func append(
        _ type: String, _ output: inout [UInt8], _ body: (inout JSONWriter) -> Void
    ) {
        let data = JSONWriter.write { writer in
            writer.object { event in
                event.member("type", type)
                body(&event)
            }
        }
        EventStream.append(event: type, data: data, to: &output)
    }
}

/// The event that keeps a messages stream alive.
enum EventStreamPing {
    static func append(to output: inout [UInt8]) {
        EventStream.append(event: "ping", data: #"{"type": "ping"}"#.utf8, to: &output)
    }
}
