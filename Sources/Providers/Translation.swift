/// The language an API speaks.
public enum Dialect: Sendable, CaseIterable {
    /// `POST /v1/chat/completions` and its like, as OpenAI, vLLM, Ollama and others speak it.
    case openAI
    /// `POST /v1/messages`, as Anthropic speaks it.
    case anthropic
}

/// One thing that a translation could not carry over.
public struct TranslationLoss: Equatable, Hashable, Sendable {
    /// What became of it.
    public enum Kind: Sendable {
        /// It is not in what was sent.
        case dropped
        /// It was brought into the range that the other side takes.
        case clamped
        /// The other side wants it and the client did not give it.
        case defaulted
        /// It is there in another form or place.
        case changed
    }

    /// What became of the member.
    public let kind: Kind
    /// The member, as a path from the message's root without the places in lists.
    public let field: String

    /// A loss of a kind at a member.
    public init(_ kind: Kind, _ field: String) {
        self.kind = kind
        self.field = field
    }

    /// As events list it: `temperature: clamped`.
    public var text: String { "\(field): \(kind)" }
}

/// The losses of one translation: each once, in the order found, `Limits.lossesMax` at most.
struct LossList {
    private(set) var all: [TranslationLoss] = []

    mutating func add(_ kind: TranslationLoss.Kind, _ field: String) {
        let loss = TranslationLoss(kind, Self.shown(field))
        guard all.count < Limits.lossesMax, !all.contains(loss) else { return }
        all.append(loss)
    }

    /// A path as it may be told to others: a name that no API gives to a member is the client's
    /// text, and stays its own.
    private static func shown(_ field: String) -> String {
        field.split(separator: ".", omittingEmptySubsequences: false)
            .map { isName($0.utf8) ? String($0) : "(other)" }
            .joined(separator: ".")
    }

    private static func isName(_ text: Substring.UTF8View) -> Bool {
        let digits = text.count { $0 &- 0x30 < 10 }
        let isPlain = text.allSatisfy { $0 &- 0x30 < 10 || $0 &- 0x61 < 26 || $0 == 0x5F }
        return isPlain && text.count <= Limits.lossNameBytesMax
            && digits <= Limits.lossNameDigitsMax
    }
}

/// What a target wants of translated requests.
public struct TranslationSettings: Sendable {
    /// The model's name at the target; nil keeps the client's.
    public var model: String?
    /// `max_tokens` where the client gave none and the target wants one.
    public var maxTokens = 4_096
    /// `max_tokens` instead of `max_completion_tokens` for servers that know only the older name.
    public var usesOlderMaxTokens = false

    /// The defaults, with a model.
    public init(model: String? = nil) { self.model = model }
}

/// Why a request cannot be translated: the client's fault, answered with status 400.
public struct RequestFault: Error, Equatable, Sendable {
    /// A sentence for the client.
    public let message: String
    /// The member at fault, where there is one.
    public let param: String?

    /// A fault at a member.
    public init(_ message: String, param: String? = nil) {
        self.message = message
        self.param = param
    }
}

/// What the way back must know of a request.
public struct AnswerShape: Sendable, Equatable {
    /// The client asked for a stream.
    public var streams = false
    /// The client asked for the usage at the stream's end.
    public var includesUsage = false
    /// Tools that were sent under another name: the client's by what was sent.
    public var toolNames: [String: String] = [:]
    /// The tool that stands for `response_format`, whose input is the answer's text.
    public var schemaTool: String?

    /// The shape of a plain answer.
    public init() {}
}

/// A request in the other dialect.
public struct RequestTranslation: Sendable {
    /// What is sent.
    public let body: [UInt8]
    /// What it lacks.
    public let losses: [TranslationLoss]
    /// What the answer's translation needs.
    public let shape: AnswerShape
}

/// An answer in the other dialect.
public struct AnswerTranslation: Sendable {
    /// What the client gets.
    public let body: [UInt8]
    /// What it lacks.
    public let losses: [TranslationLoss]
    /// What the provider counted; nil where it said nothing.
    public let usage: TokenUsage?
}

/// An answer that is none of its dialect: HTML, another object, JSON that is cut.
public struct AnswerFault: Error, Equatable, Sendable {
    /// A sentence for the log and the client.
    public let message: String

    /// A fault with its sentence.
    public init(_ message: String) { self.message = message }
}

/// Where a translated stream stands.
public enum StreamStep: Equatable, Sendable {
    /// More is to come.
    case goesOn
    /// The answer is whole; what may follow is not for the client.
    case ended
    /// The provider told an error, or sent what cannot be read, or ended too early: the client was
    /// told within the stream, and nothing follows.
    case failed
}
