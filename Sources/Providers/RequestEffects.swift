/// What a request to a model can do besides being answered.
public enum RequestEffects: Sendable, Equatable {
    /// Nothing.
    case none
    /// It brings tools that its client runs: a call of one is a text in the answer.
    case clientTools
    /// The provider acts: it runs tools itself (MCP servers, code, searches), works in the
    /// background, or adds to a conversation that it keeps. What is not known to be harmless is
    /// this: tools of other types, and members with lists or objects that are not listed below.
    case provider

    /// What the body `root` of a request of the kind `inference` can do.
    ///
    /// Each of its members counts, in capitals too and as often as it stands there: servers differ
    /// in which of two they take. Names are those of OpenAI's chat completions and responses, of
    /// Anthropic's messages (`llm-protocols.md`), and of servers that speak like them.
    public init(_ root: JSONValue, of inference: Inference) {
        let isMessages = inference.dialect == .anthropic
        var effects = RequestEffects.none
        for (name, value) in root.members where !Self.isEmpty(value) {
            let found: RequestEffects =
                switch name.lowercased() {
                case "tools": Self.ofTools(value, isMessages: isMessages)
                case "functions": .clientTools
                case "input": Self.ofInput(value)
                // A template that the provider keeps brings tools of its own.
                case "prompt": value.kind == .object ? .provider : .none
                case let name where Self.acting.contains(name): .provider
                case let name where Self.harmless.contains(name): .none
                default: value.kind == .object || value.kind == .list ? .provider : .none
                }
            if found == .provider {
                self = .provider
                return
            }
            if found == .clientTools { effects = found }
        }
        self = effects
    }

    /// Members that make the provider act, whatever their value is, if it is not false.
    private static let acting: Set<String> = [
        "agent_id", "app_id", "assistant_id", "background", "bot_id", "container", "conversation",
        "enable_search", "mcp_servers", "web_search", "web_search_options",
    ]

    /// Members with a list or an object that say what to answer, and how.
    private static let harmless: Set<String> = [
        "allowed_token_ids", "audio", "bad_words", "betas", "cache_control",
        "chat_template_kwargs", "context_management", "documents", "format", "function_call",
        "guided_choice", "guided_json", "include", "logit_bias", "messages", "metadata",
        "mm_processor_kwargs", "modalities", "models", "options", "output_config",
        "output_format", "prediction", "provider", "reasoning", "response_format", "stop",
        "stop_sequences", "stop_token_ids", "stream_options", "structured_outputs", "system",
        "text", "thinking", "tool_choice",
    ]

    private static func isEmpty(_ value: JSONValue) -> Bool {
        value.isNull || value.flag == false || (value.kind == .list && value.count == 0)
    }

    private static func ofTools(_ tools: JSONValue, isMessages: Bool) -> RequestEffects {
        guard tools.kind == .list,
            tools.elements.allSatisfy({ isClients($0, isMessages: isMessages) })
        else { return .provider }
        return .clientTools
    }

    /// What the turns of a response can do: some of them bring tools, or let a tool be run.
    private static func ofInput(_ input: JSONValue) -> RequestEffects {
        var effects = RequestEffects.none
        for item in input.elements {
            for (name, value) in item.members where !isEmpty(value) {
                switch name.lowercased() {
                case "type" where value.isText("mcp_approval_response"): return .provider
                case "tools":
                    guard ofTools(value, isMessages: false) == .clientTools else {
                        return .provider
                    }
                    effects = .clientTools
                default: break
                }
            }
        }
        return effects
    }

    private static func isClients(_ tool: JSONValue, isMessages: Bool) -> Bool {
        guard tool.kind == .object else { return false }
        var isTyped = false
        var isKnown = true
        for (name, value) in tool.members {
            switch name.lowercased() {
            case "type":
                isTyped = true
                guard let type = value.string else { return false }
                let isClients = isMessages ? isClientsMessages(type) : isClients(type, tool)
                guard isClients else { return false }
            case "cache_control", "defer_loading", "description", "function", "name", "parameters",
                "strict":
                break
            default: isKnown = false
            }
        }
        // A tool that does not say what it is: with Anthropic the client's. Elsewhere one that
        // looks like a function and like nothing else, as `{"google_search": {}}` does.
        return isTyped || isMessages || (isKnown && tool.count > 0)
    }

    private static func isClients(_ type: String, _ tool: JSONValue) -> Bool {
        switch type {
        case "function", "custom", "local_shell", "apply_patch", "computer",
            "computer_use_preview":
            true
        case "shell": every(tool, "environment") { every($0, "type") { $0.isText("local") } }
        case "namespace": every(tool, "tools") { ofTools($0, isMessages: false) == .clientTools }
        default: false
        }
    }

    /// Whether there is a member of this name, and each that has it is as it should be.
    private static func every(
        _ value: JSONValue, _ name: String, _ isRight: (JSONValue) -> Bool
    ) -> Bool {
        let named = value.members.filter { $0.name.lowercased() == name }
        return !named.isEmpty && named.allSatisfy { isRight($0.value) }
    }

    /// Anthropic's own carry a date.
    private static func isClientsMessages(_ type: String) -> Bool {
        if type == "custom" { return true }
        return ["bash_", "text_editor_", "computer_", "memory_"].contains {
            type.hasPrefix($0) && type.dropFirst($0.count).allSatisfy(\.isNumber)
        }
    }
}
