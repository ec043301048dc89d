import CoreLoop
import HTTP
import Providers

/// OpenAI's API: chat, completions, responses, embeddings, models.
struct OpenAIMock {
    let seed: UInt64

    /// What every answer has: ids that follow from the seed and the request's number, the time.
    struct Context {
        var random: FastRandom
        var createdSeconds: Int
    }

    /// The answer to a request for a known path; nil for any other.
    func answer(_ request: MockRequest, _ context: inout Context) -> MockReply? {
        switch (request.method, request.path) {
        case ("POST", "/v1/chat/completions"): return body(request, &context, chat)
        case ("POST", "/v1/completions"): return body(request, &context, legacy)
        case ("POST", "/v1/responses"): return body(request, &context, responses)
        case ("POST", "/v1/embeddings"): return body(request, &context, embeddings)
        case ("GET", "/v1/models"): return models()
        default:
            if request.method == "GET", request.path.hasPrefix("/v1/models/") {
                return model(String(request.path.dropFirst("/v1/models/".count)))
            }
            return nil
        }
    }

    private func body(
        _ request: MockRequest, _ context: inout Context,
        _ answer: (JSONValue, inout Context) throws(RequestFault) -> MockReply
    ) -> MockReply {
        do throws(RequestFault) {
            guard let document = try? JSONDocument(request.body), document.root.kind == .object
            else {
                throw RequestFault("We could not parse the JSON body of your request.")
            }
            guard let model = document.root["model"], model.kind == .string else {
                throw RequestFault("you must provide a model parameter", param: "model")
            }
            return try answer(document.root, &context)
        } catch {
            return Self.failure(400, error.message, param: error.param)
        }
    }

    /// An error as OpenAI tells it.
    static func failure(
        _ status: Int, _ message: String, code: String? = nil, param: String? = nil
    ) -> MockReply {
        let type =
            switch status {
            case 401, 403: "invalid_request_error"
            case 429: "requests"
            case 500...: "server_error"
            default: "invalid_request_error"
            }
        return MockReply(
            status: status,
            body: ErrorBody.chat(message: message, type: type, code: code, param: param))
    }

    // MARK: Chat

    private func chat(
        _ root: JSONValue, _ context: inout Context
    ) throws(RequestFault) -> MockReply {
        let question = try OpenAIQuestion.read(root)
        var answers: [MockAnswer] = []
        for choice in 0..<question.choices {
            answers.append(
                MockAnswer(question, seed: seed &+ UInt64(choice), idPrefix: "call_"))
        }
        let chat = OpenAIChat(
            question: question, answers: answers,
            id: "chatcmpl-\(MockText.id(29, &context.random))",
            createdSeconds: context.createdSeconds,
            hasLogprobs: root["logprobs"]?.flag == true)
        return chat.reply
    }

    private func legacy(
        _ root: JSONValue, _ context: inout Context
    ) throws(RequestFault) -> MockReply {
        var question = MockQuestion()
        question.model = root["model"]?.string ?? ""
        let prompt = root["prompt"]
        question.lastText =
            prompt?.string ?? prompt?.elements.compactMap(\.string).joined(separator: "\n") ?? ""
        question.promptBytes = question.lastText.utf8.count
        question.maxTokens = root["max_tokens"]?.integer ?? 16
        question.streams = root["stream"]?.flag == true
        question.includesUsage = root["stream_options"]?["include_usage"]?.flag == true
        let answer = MockAnswer(question, seed: seed, idPrefix: "call_")
        let completion = OpenAICompletion(
            question: question, answer: answer, id: "cmpl-\(MockText.id(29, &context.random))",
            createdSeconds: context.createdSeconds)
        return completion.reply
    }

    private func responses(
        _ root: JSONValue, _ context: inout Context
    ) throws(RequestFault) -> MockReply {
        let question = try OpenAIQuestion.readResponses(root)
        let answer = MockAnswer(question, seed: seed, idPrefix: "call_")
        return OpenAIResponses(
            question: question, answer: answer, id: MockText.id(48, &context.random),
            createdSeconds: context.createdSeconds
        ).reply
    }

    // MARK: Embeddings and models

    private func embeddings(
        _ root: JSONValue, _ context: inout Context
    ) throws(RequestFault) -> MockReply {
        guard let input = root["input"], input.kind == .string || input.kind == .list else {
            throw RequestFault("'input' is required", param: "input")
        }
        // A list of numbers is one input of tokens.
        let isOne =
            input.kind == .string || input.elements.first(where: { _ in true })?.kind == .number
        let inputs = isOne ? [input] : Array(input.elements)
        guard !inputs.isEmpty, inputs.count <= MockLimits.embeddingInputsMax,
            inputs.allSatisfy({ $0.kind == .string ? !$0.isBlank : $0.count > 0 })
        else { throw RequestFault("'$.input' is invalid", param: "input") }
        let model = root["model"]?.string ?? ""
        let dimensions =
            root.present("dimensions")?.integer ?? (model.contains("large") ? 3_072 : 1_536)
        guard (1...MockLimits.dimensionsMax).contains(dimensions) else {
            throw RequestFault("'dimensions' is out of range", param: "dimensions")
        }
        let isBase64 = root["encoding_format"]?.isText("base64") == true
        var tokens = 0
        let bytes = JSONWriter.write { writer in
            writer.object { writer in
                writer.member("object", "list")
                writer.list("data") { list in
                    for (index, value) in inputs.enumerated() {
                        let vector = MockVector.embed(value, dimensions: dimensions)
                        tokens +=
                            value.kind == .list
                            ? value.count : MockText.count(bytes: value.raw.count - 2)
                        list.object { item in
                            item.member("object", "embedding")
                            item.member("index", index)
                            if isBase64 {
                                item.member("embedding", MockVector.base64(vector))
                            } else {
                                item.list("embedding") { list in
                                    for number in vector { list.value(single: number) }
                                }
                            }
                        }
                    }
                }
                writer.member("model", model)
                writer.object("usage") { usage in
                    usage.member("prompt_tokens", tokens)
                    usage.member("total_tokens", tokens)
                }
            }
        }
        return MockReply(body: bytes)
    }

    private static let modelNames = [
        "gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3-mini", "text-embedding-3-small",
        "text-embedding-3-large",
    ]

    private func models() -> MockReply {
        MockReply(
            body: JSONWriter.write { writer in
                writer.object { writer in
                    writer.member("object", "list")
                    writer.list("data") { list in
                        for name in Self.modelNames { list.object { Self.write(name, to: &$0) } }
                    }
                }
            })
    }

    private func model(_ name: String) -> MockReply {
        guard Self.modelNames.contains(name) else {
            return Self.failure(
                404, "The model '\(name)' does not exist or you do not have access to it.",
                code: "model_not_found", param: "model")
        }
        return MockReply(
            body: JSONWriter.write { writer in writer.object { Self.write(name, to: &$0) } })
    }

    private static func write(_ name: String, to writer: inout JSONWriter) {
        writer.member("id", name)
        writer.member("object", "model")
        writer.member("created", 1_715_367_049)
        writer.member("owned_by", "system")
    }
}

/// Embeddings of texts: words hashed into places, so that texts with words in common are near.
enum MockVector {
    /// A vector of length 1.
    static func embed(_ value: JSONValue, dimensions: Int) -> [Float] {
        var vector = [Float](repeating: 0, count: dimensions)
        if let text = value.string {
            for word in text.lowercased().split(whereSeparator: { !$0.isLetter && !$0.isNumber }) {
                add(MockText.hash(word.utf8), to: &vector)
            }
            // A text of signs alone has a direction too.
            add(MockText.hash(text.utf8), to: &vector)
        } else {
            for token in value.elements { add(MockText.hash(token.raw), to: &vector) }
        }
        let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return vector.map { $0 / max(length, 1e-12) }
    }

    private static func add(_ hash: UInt64, to vector: inout [Float]) {
        var random = FastRandom(seed: hash)
        for _ in 0..<8 {
            let place = Int.random(in: vector.indices, using: &random)
            vector[place] += Float.random(in: -1...1, using: &random)
        }
    }

    /// The bytes of little-endian floats in base64 (RFC 4648 §4).
    static func base64(_ vector: [Float]) -> String {
        let bytes = vector.flatMap { number -> [UInt8] in
            let bits = number.bitPattern
            return [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: bits >> UInt32($0)) }
        }
        let letters = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var bits: UInt32 = 0
            for byte in group { bits = bits << 8 | UInt32(byte) }
            bits <<= UInt32(8 * (3 - group.count))
            for place in 0..<4 {
                let letter = letters[Int(bits >> UInt32(18 - 6 * place)) & 63]
                text.append(place <= group.count ? letter : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
