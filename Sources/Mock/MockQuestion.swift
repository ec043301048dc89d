import CoreLoop
import Providers

/// What a request asks for, whichever API it came by.
struct MockQuestion {
    enum ToolChoice: Equatable { case auto, none, required, named(String) }

    var model = ""
    /// The last text of the user's, and the last result of a tool.
    var lastText = ""
    var lastResult: String?
    /// Media types of the pictures and files.
    var media: [String] = []
    var tools: [(name: String, schema: JSONValue?)] = []
    var toolChoice = ToolChoice.auto
    var isParallel = true
    var maxTokens: Int?
    var stop: [String] = []
    var seed: UInt64 = 0
    /// The schema that the answer must follow; `isJSON` where any object will do.
    var schema: JSONValue?
    var isJSON = false
    var streams = false
    var includesUsage = false
    var choices = 1
    /// Bytes of all that the prompt holds.
    var promptBytes = 0

    var inputTokens: Int { MockText.count(bytes: promptBytes) + 3 }
}

/// What the model answers.
struct MockAnswer {
    enum Reason { case stop, stopSequence(String), length, toolCalls, refusal }

    var tokens: [String] = []
    var calls: [(id: String, name: String, arguments: String)] = []
    var reason = Reason.stop

    var text: String { tokens.joined() }
    var outputTokens: Int {
        max(
            1,
            tokens.count + calls.reduce(0) { $0 + MockText.count(bytes: $1.arguments.utf8.count) })
    }

    /// The answer to a question, by rules that a test can foresee:
    /// - a model whose name begins with `echo` says what the user said, `refusal` declines,
    ///   `long` says 2,000 words;
    /// - a tool is called where it must be, or where the user's text names it; all that are named
    ///   are called at once, unless only one at a time is wanted;
    /// - pictures and files are counted in front of the text.
    init(_ question: MockQuestion, seed: UInt64, idPrefix: String) {
        var random = FastRandom(
            seed: MockText.hash(question.lastText.utf8, seed: seed ^ question.seed))
        if question.model.hasPrefix("refusal") {
            tokens = MockText.tokens("I cannot help with that.")
            reason = .refusal
            return
        }
        let called = Self.called(question)
        if !called.isEmpty {
            for (name, schema) in called {
                let arguments = JSONWriter.write { MockSchema.write(schema, to: &$0, depth: 0) }
                calls.append(
                    (
                        idPrefix + MockText.id(24, &random), name,
                        String(decoding: arguments, as: UTF8.self)
                    ))
            }
            reason = .toolCalls
            return
        }
        tokens = MockText.tokens(Self.text(question, seed: seed))
        cut(question)
    }

    private static func called(_ question: MockQuestion) -> [(String, JSONValue?)] {
        let tools = question.tools
        switch question.toolChoice {
        case .none: return []
        case .named(let name): return tools.filter { $0.name == name }.prefix(1).map { ($0, $1) }
        case .auto, .required: break
        }
        var named: [(String, JSONValue?)] = []
        if question.lastResult == nil {
            let text = question.lastText.lowercased()
            named = tools.filter { text.contains($0.name.lowercased()) }.map { ($0, $1) }
        }
        if named.isEmpty, question.toolChoice == .required {
            named = tools.prefix(1).map { ($0, $1) }
        }
        return question.isParallel ? named : Array(named.prefix(1))
    }

    private static func text(_ question: MockQuestion, seed: UInt64) -> String {
        if question.schema != nil || question.isJSON {
            let bytes = JSONWriter.write { writer in
                if let schema = question.schema {
                    MockSchema.write(schema, to: &writer, depth: 0)
                } else {
                    writer.object { $0.member("answer", question.lastText) }
                }
            }
            return String(decoding: bytes, as: UTF8.self)
        }
        var text = ""
        if !question.media.isEmpty {
            text = "I was given \(question.media.joined(separator: ", ")). "
        }
        if let result = question.lastResult { text += "The tool says: \(result) " }
        if question.model.hasPrefix("echo") { return text + question.lastText }
        if question.model.hasPrefix("long") {
            return text + Array(repeating: "word", count: 2_000).joined(separator: " ")
        }
        return text + MockText.answer(to: question.lastText, seed: seed ^ question.seed)
    }

    /// Ends the text at the first stop sequence, or where its tokens run out.
    private mutating func cut(_ question: MockQuestion) {
        let whole = Array(text.utf8)
        var first: (place: Int, sequence: String)?
        for sequence in question.stop where !sequence.isEmpty {
            let wanted = Array(sequence.utf8)
            guard wanted.count <= whole.count else { continue }
            let place = (0...whole.count - wanted.count).first { start in
                whole[start...].starts(with: wanted)
            }
            if let place, place < first?.place ?? Int.max { first = (place, sequence) }
        }
        if let first {
            tokens = MockText.tokens(String(decoding: whole[..<first.place], as: UTF8.self))
            reason = .stopSequence(first.sequence)
        }
        let most = min(question.maxTokens ?? Int.max, MockLimits.outputTokensMax)
        if tokens.count > most {
            tokens = Array(tokens.prefix(most))
            reason = .length
        }
    }
}

/// Values that follow a JSON schema, as far as function calls use it.
enum MockSchema {
    /// Writes a value that fits: the first of an enumeration, all properties of an object.
    static func write(_ schema: JSONValue?, to writer: inout JSONWriter, depth: Int) {
        guard let schema, depth < MockLimits.schemaDepthMax else { return writer.object { _ in } }
        if let value = schema["const"] ?? schema["enum"]?.elements.first(where: { _ in true }) {
            return writer.value(value)
        }
        let one = schema["anyOf"] ?? schema["oneOf"]
        if let first = one?.elements.first(where: { _ in true }) {
            return write(first, to: &writer, depth: depth + 1)
        }
        switch schema["type"]?.string
            ?? schema["type"]?.elements.first(where: { _ in true })?.string
        {
        case "string": writer.value("text")
        case "integer": writer.value(schema["minimum"]?.integer ?? 1)
        case "number": writer.value(schema["minimum"]?.number ?? 1.5)
        case "boolean": writer.value(true)
        case "null": writer.null()
        case "array":
            writer.list { list in
                if let items = schema["items"] { write(items, to: &list, depth: depth + 1) }
            }
        default:
            writer.object { object in
                guard let properties = schema["properties"] else { return }
                for (name, value) in properties.members {
                    object.name(name)
                    write(value, to: &object, depth: depth + 1)
                }
            }
        }
    }
}
