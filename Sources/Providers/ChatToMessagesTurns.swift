/// The conversation: system texts hoisted, turns merged, blocks for parts.
extension ChatToMessages {
    private enum Role { case system, user, assistant, tool }

    private static func role(_ message: JSONValue) throws(RequestFault) -> Role {
        guard message.kind == .object, let role = message["role"] else {
            throw RequestFault("a message has no role", param: "messages")
        }
        if role.isText("user") { return .user }
        if role.isText("assistant") { return .assistant }
        if role.isText("system") || role.isText("developer") { return .system }
        if role.isText("tool") || role.isText("function") { return .tool }
        throw RequestFault("a message has an unknown role", param: "messages.role")
    }

    // MARK: System

    mutating func writeSystem(_ messages: JSONValue) throws(RequestFault) {
        var isOpen = false
        var conversationBegan = false
        for message in messages.elements {
            guard try Self.role(message) == .system else {
                conversationBegan = true
                continue
            }
            if conversationBegan { losses.add(.changed, "messages.system") }
            for text in try texts(message["content"]) where !text.isBlank {
                if !isOpen {
                    writer.name("system")
                    writer.beginList()
                    isOpen = true
                }
                writeText(text)
            }
        }
        if isOpen { writer.endList() }
    }

    /// The texts of a content that is a string or a list of text parts.
    private mutating func texts(_ content: JSONValue?) throws(RequestFault) -> [JSONValue] {
        guard let content, !content.isNull else { return [] }
        if content.kind == .string { return [content] }
        guard content.kind == .list else {
            throw RequestFault("'content' must be a string or a list", param: "messages.content")
        }
        var found: [JSONValue] = []
        for part in content.elements {
            if let text = try Self.text(part) {
                found.append(text)
            } else {
                losses.add(.dropped, Self.field(of: part))
            }
        }
        return found
    }

    /// The text of a text part; nil for a part of another kind.
    private static func text(_ part: JSONValue) throws(RequestFault) -> JSONValue? {
        guard part.kind == .object, part["type"]?.kind == .string else {
            throw RequestFault("a part of 'content' has no type", param: "messages.content.type")
        }
        guard part["type"]?.isText("text") == true else { return nil }
        guard let text = part["text"], text.kind == .string else {
            throw RequestFault("a text part has no text", param: "messages.content.text")
        }
        return text
    }

    private static func field(of part: JSONValue) -> String {
        "messages.content.\(part["type"]?.string ?? "")"
    }

    private mutating func writeText(_ text: JSONValue) {
        writer.beginObject()
        writer.member("type", "text")
        writer.member("text", raw: text)
        writer.endObject()
    }

    // MARK: Turns

    mutating func writeTurns(_ messages: JSONValue) throws(RequestFault) {
        writer.name("messages")
        writer.beginList()
        var left = messages.count
        for message in messages.elements {
            left -= 1
            switch try Self.role(message) {
            case .system: continue
            case .user: try writeUser(message)
            case .assistant: try writeAssistant(message, isLast: left == 0)
            case .tool: try writeToolResult(message)
            }
            if message.present("name") != nil, message["role"]?.isText("function") == false {
                losses.add(.dropped, "messages.name")
            }
        }
        // A conversation of nothing but system texts.
        if turn == nil { writePlaceholder() }
        closeTurn()
        writer.endList()
    }

    /// Opens `wanted` unless it is open: turns of one role that follow each other are one.
    private mutating func openTurn(_ wanted: Turn) {
        if turn == wanted { return }
        if turn == nil, wanted == .assistant { writePlaceholder() }
        closeTurn()
        turn = wanted
        writer.beginObject()
        writer.member("role", wanted == .user ? "user" : "assistant")
        writer.name("content")
        writer.beginList()
    }

    /// The first turn must be the user's and say something.
    private mutating func writePlaceholder() {
        losses.add(.defaulted, "messages.user")
        openTurn(.user)
        writer.beginObject()
        writer.member("type", "text")
        writer.member("text", ".")
        writer.endObject()
    }

    private mutating func closeTurn() {
        guard turn != nil else { return }
        writer.endList()
        writer.endObject()
    }

    private mutating func writeUser(_ message: JSONValue) throws(RequestFault) {
        guard let content = message["content"], content.kind == .string || content.kind == .list
        else {
            throw RequestFault("'content' must be a string or a list", param: "messages.content")
        }
        if content.kind == .string { return writeText(content, in: .user) }
        for part in content.elements {
            if let text = try Self.text(part) {
                writeText(text, in: .user)
            } else if part["type"]?.isText("image_url") == true {
                try writeImage(part)
            } else if part["type"]?.isText("file") == true {
                writeFile(part)
            } else {
                losses.add(.dropped, Self.field(of: part))
            }
        }
    }

    private mutating func writeText(_ text: JSONValue, in wanted: Turn) {
        // The other side refuses a block of nothing but white space.
        if text.isBlank { return }
        openTurn(wanted)
        writeText(text)
    }

    // MARK: Images and files

    private mutating func writeImage(_ part: JSONValue) throws(RequestFault) {
        guard let image = part["image_url"], let url = image["url"] ?? Optional(image),
            url.kind == .string
        else {
            throw RequestFault("an image has no url", param: "messages.content.image_url")
        }
        if let detail = image.present("detail"), !detail.isText("auto") {
            losses.add(.dropped, "messages.content.image_url.detail")
        }
        if let data = DataURL(url), let type = data.imageType {
            writeSource("image", type, data)
        } else if url.withText({ $0.starts(with: "https://".utf8) }) == true {
            openTurn(.user)
            writer.beginObject()
            writer.member("type", "image")
            writer.object("source") { source in
                source.member("type", "url")
                source.member("url", raw: url)
            }
            writer.endObject()
        } else {
            // Fetching it ourselves would let clients reach what only we can.
            losses.add(.dropped, "messages.content.image_url")
        }
    }

    private mutating func writeFile(_ part: JSONValue) {
        guard let file = part["file"], let data = file["file_data"].flatMap(DataURL.init),
            data.isPDF
        else { return losses.add(.dropped, "messages.content.file") }
        writeSource("document", "application/pdf", data)
    }

    private mutating func writeSource(_ type: String, _ mediaType: String, _ data: DataURL) {
        openTurn(.user)
        writer.beginObject()
        writer.member("type", type)
        writer.object("source") { source in
            source.member("type", "base64")
            source.member("media_type", mediaType)
            source.name("data")
            _ = data.url.withText { text in
                source.value(text: UnsafeRawBufferPointer(rebasing: text[data.content...]))
            }
        }
        writer.endObject()
    }

    // MARK: The assistant and its tools

    private mutating func writeAssistant(
        _ message: JSONValue, isLast: Bool
    ) throws(RequestFault) {
        let calls = message.present("tool_calls")
        let strips = isLast && (calls?.count ?? 0) == 0
        if let content = message.present("content") {
            if content.kind == .string {
                writeAnswer(content, strips: strips)
            } else {
                guard content.kind == .list else {
                    throw RequestFault(
                        "'content' must be a string or a list", param: "messages.content")
                }
                for part in content.elements {
                    if let text = try Self.text(part) {
                        writeAnswer(text, strips: strips)
                    } else if let refusal = part["refusal"], refusal.kind == .string {
                        losses.add(.changed, "messages.refusal")
                        writeAnswer(refusal, strips: strips)
                    } else {
                        losses.add(.dropped, Self.field(of: part))
                    }
                }
            }
        }
        if let refusal = message.present("refusal"), refusal.kind == .string {
            losses.add(.changed, "messages.refusal")
            writeAnswer(refusal, strips: strips)
        }
        for name in ["function_call", "audio", "reasoning_content"]
        where message[named: name].map({ !$0.isNull }) == true {
            losses.add(.dropped, "messages.\(name)")
        }
        guard let calls else { return }
        guard calls.kind == .list else {
            throw RequestFault("'tool_calls' must be a list", param: "messages.tool_calls")
        }
        for call in calls.elements { try writeCall(call) }
    }

    /// The other side refuses white space at the end of the last turn, if it is the assistant's.
    private mutating func writeAnswer(_ text: JSONValue, strips: Bool) {
        let isOpenEnded =
            strips && text.withText { $0.last.map { $0 <= 0x20 } ?? false } ?? false
        guard isOpenEnded, !text.isBlank else { return writeText(text, in: .assistant) }
        openTurn(.assistant)
        writer.beginObject()
        writer.member("type", "text")
        writer.name("text")
        _ = text.withText { bytes in
            let end = bytes.lastIndex { $0 > 0x20 } ?? -1
            writer.value(text: UnsafeRawBufferPointer(rebasing: bytes[...end]))
        }
        writer.endObject()
    }

    private mutating func writeCall(_ call: JSONValue) throws(RequestFault) {
        guard let function = call["function"] else {
            return losses.add(.dropped, "messages.tool_calls.\(call["type"]?.string ?? "")")
        }
        guard let id = call["id"], id.kind == .string, let name = function["name"],
            name.kind == .string
        else {
            throw RequestFault("a tool call has no id or name", param: "messages.tool_calls")
        }
        openTurn(.assistant)
        writer.beginObject()
        writer.member("type", "tool_use")
        writer.name("id")
        ToolNames.writeID(id, to: &writer)
        writer.name("name")
        names.write(name, to: &writer)
        writer.name("input")
        if !Arguments.write(function["arguments"], to: &writer) {
            losses.add(.changed, "messages.tool_calls.function.arguments")
        }
        writer.endObject()
    }

    private mutating func writeToolResult(_ message: JSONValue) throws(RequestFault) {
        // The older `function` role names no call that its result could belong to.
        if message["role"]?.isText("function") == true {
            return losses.add(.dropped, "messages.function")
        }
        guard let id = message["tool_call_id"], id.kind == .string else {
            throw RequestFault("a tool's message has no 'tool_call_id'", param: "messages")
        }
        let found = try texts(message["content"]).filter { !$0.isBlank }
        openTurn(.user)
        writer.beginObject()
        writer.member("type", "tool_result")
        writer.name("tool_use_id")
        ToolNames.writeID(id, to: &writer)
        if found.count == 1, message["content"]?.kind == .string {
            writer.member("content", raw: found[0])
        } else if !found.isEmpty {
            writer.name("content")
            writer.beginList()
            for text in found { writeText(text) }
            writer.endList()
        }
        writer.endObject()
    }
}

/// The arguments of a tool call: JSON in a string on one side, an object on the other.
enum Arguments {
    /// Writes the object that `text` holds. What holds none is passed on as it is, under the name
    /// `arguments`; false then.
    static func write(_ text: JSONValue?, to writer: inout JSONWriter) -> Bool {
        guard let text, text.kind == .string else {
            writer.object { _ in }
            return text == nil || text?.isNull == true
        }
        return text.withText { bytes in write(bytes, to: &writer) } ?? false
    }

    /// As above, for text that is not in a document.
    static func write(_ bytes: UnsafeRawBufferPointer, to writer: inout JSONWriter) -> Bool {
        if bytes.allSatisfy({ $0 <= 0x20 }) {
            writer.object { _ in }
            return true
        }
        if let document = try? JSONDocument(Array(bytes)), document.root.kind == .object {
            writer.value(document.root)
            return true
        }
        writer.object { writer in
            writer.name("arguments")
            writer.value(text: bytes)
        }
        return false
    }
}

/// A `data:` URL (RFC 2397) whose content is base64, which is not decoded.
struct DataURL {
    let url: JSONValue
    /// Where the content begins, in the decoded text.
    let content: Int
    private let type: String

    /// Nil for anything else.
    init?(_ url: JSONValue) {
        let found: (Int, String)? =
            url.withText { text -> (Int, String)? in
                // The type is short; an image's bytes are not looked through for a comma.
                let head = text.prefix(128)
                guard head.starts(with: "data:".utf8), let comma = head.firstIndex(of: 0x2C)
                else { return nil }
                let words = head[5..<comma].split(
                    separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
                guard words.count > 1, let last = words.last, last.elementsEqual("base64".utf8)
                else { return nil }
                return (comma + 1, String(decoding: words[0], as: UTF8.self).lowercased())
            } ?? nil
        guard let found else { return nil }
        self.url = url
        (content, type) = found
    }

    /// The media type, where it is an image that both sides take.
    var imageType: String? {
        switch type {
        case "image/jpg": "image/jpeg"
        case "image/jpeg", "image/png", "image/gif", "image/webp": type
        default: nil
        }
    }

    var isPDF: Bool { type == "application/pdf" }
}
