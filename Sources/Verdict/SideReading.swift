import EventLog
import HTTP
import Policy
import Providers

/// What a capture says once its bodies are read: the request, the answer in the common form, and
/// what the answer's head told.
struct SideReading {
    /// The model that was asked for.
    private(set) var model: String?
    /// Nil where the answer cannot be read: cut off, compressed, or in no language that is known.
    private(set) var answer: AnswerSummary?
    /// Whether the answer was there to be read, and was none of its API's.
    private(set) var isInvalid = false
    /// Whether the shadow process gave the answer up, as too long, or as none of a model's.
    private let isTooLong: Bool
    private let isRefused: Bool
    private(set) var losses: [String] = []
    private(set) var rateLimit: [(name: String, value: String)] = []
    private(set) var retryAfterSeconds: Int?
    private(set) var indexHash: String?
    private(set) var requestHash: String?
    private(set) var firstByteUs: Int?
    private(set) var answerBytes: Int?
    private var request: JSONDocument?

    /// Reads `record`, of a request with this method and target. `hashes`: whether the request's
    /// hash is wanted.
    init(_ record: CaptureRecord, method: String, target: String, hashes: Bool, wallMs: UInt64) {
        let flags = record.head.flags
        isTooLong = flags.contains(.isTooLong)
        isRefused = record.head.kind == .shadow && flags.contains(.isWhole)
        if record.head.firstByteUs > 0 { firstByteUs = Int(record.head.firstByteUs) }
        if !flags.contains(.answerCut) { answerBytes = record[.answer].count }
        if !flags.contains(.requestCut) {
            request = try? JSONDocument(Array(record[.request]))
            if hashes {
                requestHash = RequestHash.text(
                    method: method, target: target, document: request, body: record[.request])
            }
        }
        model = Self.word(String(decoding: record[.model], as: UTF8.self))
        if model == nil { model = Self.word(request?.root["model"]?.string ?? "") }
        losses = record[.losses].split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
        readFields(record[.fields], wallMs: wallMs)
        guard record.head.status != 0, !flags.contains(.isEncoded) else { return }
        if flags.contains(.isStreamed) {
            readStream(record)
        } else {
            readWhole(record, isError: record.head.status >= 400)
        }
    }

    private mutating func readStream(_ record: CaptureRecord) {
        var stream = StreamSummary(record.head.answerDialect)
        stream.take(record[.answer])
        let flags = record.head.flags
        // A stream that says why it ended lacks at most the last word.
        let hasEnd =
            stream.isWhole || stream.answer.finishReason != nil || stream.answer.error != nil
        isInvalid =
            stream.isInvalid
            || (!hasEnd && flags.contains(.isWhole) && !flags.contains(.answerCut))
        if !isInvalid, !flags.contains(.answerCut) { answer = stream.answer }
    }

    private mutating func readWhole(_ record: CaptureRecord, isError: Bool) {
        let flags = record.head.flags
        guard flags.contains(.isWhole), !flags.contains(.answerCut) else { return }
        guard let document = try? JSONDocument(Array(record[.answer])),
            let summary = AnswerSummary(document)
        else {
            isInvalid = !isError
            return
        }
        answer = summary
        if let hash = document.root["index_hash"]?.string { indexHash = Self.word(hash) }
    }

    private mutating func readFields(_ lines: UnsafeRawBufferPointer, wallMs: UInt64) {
        for line in lines.split(separator: 0x0A) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
            let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            let value = line[(colon + 1)...].drop { $0 == 0x20 || $0 == 0x09 }
            let end = value.lastIndex { $0 > 0x20 }.map { $0 + 1 } ?? value.startIndex
            let text = value[..<end]
            switch name {
            case "retry-after":
                retryAfterSeconds = Self.seconds(UnsafeRawBufferPointer(rebasing: text), wallMs)
            case "x-index-hash":
                indexHash = indexHash ?? Self.word(String(decoding: text, as: UTF8.self))
            default:
                guard rateLimit.count < VerdictLimits.rateLimitsMax,
                    let shown = Self.word(String(decoding: text, as: UTF8.self))
                else { continue }
                rateLimit.append((name, shown))
            }
        }
    }

    /// Retry-After as seconds from now (RFC 9110 §10.2.3); nil where it cannot be read.
    private static func seconds(_ value: UnsafeRawBufferPointer, _ wallMs: UInt64) -> Int? {
        if let date = HTTPDate.parse(value) {
            return max(0, Int(clamping: date) - Int(clamping: wallMs / 1_000))
        }
        return Int(String(decoding: value, as: UTF8.self)).flatMap { $0 >= 0 ? $0 : nil }
    }

    /// A provider's word, cut at `VerdictLimits.wordBytesMax`; nil for none.
    static func word(_ text: String) -> String? {
        if text.isEmpty { return nil }
        guard text.utf8.count > VerdictLimits.wordBytesMax else { return text }
        return String(decoding: text.utf8.prefix(VerdictLimits.wordBytesMax), as: UTF8.self)
    }

    // MARK: What is made of it

    /// The tokens as the provider counted them; where an answer came without, what its texts and
    /// the request's make about.
    var usage: DecisionEvent.Usage? {
        guard let answer, answer.error == nil else { return nil }
        if let told = answer.usage {
            return DecisionEvent.Usage(
                inputTokens: told.input, outputTokens: told.output, isEstimated: told.isEstimated)
        }
        let written =
            answer.text.utf8.count + answer.reasoning.utf8.count
            + answer.toolCalls.reduce(0) { $0 + $1.name.utf8.count + $1.arguments.utf8.count }
        return DecisionEvent.Usage(
            inputTokens: TokenUsage.estimate(bytes: promptBytes),
            outputTokens: TokenUsage.estimate(bytes: written), isEstimated: true)
    }

    /// Bytes of the request's texts, those of images and files not among them.
    private var promptBytes: Int {
        guard let root = request?.root else { return 0 }
        var bytes = 0
        for name in ["messages", "system", "input", "instructions", "prompt", "tools"] {
            guard let value = root[named: name] else { continue }
            Self.forEachText(value) { bytes += $0.withText(\.count) ?? 0 }
        }
        return bytes
    }

    /// What the model was asked, a line for each turn with its role in front and further lines of
    /// it indented, for where the configuration has it stored; nil where that cannot be read. A
    /// member that stands twice is there twice: which of them counts is the provider's choice.
    /// `clean` makes of a request what may be stored of it.
    func promptText(_ clean: (JSONDocument) -> JSONDocument?) -> String? {
        guard let request, let root = clean(request)?.root else { return nil }
        var turns: [(role: String, value: JSONValue)] = []
        var system = turns
        for (name, value) in root.members {
            switch name {
            case "system", "instructions": system.append(("system", value))
            case "messages", "input", "prompt":
                if value.kind == .list {
                    for turn in value.elements { turns.append((Self.role(of: turn), turn)) }
                } else {
                    turns.append((Self.role(of: value), value))
                }
            default: break
            }
        }
        let lines = (system + turns).compactMap { turn -> String? in
            var texts: [String] = []
            Self.forEachText(turn.value) { if let text = $0.string { texts.append(text) } }
            guard !texts.isEmpty else { return nil }
            return turn.role + ": " + Self.indented(texts.joined(separator: " "))
        }
        return lines.isEmpty ? nil : lines.joined(separator: "\n")
    }

    /// Whose turn it is: a role that the APIs have, else `other`, so that none can be made up.
    private static func role(of turn: JSONValue) -> String {
        guard turn.kind == .object else { return "user" }
        var told: String?
        for (name, value) in turn.members where name == "role" {
            // One that stands twice says nothing.
            told = told == nil ? value.string ?? "" : ""
        }
        if let told {
            return ["system", "developer", "user", "assistant", "tool", "function"].contains(told)
                ? told : "other"
        }
        // The Responses API's items that are no messages.
        let type = turn["type"]?.string ?? ""
        if type == "reasoning" || type.hasSuffix("_call") { return "assistant" }
        return type.hasSuffix("_output") ? "tool" : "other"
    }

    /// A turn's text with two spaces in front of each line but the first: no line of it can be
    /// taken for a turn's beginning. What else ends a line becomes a newline.
    private static func indented(_ text: String) -> String {
        var text = text
        return text.withUTF8 { bytes in
            var result: [UInt8] = []
            var (start, at) = (0, 0)
            while at < bytes.count {
                let length = lineEnd(bytes, at)
                guard length > 0 else {
                    at += 1
                    continue
                }
                result += bytes[start..<at]
                result += "\n  ".utf8
                at += length
                start = at
            }
            if start == 0 { return nil }
            result += bytes[start...]
            return String(decoding: result, as: UTF8.self)
        } ?? text
    }

    /// Bytes of what ends a line here (Unicode, section 5.8); 0 for anything else.
    private static func lineEnd(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int) -> Int {
        func has(_ byte: UInt8, _ offset: Int) -> Bool {
            at + offset < bytes.count && bytes[at + offset] == byte
        }
        switch bytes[at] {
        case 0x0D: return has(0x0A, 1) ? 2 : 1
        case 0x0A...0x0C: return 1
        case 0xC2: return has(0x85, 1) ? 2 : 0
        case 0xE2: return has(0x80, 1) && (has(0xA8, 2) || has(0xA9, 2)) ? 3 : 0
        default: return 0
        }
    }

    /// Goes over the texts of a part of a request: what names a part is none, nor is a file.
    private static func forEachText(_ value: JSONValue, _ body: (JSONValue) -> Void) {
        switch value.kind {
        case .null, .flag, .number: break
        case .string: if value.withText(EncodedText.isDataURL) == false { body(value) }
        case .list: for element in value.elements { forEachText(element, body) }
        case .object:
            for member in value.members {
                switch member.name {
                case "role", "type", "id", "call_id", "tool_call_id", "tool_use_id", "data",
                    "media_type":
                    continue
                case "file_data", "encrypted_content", "signature":
                    if member.value.withText(EncodedText.isBase64) != true {
                        forEachText(member.value, body)
                    }
                default: forEachText(member.value, body)
                }
            }
        }
    }

    /// What is compared, and stored where the configuration says so: the text, and behind it each
    /// call of a tool on a line of its own.
    var comparedText: String? {
        guard let answer, answer.error == nil else { return nil }
        return answer.toolCalls.reduce(answer.text) { text, call in
            (text.isEmpty ? "" : text + "\n") + call.name + "(" + call.arguments + ")"
        }
    }

    /// How the exchange ended, with what its answer says: a 200 may hold an error, or nothing that
    /// can be read. `isInference`: whether an answer of a known form was asked for.
    func status(
        _ status: DecisionEvent.SideStatus, isInference: Bool
    ) -> DecisionEvent.SideStatus {
        if status == .reset, isTooLong { return .tooLarge }
        if status == .reset, isRefused { return .invalidAnswer }
        guard status == .success, isInference else { return status }
        if let error = answer?.error {
            return error.contains("rate_limit") ? .rateLimited : .error5xx
        }
        return isInvalid ? .invalidAnswer : .success
    }

    /// Puts what is known into a side of an event.
    func fill(_ side: inout DecisionEvent.Side, isInference: Bool) {
        side.model = model
        side.status = status(side.status, isInference: isInference)
        side.firstByteUs = firstByteUs
        side.rateLimit = rateLimit
        side.retryAfterSeconds = retryAfterSeconds
        side.indexHash = indexHash
        guard let answer, isInference else { return }
        if side.status == .success { side.usage = usage }
        side.modelRevision = Self.word(answer.fingerprint ?? "") ?? Self.word(answer.model)
        side.finishReason = answer.finishReason?.rawValue
        side.isRefusal = answer.isRefusal
        side.toolCalls = answer.toolCalls.prefix(VerdictLimits.toolCallsMax).map {
            Self.word($0.name) ?? ""
        }
    }
}
