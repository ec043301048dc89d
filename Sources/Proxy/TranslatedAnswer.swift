import CoreLoop
import HTTP
import Providers

/// The way of an answer back to a client that speaks another language than the target.
final class TranslatedAnswer {
    /// What the client asked for.
    let shape: AnswerShape
    /// The client's language.
    let dialect: Dialect
    /// What the request's translation lost.
    let losses: [TranslationLoss]
    /// Where each event goes on when it has come; without one of them the answer is kept until it
    /// is whole.
    private var chatStream: ChatStream?
    private var messagesStream: MessagesStream?
    /// Field lines of the target's head, as the client gets them.
    var fields: [UInt8] = []
    /// What the target's answer said in its head; 0 before that has come.
    private(set) var status = 0
    private(set) var framing = AnswerFraming.none
    /// The answer so far, where it is kept.
    private(set) var kept: [UInt8] = []
    /// Where a stream stands.
    private(set) var step = StreamStep.goesOn

    init(_ shape: AnswerShape, for dialect: Dialect, losses: [TranslationLoss]) {
        self.shape = shape
        self.dialect = dialect
        self.losses = losses
    }

    /// Whether the client gets the answer as it comes.
    var isStream: Bool { chatStream != nil || messagesStream != nil }

    /// The target's answer begins; `second` is the time in seconds since 1970.
    func begin(status: Int, framing: AnswerFraming, second: Int) {
        self.status = status
        self.framing = framing
        guard shape.streams, status < 300 else { return }
        switch dialect {
        case .openAI: chatStream = ChatStream(shape, created: second)
        case .anthropic: messagesStream = MessagesStream(shape)
        }
    }

    /// Takes more of the answer. What the client gets of it now is appended to `output`.
    func take(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) {
        if let step = chatStream?.take(bytes, into: &output) {
            self.step = step
        } else if let step = messagesStream?.take(bytes, into: &output) {
            self.step = step
        } else {
            kept.append(contentsOf: bytes)
        }
    }

    /// The target's stream has ended, wherever it stands: a client that has not got the end is told
    /// so within its stream.
    func end(into output: inout [UInt8]) {
        let end = chatStream?.end(into: &output) ?? messagesStream?.end(into: &output)
        if let end { step = end }
    }

    /// The client's answer to one that was kept whole; `member` is put in front of its first one.
    func translated(
        second: Int, member: UnsafeRawBufferPointer
    ) throws(AnswerFault) -> (status: Int, body: [UInt8]) {
        if status >= 400 {
            switch dialect {
            case .openAI: return ErrorBody.chat(fromMessages: kept, status: status)
            case .anthropic: return ErrorBody.messages(fromChat: kept, status: status)
            }
        }
        guard let document = try? JSONDocument(kept) else {
            throw AnswerFault("the provider's answer is no JSON")
        }
        switch dialect {
        case .openAI:
            var body = try ChatAnswer.translate(document, shape, created: second).body
            // Behind the brace.
            body.insert(contentsOf: member, at: 1)
            return (status, body)
        case .anthropic:
            return (status, try MessagesAnswer.translate(document, shape).body)
        }
    }
}
