import Providers

/// One step of a translated chat, ready to be done again and again.
final class Workload {
    enum Step: String, CaseIterable {
        case request, answer, stream
        case back = "request, back"
        case summary = "stream, summed"
    }

    let step: Step
    let bytes: [UInt8]
    private let shape = AnswerShape()

    /// - Parameter texts: how often each text holds its words; the structure stays the same.
    init(_ step: Step, texts: Int) {
        self.step = step
        let words = String(
            repeating: #"Say \"it\" plainly: what the technical debt of a system is, é.\n"#,
            count: 4 * texts)
        switch step {
        case .request, .back: bytes = Self.request(words, isMessages: step == .back)
        case .answer: bytes = Self.answer(words)
        case .stream, .summary:
            bytes = Self.stream(String(repeating: " word", count: 4 * texts))
        }
    }

    private static func request(_ words: String, isMessages: Bool) -> [UInt8] {
        let schema = """
            {"type":"object","properties":{"city":{"type":"string","description":"a city"},
            "unit":{"enum":["C","F"]}},"required":["city"]}
            """
        let turns = (0..<8).map {
            #"{"role":"\#($0 % 2 == 0 ? "user" : "assistant")","content":"\#(words)"}"#
        }
        let tools = (0..<8).map { index -> String in
            let start = #"{"name":"tool_\#(index)","description":"Does it.","#
            if isMessages { return start + #""input_schema":\#(schema)}"# }
            return #"{"type":"function","function":\#(start)"parameters":\#(schema)}}"#
        }
        let text = """
            {"model":"m","max_tokens":512,"temperature":0.2,"stream":true,
            "messages":[\(turns.joined(separator: ","))],
            "tools":[\(tools.joined(separator: ","))]}
            """
        return Array(text.utf8)
    }

    private static func answer(_ words: String) -> [UInt8] {
        let text = """
            {"id":"msg_1","type":"message","role":"assistant","model":"c",
            "content":[{"type":"text","text":"\(words)\(words)"},
            {"type":"tool_use","id":"t","name":"f","input":{"x":1,"y":[1,2,3]}}],
            "stop_reason":"tool_use","usage":{"input_tokens":900,"output_tokens":90}}
            """
        return Array(text.utf8)
    }

    private static func stream(_ text: String) -> [UInt8] {
        let start = #"{"type":"message_start","message":{"id":"msg_1","model":"c","#
        let block = #"{"type":"content_block_start","index":0,"#
        let delta = #"{"type":"content_block_delta","index":0,"#
        var events = [
            start + #""usage":{"input_tokens":5,"output_tokens":1}}}"#,
            block + #""content_block":{"type":"text","text":""}}"#,
        ]
        for _ in 0..<32 {
            events.append(delta + #""delta":{"type":"text_delta","text":"\#(text)"}}"#)
        }
        let end = #"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"#
        events += [
            #"{"type":"content_block_stop","index":0}"#,
            end + #""usage":{"output_tokens":40}}"#, #"{"type":"message_stop"}"#,
        ]
        return Array(events.map { "event: x\ndata: \($0)\n\n" }.joined().utf8)
    }

    /// Does the step `count` times. The sum depends on every result.
    @inline(never)
    func run(_ count: Int) -> Int {
        var sum = 0
        for _ in 0..<count { sum &+= runOnce() }
        return sum
    }

    private func runOnce() -> Int {
        switch step {
        case .request:
            guard let document = try? JSONDocument(bytes),
                let made = try? ChatToMessages.translate(document, TranslationSettings(model: "c"))
            else { fail() }
            return made.body.count
        case .back:
            guard let document = try? JSONDocument(bytes),
                let made = try? MessagesToChat.translate(document, TranslationSettings(model: "c"))
            else { fail() }
            return made.body.count
        case .answer:
            guard let document = try? JSONDocument(bytes),
                let made = try? ChatAnswer.translate(document, shape, created: 1)
            else { fail() }
            return made.body.count
        case .stream:
            var stream = ChatStream(shape, created: 1)
            var output: [UInt8] = []
            guard bytes.withUnsafeBytes({ stream.take($0, into: &output) }) == .ended
            else { fail() }
            return output.count
        case .summary:
            var summary = StreamSummary(.anthropic)
            bytes.withUnsafeBytes { summary.take($0) }
            guard summary.isWhole else { fail() }
            return summary.answer.text.utf8.count
        }
    }

    private func fail() -> Never { preconditionFailure("\(step.rawValue) did not succeed") }
}
