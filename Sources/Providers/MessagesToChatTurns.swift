/// The conversation: turns of blocks become messages of parts, results of tools messages of their
/// own.
extension MessagesToChat {
    mutating func writeSystem() throws(RequestFault) {
        guard let system = root.present("system") else { return }
        let texts = try texts(system, "system")
        guard texts.contains(where: { !$0.isEmptyText }) else { return }
        writer.object { writer in
            writer.member("role", "system")
            writer.name("content")
            Self.writeTexts(texts, to: &writer)
        }
    }

    /// One text as a string, several as parts.
    private static func writeTexts(_ texts: [JSONValue], to writer: inout JSONWriter) {
        if texts.count == 1 { return writer.value(texts[0]) }
        writer.list { list in
            for text in texts where !text.isEmptyText {
                list.object { part in
                    part.member("type", "text")
                    part.member("text", raw: text)
                }
            }
        }
    }

    /// The texts of a string or of a list of text blocks; other blocks are lost.
    private mutating func texts(
        _ content: JSONValue, _ place: String
    ) throws(RequestFault) -> [JSONValue] {
        if content.kind == .string { return [content] }
        guard content.kind == .list else {
            throw RequestFault("\(place): a string or a list of blocks is required", param: place)
        }
        var found: [JSONValue] = []
        for block in content.elements {
            noteCacheControl(block, place)
            if let text = try Self.text(block) {
                found.append(text)
            } else {
                losses.add(.dropped, "\(place).\(block["type"]?.string ?? "")")
            }
        }
        return found
    }

    private static func text(_ block: JSONValue) throws(RequestFault) -> JSONValue? {
        guard block.kind == .object, block["type"]?.kind == .string else {
            throw RequestFault("a content block has no type", param: "messages.content")
        }
        guard block["type"]?.isText("text") == true else { return nil }
        guard let text = block["text"], text.kind == .string else {
            throw RequestFault("a text block has no text", param: "messages.content")
        }
        return text
    }

    mutating func writeMessage(_ message: JSONValue) throws(RequestFault) {
        guard message.kind == .object, let role = message["role"],
            let content = message["content"], content.kind == .string || content.kind == .list
        else {
            throw RequestFault("a message needs a role and a content", param: "messages")
        }
        if role.isText("user") {
            try writeUser(content)
        } else if role.isText("assistant") {
            try writeAssistant(content)
        } else {
            throw RequestFault("messages.role: must be user or assistant", param: "messages.role")
        }
    }

    // MARK: The user

    private mutating func writeUser(_ content: JSONValue) throws(RequestFault) {
        if content.kind == .string {
            return writer.object { writer in
                writer.member("role", "user")
                writer.member("content", raw: content)
            }
        }
        // Results come first: they belong directly behind the calls.
        for block in content.elements where block["type"]?.isText("tool_result") == true {
            try writeResult(block)
        }
        let others = content.elements.filter { $0["type"]?.isText("tool_result") != true }
        guard !others.isEmpty else { return }
        var isOpen = false
        for block in others {
            noteCacheControl(block, "messages.content")
            let isPart = try canBePart(block)
            if isPart, !isOpen {
                writer.beginObject()
                writer.member("role", "user")
                writer.name("content")
                writer.beginList()
                isOpen = true
            }
            if isPart { writePart(block) }
        }
        guard isOpen else { return }
        writer.endList()
        writer.endObject()
    }

    /// Whether `block` has a form on the other side; notes the loss where it has none.
    private mutating func canBePart(_ block: JSONValue) throws(RequestFault) -> Bool {
        if let text = try Self.text(block) { return !text.isEmptyText }
        let source = block["source"]
        let type = source?["type"]
        if block["type"]?.isText("image") == true {
            if type?.isText("url") == true, source?["url"]?.kind == .string { return true }
            if type?.isText("base64") == true, source?["data"]?.kind == .string,
                source?["media_type"]?.kind == .string
            {
                return true
            }
        } else if block["type"]?.isText("document") == true {
            if type?.isText("text") == true, source?["data"]?.kind == .string { return true }
            if type?.isText("base64") == true, source?["data"]?.kind == .string,
                source?["media_type"]?.isText("application/pdf") == true
            {
                return true
            }
        }
        losses.add(.dropped, "messages.content.\(block["type"]?.string ?? "")")
        return false
    }

    private mutating func writePart(_ block: JSONValue) {
        let source = block["source"]
        writer.object { part in
            if let text = block["text"] {
                part.member("type", "text")
                part.member("text", raw: text)
            } else if source?["type"]?.isText("text") == true, let text = source?["data"] {
                part.member("type", "text")
                part.member("text", raw: text)
            } else if block["type"]?.isText("image") == true {
                part.member("type", "image_url")
                part.object("image_url") { image in
                    image.name("url")
                    if let url = source?["url"] {
                        image.value(url)
                    } else {
                        Self.writeDataURL(source, to: &image)
                    }
                }
            } else {
                part.member("type", "file")
                part.object("file") { file in
                    file.member("filename", block["title"]?.string ?? "document.pdf")
                    file.name("file_data")
                    Self.writeDataURL(source, to: &file)
                }
            }
        }
    }

    private static func writeDataURL(_ source: JSONValue?, to writer: inout JSONWriter) {
        let head = "data:\(source?["media_type"]?.string ?? "");base64,"
        guard let data = source?["data"],
            let prefix = try? JSONDocument(JSONWriter.write { $0.value(head) })
        else { return writer.value(head) }
        writer.value(joining: [prefix.root, data])
    }

    private mutating func writeResult(_ block: JSONValue) throws(RequestFault) {
        guard let id = block["tool_use_id"], id.kind == .string else {
            throw RequestFault("tool_result.tool_use_id: required", param: "messages.content")
        }
        noteCacheControl(block, "messages.content")
        if block["is_error"]?.flag == true {
            losses.add(.dropped, "messages.content.tool_result.is_error")
        }
        let texts = try block.present("content").map { value throws(RequestFault) in
            try self.texts(value, "messages.content.tool_result")
        }
        writer.object { writer in
            writer.member("role", "tool")
            writer.member("tool_call_id", raw: id)
            writer.name("content")
            // Some servers want a string here.
            writer.value(joining: texts ?? [])
        }
    }

    // MARK: The assistant

    private mutating func writeAssistant(_ content: JSONValue) throws(RequestFault) {
        if content.kind == .string {
            return writer.object { writer in
                writer.member("role", "assistant")
                writer.member("content", raw: content)
            }
        }
        var texts: [JSONValue] = []
        var calls: [JSONValue] = []
        for block in content.elements {
            noteCacheControl(block, "messages.content")
            if let text = try Self.text(block) {
                texts.append(text)
            } else if block["type"]?.isText("tool_use") == true {
                guard block["id"]?.kind == .string, block["name"]?.kind == .string else {
                    throw RequestFault(
                        "tool_use: needs an id and a name", param: "messages.content")
                }
                calls.append(block)
            } else {
                losses.add(.dropped, "messages.content.\(block["type"]?.string ?? "")")
            }
        }
        writer.beginObject()
        writer.member("role", "assistant")
        writer.name("content")
        if texts.isEmpty, !calls.isEmpty { writer.null() } else { writer.value(joining: texts) }
        if !calls.isEmpty {
            writer.name("tool_calls")
            writer.beginList()
            for call in calls { writeCall(call) }
            writer.endList()
        }
        writer.endObject()
    }

    private mutating func writeCall(_ call: JSONValue) {
        guard let id = call["id"], let name = call["name"] else { return }
        writer.beginObject()
        writer.member("id", raw: id)
        writer.member("type", "function")
        writer.name("function")
        writer.beginObject()
        writer.name("name")
        names.write(name, to: &writer)
        writer.name("arguments")
        if let input = call.present("input") {
            input.raw.withUnsafeBytes { writer.value(text: $0) }
        } else {
            writer.value("{}")
        }
        writer.endObject()
        writer.endObject()
    }
}
